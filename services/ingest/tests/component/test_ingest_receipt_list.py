"""Receipts found by what they are, in one workspace and by operators in all."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest

from kgl_contracts.operations import KINDS, OperationStarted, PlannedStage, Progress, StageState, Subject
from kgl_ingest.db import receipts
from kgl_ingest.domain.receipts import ReceiptFilter
from kgl_ingest.testing import Ingest
from kgl_ingest.use_cases.record_progress import RecordProgress, record_progress
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.checked import Checked
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE
from kgl_servicekit.ids import uuid7
from kgl_servicekit.testing.postgres import PostgresForTests, role_url

BASE = "/operations/v1"
AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


def operator(ingest: Ingest, *permissions: str) -> dict[str, str]:
    """The headers of an operator who names no workspace."""
    allowed = frozenset(permissions) or frozenset({"instance:*"})
    checked = Checked(principal="user:operator", user_id=uuid7(), permissions=allowed)
    return {"Authorization": ingest.authority.admit(checked)}


async def begun(
    ingest: Ingest,
    workspace: UUID,
    state: StageState = "running",
    *,
    kind: str = "ingest.document",
    at: datetime | None = None,
    seconds: int = 10**9,
) -> str:
    """An operation of one stage; the stage's deadline is so many seconds after its start."""
    operation = uuid7()
    started = OperationStarted(
        operation_id=operation,
        kind=kind,
        subject=Subject(type="document", id=uuid7()),
        stages=(PlannedStage(name="graph.index", deadline_seconds=seconds),),
        started_at=at or AT,
    )
    moved = Progress(
        workspace_id=workspace, operation_id=operation, stage="graph.index", state=state, at=datetime.now(UTC)
    )
    command = RecordProgress(started=[(workspace, started)], moved=[moved])
    await ingest.database.run(workspace, record_progress, command)
    return str(operation)


async def get(ingest: Ingest, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
    return await ingest.client.get(BASE, params=params, headers=headers or ingest.headers)


async def listed(ingest: Ingest, headers: dict[str, str] | None = None, **params: Any) -> list[str]:
    answer = await get(ingest, headers, **params)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def test_receipts_are_found_by_state_kind_subject_time_and_deadline_page_by_page(ingest: Ingest) -> None:
    mine = ingest.workspace
    a = await begun(ingest, mine, "failed")
    b = await begun(ingest, mine, kind="ingest.delete", at=AT + timedelta(minutes=1), seconds=1)
    c = await begun(ingest, mine, "done", at=AT + timedelta(minutes=2), seconds=1)
    assert await listed(ingest) == [c, b, a]
    subject = (await ingest.client.get(f"{BASE}/{b}", headers=ingest.headers)).json()["subject"]
    filters: tuple[dict[str, Any], ...] = (
        {"state": "running"},
        {"kind": "ingest.delete"},
        {"subject": subject},
        {"overdue": True},
        {"created_at_gte": (AT + timedelta(minutes=1)).isoformat(), "created_at_lt": "2026-11-25T12:02:00Z"},
        {"state": "running", "kind": "ingest.delete", "overdue": True, "workspace_id": str(mine)},
    )
    for params in filters:
        assert await listed(ingest, **params) == [b], params
    assert await listed(ingest, state="failed") == [a]
    assert await listed(ingest, overdue=False) == [c, a]
    first = (await get(ingest, limit=2)).json()
    assert await listed(ingest, limit=2, cursor=first["next"]) == [a]
    assert {item["workspace_id"] for item in first["items"]} == {str(mine)}


@pytest.mark.parametrize(
    ("path", "params", "pointer", "named"),
    [
        (BASE, {"state": "nope"}, "#/state", "cancelled"),
        (BASE, {"kind": "nope"}, "#/kind", KINDS[-1]),
        (BASE, {"status": "failed"}, "#/status", "overdue"),
        ("/dead-letters/v1", {"operation": str(INSTANCE_WORKSPACE)}, "#/operation", "operation_id"),
        ("/dead-letters/v1/counts", {"group": "day"}, "#/group", "by"),
        (f"{BASE}/{INSTANCE_WORKSPACE}", {"timeout": "3"}, "#/timeout", "wait"),
    ],
)
async def test_a_filter_that_is_none_is_refused_by_what_there_is(
    ingest: Ingest, path: str, params: dict[str, str], pointer: str, named: str
) -> None:
    refused = await ingest.client.get(path, params=params, headers=ingest.headers)
    assert refused.status_code == 422, refused.text
    (place,) = refused.json()["errors"]
    assert place["pointer"] == pointer
    assert named in place["detail"]


async def test_the_workspace_may_still_be_named_in_the_query(ingest: Ingest) -> None:
    headers = {"Authorization": ingest.headers["Authorization"]}
    assert (await get(ingest, headers, workspace=str(ingest.workspace), limit=3)).status_code == 200


async def test_operators_see_the_receipts_of_all_workspaces_and_may_have_them_retried(ingest: Ingest) -> None:
    other = uuid7()
    mine = await begun(ingest, ingest.workspace, "failed")
    theirs = await begun(ingest, other, "failed", at=AT + timedelta(minutes=1))
    nobodys = await begun(ingest, INSTANCE_WORKSPACE, kind="graph.rebuild", at=AT + timedelta(minutes=2))
    headers = operator(ingest)
    answer = (await get(ingest, headers)).json()["items"]
    assert [(item["id"], item["workspace_id"]) for item in answer] == [
        (nobodys, None),
        (theirs, str(other)),
        (mine, str(ingest.workspace)),
    ]
    assert await listed(ingest, headers, workspace_id=str(other)) == [theirs]
    assert await listed(ingest, headers, workspace_id=str(uuid7())) == []
    shown = await ingest.client.get(f"{BASE}/{theirs}", headers=headers)
    assert (shown.status_code, shown.json()["workspace_id"]) == (200, str(other))
    assert (await ingest.client.post(f"{BASE}/{theirs}:retry", headers=headers)).status_code == 202
    assert (await ingest.client.post(f"{BASE}/{theirs}:cancel", headers=headers)).status_code >= 400
    assert await listed(ingest) == [mine]
    assert await listed(ingest, workspace_id=str(other)) == []
    assert (await get(ingest, operator(ingest, "instance:users"))).status_code >= 400


_MANY = """
insert into operation (workspace_id, id, kind, subject, state, created_at)
select ($1::uuid[])[1 + n % 2], gen_random_uuid(), 'ingest.document', n::text,
       case when n % 1000 < 2 then 'failed' else 'done' end, now() - n * interval '1 second'
from generate_series(1, 20000) as g(n)
"""


class _Planned:
    """A transaction that asks for the plan of each statement instead of its rows."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.workspaces = tx.workspaces
        self.plan = ""

    async def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        self.plan = self.plan or "\n".join(row[0] for row in await self._tx.fetch(f"explain {statement}", *values))
        return []


@pytest.mark.parametrize(
    ("chosen", "index"),
    [
        pytest.param(ReceiptFilter(), "ix_operation_listed", id="all"),
        pytest.param(ReceiptFilter(state="failed"), "ix_operation_state", id="failed"),
        pytest.param(ReceiptFilter(subject="17"), "ix_operation_subject", id="subject"),
    ],
)
async def test_each_filter_has_an_index_that_ends_with_the_page(
    ingest: Ingest, postgres: PostgresForTests, chosen: ReceiptFilter, index: str
) -> None:
    others = uuid7()
    service = urlsplit(ingest.service.settings.database_url.get_secret_value())
    connection = await asyncpg.connect(role_url(postgres.url, "postgres", service.path[1:]))
    try:
        await connection.execute(_MANY, [ingest.workspace, others])
        await connection.execute("analyze operation")
    finally:
        await connection.close()

    async def planned(tx: Transaction, filter: ReceiptFilter) -> str:
        asked: Any = _Planned(tx)
        await receipts.listed(asked, filter, 50, None)
        return str(asked.plan)

    plan = await ingest.database.run(ingest.workspace, planned, chosen)
    assert index in plan, plan
    everywhere = await ingest.database.run((ingest.workspace, others), planned, ReceiptFilter())
    assert "ix_operation_created" in everywhere, everywhere
    for each in (plan, everywhere):
        assert "Seq Scan on operation" not in each, each
