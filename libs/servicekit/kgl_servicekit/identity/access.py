"""What the replica says about modules: which of them work for a workspace, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

from kgl_contracts.identity import ModuleChanged

MODULES = "select state from identity_replica where workspace_id = $1 and type = $2 order by key_id"

Mode = Literal["required", "optional"]


@dataclass(frozen=True, slots=True)
class Module:
    """A module that is enabled in a workspace, for the capabilities that it serves there."""

    name: str
    capabilities: frozenset[str]
    mode: Mode
    deadline_seconds: int


BUILT_IN = Module("reader", frozenset({"extract", "summarise"}), "required", 600)


class Reads(Protocol):
    """What is used of a transaction or a connection."""

    async def fetch(self, sql: str, *args: Any) -> Sequence[Any]: ...


async def known_modules(tx: Reads, workspace: UUID) -> dict[str, Module]:
    """What was heard of each module of a workspace, by name; one that is disabled has no capabilities."""
    states = [row["state"] for row in await tx.fetch(MODULES, workspace, ModuleChanged.event_type)]
    return {
        state["module"]: Module(
            state["module"],
            frozenset[str]() if state["deleted"] else frozenset(state["capabilities"]),
            state["mode"],
            state["deadline_seconds"],
        )
        for state in states
    }


async def modules(tx: Reads, workspace: UUID) -> list[Module]:
    """The modules that work for a workspace, by name.

    The built-in reader has each of its capabilities for which no other module is enabled.
    """
    enabled = [module for module in (await known_modules(tx, workspace)).values() if module.capabilities]
    taken = frozenset[str]().union(*(module.capabilities for module in enabled))
    left = BUILT_IN.capabilities - taken
    if left:
        enabled.append(Module(BUILT_IN.name, left, BUILT_IN.mode, BUILT_IN.deadline_seconds))
    return sorted(enabled, key=lambda module: module.name)
