"""One child process, seen from its parent."""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Self

from kgl_ingest.parsing.answers import AnswerInvalid, ParsedDocument
from kgl_ingest.parsing.frames import BEGUN, FrameTooLong, framed, receive_frame
from kgl_ingest.parsing.limits import ChildLimits

_READ_BUFFER_BYTES = 1 << 20
_DEATH_SECONDS = 1.0
_SUMMARY_BYTES = 64 * 1024
# Nothing else of the parent's environment reaches a child; the fixed hash seed makes parsing repeatable.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")
_SET = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2"}


class ChildDied(Exception):
    """The child ended, or broke the protocol, before it answered."""


class ParserProcess:
    """A warm parser. It serves one document at a time."""

    def __init__(self, process: asyncio.subprocess.Process, answer_bytes: int) -> None:
        assert process.stdin and process.stdout
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._answer_bytes = answer_bytes
        self.documents = 0

    @classmethod
    async def start(cls, command: Sequence[str], limits: ChildLimits, answer_bytes: int) -> Self:
        """Raises: OSError when the system gives no process."""
        inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *command,
            str(os.getpid()),
            limits.encode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_READ_BUFFER_BYTES,
            env=inherited | _SET,
            cwd="/",
            start_new_session=True,  # an interrupt from the terminal is for the parent to handle
        )
        return cls(process, answer_bytes)

    async def begin(self, job: bytes, content: bytes) -> bool:
        """Hand over a job; False when the child is gone, which says nothing about the document."""
        self._stdin.write(framed(job, content))
        try:
            return await receive_frame(self._stdout, at_most=len(BEGUN)) == BEGUN
        except (ConnectionError, asyncio.IncompleteReadError, FrameTooLong):
            return False

    async def finish(self) -> ParsedDocument:
        """Wait for the answer to the job that was begun.

        Raises: ParseFailed when that is the answer, ChildDied.
        """
        self.documents += 1
        try:
            summary = await receive_frame(self._stdout, at_most=_SUMMARY_BYTES)
            chunks = await receive_frame(self._stdout, at_most=self._answer_bytes)
            text = await receive_frame(self._stdout, at_most=self._answer_bytes)
            return ParsedDocument.of_answer(summary, chunks, text)
        except (ConnectionError, asyncio.IncompleteReadError, FrameTooLong, AnswerInvalid) as error:
            raise ChildDied from error

    async def stop(self) -> int:
        """Kill the child; its exit status, negative for a signal."""
        self._stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()

    async def bury(self) -> int:
        """The exit status of a child that hung up by itself; one that lives on is killed."""
        self._stdin.close()
        with contextlib.suppress(TimeoutError):
            # killing first would race with the death for the exit status
            async with asyncio.timeout(_DEATH_SECONDS):
                return await self._process.wait()
        return await self.stop()
