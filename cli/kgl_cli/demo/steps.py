"""The steps of the demo. Each prints what it did, and checks it against the input."""

import asyncio
import time
from datetime import datetime
from itertools import pairwise
from typing import Any

import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kgl_cli.demo.claims import Claims, distance
from kgl_cli.demo.corpus import Package
from kgl_cli.webhooks import Arrived, Receiver, register
from kgl_client.api import Api, ApiProblem
from kgl_contracts.content import ItemPublished

_BATCH = 500
_AT_ONCE = 8
_ENTITY = "pydantic"
_DOCUMENT = "pypdf"


class Demo:
    """The main job, step by step, against a running system."""

    def __init__(self, api: Api, console: Console, claims: Claims, corpus: list[Package], callback_host: str) -> None:
        self._callback_host = callback_host
        self._api = api
        self._console = console
        self._claims = claims
        self._corpus = corpus
        self._documents: dict[str, str] = {}
        self._receipts: dict[str, str] = {}
        self._edges = {package.name: package.requires for package in corpus if package.requires}

    async def put_requirements(self) -> None:
        """What requires what goes in as triples."""
        triples = [
            {
                "subject": {"name": name, "type": "package"},
                "predicate": "requires",
                "object": {"name": other, "type": "package"},
            }
            for name, others in self._edges.items()
            for other in others
        ]
        begun = time.monotonic()
        created = existing = 0
        for first in range(0, len(triples), _BATCH):
            answer = await self._api.post("/graph/v1/triples", {"triples": triples[first : first + _BATCH]})
            created += answer["relations"]["created"]
            existing += answer["relations"]["existing"]
        self._step("requirements", len(triples), "triples", begun)
        self._claims.check(created + existing == len(triples), f"{created} relations are new, {existing} were known")

    async def upload(self) -> None:
        """Each README goes in as a document; what is known already is found again."""
        begun, new = time.monotonic(), 0
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(package: Package) -> int:
            async with slots:
                return await self._upload(package)

        new = sum(await asyncio.gather(*(one(package) for package in self._corpus)))
        self._step("upload", len(self._corpus), "documents", begun)
        known = len(self._corpus) - new
        self._claims.check(
            len(set(self._documents.values())) == len(self._documents), f"{new} documents are new, {known} were known"
        )

    async def _upload(self, package: Package) -> int:
        body = {
            "text": package.readme,
            "media_type": package.media_type,
            "name": package.file_name,
            "title": package.name,
            "on_duplicate": "error",
        }
        try:
            receipt = await self._api.post(
                "/ingest/v1/documents", body, repeat_key=f"demo {package.name} {time.time()}"
            )
        except ApiProblem as problem:
            if problem.code != "document_duplicate":
                raise
            self._documents[package.name] = problem.members["existing"]
            return 0
        self._documents[package.name] = receipt["subject"]
        self._receipts[package.name] = receipt["id"]
        return 1

    async def wait_for_receipts(self) -> None:
        """Every document is parsed, indexed, read, linked and summarised."""
        begun = time.monotonic()
        for name, document in self._documents.items():
            if name not in self._receipts:
                found = await self._api.get("/operations/v1", params={"subject": document, "kind": "ingest.document"})
                self._receipts[name] = found["items"][0]["id"]
        states: list[str] = []
        with Progress(console=self._console, transient=True) as progress:
            task = progress.add_task("receipts", total=len(self._receipts))
            for operation in self._receipts.values():
                receipt = await self._api.get(f"/operations/v1/{operation}", params={"wait": 60})
                while receipt["state"] == "running" and time.monotonic() - begun < 170:
                    receipt = await self._api.get(f"/operations/v1/{operation}", params={"wait": 60})
                states.append(receipt["state"])
                progress.advance(task)
        self._step("parse, index, extract, link, summarise, draft", len(states), "documents", begun)
        await self._rates()
        done = states.count("done")
        self._claims.check(done == len(self._corpus), f"{done} of {len(self._corpus)} receipts ended as done")

    async def _rates(self) -> None:
        """How many documents each stage did a second, from its first start to its last end."""
        spans: dict[str, list[tuple[str, str]]] = {}
        async for receipt in self._api.items("/operations/v1", kind="ingest.document", limit=200):
            for stage in receipt["stages"]:
                if stage["started_at"] and stage["ended_at"]:
                    spans.setdefault(stage["name"], []).append((stage["started_at"], stage["ended_at"]))
        table = Table("stage", "documents", "documents/s")
        for name, times in spans.items():
            seconds = max(0.001, _seconds(min(t[0] for t in times), max(t[1] for t in times)))
            table.add_row(name, str(len(times)), f"{len(times) / seconds:.1f}")
        self._console.print(table)

    async def search(self) -> None:
        """Two questions, with the packages that answer them."""
        self._console.print("[bold]hybrid search[/bold]")
        for question, wanted, within in (
            ("extract text from PDF files", "pypdf", 1),
            ("asynchronous kafka client", "aiokafka", 5),
        ):
            answer = await self._api.get("/graph/v1/search", params={"q": question, "group": "document", "limit": 5})
            names = {document: name for name, document in self._documents.items()}
            found = [names.get(hit["document_id"], "?") for hit in answer["hits"]]
            for hit, name in zip(answer["hits"], found, strict=True):
                words = " ".join(hit["snippet"].split())[:90]
                self._console.print(f"    {name:24} {words}", highlight=False, markup=False)
            place = "first" if within == 1 else f"among the first {within}"
            self._claims.check(wanted in found[:within], f"“{question}” finds {wanted} {place}")

    async def show_entity(self) -> None:
        """The page of one package: where it is mentioned, and what it is related to."""
        entity = await self._entity(_ENTITY)
        page = await self._api.get(f"/graph/v1/entities/{entity['id']}", params={"limit": 5})
        self._console.print(
            f"[bold]entity {_ENTITY}[/bold]: {page['mention_count']} mentions in {page['document_count']} documents, "
            f"outgoing {page['outgoing']}, incoming {page['incoming']}"
        )
        holds = bool(page["mentions"])
        for mention in page["mentions"]:
            shown = mention["snippet"]
            at = mention["snippet_start"]
            words = shown[at : at + mention["end"] - mention["start"]]
            holds = holds and words.casefold().replace("_", "-") == _ENTITY
            snippet = " ".join(shown.split())[:80]
            place = f"{mention['title'][:24]:24} {mention['start']}-{mention['end']}"
            self._console.print(f"    {place}  {snippet}", highlight=False, markup=False)
        self._claims.check(holds, f"every span of its mentions reads {_ENTITY}")

    async def show_path(self) -> None:
        """A shortest path between two packages, checked against the metadata."""
        source, target, expected = self._far_pair()
        ends = [await self._entity(name) for name in (source, target)]
        path = await self._api.get(
            "/graph/v1/paths",
            params={"source": ends[0]["id"], "target": ends[1]["id"], "predicate": "requires", "max_length": 10},
        )
        names = [entity["name"] for entity in path["entities"]]
        self._console.print(f"[bold]path[/bold] {' - '.join(names)}")
        steps = pairwise(names)
        real = all(b in self._edges.get(a, ()) or a in self._edges.get(b, ()) for a, b in steps)
        self._claims.check(real, "every step of the path is a requirement in the metadata")
        self._claims.check(path["length"] == expected, f"no path is shorter than its {expected} steps")

    def _far_pair(self) -> tuple[str, str, int]:
        """Two packages with a path of three steps or more between them."""
        best = ("", "", 0)
        for source in sorted(self._edges)[:40]:
            for target in sorted(self._edges):
                steps = distance(self._edges, source, target)
                if steps is not None and steps > best[2]:
                    best = (source, target, steps)
                if best[2] >= 4:
                    return best
        return best

    async def publish_summary(self) -> None:
        """A generated summary is reviewed, published, and arrives as a signed webhook."""
        item = await self._item(_DOCUMENT)
        arrived: asyncio.Queue[Arrived] = asyncio.Queue()
        endpoint = await register(self._api, [ItemPublished.event_type], callback_host=self._callback_host)
        try:
            async with Receiver(endpoint["secret"], arrived.put, callback_host=self._callback_host):
                if item["state"] == "published":  # a second run: words change, so that there is something to publish
                    item = await self._change(item)
                for action in _left(item["state"]):
                    item = await self._move(item, action)
                self._console.print(
                    f"[bold]item[/bold] “{item['title']}” is {item['state']}, version {item['version']}"
                )
                async with asyncio.timeout(30):
                    # what is not signed with this endpoint's secret is somebody else's, and was refused
                    while not (delivery := await arrived.get()).verified:
                        continue
        finally:
            await self._api.request("DELETE", f"/publish/v1/endpoints/{endpoint['id']}")
        event = orjson.loads(delivery.body)
        self._console.print(f"    {delivery.webhook_id} {event['type']}: {event['data']['excerpt'][:90]}", markup=False)
        self._claims.check(delivery.verified, "the signature of the webhook is right")
        self._claims.check(event["data"]["item_id"] == item["id"], "the webhook tells of this item")

    async def _change(self, item: dict[str, Any]) -> dict[str, Any]:
        fresh = await self._api.request("GET", f"/content/v1/items/{item['id']}")
        changed = await self._api.request(
            "PATCH",
            f"/content/v1/items/{item['id']}",
            json={"title": item["title"]},
            headers={"If-Match": fresh.headers["ETag"]},
        )
        found: dict[str, Any] = changed.json()
        return found

    async def _move(self, item: dict[str, Any], action: str) -> dict[str, Any]:
        fresh = await self._api.request("GET", f"/content/v1/items/{item['id']}")
        moved: dict[str, Any] = await self._api.post(
            f"/content/v1/items/{item['id']}:{action}", headers={"If-Match": fresh.headers["ETag"]}
        )
        return moved

    async def show_receipt(self) -> None:
        """The receipt of one document over all services."""
        receipt = await self._api.get(f"/operations/v1/{self._receipts[_DOCUMENT]}")
        table = Table("stage", "required", "state", "attempt", "seconds", title=f"receipt of {_DOCUMENT}")
        for stage in receipt["stages"]:
            both = stage["started_at"] and stage["ended_at"]
            seconds = f"{_seconds(stage['started_at'], stage['ended_at']):.2f}" if both else ""
            required = "yes" if stage["required"] else "no"
            table.add_row(stage["name"], required, stage["state"], str(stage["attempt"]), seconds)
        self._console.print(table)
        required_states = {stage["state"] for stage in receipt["stages"] if stage["required"]}
        self._claims.check(required_states == {"done"}, "every required stage of the receipt is done")

    async def compare_counts(self) -> None:
        """Nothing is lost, and nothing is there twice."""
        mine = set(self._documents.values())
        listed = [item["id"] async for item in self._api.items("/ingest/v1/documents", limit=200)]
        found = [id for id in listed if id in mine]
        self._claims.check(
            len(found) == len(set(found)) == len(self._corpus), f"{len(found)} documents, as many as READMEs"
        )
        drafts = [
            item["document_id"]
            async for item in self._api.items("/content/v1/items", limit=200, kind="summary")
            if item["document_id"] in mine
        ]
        self._claims.check(len(drafts) == len(set(drafts)) == len(self._corpus), f"{len(drafts)} summaries, one each")
        pairs = sum(len(others) for others in self._edges.values())
        counted = 0
        for name, others in list(self._edges.items())[:20]:
            page = await self._api.get(f"/graph/v1/entities/{(await self._entity(name))['id']}", params={"limit": 1})
            counted += page["outgoing"].get("requires", 0) == len(others)
        self._claims.check(counted == 20, f"of {pairs} requirements, those of 20 packages are counted exactly")

    async def _entity(self, name: str) -> dict[str, Any]:
        found = await self._api.get("/graph/v1/entities", params={"name": name, "type": "package", "limit": 200})
        entity: dict[str, Any] = next(entity for entity in found["items"] if entity["name"] == name)
        return entity

    async def _item(self, name: str) -> dict[str, Any]:
        found = await self._api.get(
            "/content/v1/items", params={"document_id": self._documents[name], "kind": "summary"}
        )
        item: dict[str, Any] = found["items"][0]
        return item

    def _step(self, what: str, count: int, unit: str, begun: float) -> None:
        seconds = max(0.001, time.monotonic() - begun)
        self._console.print(f"[bold]{what}[/bold]: {count} {unit} in {seconds:.1f} s ({count / seconds:.0f}/s)")


def _left(state: str) -> list[str]:
    """What is left to do until an item of this state is published."""
    path = ["submit", "approve", "publish"]
    return path[{"draft": 0, "submitted": 1, "approved": 2}.get(state, 3) :]


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
