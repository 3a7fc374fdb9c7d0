"""A module over HTTP: lease work, do it, return the result.

    module = Module.from_env("keyword-tagger", capabilities=["extract"])

    @module.extract
    async def tag(document: DocumentText) -> Extraction: ...

    module.run()

Work is leased with a token; while a handler runs, its lease is kept. A result is sent until it is
acknowledged, and sending it again has no second effect. A handler that raises gives the work back, and it
is tried again later; `CannotDo` ends it. A document that cannot be read because something is out is waited
for, for some minutes: that is no failure of the module's.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from loguru import logger
from pydantic import BaseModel, ConfigDict

from kgl_client.api import Api, ApiProblem, ApiUnreachable
from kgl_client.document import Chunk, DocumentText, KnownEntity
from kgl_contracts.ai import Capability, Extraction, Summary

Handler = Callable[[DocumentText], Awaitable[Extraction | Summary]]
Extract = TypeVar("Extract", bound=Callable[[DocumentText], Awaitable[Extraction]])
Summarise = TypeVar("Summarise", bound=Callable[[DocumentText], Awaitable[Summary]])

_LEASE_SECONDS = 20
_WAIT_SECONDS = 10
_GAZETTEER_SECONDS = 5.0
_OUTAGE_PAUSE = 1.0
_PATIENCE = 300.0


class CannotDo(Exception):
    """The module can never do this document; `code` is stable and shown in the receipt."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Lease(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    token: int | str
    capability: Capability
    document_id: UUID
    version: int
    workspace_id: UUID
    chunks_url: str


class Module:
    """One module process; `at_once` documents are worked on at a time."""

    def __init__(self, name: str, api: Api, *, capabilities: Sequence[Capability], at_once: int = 2) -> None:
        self._name = name
        self._api = api
        self._capabilities = list(capabilities)
        self._at_once = at_once
        self._handlers: dict[str, Handler] = {}
        self._gazetteers: dict[UUID, _Gazetteer] = {}

    @classmethod
    def from_env(cls, name: str, *, capabilities: Sequence[Capability], at_once: int = 2) -> "Module":
        """A module that reads KGL_URL and KGL_API_KEY; raises KeyError when one is missing."""
        return cls(
            name, Api(os.environ["KGL_URL"], os.environ["KGL_API_KEY"]), capabilities=capabilities, at_once=at_once
        )

    def extract(self, handler: Extract) -> Extract:
        """Declare the function that finds entities and relations."""
        self._handlers["extract"] = handler
        return handler

    def summarise(self, handler: Summarise) -> Summarise:
        """Declare the function that writes a summary."""
        self._handlers["summarise"] = handler
        return handler

    def run(self) -> None:
        """Work until the process is ended."""
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(self.work())

    async def work(self) -> None:
        """Lease and work until cancelled; outages are waited out."""
        missing = [c for c in self._capabilities if c not in self._handlers]
        if missing:
            raise TypeError(f"module {self._name} has no handler for {', '.join(missing)}")
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._at_once):
                    group.create_task(self._work_alone())
        finally:
            await self._api.close()

    async def _work_alone(self) -> None:
        while True:
            try:
                for lease in await self._lease():
                    await self._do(lease)
            except (ApiUnreachable, ApiProblem) as out:
                logger.bind(module=self._name, error=str(out)).warning("module.waiting")
                await asyncio.sleep(_OUTAGE_PAUSE)

    async def _lease(self) -> list[_Lease]:
        asked = {
            "module": self._name,
            "capabilities": self._capabilities,
            "max": 1,
            "lease_seconds": _LEASE_SECONDS,
            "wait_seconds": _WAIT_SECONDS,
        }
        answer = await self._api.post("/modules/v1/jobs:lease", asked)
        return [_Lease.model_validate(job) for job in answer["jobs"]]

    async def _do(self, lease: _Lease) -> None:
        keeping = asyncio.create_task(self._keep(lease))
        try:
            document = await self._read_patiently(lease)
            result = await self._handlers[lease.capability](document)
            field = "extraction" if lease.capability == "extract" else "summary"
            await self._answer(lease, "complete", {field: result.model_dump(mode="json")})
        except CannotDo as cannot:
            await self._answer(lease, "fail", {"code": cannot.code, "message": str(cannot), "retry": False})
        except (ApiUnreachable, ApiProblem) as out:
            logger.bind(module=self._name, request=str(lease.id), error=str(out)).info("module.result_refused")
        except Exception as error:
            logger.bind(module=self._name, request=str(lease.id)).opt(exception=error).warning("module.failed")
            failure = {"code": "module_error", "message": f"{type(error).__name__}: {error}"[:500], "retry": True}
            await self._answer(lease, "fail", failure)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _answer(self, lease: _Lease, verb: str, body: Mapping[str, Any]) -> None:
        """Send the outcome; a repeat is safe, since the token makes it the same answer."""
        await self._api.post(
            f"/modules/v1/jobs/{lease.id}:{verb}",
            {"token": lease.token, **body},
            repeat_key=f"{lease.id}-{lease.token}-{verb}",
            headers={"Kgl-Workspace": str(lease.workspace_id)},
        )

    async def _keep(self, lease: _Lease) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            with contextlib.suppress(ApiUnreachable, ApiProblem):
                await self._api.post(
                    f"/modules/v1/jobs/{lease.id}:heartbeat",
                    {"token": lease.token},
                    headers={"Kgl-Workspace": str(lease.workspace_id)},
                )

    async def _read_patiently(self, lease: _Lease) -> DocumentText:
        """The document, as soon as it can be had."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._read(lease)
            except (ApiUnreachable, ApiProblem) as out:
                if (isinstance(out, ApiProblem) and not out.passes) or time.monotonic() > until:
                    raise
                logger.bind(module=self._name, request=str(lease.id), error=str(out)).warning("module.waiting")
                await asyncio.sleep(_OUTAGE_PAUSE)

    async def _read(self, lease: _Lease) -> DocumentText:
        headers = {"Kgl-Workspace": str(lease.workspace_id)}
        chunks = [
            Chunk.model_validate_json(line)
            async for line in self._api.lines(lease.chunks_url, headers=headers)
            if line.strip()
        ]
        return DocumentText(lease.document_id, lease.version, lease.workspace_id, tuple(chunks), self._known)

    async def _known(self, workspace: UUID) -> tuple[KnownEntity, ...]:
        gazetteer = self._gazetteers.setdefault(workspace, _Gazetteer(self._api, workspace))
        return await gazetteer.entities()


class _Gazetteer:
    """The known entities of one workspace, read again at most every few seconds and only when changed."""

    def __init__(self, api: Api, workspace: UUID) -> None:
        self._api = api
        self._headers = {"Kgl-Workspace": str(workspace)}
        self._entities: tuple[KnownEntity, ...] = ()
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def entities(self) -> tuple[KnownEntity, ...]:
        async with self._lock:
            if time.monotonic() - self._read_at > _GAZETTEER_SECONDS:
                fresh = tuple(
                    [
                        KnownEntity.model_validate(item)
                        async for item in self._api.items("/modules/v1/gazetteer", limit=200, headers=self._headers)
                    ]
                )
                if fresh != self._entities:
                    self._entities = fresh
                self._read_at = time.monotonic()
        return self._entities
