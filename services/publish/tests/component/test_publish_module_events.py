"""The same module on Kafka and over HTTP: one suite for both, and what a crash leaves over HTTP."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import httpx
import pytest

from kgl_client.api import Api, ApiProblem
from kgl_client.events import CannotDo, Event, EventModule, HttpEvents, KafkaEvents, KafkaOptions, Result, Retry
from kgl_client.events.http import Place
from kgl_client.events.results import result_id
from kgl_contracts.content import ItemDrafted, ItemPublished
from kgl_contracts.event import EventData, with_example
from kgl_contracts.topics import CONTENT, dead_letter_topic, module_topic
from kgl_publish.testing import PublishKit, publish_kit
from kgl_servicekit.ids import derived_id, uuid7
from kgl_servicekit.testing.kafka_records import MockKafka, header, mock_kafka
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests

NAME = "shared-tagger"
RETRY = Retry(attempts=3, first_pause=0)
PLACES: tuple[Place, ...] = ("received", "handled", "acknowledged", "committed")


class Tagged(EventData, type=f"x.{NAME}.item.tagged.v1", topic=module_topic(NAME), key="item_id"):
    """The module's word about an item."""

    model_config = with_example(item_id=str(uuid7()), said=1)

    item_id: UUID
    said: int


@dataclass(frozen=True)
class Seen:
    """A result as its reader sees it."""

    id: str
    item: UUID
    cause: str
    workspace: str


class Transport(Protocol):
    """What differs for a test."""

    workspace: UUID

    async def emit(self, event: EventData) -> UUID: ...
    def runtime(self, module: EventModule) -> KafkaEvents | HttpEvents: ...
    async def is_done(self) -> bool: ...
    async def results(self) -> list[Seen]: ...
    async def dead(self) -> list[tuple[str, str]]: ...


@dataclass
class OnKafka:
    kafka: MockKafka
    workspace: UUID = field(default_factory=uuid7)
    emitted: int = 0

    async def emit(self, event: EventData) -> UUID:
        self.emitted += 1
        return self.kafka.emit(event, self.workspace)

    def runtime(self, module: EventModule) -> KafkaEvents:
        return KafkaEvents(module, self.kafka.brokers, KafkaOptions(session_timeout=2, retry=RETRY))

    async def is_done(self) -> bool:
        return await asyncio.to_thread(self.kafka.committed, NAME, CONTENT.name) == self.emitted

    async def results(self) -> list[Seen]:
        found = await asyncio.to_thread(self.kafka.read, module_topic(NAME).name)
        return [
            Seen(header(m, "ce_id"), UUID(_key(m)), header(m, "ce_causationid"), header(m, "ce_workspaceid"))
            for m in found
        ]

    async def dead(self) -> list[tuple[str, str]]:
        found = await asyncio.to_thread(self.kafka.read, dead_letter_topic(NAME))
        return sorted((_key(m), header(m, "dead_reason")) for m in found)


def _key(message: Any) -> str:
    return str(message.key().decode())


@dataclass
class OverHttp:
    """`cut` ends the connection of the runtimes made so far, as their death would."""

    kit: PublishKit
    folder: Path
    accepted: list[Result] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    cuts: int = 0
    refused: set[UUID] = field(default_factory=set)

    @property
    def workspace(self) -> UUID:
        return self.kit.workspace

    async def emit(self, event: EventData) -> UUID:
        name = str(uuid7())
        await self.kit.hear(event, name=name)
        return derived_id("test", event.event_type, name)

    def runtime(
        self, module: EventModule, passing: Callable[[Place], None] = lambda place: None, connection: str = "whole"
    ) -> HttpEvents:
        inner = self.kit.client._transport

        async def ask(request: httpx.Request) -> httpx.Response:
            if connection in self.cut:
                self.cuts += 1
                raise httpx.ConnectError("cut")
            return await inner.handle_async_request(request)

        async def accept(results: Sequence[Result]) -> None:
            if {UUID(result.key) for result in results} & self.refused:
                raise ApiProblem(422, "spans_wrong", "no", {})
            self.accepted += results

        key = self.kit.headers["Authorization"].removeprefix("Bearer ")
        api = Api("http://test", key, workspace=str(self.workspace), transport=httpx.MockTransport(ask))
        path = self.folder / "dead.jsonl"
        return HttpEvents(module, api, accept, dead_letters=path, retry=RETRY, lease_seconds=1, passing=passing)

    async def is_done(self) -> bool:
        answer = await self.kit.client.get(f"/events/v1/consumers/{NAME}", headers=self.kit.headers)
        return answer.status_code == 200 and (answer.json()["lag"], answer.json()["leased_until"]) == (0, None)

    async def results(self) -> list[Seen]:
        return [
            Seen(str(r.envelope.id), UUID(r.key), str(r.envelope.causation_id), str(r.envelope.workspace_id))
            for r in self.accepted
        ]

    async def dead(self) -> list[tuple[str, str]]:
        path = self.folder / "dead.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return sorted((line["event"]["subject"], line["reason"]) for line in lines)


@pytest.fixture
async def http(postgres: PostgresForTests, tmp_path: Path) -> AsyncIterator[OverHttp]:
    async with publish_kit(postgres) as kit:
        yield OverHttp(kit, tmp_path)


@pytest.fixture(params=["kafka", "http"])
async def transport(request: pytest.FixtureRequest, postgres: PostgresForTests, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "kafka":
        with mock_kafka() as kafka:
            yield OnKafka(kafka)
    else:
        async with publish_kit(postgres) as kit:
            yield OverHttp(kit, tmp_path)


@asynccontextmanager
async def working(runtime: KafkaEvents | HttpEvents) -> AsyncIterator[None]:
    task = asyncio.create_task(runtime.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def telling(poison: dict[UUID, Exception] | None = None, heard: list[UUID] | None = None) -> EventModule:
    """A module that answers differently each time: once or twice, and never the same."""
    module, says = EventModule(NAME), itertools.count(1)

    @module.on(ItemPublished)
    async def tag(event: Event[ItemPublished]) -> list[Tagged]:
        if heard is not None:
            heard.append(event.envelope.id)
        if poison and event.data.item_id in poison:
            raise poison[event.data.item_id]
        said = next(says)
        return [Tagged(item_id=event.data.item_id, said=said)] * (1 + said % 2)

    return module


def item(item_id: UUID) -> ItemPublished:
    return ItemPublished.example().model_copy(update={"item_id": item_id})


async def test_a_module_gets_what_it_takes_in_order_and_answers_under_stable_ids(transport: Transport) -> None:
    items, heard = [uuid7() for _ in range(3)], list[UUID]()
    causes = [(key, await transport.emit(item(key))) for key in items * 2]
    await transport.emit(ItemDrafted.example())
    async with working(transport.runtime(telling(heard=heard))):
        await eventually(transport.is_done, within=30)
    for key in items:
        assert [id for id in heard if id in {c for k, c in causes if k == key}] == [c for k, c in causes if k == key]
    results = await transport.results()
    assert {(seen.item, seen.cause) for seen in results} == {(key, str(cause)) for key, cause in causes}
    assert {seen.workspace for seen in results} == {str(transport.workspace)}
    possible = {str(result_id(NAME, cause, Tagged.event_type, n)) for _, cause in causes for n in (1, 2)}
    assert {seen.id for seen in results} <= possible
    assert len({seen.id for seen in results}) == len(results)


async def test_poison_is_put_aside_and_can_be_redriven(transport: Transport) -> None:
    bad, never, good = uuid7(), uuid7(), uuid7()
    poison: dict[UUID, Exception] = {bad: ValueError("not now"), never: CannotDo("too_odd", "no")}
    for key in (bad, never, good):
        await transport.emit(item(key))
    heard: list[UUID] = []
    runtime = transport.runtime(telling(poison, heard))
    async with working(runtime):
        await eventually(transport.is_done, within=30)
    assert len(heard) == 3 + 1 + 1
    assert await transport.dead() == sorted([(str(bad), "handler_failed"), (str(never), "cannot_do")])
    assert {seen.item for seen in await transport.results()} == {good}
    del poison[bad]
    assert await runtime.redrive() == 2
    assert {seen.item for seen in await transport.results()} == {good, bad}
    assert (await transport.dead()).count((str(never), "cannot_do")) >= 1


class Crash(BaseException):
    """The end of a process, as far as one test can have it."""


@pytest.mark.parametrize("place", PLACES)
async def test_over_http_a_crash_at_any_point_leaves_one_scope_of_results_for_each_event(
    http: OverHttp, place: Place
) -> None:
    causes = {key: await http.emit(item(key)) for key in (uuid7(), uuid7(), uuid7())}
    passed = 0

    def passing(at: Place) -> None:
        nonlocal passed
        passed += at == place
        if passed == 2:
            http.cut.add("dying")
            raise Crash

    module = telling()
    with pytest.raises(Crash):
        await asyncio.wait_for(http.runtime(module, passing, "dying").work(), 20)
    async with working(http.runtime(module)):
        await eventually(http.is_done, within=20)
    results = await http.results()
    for key, cause in causes.items():
        ids = {seen.id for seen in results if seen.item == key}
        assert ids
        assert ids <= {str(result_id(NAME, cause, Tagged.event_type, n)) for n in (1, 2)}


async def test_over_http_what_is_not_accepted_is_a_dead_letter_and_an_outage_is_not(http: OverHttp) -> None:
    refused, fine = uuid7(), uuid7()
    http.refused.add(refused)
    for key in (refused, fine):
        await http.emit(item(key))
    http.cut.add("mended")

    async def was_out() -> bool:
        return http.cuts > 0

    async with working(http.runtime(telling(), connection="mended")):
        await eventually(was_out)
        http.cut.clear()
        await eventually(http.is_done, within=30)
    assert await http.dead() == [(str(refused), "result_refused")]
    assert {seen.item for seen in await http.results()} == {fine}


async def test_over_http_a_module_that_was_away_too_long_is_told_and_does_not_go_on(http: OverHttp) -> None:
    runtime = http.runtime(telling())
    async with working(runtime):
        await eventually(http.is_done, within=10)
    await http.kit.database.run(http.workspace, _lose, NAME)
    with pytest.raises(ApiProblem, match="events_lost"):
        await asyncio.wait_for(runtime.work(), 20)


async def _lose(tx: Any, name: str) -> None:
    await tx.execute("update event_consumer set lost = 3 where name = $1", name)


async def test_over_http_a_handler_that_takes_longer_than_the_lease_keeps_it(http: OverHttp) -> None:
    await http.emit(item(uuid7()))
    module, go_on, calls = EventModule(NAME), asyncio.Event(), 0

    @module.on(ItemPublished)
    async def slow(event: Event[ItemPublished]) -> None:
        nonlocal calls
        calls += 1
        await go_on.wait()

    async def renewed() -> bool:
        answer = await http.kit.client.get(f"/events/v1/consumers/{NAME}", headers=http.kit.headers)
        if answer.status_code == 200 and answer.json()["leased_until"]:
            seen.add(answer.json()["leased_until"])
        return len(seen) > 4

    seen: set[str] = set()
    async with working(http.runtime(module)), working(http.runtime(module)):
        await eventually(renewed, within=20)
        assert calls == 1
        go_on.set()
        await eventually(http.is_done, within=20)
    assert calls == 1
