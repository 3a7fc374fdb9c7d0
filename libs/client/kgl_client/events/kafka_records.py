"""Reading records whose headers have names that are no text.

aiokafka's parser raises on such a name, each time anew, so one record of a foreign producer would keep a module
at it for ever. This one reads any name, and is some times slower: it is used from the first such record on.
"""

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


def read_any_name() -> None:
    """Let all consumers of this process that start from now on read any name of a header."""
    fetcher.MemoryRecords = _TolerantRecords


class _TolerantRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """What a broker answered, batch by batch."""

    def next_batch(self) -> Any:
        begun = self._next_slice
        batch = super().next_batch()
        return _TolerantBatch(begun) if batch is not None and begun[self.MAGIC_OFFSET] >= 2 else batch


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _TolerantBytes(self._buffer)


class _TolerantBytes(bytearray):
    """Bytes whose parts are text somehow, each wrong one of them a U+FFFD."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _TolerantBytes(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)
