"""Read the dead letters of all services."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kgl_ingest.db import dead_letters
from kgl_ingest.domain.dead_letters import (
    DeadLetterNotFound,
    Grouping,
    Letter,
    LetterCount,
    LetterFilter,
    LetterSummary,
)
from kgl_servicekit.database.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class ListLetters:
    """Which letters; `before` is the place of the last one of the page before, `own` the asker's workspace."""

    chosen: LetterFilter
    limit: int
    before: tuple[datetime, UUID] | None
    own: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountLetters:
    """Which letters, and what those that are counted together have in common."""

    chosen: LetterFilter
    by: Sequence[Grouping]
    own: UUID | None


async def list_letters(tx: Transaction, asked: ListLetters) -> list[LetterSummary]:
    """Letters of the transaction's workspaces, those that died last first."""
    return await dead_letters.listed(tx, asked.chosen, asked.own, asked.limit, asked.before)


async def count_letters(tx: Transaction, asked: CountLetters) -> list[LetterCount]:
    """How many of them there are, the largest group first."""
    return await dead_letters.counted(tx, asked.chosen, asked.own, asked.by)


async def read_letter(tx: Transaction, letter_id: UUID) -> Letter:
    """One letter with its data. Raises: DeadLetterNotFound (404)."""
    letter = await dead_letters.find(tx, letter_id)
    if letter is None:
        raise DeadLetterNotFound
    return letter


async def break_glass(tx: Transaction, asked: tuple[UUID, str]) -> Letter:
    """The same for somebody who is no member of its workspace, which the workspace's audit log tells with the reason.

    Raises: DeadLetterNotFound (404).
    """
    letter_id, reason = asked
    letter = await read_letter(tx, letter_id)
    own = tx.scoped(tx.cause, ())
    target = f"dead_letter:{letter.subscription}/{letter.id}"
    await own.audit("dead_letter.break_glass", target, details={"reason": reason}, scope=letter.workspace_id)
    return letter


async def export_letters(tx: Transaction, ids: Sequence[UUID]) -> list[Letter]:
    """Those of these letters that there are, with their data; the audit log of each one's workspace tells how many.

    Raises: DeadLetterNotFound (404) when there is none of them.
    """
    found = [letter for id in ids if (letter := await dead_letters.find(tx, id)) is not None]
    if not found:
        raise DeadLetterNotFound
    own = tx.scoped(tx.cause, ())
    for workspace, letters in Counter(letter.workspace_id for letter in found).items():
        await own.audit("dead_letter.export", "dead_letters", details={"letters": letters}, scope=workspace)
    return found


async def workspaces_with_letters(tx: Transaction, _: None) -> list[UUID]:
    """The workspaces that an operator has to name to see all letters."""
    return await dead_letters.workspaces(tx)
