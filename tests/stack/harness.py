"""The compose system that `make test-stack` has started, as its tests see it."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx

from kgl_cli.home import Credentials, Home
from kgl_cli.stack import environment
from kgl_servicekit.testing.polling import eventually

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stack:
    """One running system: its first login, the settings of its compose files, and its containers."""

    credentials: Credentials
    settings: Mapping[str, str]

    @classmethod
    def running(cls) -> "Stack":
        """The one that KGL_HOME and KGL_ENV_FILE tell of."""
        settings = environment.read(Path(os.environ["KGL_ENV_FILE"]))
        credentials = Home(Path(os.environ["KGL_HOME"])).credentials(environment.public_url(settings))
        assert credentials is not None, "make test-stack starts the system and writes its credentials"
        return cls(credentials, settings)

    @property
    def url(self) -> str:
        return self.credentials.url

    @property
    def project(self) -> str:
        return self.settings["KGL_PROJECT"]

    def client(self, *, key: str | None = None) -> httpx.AsyncClient:
        """A client of the edge, with the first owner's key."""
        headers = {"Authorization": f"Bearer {key or self.credentials.api_key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    async def near_client(self, *, anonymous: bool = False) -> httpx.AsyncClient:
        """The same, past the process by which Docker publishes a port: at the address of the container itself."""
        headers = {"Host": urlsplit(self.url).netloc}
        if not anonymous:
            headers["Authorization"] = f"Bearer {self.credentials.api_key}"
        near = f"http://{await self.address('edge', network='edge')}:8080"
        return httpx.AsyncClient(base_url=near, headers=headers, timeout=60, trust_env=False)

    def container(self, service: str, number: int = 1) -> str:
        return f"{self.project}-{service}-{number}"

    async def docker(self, *arguments: str, check: bool = True) -> str:
        """What docker says."""
        process = await asyncio.create_subprocess_exec(
            "docker", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0 or not check, said
        return said

    async def compose(self, *arguments: str, check: bool = True) -> str:
        """What docker compose says, for this system."""
        return await self.docker("compose", "--env-file", os.environ["KGL_ENV_FILE"], *arguments, check=check)

    async def address(self, service: str, number: int = 1, *, network: str = "data") -> str:
        """The address of a container in the inner network, or in that of the edge."""
        said = await self.docker(
            "inspect", "--format", "{{json .NetworkSettings.Networks}}", self.container(service, number)
        )
        found: str = json.loads(said)[f"{self.project}_{network}"]["IPAddress"]
        return found

    async def readiness(self, service: str, number: int = 1) -> Answer | None:
        """What a process says of itself and of what it needs; None while it does not answer."""
        try:
            async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
                answer = await client.get(f"http://{await self.address(service, number)}:8000/health/ready")
        except httpx.TransportError:
            return None
        told: Answer = answer.json()
        return told

    async def is_ready(self, service: str) -> bool:
        told = await self.readiness(service)
        return told is not None and told["status"] == "ready"

    async def upload(self, client: httpx.AsyncClient, text: str, name: str = "note.md") -> Answer:
        """The receipt of a document, accepted."""
        body = {"text": text, "media_type": "text/markdown", "name": name}
        answer = await client.post("/ingest/v1/documents", json=body)
        assert answer.status_code == 202, answer.text
        receipt: Answer = answer.json()
        return receipt

    async def ended(self, client: httpx.AsyncClient, operation: str, *, within: float = 120) -> Answer:
        """The receipt once all its stages have ended."""

        async def look() -> Answer | None:
            try:
                answer = await client.get(f"/operations/v1/{operation}", params={"wait": 10})
            except httpx.TransportError:
                return None
            if answer.status_code != 200 or answer.json()["state"] not in {"done", "failed", "cancelled"}:
                return None
            found: Answer = answer.json()
            return found

        return await eventually(look, within=within, every=0.3, what="the operation has not ended") or {}

    async def connect(self, database: str, user: str, password: str) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection of one role to one database."""
        return await asyncpg.connect(
            host=await self.address("postgres"), database=database, user=user, password=password, timeout=10
        )
