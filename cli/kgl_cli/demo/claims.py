"""What the demo says of its outcome, checked as it is said."""

from collections import deque
from collections.abc import Mapping, Sequence

from rich.console import Console


class Claims:
    """Prints each claim with its outcome; the demo fails if one does not hold."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.failed: list[str] = []

    def check(self, holds: bool, claim: str) -> None:
        """Print a claim, and remember it if it does not hold."""
        mark = "[green]ok[/green]  " if holds else "[red]FAILED[/red]"
        self._console.print(f"  {mark} {claim}", highlight=False)
        if not holds:
            self.failed.append(claim)


def distance(edges: Mapping[str, Sequence[str]], source: str, target: str) -> int | None:
    """The length of a shortest undirected path, from the metadata alone."""
    near: dict[str, set[str]] = {}
    for name, others in edges.items():
        for other in others:
            near.setdefault(name, set()).add(other)
            near.setdefault(other, set()).add(name)
    seen, queue = {source: 0}, deque([source])
    while queue:
        at = queue.popleft()
        if at == target:
            return seen[at]
        for other in near.get(at, ()):
            if other not in seen:
                seen[other] = seen[at] + 1
                queue.append(other)
    return None
