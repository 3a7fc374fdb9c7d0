"""Keep the list of the dead letters of all services up to date."""

from kgl_contracts.dead_letters import DeadLetterMoved, DeadLetterNoted
from kgl_ingest.db import dead_letters
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.events.subscription import DONE, SUPERSEDED, Verdict


async def note_letter(tx: Transaction, letter: DeadLetterNoted) -> Verdict:
    """List a letter with its data."""
    await dead_letters.note(tx, letter)
    return DONE


async def move_letter(tx: Transaction, moved: DeadLetterMoved) -> Verdict:
    """Show how a letter stands now; the data of one that is settled go."""
    return DONE if await dead_letters.move(tx, moved) else SUPERSEDED
