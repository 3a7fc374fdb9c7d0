"""The classes of faults, each by the number that it has in docs/architecture/reliability.md."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from tests.faults.stage import REGISTRY

MODULES = ("bus", "churn", "database", "delivery", "load", "poison", "processes")
"""They declare theirs when they are imported."""


def all_classes() -> dict[str, Callable[[], Any]]:
    """Every class that is declared, in the order of their numbers."""
    for name in MODULES:
        import_module(f"{__name__}.{name}")
    return {name: REGISTRY[name] for name in sorted(REGISTRY, key=lambda name: int(name[1:]))}
