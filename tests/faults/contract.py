"""The events of the small service that the faults are tried on, and its topics."""

from typing import Literal
from uuid import UUID

from kgl_contracts.event import EventData
from kgl_contracts.topics import Topic

ITEMS = Topic("kgl.faults.items", partitions=8)
TAKEN = Topic("kgl.faults.taken", partitions=4)
SOURCE = "faults"
WORKSPACE = UUID("0198f3a0-0000-7000-8000-00000000fa17")
KEY = "a key that only the faults know"

Trouble = Literal["raises", "refuses", "hangs", "kills", "hiccups"]
POISONS: tuple[Trouble, ...] = ("raises", "refuses", "hangs", "kills")
"""What makes a handler fail for good."""


class ItemWritten(EventData, type="faults.item.written.v1", topic=ITEMS, key="item"):
    """A command wrote the `number`-th event of an item; `trouble` says how a handler shall behave."""

    item: str
    number: int
    command: UUID
    trouble: Trouble | None = None
    call: bool = False
    pad: str = ""


class ItemTaken(EventData, type="faults.item.taken.v1", topic=TAKEN, key="item"):
    """A consumer has taken the `number`-th event of an item."""

    item: str
    number: int
