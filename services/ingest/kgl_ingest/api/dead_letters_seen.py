"""Which dead letters a caller sees, and how much of each."""

from uuid import UUID

from kgl_ingest.domain.dead_letters import Letter, LetterSummary, may_carry_text
from kgl_ingest.use_cases.read_dead_letters import workspaces_with_letters
from kgl_servicekit.http import RequestCaller, Runner
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE, grants

READ, WRITE = "dead-letters:read", "dead-letters:write"
OPERATOR = "instance:dead-letters"


def own_of(caller: RequestCaller) -> UUID | None:
    """The workspace whose letters the caller may read whole."""
    return caller.workspace_if_named if grants(caller.permissions, READ) else None


def readable(letter: LetterSummary, caller: RequestCaller) -> bool:
    """Whether the caller may read its data and error."""
    own = letter.workspace_id is not None and letter.workspace_id == own_of(caller)
    return own or not may_carry_text(letter.topic)


def shown(letter: Letter, caller: RequestCaller) -> Letter:
    """Without what the caller may not read."""
    if readable(letter, caller):
        return letter
    return letter.model_copy(update={"withheld": True, **dict.fromkeys(("payload", "raw", "corrected", "error"))})


async def visible(caller: RequestCaller, run: Runner) -> list[UUID]:
    """The workspaces whose letters the caller may see."""
    if not grants(caller.permissions, OPERATOR):
        return [caller.workspace_id]
    return sorted({INSTANCE_WORKSPACE, *await run.read(workspaces_with_letters, None)})
