"""What a check has found."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Findings:
    """The four figures that have to be 0, and whatever else is not as promised, in sentences."""

    events: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    wrongly_dead: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """What was lost, doubled, out of order or wrongly made a dead letter."""
        return self.lost + self.doubled + self.out_of_order + self.wrongly_dead

    def complain(self, invariant: str, sentence: str, examples: object = None) -> None:
        """Something is not as the invariant says."""
        self.complaints.append(f"{invariant}: {sentence}" + ("" if examples is None else f", such as {examples}"))

    def add(self, other: "Findings") -> None:
        """Take those of another check in."""
        self.events += other.events
        self.lost += other.lost
        self.doubled += other.doubled
        self.out_of_order += other.out_of_order
        self.wrongly_dead += other.wrongly_dead
        self.complaints += other.complaints
