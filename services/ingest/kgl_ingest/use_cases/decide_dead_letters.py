"""Decide about dead letters: the services that hold them carry it out, and report to the receipt."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import JsonValue

from kgl_contracts.dead_letters import Act, DeadLetterDecided, packed, stage_of
from kgl_contracts.envelope import EVENT_LIMIT
from kgl_contracts.operations import PlannedStage, Subject
from kgl_ingest.db import dead_letters
from kgl_ingest.domain.dead_letters import (
    MOST_LETTERS,
    DeadLetterNotDead,
    DeadLetterNotFound,
    DecisionUnderWay,
    LetterFilter,
    LetterSummary,
    corrected_data,
    decided_by_operators,
)
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import Forbidden, Invalid
from kgl_servicekit.operations import Receipt

_LARGEST = EVENT_LIMIT - 2048  # beside the rest of the decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """What to do with one letter; `workspace` is that of the receipt, `operator` whether an operator decides."""

    letter_id: UUID
    act: Act
    workspace: UUID
    operator: bool
    reason: str | None = None
    payload: JsonValue = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideMany:
    """What to do with the oldest dead ones of the chosen letters, MOST_LETTERS at a time."""

    chosen: LetterFilter
    act: Act
    workspace: UUID
    own: UUID | None
    operator: bool
    reason: str | None = None


async def decide(tx: Transaction, command: Decide) -> Receipt:
    """Send the decision; the receipt ends when it is carried out, that of a redrive when the event is handled.

    Raises: DeadLetterNotFound (404), DeadLetterNotDead, DecisionUnderWay (409), Forbidden (403), Invalid (422).
    """
    under_way = await dead_letters.lock(tx, command.letter_id)
    letter = await dead_letters.find(tx, command.letter_id)
    if letter is None:
        raise DeadLetterNotFound
    if decided_by_operators(letter.topic) and not command.operator:
        raise Forbidden(f"What is on {letter.topic} goes between the services; operators of the instance decide.")
    if letter.state != "dead":
        raise DeadLetterNotDead
    if under_way:
        raise DecisionUnderWay
    value = None
    if command.act == "correct":
        data = corrected_data(letter.type, letter.key, letter.topic, command.payload)
        value = packed(data)
        if len(data) > EVENT_LIMIT or len(value) > _LARGEST:
            raise Invalid(errors=[{"pointer": "#/payload", "detail": "it is larger than an event can be"}])
    return await _send(tx, [letter], command.act, command.workspace, command.reason, value)


async def decide_many(tx: Transaction, command: DecideMany) -> tuple[Receipt, int, bool]:
    """The receipt, for how many letters it is, and whether more are left; letters that are decided about are not taken.

    Raises: DeadLetterNotFound (404).
    """
    found = await dead_letters.dead(tx, command.chosen, command.own, MOST_LETTERS + 1, operator=command.operator)
    letters = found[:MOST_LETTERS]
    if not letters:
        raise DeadLetterNotFound("None of the letters that you may see is dead and like this.")
    receipt = await _send(tx, letters, command.act, command.workspace, command.reason, None)
    return receipt, len(letters), len(found) > MOST_LETTERS


async def _send(
    tx: Transaction, letters: Sequence[LetterSummary], act: Act, workspace: UUID, reason: str | None, value: str | None
) -> Receipt:
    own = tx.scoped(tx.cause, (workspace,))
    stages = [PlannedStage(name=stage_of(letter.service, act, letter.id)) for letter in letters]
    one = len(letters) == 1
    subject = Subject(type="dead_letter" if one else "dead_letters", id=letters[0].id if one else own.new_id("letters"))
    receipt = await own.start_operation(f"dead_letter.{act}", subject, stages)
    for letter in letters:
        decision = DeadLetterDecided(
            letter_id=letter.id,
            service=letter.service,
            subscription=letter.subscription,
            act=act,
            reason=reason,
            value=value,
        )
        await own.emit(decision, operation=receipt.id)
    await dead_letters.remember_decision(tx, [letter.id for letter in letters], act, receipt.id)
    return receipt
