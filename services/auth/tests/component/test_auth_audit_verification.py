"""Tampering with the audit log by someone who owns the whole database, and that it is found, at its place."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from kgl_auth import audit_verification
from kgl_auth.audit_verification import ChainWatch
from kgl_auth.metrics import AUDIT_CHAIN_BROKEN
from kgl_auth.testing import AuthKit, Person
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, create_first_owner
from kgl_contracts.audit import RecordMade
from kgl_servicekit.testing.postgres import Roles

RECORDS = 7
VERIFY = "/auth/v1/audit:verify"


def made(scope: object, number: int) -> RecordMade:
    return RecordMade(
        scope=str(scope),
        record_id=uuid4(),
        actor="user:x",
        action="test.act",
        target=f"thing:{number}",
        outcome="allowed",
        at=datetime.now(UTC),
    )


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven records are three pages."""
    monkeypatch.setattr(audit_verification, "PAGE", 3)


@pytest.fixture
async def superuser(alone_roles: Roles) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(alone_roles.superuser)
    yield connection
    await connection.close()


@pytest.fixture
async def person(alone: AuthKit) -> Person:
    person = await alone.register()
    for number in range(1, RECORDS + 1):
        await alone.record(made(person.workspace, number), person.workspace)
    return person


@pytest.fixture
async def client(alone: AuthKit, person: Person) -> httpx.AsyncClient:
    client = alone.browser()
    client.headers.update(await alone.bearer(person))
    return client


async def verify(client: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    answer = await client.get(VERIFY, params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_log_that_nobody_touched_verifies_and_tells_its_head(client: httpx.AsyncClient) -> None:
    found = await verify(client)
    newest = (await client.get("/auth/v1/audit", params={"limit": 1})).json()["items"][0]
    assert found == {
        "verified": True,
        "records": RECORDS,
        "head": {"number": RECORDS, "hash": newest["hash"]},
        "first_broken": None,
    }
    kept = f"{RECORDS}:{newest['hash']}"
    assert (await verify(client, expected_head=kept))["verified"] is True


EDIT = """update audit_record set record = jsonb_set(record, '{actor}', '"user:y"') where scope = $1 and number = 4"""
EDIT_HASH = "update audit_record set hash = sha256(hash) where scope = $1 and number = 4"
UNREADABLE = """update audit_record set record = ('{"a": ' || repeat('[', 2000) || repeat(']', 2000) || '}')::jsonb
                where scope = $1 and number = 4"""
NO_OBJECT = (
    """update audit_record set record = '[]', hash = sha256(prev_hash || '[]') where scope = $1 and number = 4"""
)
MOVE_OUT = "update audit_record set workspace_id = null where scope = $1 and number = 4"
HIDE = "update audit_record set workspace_id = gen_random_uuid() where scope = $1 and number = 4"
DELETE = "delete from audit_record where scope = $1 and number = 4"
SWAP = """update audit_record r set record = o.record, hash = o.hash, prev_hash = o.prev_hash
          from audit_record o where r.scope = $1 and o.scope = $1 and r.number in (4, 5) and o.number = 9 - r.number"""
INSERT = """insert into audit_record select scope, 8, workspace_id, hash, sha256(hash), record
            from audit_record where scope = $1 and number = 7"""
INSERT_BEFORE = """insert into audit_record select scope, 0, workspace_id, prev_hash, hash, record
                   from audit_record where scope = $1 and number = 1"""
TRUNCATE = "delete from audit_record where scope = $1 and number > 5"
TRUNCATE_ALL = "delete from audit_record where scope = $1"
BEHEAD = "delete from audit_chain where scope = $1"
HEAD_BACK = "update audit_chain set number = 6 where scope = $1"


@pytest.mark.parametrize(
    ("tampering", "number"),
    [
        pytest.param(EDIT, 4, id="edited"),
        pytest.param(EDIT_HASH, 4, id="hash edited"),
        pytest.param(UNREADABLE, 4, id="unreadable"),
        pytest.param(NO_OBJECT, 4, id="no object"),
        pytest.param(MOVE_OUT, 4, id="given to the instance"),
        pytest.param(HIDE, 4, id="given to another workspace"),
        pytest.param(DELETE, 4, id="deleted"),
        pytest.param(SWAP, 4, id="reordered"),
        pytest.param(INSERT, 8, id="inserted at the end"),
        pytest.param(INSERT_BEFORE, 0, id="inserted before the first"),
        pytest.param(TRUNCATE, 6, id="tail cut"),
        pytest.param(TRUNCATE_ALL, 1, id="all cut"),
        pytest.param(BEHEAD, 1, id="head lost"),
        pytest.param(HEAD_BACK, 7, id="head set back"),
    ],
)
async def test_tampering_is_found_at_its_place(
    client: httpx.AsyncClient, person: Person, superuser: Any, tampering: str, number: int
) -> None:
    changed = await superuser.execute(tampering, str(person.workspace))
    assert not changed.endswith(" 0")
    found = await verify(client)
    assert found["verified"] is False
    assert found["first_broken"]["number"] == number
    assert found["records"] <= RECORDS


async def test_a_record_put_between_others_is_found(client: httpx.AsyncClient, person: Person, superuser: Any) -> None:
    scope = str(person.workspace)
    await superuser.execute("update audit_record set number = number + 100 where scope = $1 and number > 3", scope)
    await superuser.execute("update audit_record set number = number - 99 where scope = $1 and number > 100", scope)
    await superuser.execute(
        """insert into audit_record select scope, 4, workspace_id, hash, sha256(hash), record
           from audit_record where scope = $1 and number = 3""",
        scope,
    )
    assert (await verify(client))["first_broken"]["number"] == 4


async def test_a_log_that_was_cut_together_with_its_head_is_found_by_a_head_that_was_kept(
    client: httpx.AsyncClient, person: Person, superuser: Any
) -> None:
    head = (await verify(client))["head"]
    scope = str(person.workspace)
    await superuser.execute(TRUNCATE, scope)
    await superuser.execute(
        """update audit_chain c set number = r.number, hash = r.hash from audit_record r
           where c.scope = $1 and r.scope = $1 and r.number = 5""",
        scope,
    )
    assert (await verify(client))["verified"] is True
    found = await verify(client, expected_head=f"{head['number']}:{head['hash']}")
    assert found["first_broken"]["number"] == 6
    other = await verify(client, expected_head=f"2:{'0' * 64}")
    assert other["first_broken"]["number"] == 2


@pytest.mark.parametrize("head", ["", "7", "7:abc", f"x:{'0' * 64}", f"-1:{'0' * 64}"])
async def test_a_kept_head_that_is_none_is_refused(client: httpx.AsyncClient, head: str) -> None:
    assert (await client.get(VERIFY, params={"expected_head": head})).status_code == 422


async def test_each_verifies_their_own_log_and_operators_that_of_the_instance(
    alone: AuthKit, client: httpx.AsyncClient
) -> None:
    stranger = alone.browser()
    stranger.headers.update(await alone.bearer(await alone.register()))
    assert (await verify(stranger))["records"] == 0
    stranger.headers["Kgl-Workspace"] = client.headers["Kgl-Workspace"]
    assert (await stranger.get(VERIFY)).status_code == 403
    assert (await client.get("/auth/v1/instance/audit:verify")).status_code == 403
    await alone.record(made("instance", 1), None)
    command = CreateFirstOwner(email="op@example.com", password="x" * 12, name="Op", workspace_slug="op")
    owner = await alone.database.run((), create_first_owner, command)
    assert owner.api_key is not None
    operator = {"Authorization": f"Bearer {owner.api_key.key}"}
    found = (await client.get("/auth/v1/instance/audit:verify", headers={**operator, "Kgl-Workspace": "op"})).json()
    assert (found["verified"], found["records"]) == (True, 1)


async def test_the_check_of_all_chains_counts_those_that_are_broken(
    alone: AuthKit, person: Person, superuser: Any
) -> None:
    watch = ChainWatch(alone.database, rest=1, pause=0)
    others = [uuid4(), uuid4()]
    for workspace in others:
        await alone.record(made(workspace, 1), workspace)
    await alone.record(made("instance", 1), None)
    assert await watch.round() == 0
    assert AUDIT_CHAIN_BROKEN._value.get() == 0
    await superuser.execute(EDIT, str(person.workspace))
    await superuser.execute("delete from audit_chain where scope = $1", str((await alone.register()).workspace))
    await superuser.execute("delete from audit_record where scope = $1", str(others[0]))
    await superuser.execute("delete from audit_chain where scope = $1", str(others[0]))
    await superuser.execute("insert into audit_chain values ('elsewhere', 0, '')")
    await superuser.execute("delete from audit_record where scope = $1", str(others[1]))
    await superuser.execute("update audit_chain set number = 0, hash = $2 where scope = $1", str(others[1]), bytes(32))
    # edited; a scope that is none; two that were cut with their heads, which the check remembers
    assert await watch.round() == 4
    assert AUDIT_CHAIN_BROKEN._value.get() == 4
