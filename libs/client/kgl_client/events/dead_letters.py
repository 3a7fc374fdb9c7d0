"""Dead letters of a module that has no broker: a file of JSON Lines beside it, made to be read and redriven."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kgl_client.events.settling import DeadLetter


class DeadLetterFile:
    """One line a dead letter: `{"event": <CloudEvent>, "reason", "error", "attempts", "at"}`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = path.with_name(f"{path.name}.redriving")

    def add(self, event: Mapping[str, Any], dead: DeadLetter) -> None:
        """Append a dead letter; it is on the disk when this returns."""
        line = {"event": dict(event), **asdict(dead), "at": datetime.now(UTC).isoformat()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def take(self) -> Iterator[dict[str, Any]]:
        """The events of all dead letters, to be handled once more; they are gone when the last one is taken.

        After a crash in between, all of them are taken again. A line that was cut off by one is left out: its
        event was not committed, and comes again.
        """
        if not self._taken.exists() and self._path.exists():
            self._path.rename(self._taken)
        if self._taken.exists():
            for line in self._taken.read_text(encoding="utf-8").splitlines():
                try:
                    event: dict[str, Any] = json.loads(line)["event"]
                except ValueError:
                    continue
                yield event
            self._taken.unlink()
