"""Least rights: what one service may do on the servers, and that it may do nothing with what another has."""

from itertools import permutations

import asyncpg
import pytest

from tests.stack.harness import Stack

SERVICES = ("auth", "ingest", "graph", "content", "publish")


def password(stack: Stack, service: str) -> str:
    return stack.settings[f"KGL_DB_{service.upper()}_PASSWORD"]


@pytest.mark.parametrize(("service", "other"), list(permutations(SERVICES, 2)))
async def test_no_service_opens_the_database_of_another(stack: Stack, service: str, other: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await stack.connect(f"kgl_{other}", f"kgl_{service}", password(stack, service))


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_opens_its_own_database_owns_nothing_in_it_and_cannot_open_keycloaks(
    stack: Stack, service: str
) -> None:
    connection = await stack.connect(f"kgl_{service}", f"kgl_{service}", password(stack, service))
    try:
        owned = await connection.fetchval("select count(*) from pg_tables where tableowner = current_user")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("create table mine (x int)")
    finally:
        await connection.close()
    assert owned == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await stack.connect("kgl_keycloak", f"kgl_{service}", password(stack, service))


async def test_graph_runs_on_a_server_without_pgvector(stack: Stack) -> None:
    connection = await stack.connect("kgl_graph", "postgres", stack.settings["KGL_POSTGRES_PASSWORD"])
    try:
        installed = [row["extname"] for row in await connection.fetch("select extname from pg_extension")]
        tables = [row["tablename"] for row in await connection.fetch("select tablename from pg_tables")]
    finally:
        await connection.close()
    assert "vector" not in installed
    assert "chunk_vector" not in tables
    assert "chunk" in tables


async def test_our_containers_have_no_rights_and_publish_no_port_but_the_edges(stack: Stack) -> None:
    said = await stack.docker(
        "inspect",
        "--format",
        "{{.Name}}|{{.Config.User}}|{{.HostConfig.ReadonlyRootfs}}|{{.HostConfig.CapDrop}}|{{.HostConfig.Memory}}|"
        "{{.HostConfig.SecurityOpt}}|{{json .HostConfig.PortBindings}}",
        *(stack.container(f"{name}-{role}") for name in SERVICES for role in ("api", "worker")),
        stack.container("reader"),
    )
    for line in said.splitlines():
        name, user, read_only, dropped, memory, options, ports = line.split("|")
        assert (user, read_only, dropped) == ("10001:10001", "true", "[ALL]"), name
        assert "no-new-privileges:true" in options, name
        assert int(memory) > 0, name
        assert ports in {"{}", "null"}, name
