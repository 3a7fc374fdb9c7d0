"""The five services as processes of this machine: an API and a worker each, with fresh stores."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg

import kgl_auth.bootstrap
import kgl_content.bootstrap
import kgl_graph.bootstrap
import kgl_ingest.bootstrap
import kgl_publish.bootstrap
from kgl_auth.settings import AuthSettings
from kgl_auth.use_cases.change_module import EnableModule, enable_module
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, create_first_owner
from kgl_cli.home import free_port
from kgl_contracts.rights import SERVICES
from kgl_servicekit.bus.postgres import PostgresBus, migrate_bus
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.testing.postgres import Roles
from tests.faults.embedded import LOGS, EmbeddedSystem
from tests.faults.issuer import Issuer
from tests.faults.processes import ManagedProcess
from tests.faults.proxy import Proxy, proxied
from tests.faults.s3_server import S3Server, s3_server
from tests.faults.small_server import serving

_MIGRATIONS = {
    "auth": kgl_auth.bootstrap.MIGRATIONS,
    "ingest": kgl_ingest.bootstrap.MIGRATIONS,
    "graph": kgl_graph.bootstrap.MIGRATIONS,
    "content": kgl_content.bootstrap.MIGRATIONS,
    "publish": kgl_publish.bootstrap.MIGRATIONS,
}
WORKSPACE = "faults"
_PUBLIC = "http://localhost:8080"
PREFIXES = {
    "operations": "ingest",
    "dead-letters": "ingest",
    "modules": "graph",
    "live": "publish",
    "events": "publish",
}


@dataclass(slots=True)
class EmbeddedDocuments:
    """`dsns` are superusers of the databases; `folder` is that of the files, unless there is `s3`.

    No module runs, so that there are no drafts.
    """

    dsns: Mapping[str, str]
    folder: Path
    vectors_switch: Path
    key: str = ""
    user: UUID | None = None
    s3: S3Server | None = None
    s3_link: Proxy | None = None
    issuer: Issuer | None = None
    processes: dict[str, ManagedProcess] = field(default_factory=dict)
    drafts_each: int = 0

    def url(self, path: str) -> str:
        """Where the service of a path answers."""
        first = path.split("/", 2)[1]
        return f"http://127.0.0.1:{self.processes[f'{PREFIXES.get(first, first)}-api'].port}"

    def health(self, process: str) -> str:
        """Where a process says how it is."""
        return f"http://127.0.0.1:{self.processes[process].port}/health"

    async def rows(self, service: str, statement: str) -> list[asyncpg.Record]:
        """From the database of one service."""
        connection = await asyncpg.connect(self.dsns[service])
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement)
            return found
        finally:
            await connection.close()

    async def vectors(self) -> list[tuple[str, str]]:
        """Document and chunk of each."""
        statement = "select document_id::text, chunk_id::text from chunk_vector"
        return [tuple(row) for row in await self.rows("graph", statement)]

    async def objects(self) -> frozenset[str]:
        """Their keys."""
        if self.s3 is not None:
            with self.s3.lock:
                return frozenset(self.s3.bucket.objects)
        return await asyncio.to_thread(_files, self.folder)

    def break_vectors(self, mode: str) -> None:
        """How the vector store is from now on; see graph_service.py."""
        self.vectors_switch.write_text(mode)


def _files(folder: Path) -> frozenset[str]:
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@asynccontextmanager
async def documents_embedded(system: EmbeddedSystem, *, s3: bool = False) -> AsyncIterator[EmbeddedDocuments]:
    """Fresh, ready, with an owner and his key."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kgl-faults-objects-")))
        roles = {
            name: await stack.enter_async_context(system.databases.database(migrations))
            for name, migrations in _MIGRATIONS.items()
        }
        bus = await stack.enter_async_context(system.buses.database())
        await migrate_bus(bus.owner, bus.service.partition("//")[2].partition("@")[0])
        made = EmbeddedDocuments(
            {name: each.superuser for name, each in roles.items()}, folder / "objects", folder / "vectors"
        )
        common = {
            "KGL_ENV": "test",
            "KGL_PUBLIC_URL": _PUBLIC,
            "KGL_BUS_URL": bus.service,
            "KGL_OBJECT_DIR": str(made.folder),
            "KGL_RATE_LIMIT_PER_MINUTE": "1000000",
            "KGL_POOL_SIZE": "4",
            "KGL_LOG_LEVEL": "WARNING",
            "FAULTS_VECTORS": str(made.vectors_switch),
        }
        if s3:
            made.s3 = stack.enter_context(s3_server())
            made.s3_link = await stack.enter_async_context(proxied("127.0.0.1", made.s3.port))
            common |= {
                "KGL_OBJECT_STORE": "s3",
                "KGL_S3_URL": f"http://127.0.0.1:{made.s3_link.port}",
                "KGL_S3_BUCKET": made.s3.bucket.bucket,
                "KGL_S3_ACCESS_KEY": made.s3.bucket.access_key,
                "KGL_S3_SECRET_KEY": made.s3.bucket.secret_key,
            }
        made.issuer = await stack.enter_async_context(serving(Issuer()))
        common |= {"KGL_ISSUER": made.issuer.signer.issuer, "KGL_JWKS_URL": f"{made.issuer.url}/jwks"}
        await _add_owner(made, roles["auth"], bus)
        _add_processes(system, made, common, roles)
        stack.push_async_callback(_end, made)
        await asyncio.gather(*(process.start() for process in made.processes.values()))
        yield made


async def _add_owner(made: EmbeddedDocuments, auth: Roles, bus: Roles) -> None:
    settings = AuthSettings(
        env="test", database_url=auth.service, bus_url=bus.service, public_url=_PUBLIC, argon2_memory_kib=64
    )
    service = kgl_auth.bootstrap.build(settings, PostgresBus(bus.service))
    key = ApiKey.generate()
    command = CreateFirstOwner(
        email="faults@kgl.localhost",
        password="a long one for tests",
        name="Owner",
        workspace_slug=WORKSPACE,
        api_key=key,
    )
    await service.database.start()
    try:
        owner = await service.database.run((), create_first_owner, command)
        await service.database.run(owner.workspace_id, _enable_nobody, owner.workspace_id)
    finally:
        await service.database.stop()
    made.key, made.user = key.text, owner.user_id


async def _enable_nobody(tx: Transaction, workspace: UUID) -> None:
    """No module runs here: one that nobody waits for has what the built-in reader would have to do."""
    nobody = EnableModule(
        workspace_id=workspace,
        name="nobody",
        capabilities=("extract", "summarise"),
        mode="optional",
        deadline_seconds=3600,
        precondition=lambda _: None,
    )
    await enable_module(tx, nobody)


def _add_processes(
    system: EmbeddedSystem, made: EmbeddedDocuments, common: Mapping[str, str], roles: Mapping[str, Roles]
) -> None:
    auth = free_port()
    for name in SERVICES:
        module = "tests.faults.graph_service" if name == "graph" else f"kgl_{name}"
        for role in ("api", "worker"):
            process = f"{name}-{role}"
            port = auth if process == "auth-api" else free_port()
            environment = {
                **common,
                "KGL_DATABASE_URL": roles[name].service,
                "KGL_WORKER_NAME": process,
                "KGL_AUTH_URL": f"http://127.0.0.1:{auth}",
            }
            command, log = (module, [role, "--port", str(port)]), LOGS / f"{process}.log"
            made.processes[process] = ManagedProcess(system.nursery, process, command, environment, port=port, log=log)


async def _end(made: EmbeddedDocuments) -> None:
    for process in made.processes.values():
        await process.kill()
