"""The list of the dead letters of all services, and what may be decided about them."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from kgl_contracts.dead_letters import DeadLetterMoved, DeadLetterNoted, packed, unpacked
from kgl_contracts.envelope import Envelope
from kgl_contracts.ingest import DocumentDeleted
from kgl_contracts.operations import OperationStarted, PlannedStage, Subject
from kgl_contracts.topics import DECISIONS
from kgl_ingest.api.dead_letters import router
from kgl_ingest.db.dead_letters import trim
from kgl_ingest.domain.dead_letters import DeadLetterNotFound, DecisionUnderWay, LetterFilter
from kgl_ingest.testing import Ingest
from kgl_ingest.use_cases import decide_dead_letters
from kgl_ingest.use_cases.decide_dead_letters import Decide, DecideMany
from kgl_ingest.use_cases.list_dead_letters import move_letter, note_letter
from kgl_servicekit.bus.memory import MemoryBus
from kgl_servicekit.bus.port import Record
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.checked import Checked
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.races import overlapping

BASE = "/dead-letters/v1"
_KEY = "0198f3a0-0000-7000-8000-000000000001"
AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


def operator(ingest: Ingest) -> dict[str, str]:
    """The headers of an operator who names no workspace."""
    checked = Checked(principal="user:operator", user_id=uuid7(), permissions=frozenset({"instance:*"}))
    return {"Authorization": ingest.authority.admit(checked)}


async def note(
    ingest: Ingest, workspace: UUID | None, *, value: bytes = b'{"a": 1}', at: datetime = AT, **changes: Any
) -> UUID:
    """A letter as its service tells of it; `changes` go to the news or to its event."""
    news = DeadLetterNoted.example().model_dump()
    for name, new in changes.items():
        (news["event"] if name in news["event"] else news)[name] = new
    news |= {"letter_id": uuid7(), "workspace_id": workspace, "value": packed(value), "size": len(value), "at": at}
    letter = DeadLetterNoted.model_validate(news)
    await ingest.database.run(workspace or INSTANCE_WORKSPACE, note_letter, letter)
    return letter.letter_id


async def move(ingest: Ingest, letter: UUID, state: str, **changes: Any) -> None:
    news = {"letter_id": letter, "workspace_id": ingest.workspace, "state": state, "reason": "failed", "attempts": 1}
    moved = DeadLetterMoved.model_validate({**news, "at": AT + timedelta(hours=1), **changes})
    await ingest.database.run(ingest.workspace, move_letter, moved)


async def listed(ingest: Ingest, headers: dict[str, str] | None = None, **params: Any) -> list[str]:
    answer = await ingest.client.get(BASE, params=params, headers=headers or ingest.headers)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def shown(ingest: Ingest, letter: UUID, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = await ingest.client.get(f"{BASE}/{letter}", headers=headers or ingest.headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def post(ingest: Ingest, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return await ingest.client.post(f"{BASE}{path}", json=body, headers={**ingest.headers, **headers})


async def emitted(ingest: Ingest, topic: str) -> list[dict[str, Any]]:
    async def read(tx: Transaction, _: None) -> list[dict[str, Any]]:
        rows = await tx.fetch(
            """select actor, workspace_id, operation_id, convert_from(data, 'UTF8')::jsonb as data
               from outbox_log where topic = $1 order by id""",
            topic,
        )
        return [
            {"ACTOR": row["actor"], "OF": row["workspace_id"], "BY": row["operation_id"], **row["data"]} for row in rows
        ]

    return await ingest.database.run((), read, None)


async def test_letters_are_found_by_what_they_have_in_common_page_by_page(ingest: Ingest) -> None:
    operation = uuid7()
    a = await note(ingest, ingest.workspace, error="KeyError: 'size'")
    b = await note(
        ingest,
        ingest.workspace,
        at=AT + timedelta(minutes=1),
        service="publish",
        subscription="publish.documents",
        reason="unreadable",
        error="it has no name",
        key="k",
        operation_id=operation,
    )
    assert await listed(ingest) == [str(b), str(a)]
    filters: tuple[dict[str, Any], ...] = (
        {"service": "publish"},
        {"subscription": "publish.documents"},
        {"reason": "unreadable"},
        {"error": "NO NAME"},
        {"key": "k"},
        {"operation_id": str(operation)},
        {"dead_at_gte": (AT + timedelta(seconds=1)).isoformat()},
    )
    for params in filters:
        assert await listed(ingest, **params) == [str(b)], params
    assert await listed(ingest, dead_at_lt=(AT + timedelta(seconds=1)).isoformat()) == [str(a)]
    assert await listed(ingest, topic="kgl.graph") == await listed(ingest, type="no.such.type.v1") == []
    first = (await ingest.client.get(BASE, params={"limit": 1}, headers=ingest.headers)).json()
    assert await listed(ingest, limit=1, cursor=first["next"]) == [str(a)]


async def test_letters_are_counted_by_kind_and_what_differs_in_each_error_makes_no_other_kind(ingest: Ingest) -> None:
    for number in range(3):
        await note(ingest, ingest.workspace, error=f"no row {number} of {uuid7()}")
    await note(ingest, ingest.workspace, reason="gap", error=None)
    counts = (await ingest.client.get(f"{BASE}/counts", headers=ingest.headers)).json()["items"]
    assert [(each["count"], each["reason"], each["error"]) for each in counts] == [
        (3, "failed", "no row # of #"),
        (1, "gap", None),
    ]
    params = {"by": ["service", "day"], "reason": "failed"}
    (by_day,) = (await ingest.client.get(f"{BASE}/counts", params=params, headers=ingest.headers)).json()["items"]
    assert (by_day["count"], by_day["service"], by_day["day"]) == (3, "graph", "2026-11-25T00:00:00Z")
    assert by_day["subscription"] is None


async def test_a_letter_is_shown_with_its_data_as_json_and_as_they_came(ingest: Ingest) -> None:
    waiting = [{"sequence": 5, "since": AT}]
    letter = await note(ingest, ingest.workspace, value=b'{"a":1}', waiting=1, next_waiting=waiting)
    found = await shown(ingest, letter)
    assert (found["payload"], base64.b64decode(found["raw"]), found["complete"]) == ({"a": 1}, b'{"a":1}', True)
    assert found["headers"] == {"ce_type": "ingest.document.deleted.v1"}
    assert (found["waiting"], found["next_waiting"][0]["sequence"]) == (1, 5)
    unreadable = await shown(ingest, await note(ingest, ingest.workspace, value=b"\xff not JSON"))
    assert (unreadable["payload"], base64.b64decode(unreadable["raw"])) == (None, b"\xff not JSON")


async def test_a_letter_is_moved_along_and_its_data_go_when_it_is_settled(ingest: Ingest) -> None:
    letter = await note(ingest, ingest.workspace, waiting=3)
    await move(ingest, letter, "dead", corrected=packed(b'{"a": 2}'))
    assert ((found := await shown(ingest, letter))["corrected"], found["waiting"]) == ({"a": 2}, 3)
    assert found["error"] == "KeyError: 'size'"
    await move(ingest, letter, "retrying", waiting=4)
    assert ((found := await shown(ingest, letter))["state"], found["waiting"], found["corrected"]) == (
        "retrying",
        4,
        {"a": 2},
    )
    await move(ingest, letter, "discarded", waiting=0, note="of no use")
    found = await shown(ingest, letter)
    assert (found["state"], found["note"], found["raw"], found["corrected"]) == ("discarded", "of no use", None, None)
    assert await listed(ingest) == []
    assert await listed(ingest, state="discarded") == [str(letter)]
    await ingest.database.run((), trim, 3660)
    assert await listed(ingest, state="discarded") == [str(letter)]

    async def age(tx: Transaction, _: None) -> None:
        await tx.execute("update dead_letter set moved_at = now() - interval '2 days'")

    still = await note(ingest, ingest.workspace)
    await ingest.database.run(ingest.workspace, age, None)
    await ingest.database.run((), trim, 1)
    assert await listed(ingest, state="discarded") == []
    assert await listed(ingest) == [str(still)]


async def test_a_decision_is_sent_to_the_service_that_holds_the_letter_once_with_a_receipt(ingest: Ingest) -> None:
    letter = await note(ingest, ingest.workspace)
    answers = [await post(ingest, f"/{letter}:discard", {"reason": "a test"}, **{"Idempotency-Key": "k"}) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [202, 202]
    receipt = answers[0].json()
    assert answers[0].headers["location"] == f"/operations/v1/{receipt['id']}"
    assert (receipt["kind"], receipt["subject"]) == ("dead_letter.discard", str(letter))
    assert [stage["name"] for stage in receipt["stages"]] == [f"graph.discard.{letter}"]
    (decision,) = await emitted(ingest, DECISIONS.name)
    assert decision["ACTOR"].startswith("user:")
    assert (decision["OF"], str(decision["BY"])) == (ingest.workspace, receipt["id"])
    assert {name: decision[name] for name in ("letter_id", "service", "subscription", "act", "reason")} == {
        "letter_id": str(letter),
        "service": "graph",
        "subscription": "graph.documents",
        "act": "discard",
        "reason": "a test",
    }
    found = await shown(ingest, letter)
    assert (found["decision"], found["decision_operation"]) == ("discard", receipt["id"])


async def test_only_a_dead_letter_can_be_decided_about(ingest: Ingest) -> None:
    letter = await note(ingest, ingest.workspace)
    await move(ingest, letter, "retrying")
    refused = await post(ingest, f"/{letter}:redrive")
    assert (refused.status_code, refused.json()["code"]) == (409, "dead_letter_not_dead")
    missing = await post(ingest, f"/{uuid7()}:redrive")
    assert (missing.status_code, missing.json()["code"]) == (404, "dead_letter_not_found")
    for reason in ("", " \t\n"):
        assert (await post(ingest, f"/{letter}:discard", {"reason": reason})).status_code == 422
    assert await emitted(ingest, DECISIONS.name) == []


async def test_a_correction_has_to_meet_the_contract_and_keep_the_key(ingest: Ingest) -> None:
    document = uuid7()
    letter = await note(ingest, ingest.workspace, key=str(document))
    for payload, pointer in (
        ({"document_id": str(document), "version": "one"}, "#/payload/version"),
        ({"document_id": str(uuid7()), "version": 1}, "#/payload/document_id"),
    ):
        refused = await post(ingest, f"/{letter}:correct", {"payload": payload})
        assert (refused.status_code, [each["pointer"] for each in refused.json()["errors"]]) == (422, [pointer])
    large = {"document_id": str(document), "version": 1, "more": "".join(str(uuid7()) for _ in range(6000))}
    assert (await post(ingest, f"/{letter}:correct", {"payload": large})).status_code == 422
    unknown = await note(ingest, ingest.workspace, type="x.unknown.v1")
    assert (await post(ingest, f"/{unknown}:correct", {"payload": {}})).status_code == 422
    good = {"document_id": str(document), "version": 3}
    assert (await post(ingest, f"/{letter}:correct", {"payload": good})).status_code == 202
    (decision,) = await emitted(ingest, DECISIONS.name)
    assert DocumentDeleted.model_validate_json(unpacked(decision["value"])).version == 3


async def test_many_are_decided_about_by_what_they_have_in_common_the_oldest_first(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide_dead_letters, "MOST_LETTERS", 2)
    letters = [await note(ingest, ingest.workspace, at=AT + timedelta(minutes=n)) for n in (2, 0, 1)]
    other = await note(ingest, ingest.workspace, reason="gap")
    await note(ingest, uuid7())
    chosen = {"filter": {"reason": "failed"}}
    made = (await post(ingest, ":redrive", chosen)).json()
    assert (made["letters"], made["more"]) == (2, True)
    assert [stage["name"] for stage in made["receipt"]["stages"]] == [
        f"graph.redrive.{letters[1]}",
        f"graph.redrive.{letters[2]}",
    ]
    given_up = (await post(ingest, ":discard", {"filter": {"reason": "gap"}, "reason": "lost"})).json()
    assert (given_up["letters"], given_up["more"]) == (1, False)
    decided = [each["letter_id"] for each in await emitted(ingest, DECISIONS.name)]
    assert decided == [str(letters[1]), str(letters[2]), str(other)]
    named = (await post(ingest, ":redrive", {"filter": {"ids": [str(letters[0]), str(uuid7())]}})).json()
    assert [stage["name"] for stage in named["receipt"]["stages"]] == [f"graph.redrive.{letters[0]}"]
    none = await post(ingest, ":redrive", {"filter": {"service": "auth"}})
    assert (none.status_code, none.json()["code"]) == (404, "dead_letter_not_found")


async def test_a_bulk_says_which_or_all(ingest: Ingest) -> None:
    await note(ingest, ingest.workspace)
    for body in (
        {},
        {"filter": {}},
        {"filter": {"service": None}},
        {"filter": {"subscriptions": "graph.documents"}},
        {"filter": {"service": "graph"}, "all": True},
    ):
        for act in ("redrive", "discard"):
            refused = await post(ingest, f":{act}", {**body, "reason": "x"} if act == "discard" else body)
            assert refused.status_code == 422, body
    assert await emitted(ingest, DECISIONS.name) == []
    assert (await post(ingest, ":discard", {"all": True, "reason": "x"})).json()["letters"] == 1


async def test_what_is_decided_about_is_not_taken_by_another_bulk_until_news_of_it_come(ingest: Ingest) -> None:
    letter = await note(ingest, ingest.workspace)
    bulk = {"filter": {"reason": "failed"}}
    assert await post(ingest, f"/{letter}:correct", {"payload": DocumentDeleted.example().model_dump(mode="json")})
    assert (await post(ingest, ":redrive", bulk)).json()["letters"] == 1
    await move(ingest, letter, "dead", waiting=1)  # one more came behind it
    assert (await post(ingest, ":redrive", bulk)).status_code == 404
    await move(ingest, letter, "retrying")
    await move(ingest, letter, "dead")
    assert (await post(ingest, ":redrive", bulk)).json()["letters"] == 1
    assert (await post(ingest, ":redrive", bulk)).status_code == 404

    async def wait(tx: Transaction, _: None) -> None:
        await tx.execute("update dead_letter set decided_at = decided_at - interval '1 hour'")

    await ingest.database.run(ingest.workspace, wait, None)
    assert (await post(ingest, ":redrive", bulk)).json()["letters"] == 1


async def test_what_is_shown_of_many_letters_is_read_without_their_data(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await note(ingest, ingest.workspace)
    read = Transaction.fetch
    columns: list[set[str]] = []

    async def noted(self: Transaction, sql: str, *args: Any) -> Any:
        rows = await read(self, sql, *args)
        columns.extend({*row.keys()} for row in rows)
        return rows

    monkeypatch.setattr(Transaction, "fetch", noted)
    assert len(await listed(ingest)) == 1
    assert (await post(ingest, ":redrive", {"all": True})).json()["letters"] == 1
    assert len(columns) == 2
    assert not {"value", "corrected", "headers", "next_waiting"} & {*columns[0], *columns[1]}


async def test_of_two_bulks_at_once_one_takes_a_letter(ingest: Ingest) -> None:
    await note(ingest, ingest.workspace)
    decided, go_on = asyncio.Event(), asyncio.Event()
    command = DecideMany(
        chosen=LetterFilter(), act="redrive", workspace=ingest.workspace, own=ingest.workspace, operator=False
    )

    async def slow(tx: Transaction, _: None) -> None:
        await decide_dead_letters.decide_many(tx, command)
        decided.set()
        await go_on.wait()

    first = asyncio.create_task(ingest.database.run(ingest.workspace, slow, None))
    await asyncio.wait_for(decided.wait(), 10)
    second = asyncio.create_task(ingest.database.run(ingest.workspace, decide_dead_letters.decide_many, command))

    async def waits(tx: Transaction, _: None) -> bool:
        waiting: int = await tx.fetchval("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
        return waiting > 0

    try:
        await eventually(lambda: ingest.database.run((), waits, None))
    finally:
        go_on.set()
        await first
    with pytest.raises(DeadLetterNotFound):
        await second


async def test_of_two_decisions_at_once_about_a_letter_one_is_made(ingest: Ingest) -> None:
    letter = await note(ingest, ingest.workspace)
    redrive, discard = (
        Decide(letter_id=letter, act=act, workspace=ingest.workspace, operator=False, reason="r")
        for act in ("redrive", "discard")
    )
    beside = ingest.database.run(ingest.workspace, decide_dead_letters.decide, discard)
    with pytest.raises(DecisionUnderWay):
        await overlapping(ingest.database, ingest.workspace, decide_dead_letters.decide, redrive, beside)
    found = await shown(ingest, letter)
    assert (found["state"], found["decision"]) == ("dead", "redrive")
    assert [each["act"] for each in await emitted(ingest, DECISIONS.name)] == ["redrive"]


async def test_while_a_decision_is_on_its_way_no_other_is_made_until_news_of_it_come(ingest: Ingest) -> None:
    correct = {"payload": DocumentDeleted.example().model_dump(mode="json") | {"document_id": _KEY}}
    letter = await note(ingest, ingest.workspace, key=_KEY)
    for path, body in (("correct", correct), ("correct", correct), ("redrive", None)):
        assert (await post(ingest, f"/{letter}:{path}", body)).status_code == 202
    for path, body in (("redrive", None), ("discard", {"reason": "r"}), ("correct", correct)):
        refused = await post(ingest, f"/{letter}:{path}", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "decision_under_way"), path
    assert (await post(ingest, ":redrive", {"filter": {"ids": [str(letter)]}})).status_code == 404
    await move(ingest, letter, "retrying")
    await move(ingest, letter, "dead")
    assert (await post(ingest, f"/{letter}:discard", {"reason": "r"})).status_code == 202


async def test_letters_of_what_services_tell_each_other_are_decided_about_by_operators_alone(ingest: Ingest) -> None:
    letters = [await note(ingest, ingest.workspace, topic=topic) for topic in ("kgl.identity", "kgl.audit")]
    assert set(await listed(ingest)) == {str(letter) for letter in letters}
    for letter in letters:
        for act, body in (("redrive", None), ("discard", {"reason": "r"}), ("correct", {"payload": {}})):
            assert (await post(ingest, f"/{letter}:{act}", body)).status_code == 403
    assert (await post(ingest, ":redrive", {"all": True})).status_code == 404
    assert await emitted(ingest, DECISIONS.name) == []
    headers = operator(ingest)
    one = await ingest.client.post(f"{BASE}/{letters[0]}:redrive", headers=headers)
    many = await ingest.client.post(f"{BASE}:redrive", json={"all": True}, headers=headers)
    assert (one.status_code, many.json()["letters"]) == (202, 1)


def _requests(letter: UUID) -> list[tuple[str, str, Any]]:
    """A good request to each route."""
    bodies = {"discard": {"reason": "r"}, "break-glass": {"reason": "r"}, "correct": {"payload": {}}}
    many = {
        "redrive": {"all": True},
        "discard": {"all": True, "reason": "r"},
        "export": {"ids": [str(letter)]},
    }
    found = []
    for route in router.routes:
        path: str = route.path  # type: ignore[attr-defined]
        (method,) = route.methods  # type: ignore[attr-defined]
        act = path.rpartition(":")[2]
        body = many[act] if path.startswith(":") else bodies.get(act)
        found.append((method, BASE + path.replace("{letter_id}", str(letter)), body))
    return found


async def test_every_route_shows_a_stranger_nothing_and_lets_nobody_without_the_permission_in(ingest: Ingest) -> None:
    letter = await note(ingest, ingest.workspace)
    instance = await note(ingest, None)
    stranger = ingest.authority.user(uuid7())
    viewer = ingest.authority.user(ingest.workspace, "operations:read", "documents:write")
    reader = ingest.authority.user(ingest.workspace, "dead-letters:read")
    for asked in (letter, instance):
        for method, url, body in _requests(asked):
            answer = await ingest.client.request(method, url, json=body, headers=stranger)
            if method == "GET" and answer.status_code == 200:
                assert answer.json()["items"] == [], url
            else:
                assert answer.status_code in (403, 404), url
            assert (await ingest.client.request(method, url, json=body, headers=viewer)).status_code == 403, url
            if method == "POST" and not url.endswith(":export"):  # which reads
                assert (await ingest.client.request(method, url, json=body, headers=reader)).status_code == 403, url
    assert await listed(ingest, reader) == [str(letter)]
    assert await emitted(ingest, DECISIONS.name) == []


async def test_an_operator_sees_those_of_all_workspaces_and_of_none_and_has_receipts_of_the_instance(
    ingest: Ingest,
) -> None:
    other = uuid7()
    mine, strange, nobodys = [await note(ingest, workspace) for workspace in (ingest.workspace, other, None)]
    headers = operator(ingest)
    assert set(await listed(ingest, headers)) == {str(mine), str(strange), str(nobodys)}
    assert await listed(ingest, headers, workspace_id=str(other)) == [str(strange)]
    assert (await shown(ingest, nobodys, headers))["workspace_id"] is None
    assert (await shown(ingest, strange, headers))["payload"] == {"a": 1}
    answer = await ingest.client.post(f"{BASE}:redrive", json={"all": True}, headers=headers)
    assert (answer.status_code, answer.json()["letters"]) == (202, 3)
    assert {each["OF"] for each in await emitted(ingest, DECISIONS.name)} == {INSTANCE_WORKSPACE}
    async with working(ingest):
        receipt = await eventually(lambda: _receipt(ingest, answer.headers["location"], headers))
    assert len(receipt["stages"]) == 3
    assert (await ingest.client.get(answer.headers["location"], headers=ingest.headers)).status_code == 404


async def _receipt(ingest: Ingest, location: str, headers: dict[str, str]) -> dict[str, Any]:
    answer = await ingest.client.get(location, headers=headers)
    return answer.json() if answer.status_code == 200 else {}


async def test_what_a_module_wrote_for_others_is_read_only_by_breaking_the_glass_and_that_is_told(
    ingest: Ingest,
) -> None:
    other = uuid7()
    letter = await note(ingest, other, topic="kgl.in.tagger")
    headers = operator(ingest)
    found = await shown(ingest, letter, headers)
    assert (found["withheld"], found["payload"], found["raw"]) == (True, None, None)
    member = await shown(ingest, letter, ingest.authority.user(other))
    assert (member["withheld"], member["payload"]) == (False, {"a": 1})
    url = f"{BASE}/{letter}:break-glass"
    assert (await ingest.client.post(url, json={"reason": "why"}, headers=ingest.headers)).status_code == 403
    opened = await ingest.client.post(url, json={"reason": "it hurts"}, headers=headers)
    assert (opened.status_code, opened.json()["payload"]) == (200, {"a": 1})
    (audited,) = await emitted(ingest, "kgl.audit")
    assert (audited["action"], audited["scope"], audited["details"]["reason"]) == (
        "dead_letter.break_glass",
        str(other),
        "it hurts",
    )


async def test_what_is_exported_is_told_to_the_audit_log_of_each_workspace_with_how_many_there_were(
    ingest: Ingest,
) -> None:
    other = uuid7()
    mine = [await note(ingest, ingest.workspace) for _ in range(2)]
    strange, nobodys = await note(ingest, other, topic="kgl.in.tagger"), await note(ingest, None)
    asked = {"ids": [str(letter) for letter in (*mine, strange, nobodys, uuid7())]}
    answer = await post(ingest, ":export", asked)
    assert [(each["id"], each["payload"]) for each in answer.json()["items"]] == [(str(id), {"a": 1}) for id in mine]
    answer = await ingest.client.post(f"{BASE}:export", json=asked, headers=operator(ingest))
    assert [each["withheld"] for each in answer.json()["items"]] == [False, False, True, False]
    told = [(each["action"], each["scope"], each["details"]) for each in await emitted(ingest, "kgl.audit")]
    action, own = "dead_letter.export", str(ingest.workspace)
    assert told[0] == (action, own, {"letters": 2})
    assert sorted(told[1:]) == sorted(
        [(action, own, {"letters": 2}), (action, str(other), {"letters": 1}), (action, "instance", {"letters": 1})]
    )


async def test_what_a_module_wrote_for_nobody_knows_whom_is_withheld_and_its_error_shown_nowhere(
    ingest: Ingest,
) -> None:
    letter = await note(ingest, None, topic="kgl.in.tagger", error="Zeppelins moor")
    other = await note(ingest, uuid7(), topic="kgl.in.tagger", error="Zeppelins moor")
    await note(ingest, ingest.workspace, topic="kgl.in.tagger", error="Airships moor")
    headers = operator(ingest)
    for each in (letter, other):
        found = await shown(ingest, each, headers)
        assert (found["withheld"], found["raw"], found["payload"], found["error"]) == (True, None, None, None)
    answer = await ingest.client.get(BASE, headers=headers)
    assert [each["error"] for each in answer.json()["items"]] == [None] * 3
    assert await listed(ingest, headers, error="moor") == []
    counts = (await ingest.client.get(f"{BASE}/counts", params={"by": ["error"]}, headers=headers)).json()["items"]
    assert [(each["count"], each["error"]) for each in counts] == [(3, None)]
    assert len(await listed(ingest, error="moor")) == 1
    own = (await ingest.client.get(f"{BASE}/counts", params={"by": ["error"]}, headers=ingest.headers)).json()["items"]
    assert [each["error"] for each in own] == ["Airships moor"]
    opened = await ingest.client.post(f"{BASE}/{letter}:break-glass", json={"reason": "it hurts"}, headers=headers)
    assert (opened.json()["payload"], opened.json()["error"]) == ({"a": 1}, "Zeppelins moor")
    (audited,) = await emitted(ingest, "kgl.audit")
    assert (audited["action"], audited["scope"], audited["OF"]) == ("dead_letter.break_glass", "instance", None)


@asynccontextmanager
async def working(ingest: Ingest) -> AsyncIterator[None]:
    worker = asyncio.create_task(ingest.service.work())
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def test_an_event_that_ingest_itself_cannot_read_is_found_corrected_and_handled(ingest: Ingest) -> None:
    started = OperationStarted(
        operation_id=uuid7(),
        kind="test",
        subject=Subject(type="thing", id=uuid7()),
        stages=(PlannedStage(name="test.stage"),),
        started_at=AT,
    )
    broken = started.model_dump(mode="json") | {"stages": 7}
    envelope = Envelope(
        id=uuid7(),
        type=started.event_type,
        source="graph",
        time=AT,
        workspace_id=ingest.workspace,
        operation_id=started.operation_id,
        sequence=1,
    )
    bus = ingest.service.bus
    assert isinstance(bus, MemoryBus)
    async with working(ingest):
        await bus.declare([started.topic])
        value = str(broken).replace("'", '"').encode()
        bus.append(Record(topic=started.topic.name, key=started.key, headers=envelope.headers(), value=value))
        (letter,) = await eventually(lambda: listed(ingest, operation_id=str(started.operation_id)))
        found = await shown(ingest, UUID(letter))
        assert (found["reason"], found["payload"]["stages"]) == ("unreadable", 7)
        fixed = {**found["payload"], "stages": [{"name": "test.stage"}]}
        url, headers = f"{BASE}/{letter}", operator(ingest)
        corrected = await ingest.client.post(f"{url}:correct", json={"payload": fixed}, headers=headers)
        assert corrected.status_code == 202
        redriven = await ingest.client.post(f"{url}:redrive", headers=headers)
        done = await ingest.client.get(redriven.headers["location"], params={"wait": 10}, headers=headers)
        assert done.json()["state"] == "done"
        now = await ingest.client.get(f"/operations/v1/{started.operation_id}", headers=ingest.headers)
        assert [stage["name"] for stage in now.json()["stages"]] == ["test.stage"]
        await eventually(lambda: _settled(ingest, letter))


async def _settled(ingest: Ingest, letter: str) -> bool:
    return await listed(ingest, state="settled") == [letter]
