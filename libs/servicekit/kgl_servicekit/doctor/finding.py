"""What a doctor says."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that is wrong, and what to do about it, in a sentence each."""

    what: str
    todo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check of a service has found."""

    service: str
    check: str
    what: str
    todo: str

    def as_dict(self) -> dict[str, str]:
        """For machines."""
        return asdict(self)


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 7 min, 3 h, 2 days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86400:.0f} days"
