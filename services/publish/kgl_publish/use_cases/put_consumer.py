"""A consumer is made, changed, or forgotten."""

from dataclasses import dataclass

from kgl_publish.db import consumers
from kgl_publish.domain.consumers import MOST_CONSUMERS, Consumer, ConsumerNotFound, ConsumersTooMany, Start
from kgl_publish.use_cases.pull_events import position_of
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.http import Condition, etag_of


@dataclass(frozen=True, slots=True)
class PutConsumer:
    """What a consumer wants (nothing named means all), and where a new one starts."""

    name: str
    topics: tuple[str, ...]
    types: tuple[str, ...]
    start: Start
    condition: Condition


async def put_consumer(tx: Transaction, command: PutConsumer) -> tuple[Consumer, bool]:
    """Make the consumer, or change what it wants; the answer says whether it is new.

    Raises ConsumersTooMany, PreconditionFailed.
    """
    await consumers.lock_names(tx)
    before = await _locked(tx, command.name)
    if before is None:
        command.condition.check("")
        if await consumers.count(tx) >= MOST_CONSUMERS:
            raise ConsumersTooMany
    else:
        command.condition.check(etag_of(before))
    await consumers.put(tx, command.name, command.topics, command.types, await position_of(tx, command.start))
    made = await consumers.show(tx, command.name)
    assert made is not None
    return made, before is None


async def remove_consumer(tx: Transaction, command: tuple[str, Condition]) -> None:
    """Forget the consumer. Raises ConsumerNotFound, PreconditionFailed."""
    name, condition = command
    before = await _locked(tx, name)
    if before is None:
        raise ConsumerNotFound
    condition.check(etag_of(before))
    await consumers.remove(tx, name)


async def read_consumer(tx: Transaction, name: str) -> Consumer:
    """One consumer. Raises ConsumerNotFound."""
    found = await consumers.show(tx, name)
    if found is None:
        raise ConsumerNotFound
    return found


async def _locked(tx: Transaction, name: str) -> Consumer | None:
    """The consumer, which stays so until this transaction ends."""
    return None if await consumers.lock(tx, name) is None else await consumers.show(tx, name)
