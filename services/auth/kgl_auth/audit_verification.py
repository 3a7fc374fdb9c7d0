"""Whether the audit log is what was written: every chain, walked in pages, each in a transaction of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from loguru import logger

from kgl_auth.db.audit import find_ends, list_headless, list_scopes, page_of_chain
from kgl_auth.domain.audit_chain import Broken, ChainHead, ends, follow, workspace_of
from kgl_auth.metrics import AUDIT_CHAIN_BROKEN
from kgl_servicekit.database.engine import Database
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Unavailable

PAGE = 500
_SCOPES = 100
_MOST_HEADS = 100_000

R = TypeVar("R")
C = TypeVar("C")


class Reads(Protocol):
    """Runs a use case in a transaction of the scope's workspace."""

    async def __call__(self, use_case: Callable[[Transaction, C], Awaitable[R]], command: C, /) -> R: ...


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk found: how many records hold, the head, and the first break if there is one."""

    records: int
    head: ChainHead
    broken: Broken | None


async def verify_chain(read: Reads, scope: str, kept: ChainHead | None = None, pause: float = 0.0) -> Verified:
    """Walk the whole chain of a scope, up to the head of this moment; `pause` in seconds after each page.

    `kept` is a head that was read earlier and kept elsewhere: it proves what the database alone cannot, that
    records and head were not cut or made anew together.
    """
    head, least, greatest = await read(find_ends, scope)
    if least < 1:
        return _found(scope, Verified(0, head, Broken(least, "it stands before the first record")))
    last = ChainHead()
    while last.number < greatest:
        try:
            page = await read(page_of_chain, (scope, last.number, min(PAGE, greatest - last.number)))
        except ValueError:
            broken = Broken(last.number + 1, "this record, or one in the page behind it, is no JSON that can be read")
            return _found(scope, Verified(last.number, head, broken))
        walked = follow(page, last, kept)
        if isinstance(walked, Broken):
            return _found(scope, Verified(walked.number - 1, head, walked))
        if walked == last:
            break
        last = walked
        await asyncio.sleep(pause)
    return _found(scope, Verified(last.number, head, ends(last, head, kept)))


def _found(scope: str, verified: Verified) -> Verified:
    if verified.broken is not None:
        broken = verified.broken
        logger.bind(scope=scope, number=broken.number, reason=broken.reason).error("audit.chain_broken")
    return verified


class ChainWatch:
    """Verifies all chains, one after the other and slowly, `rest` seconds after the last round again.

    It remembers the heads that it saw, and logs each new one: the log is kept elsewhere, and what it says of
    a head can be compared with the database at any time.
    """

    def __init__(self, database: Database, *, rest: float, pause: float = 0.5) -> None:
        self._database = database
        self._rest = rest
        self._pause = pause
        self._heads: dict[str, ChainHead] = {}

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            try:
                await self.round()
            except Unavailable as out:
                logger.bind(error=str(out)).warning("audit.check_postponed")
            await asyncio.sleep(self._rest)

    async def round(self) -> int:
        """Verify each chain once; the answer, and the gauge, are how many are broken."""
        broken, unseen = 0, set(self._heads)
        async for scope in self._scopes():
            unseen.discard(scope)
            broken += await self._is_broken(scope)
            if broken:
                AUDIT_CHAIN_BROKEN.set(broken)
        for scope in sorted(unseen):
            broken += await self._is_broken(scope)
        AUDIT_CHAIN_BROKEN.set(broken)
        return broken

    async def _scopes(self) -> AsyncIterator[str]:
        for scope in await self._database.run((), list_headless, _SCOPES):
            yield scope
        after = ""
        while scopes := await self._database.run((), list_scopes, (after, _SCOPES)):
            for scope in scopes:
                yield scope
            after = scopes[-1]

    async def _is_broken(self, scope: str) -> bool:
        try:
            workspace = workspace_of(scope)
        except ValueError:
            logger.bind(scope=scope, reason="there is no such scope").error("audit.chain_broken")
            return True

        async def read(use_case: Callable[[Transaction, C], Awaitable[R]], command: C) -> R:
            return await self._database.run(() if workspace is None else (workspace,), use_case, command)

        before = self._heads.get(scope)
        verified = await verify_chain(read, scope, before, self._pause)
        if verified.broken is not None:
            return True
        head = verified.head
        if head.number and head != before and (before is not None or len(self._heads) < _MOST_HEADS):
            self._heads[scope] = head
            logger.bind(scope=scope, number=head.number, hash=head.hash.hex()).info("audit.head")
        return False
