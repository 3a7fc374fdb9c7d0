"""What the clients saw, line by line: every request that they began, and how it ended for them.

`invoke` begins an operation; `ok` ends it with an answer that says that it is done, `fail` with one that says that
it is not and will not be, `unknown` without either. What is unknown may have been done or not; what was acknowledged
has. The lines also say when a fault began and was healed.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

import orjson

What = Literal["invoke", "attempt", "ok", "fail", "unknown", "fault", "heal", "note"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: `wall` and `mono` are seconds of the two clocks, `data` what belongs to it."""

    what: What
    op: str
    wall: float
    mono: float
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Operation:
    """One operation, from its first line to its last; `outcome` is unknown until a line says otherwise."""

    op: str
    asked: dict[str, Any]
    outcome: Literal["ok", "fail", "unknown"] = "unknown"
    answer: dict[str, Any] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)


class History:
    """Append-only; kept in memory for the checks, and in a file of JSON lines for whoever looks into a failure."""

    def __init__(self, path: Path | None = None) -> None:
        self.lines: list[Line] = []
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w")

    def add(self, what: What, op: str = "", **data: Any) -> Line:
        """Take down that this happened now."""
        line = Line(what, op, time.time(), time.monotonic(), data)
        self.lines.append(line)
        if self._file is not None:
            told = {"what": what, "op": op, "wall": line.wall, "mono": line.mono, **data}
            self._file.write(orjson.dumps(told, default=str).decode() + "\n")
        return line

    def operations(self) -> Iterator[Operation]:
        """Every operation that was begun, in that order."""
        found: dict[str, Operation] = {}
        for line in self.lines:
            if line.what == "invoke":
                found[line.op] = Operation(line.op, line.data)
            elif line.what == "attempt" and line.op in found:
                found[line.op].attempts.append(line.data)
            elif line.what in ("ok", "fail", "unknown") and line.op in found:
                found[line.op].outcome = line.what
                found[line.op].answer = line.data
        yield from found.values()

    def last(self, what: What) -> Line | None:
        """The last line of this kind."""
        return next((line for line in reversed(self.lines) if line.what == what), None)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
