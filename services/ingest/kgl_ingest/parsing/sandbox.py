"""Parsing in child processes that may hang, crash or eat memory without harm to this one."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from uuid import UUID

import orjson

from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.parsing.answers import ParsedDocument
from kgl_ingest.parsing.child import EXIT_OUT_OF_MEMORY
from kgl_ingest.parsing.limits import ChildLimits
from kgl_ingest.parsing.parsed_text import ParseFailed, ParserUnavailable
from kgl_ingest.parsing.parser_process import ChildDied, ParserProcess

PARSER = (sys.executable, "-s", "-P", "-m", "kgl_ingest.parsing.child")
_CLOSED = "the sandbox is closed"
_TOO_LONG = "Reading the document took more than {limit:g} s; send a shorter or simpler one."


class ParserSandbox:
    """A pool of warm children, started when they are first needed.

    A child is replaced after `limits.documents` documents, and whenever it dies or is killed. It gets no
    environment of ours, and ends when this process ends, however that happens.
    """

    def __init__(
        self,
        *,
        children: int = 2,
        limits: ChildLimits | None = None,
        answer_bytes: int = 256 << 20,
        start_timeout_s: float = 30.0,
        command: Sequence[str] = PARSER,
    ) -> None:
        self._limits = limits or ChildLimits()
        self._answer_bytes = answer_bytes
        self._start_timeout_s = start_timeout_s
        self._command = command
        self._slots = asyncio.Semaphore(children)
        self._idle: list[ParserProcess] = []
        self._alive: set[ParserProcess] = set()
        self._closed = False

    async def parse(
        self,
        content: bytes,
        media_type: MediaType,
        document_id: UUID,
        version: int,
        timeout_s: float = 60.0,
        *,
        charset: str | None = None,
        title: str | None = None,
    ) -> ParsedDocument:
        """Parse and chunk one document; `title` replaces the document's own.

        `timeout_s` starts when a child has taken it, not while it waits for one.

        When the caller is cancelled, the child is killed.
        Raises: ParseFailed (`parser_timeout`, `parser_died`, or what the parser found); ParserUnavailable.
        """
        if self._closed:
            raise ParserUnavailable(_CLOSED)
        job = {
            "media_type": media_type,
            "document_id": document_id,
            "version": version,
            "charset": charset,
            "title": title,
        }
        async with self._slots:
            child = await self._begin(orjson.dumps(job), content)
            try:
                async with asyncio.timeout(timeout_s):
                    parsed = await child.finish()
            except TimeoutError:
                await self._end(child)
                raise ParseFailed("parser_timeout", _TOO_LONG.format(limit=timeout_s)) from None
            except ChildDied:
                status = await child.bury()
                self._alive.discard(child)
                raise self._death(status) from None
            except ParseFailed:
                await self._give_back(child)
                raise
            except BaseException:
                await self._end(child)
                raise
            await self._give_back(child)
            return parsed

    async def close(self) -> None:
        """Kill all children; parses under way end with ParserUnavailable."""
        self._closed = True
        await asyncio.gather(*(self._end(child) for child in tuple(self._alive)))

    async def _begin(self, job: bytes, content: bytes) -> ParserProcess:
        """A child that has taken the job: an idle one, or a new one if those have died in the meantime."""
        while self._idle:
            child = self._idle.pop()
            if await self._hand_over(child, job, content):
                return child
        try:
            child = await ParserProcess.start(self._command, self._limits, self._answer_bytes)
        except OSError as error:
            raise ParserUnavailable(f"no parser can be started: {error}") from error
        self._alive.add(child)
        if not await self._hand_over(child, job, content):
            raise ParserUnavailable(_CLOSED if self._closed else "a new parser takes no work")
        return child

    async def _hand_over(self, child: ParserProcess, job: bytes, content: bytes) -> bool:
        """False when the child is gone, which says nothing about the document."""
        taken = False
        try:
            async with asyncio.timeout(self._start_timeout_s):
                taken = not self._closed and await child.begin(job, content)
        except TimeoutError:
            pass
        finally:
            if not taken:
                await self._end(child)
        return taken

    async def _give_back(self, child: ParserProcess) -> None:
        if self._closed or child.documents >= self._limits.documents:
            await self._end(child)
        else:
            self._idle.append(child)

    async def _end(self, child: ParserProcess) -> int:
        status = await child.stop()
        self._alive.discard(child)
        return status

    def _death(self, status: int) -> Exception:
        if self._closed:
            return ParserUnavailable(_CLOSED)
        if status == -signal.SIGXCPU:
            return ParseFailed("parser_timeout", _TOO_LONG.format(limit=self._limits.cpu_seconds))
        cause = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        if status == EXIT_OUT_OF_MEMORY:
            cause = f"needed more than {self._limits.memory_bytes >> 20} MiB of memory"
        return ParseFailed("parser_died", f"The parser {cause} on this document; send a smaller or simpler one.")
