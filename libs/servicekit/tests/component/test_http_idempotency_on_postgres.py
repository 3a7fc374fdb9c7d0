"""Idempotency-Key on a real database: locks, rows and effects of one transaction."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Conflict
from kgl_servicekit.http import ApiRouter, Reply, Run, create_app
from kgl_servicekit.http.testing import ServedForTests, client_of
from kgl_servicekit.identity.testing import FakeAuthority
from kgl_servicekit.testing.counter import MIGRATIONS, count
from kgl_servicekit.testing.postgres import PostgresForTests, Roles

PATH = "/counter/v1/counts"


class Counting(BaseModel):
    name: str
    slowly: bool = False


class Counted(BaseModel):
    name: str
    value: int


async def count_one(tx: Transaction, command: Counting) -> Counted:
    value = await count(tx, command.name)
    if command.slowly:
        await tx.execute("select pg_sleep(0.3)")
    if command.name == "refused":
        raise Conflict
    return Counted(name=command.name, value=value)


async def value_of(tx: Transaction, name: str) -> int:
    return await tx.fetchval("select value from counter where name = $1", name) or 0


router = ApiRouter()


@router.post("/counts", status_code=201, permission="graph:write")
async def make_count(body: Counting, run: Run) -> Counted:
    return await run(count_one, body, reply=lambda counted: Reply({"Location": f"/counts/{counted.name}"}))


@dataclass(frozen=True)
class Scene:
    """A service that counts, on its own database."""

    roles: Roles
    database: Database
    authority: FakeAuthority
    app: FastAPI

    async def post(self, who: dict[str, str], key: str, name: str, **body: Any) -> httpx.Response:
        async with client_of(self.app, headers={**who, "Idempotency-Key": key}) as client:
            return await client.post(PATH, json={"name": name, **body})


@pytest.fixture(scope="module")
async def scene(postgres: PostgresForTests) -> AsyncIterator[Scene]:
    async with postgres.database(MIGRATIONS) as roles:
        database = Database(roles.service, service="counter")
        authority = FakeAuthority()
        app = create_app(
            ServedForTests(name="counter", routers=[("/counter/v1", router)], database=database, authority=authority)
        )
        await database.start()
        yield Scene(roles, database, authority, app)
        await database.stop()


async def test_of_fifty_concurrent_twins_exactly_one_has_an_effect(scene: Scene) -> None:
    workspace = uuid4()
    who = scene.authority.user(workspace)
    answers = await asyncio.gather(*(scene.post(who, "twin", "twins", slowly=True) for _ in range(50)))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409}
    assert statuses[201] >= 1
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"request_in_flight"}
    assert {answer.content for answer in answers if answer.status_code == 201} == {b'{"name":"twins","value":1}'}
    assert await scene.database.run(workspace, value_of, "twins") == 1
    later = await scene.post(who, "twin", "twins", slowly=True)
    assert (later.status_code, later.headers["idempotency-replayed"]) == (201, "true")
    assert later.headers["location"] == "/counts/twins"
    assert await scene.database.run(workspace, value_of, "twins") == 1


async def test_a_refused_use_case_keeps_neither_its_effect_nor_its_answer(scene: Scene) -> None:
    workspace = uuid4()
    who = scene.authority.user(workspace)
    for _ in range(2):
        assert (await scene.post(who, "no", "refused")).status_code == 409
    assert await scene.database.run(workspace, value_of, "refused") == 0
    fixed = await scene.post(who, "no", "allowed")
    assert (fixed.status_code, fixed.json()["value"]) == (201, 1)


async def test_another_body_is_refused_and_another_caller_has_a_key_of_its_own(scene: Scene) -> None:
    workspace = uuid4()
    who = scene.authority.user(workspace)
    await scene.post(who, "same", "a")
    assert (await scene.post(who, "same", "b")).json()["code"] == "idempotency_key_reused"
    assert (await scene.post(scene.authority.user(workspace), "same", "a")).json()["value"] == 2


async def test_after_a_day_the_key_is_free_again(scene: Scene) -> None:
    workspace = uuid4()
    who = scene.authority.user(workspace)
    first = await scene.post(who, "day", "a")
    owner = await asyncpg.connect(scene.roles.owner)
    try:
        await owner.execute(
            "update idempotency_key set created_at = created_at - interval '25 hours' where workspace_id = $1",
            workspace,
        )
    finally:
        await owner.close()
    second = await scene.post(who, "day", "a")
    third = await scene.post(who, "day", "a")
    assert [answer.json()["value"] for answer in (first, second, third)] == [1, 2, 2]
    assert "idempotency-replayed" not in second.headers
    assert third.headers["idempotency-replayed"] == "true"
