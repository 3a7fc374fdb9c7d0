"""The whole compose system, with documents through its edge: its stores, and its servers that can fail."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import httpx

from kgl_contracts.rights import SERVICES
from kgl_servicekit.objects.s3 import S3Store
from kgl_servicekit.objects.s3_connection import S3Connection
from tests.faults.containers import ContainerServer
from tests.stack.harness import Stack
from tests.stack.watch import answers_at, health_of

COLLECTION, BUCKET = "KglChunk", "kgl-documents"
_PAGE = 500
_DOORS = {
    "minio": (9000, "/minio/health/live"),
    "weaviate": (8080, "/v1/.well-known/ready"),
    "keycloak": (9000, "/health/ready"),
}


class StackDocuments:
    """The built-in reader writes one draft about each document."""

    drafts_each = 1

    def __init__(self, stack: Stack, health: Mapping[str, str]) -> None:
        self.stack = stack
        self.key = stack.credentials.api_key
        self._health = health

    def url(self, path: str) -> str:
        """All go through the edge."""
        return self.stack.url

    def health(self, process: str) -> str:
        """Where a process says how it is, past the edge."""
        return self._health[process]

    def server(self, name: str) -> ContainerServer:
        """MinIO, Weaviate, or Keycloak."""
        return ContainerServer(self.stack, name, partial(_answers, self.stack, name))

    async def rows(self, service: str, statement: str) -> list[asyncpg.Record]:
        """From the database of one service."""
        password = self.stack.settings["KGL_POSTGRES_PASSWORD"]
        connection = await self.stack.connect(f"kgl_{service}", "postgres", password)
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement)
            return found
        finally:
            await connection.close()

    async def vectors(self) -> list[tuple[str, str]]:
        """Document and chunk of each."""
        found: list[tuple[str, str]] = []
        headers = {"Authorization": f"Bearer {self.stack.settings['KGL_WEAVIATE_API_KEY']}"}
        base = f"http://{await self.stack.address('weaviate')}:8080"
        asked = {"class": COLLECTION, "tenant": self.stack.credentials.workspace_id, "limit": str(_PAGE), "after": ""}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30, trust_env=False) as http:
            while True:
                answer = await http.get("/v1/objects", params=asked)
                assert answer.status_code == 200, answer.text
                page = answer.json()["objects"]
                if not page:
                    return found
                found += [(each["properties"]["document_id"], each["properties"]["chunk_id"]) for each in page]
                asked["after"] = page[-1]["id"]

    async def objects(self) -> frozenset[str]:
        """Their keys."""
        connection = S3Connection(
            url=f"http://{await self.stack.address('minio')}:9000",
            bucket=BUCKET,
            access_key="admin",
            secret_key=self.stack.settings["KGL_S3_ADMIN_PASSWORD"],
            region="us-east-1",
            public="",
        )
        try:
            return frozenset([entry.key async for entry in S3Store(connection).listed("ingest")])
        finally:
            await connection.close()


async def _answers(stack: Stack, server: str) -> bool:
    await answers_at(stack, server, *_DOORS[server])
    return True


@asynccontextmanager
async def documents_on_stack(stack: Stack) -> AsyncIterator[StackDocuments]:
    """The system as it runs; its own processes stay where they are."""
    processes = [f"{name}-{role}" for name in SERVICES for role in ("api", "worker")]
    yield StackDocuments(stack, await health_of(stack, processes))
