"""The lines of a run: as a table for people, as JSON for whoever compares."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console
from rich.table import Table

from tests.faults.findings import Findings


class Named(Protocol):
    """What a class of faults is called."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One class. `more` are other figures, `complaints` what a check has against it."""

    fault: str
    title: str
    events: int
    lost: int
    doubled: int
    out_of_order: int
    wrongly_dead: int
    recovery_s: float
    complaints: Sequence[str] = ()
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, fault: Named, findings: Findings, *, recovery_s: float, **more: Any) -> Self:
        """The line of a class that has run."""
        return cls(
            fault.name,
            fault.title,
            findings.events,
            findings.lost,
            findings.doubled,
            findings.out_of_order,
            findings.wrongly_dead,
            recovery_s,
            tuple(findings.complaints),
            more,
        )

    @property
    def holds(self) -> bool:
        """Whether everything is as promised."""
        return not (self.lost or self.doubled or self.out_of_order or self.wrongly_dead or self.complaints)


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    shown = Table("fault", "", "events", "lost", "doubled", "out of order", "wrongly dead", "recovery s", "took s", "")
    for row in rows:
        shown.add_row(
            row.fault,
            row.title,
            f"{row.events:,}",
            *(str(each) for each in (row.lost, row.doubled, row.out_of_order, row.wrongly_dead)),
            f"{row.recovery_s:.2f}",
            f"{row.more.get('seconds', 0):.0f}",
            "" if row.holds else "FAILS",
        )
    return shown


def told(row: Row, seconds: float, console: Console) -> None:
    """What came of a class, as soon as it is known."""
    console.print(f"{'holds' if row.holds else 'FAILS'} ({seconds:.0f} s)", highlight=False)
    figures = (row.lost, row.doubled, row.out_of_order, row.wrongly_dead)
    if any(figures):
        console.print("     {} lost, {} doubled, {} out of order, {} wrongly dead".format(*figures), highlight=False)
    for complaint in row.complaints[:3]:
        console.print(f"     {complaint}", highlight=False)


def report(rows: Sequence[Row], path: Path, seed: int, console: Console) -> bool:
    """Print, and write the file; True when all classes hold."""
    console.print(table(rows))
    for row in rows:
        for complaint in row.complaints[:10]:
            console.print(f"[bold]{row.fault}[/bold] {complaint}", highlight=False)
        if len(row.complaints) > 10:
            console.print(f"{row.fault} and {len(row.complaints) - 10} more")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([_told(row, seed) for row in rows], indent=2) + "\n")
    total = sum(row.lost + row.doubled + row.out_of_order + row.wrongly_dead for row in rows)
    console.print(f"lost + doubled + out of order + wrongly dead: {total}; written to {path}", highlight=False)
    return all(row.holds for row in rows)


def _told(row: Row, seed: int) -> dict[str, Any]:
    return {
        "fault": row.fault,
        "title": row.title,
        "events": row.events,
        "lost": row.lost,
        "doubled": row.doubled,
        "out_of_order": row.out_of_order,
        "wrongly_dead": row.wrongly_dead,
        "recovery_s": row.recovery_s,
        "seed": seed,
        "complaints": list(row.complaints),
        **row.more,
    }
