"""Functions made of Python source: a statement's expressions run many thousands of times."""

from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.scope import Evaluate, Frame


class Code:
    """Source over a frame `f`, and the values that it refers to by name."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._names = 0

    def value(self, value: Any) -> str:
        """The source of a value."""
        if value is None or value is True or value is False or type(value) is int:
            return repr(value)
        name = f"v{len(self._values)}"
        self._values[name] = value
        return name

    def call(self, function: Callable[..., Any], *arguments: str) -> str:
        return f"{self.value(function)}({', '.join(arguments)})"

    def strict(self, parts: Sequence[str], make: Callable[..., str]) -> str:
        """Null if one of the parts is null, else what is made of them."""
        names = [part if part.isdigit() else self.name() for part in parts]
        nulls = [f"({name} := {part}) is None" for name, part in zip(names, parts, strict=True) if name != part]
        made = make(*names)
        return f"(None if {' or '.join(nulls)} else {made})" if nulls else made

    def name(self) -> str:
        """A name for what is evaluated once and used twice."""
        self._names += 1
        return f"t{self._names}"

    def evaluate(self, source: str) -> Evaluate:
        """The function that evaluates it."""
        made: Evaluate = self._function(source)
        return made

    def row(self, sources: Sequence[str]) -> Callable[[Frame], tuple[Any, ...]]:
        """The function that makes a row of them."""
        made: Callable[[Frame], tuple[Any, ...]] = self._function(tuple_of(sources))
        return made

    def test(self, sources: Sequence[str]) -> Callable[[Frame], bool]:
        """The function that says whether all of them are true; null is not."""
        made: Callable[[Frame], bool] = self._function(
            " and ".join(f"{source} is True" for source in sources) or "True"
        )
        return made

    def _function(self, source: str) -> Any:
        return eval(f"lambda f: {source}", self._values)


def tuple_of(sources: Sequence[str]) -> str:
    return "(" + "".join(f"{source}, " for source in sources) + ")"
