"""The processes of a service as operators start them: their ports, their end, and what they say of wrong settings."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest

import kgl_content.bootstrap
from kgl_cli.home import free_port
from kgl_servicekit.bus.postgres import migrate_bus
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.postgres import PostgresForTests, Roles

Environment = Mapping[str, str]


@pytest.fixture(scope="module")
async def environment(
    postgres: PostgresForTests, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Environment]:
    async with postgres.database(kgl_content.bootstrap.MIGRATIONS) as roles, postgres.database() as bus:
        await _migrate_bus(bus)
        yield {
            "KGL_ENV": "test",
            "KGL_DATABASE_URL": roles.service,
            "KGL_DATABASE_OWNER_URL": roles.owner,
            "KGL_BUS_URL": bus.owner,
            "KGL_OBJECT_DIR": str(tmp_path_factory.mktemp("objects")),
        }


async def _migrate_bus(roles: Roles) -> None:
    await migrate_bus(roles.owner, roles.owner.rpartition("@")[0].rpartition("/")[2].removesuffix("_owner"))


async def started(environment: Environment, *arguments: str) -> asyncio.subprocess.Process:
    known = {name: value for name, value in os.environ.items() if not name.startswith("KGL_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kgl_content", *arguments),
        env={**known, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def said(environment: Environment, *arguments: str) -> tuple[int | None, str]:
    """How a process ended by itself, and its last words."""
    process = await started(environment, *arguments)
    async with asyncio.timeout(30):
        _, stderr = await process.communicate()
    return process.returncode, stderr.decode()


@asynccontextmanager
async def serving(environment: Environment, role: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port = free_port()
    process = await started(environment, role, "--port", str(port))

    async def ready() -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 200
            except httpx.TransportError:
                assert process.returncode is None
                return False

    try:
        await eventually(ready, within=30, what="not ready")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("role", ["api", "worker"])
async def test_a_process_answers_health_and_metrics_and_ends_cleanly_on_sigterm(
    environment: Environment, role: str
) -> None:
    async with serving(environment, role) as (process, url), httpx.AsyncClient() as client:
        metrics = await client.get(f"{url}/metrics")
        process.terminate()
        async with asyncio.timeout(10):
            ended = await process.wait()
    assert "kgl_transaction_retries_total" in metrics.text
    assert ended == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_asked_for_once_and_stopped_says_that_it_is_not_done(
    environment: Environment, number: signal.Signals
) -> None:
    asked = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with await asyncio.start_server(silent, "127.0.0.1") as database:
        port = database.sockets[0].getsockname()[1]
        url = f"postgresql://a:b@127.0.0.1:{port}/c"
        process = await started({**environment, "KGL_DATABASE_URL": url}, "refill", "kgl.content")
        async with asyncio.timeout(60):
            await asked.wait()
            process.send_signal(number)
            _, words = await process.communicate()
    assert process.returncode == 128 + number
    assert words.decode().splitlines()[-1] == f"stopped by {number.name} before it was done"
    assert "Traceback" not in words.decode()


async def test_readiness_of_a_worker_names_its_bus_and_database(environment: Environment) -> None:
    async with serving(environment, "worker") as (_, url), httpx.AsyncClient() as client:
        answer = (await client.get(f"{url}/health/ready")).json()
    assert {"database", "bus"} <= set(answer["dependencies"])


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"KGL_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}, "KGL_DATABASE_URL: its server cannot be reached"),
        ({"KGL_ENV": "production", "KGL_DATABASE_URL": "postgresql://a@b/c"}, "KGL_DATABASE_URL has no secret"),
        ({"KGL_ENV": "production", "KGL_DATABASE_URL": "postgresql://a:kgl@b/c"}, "KGL_DATABASE_URL has no secret"),
        (
            {"KGL_DATABASE_URL": "postgresql://nobody@{host}"},
            'KGL_DATABASE_URL is refused: role "nobody" does not exist',
        ),
        ({"KGL_ENV": "staging"}, "KGL_ENV: Input should be 'development', 'test' or 'production'"),
        ({"KGL_ENV": "production", "KGL_PUBLIC_URL": "http://kgl.example"}, "KGL_PUBLIC_URL must be https"),
        ({"KGL_DATABASE_URL_FILE": "/nowhere"}, "KGL_..._FILE names cannot be read"),
        ({"KGL_BUS": "kafka"}, "set KGL_KAFKA_BOOTSTRAP"),
    ],
)
@pytest.mark.parametrize("role", ["api", "worker"])
async def test_a_wrong_setting_ends_a_process_with_one_line_that_names_it(
    environment: Environment, role: str, changed: dict[str, str], line: str
) -> None:
    host = environment["KGL_DATABASE_URL"].rpartition("@")[2]
    settings = {**environment, **{name: value.format(host=host) for name, value in changed.items()}}
    code, words = await said(settings, role)
    assert code == 1
    assert line in words
    assert "Traceback" not in words


async def test_migrate_is_told_which_role_it_needs(environment: Environment) -> None:
    without = {name: value for name, value in environment.items() if name != "KGL_DATABASE_OWNER_URL"}
    assert "set KGL_DATABASE_OWNER_URL" in (await said(without, "migrate"))[1]
    assert (await said(environment, "migrate"))[0] == 0


async def test_refill_is_for_topics_that_the_service_writes(environment: Environment) -> None:
    code, words = await said(environment, "refill", "kgl.graph")
    assert code == 1
    assert "content does not write kgl.graph; it writes kgl.audit, kgl.content, kgl.operations" in words
    code, words = await said(environment, "refill", "kgl.content")
    assert code == 0
    assert '"event":"refill.done"' in words
