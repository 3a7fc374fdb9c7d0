"""Modules are enabled and disabled in a workspace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from pydantic import JsonValue

from kgl_auth.db import modules
from kgl_auth.domain.announcements import module_changed
from kgl_auth.domain.identity import Capability, Module
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class EnableModule:
    """What a module shall do in the workspace from now on.

    `precondition` raises when what it does at present is not the expected.
    """

    workspace_id: UUID
    name: str
    capabilities: Sequence[Capability]
    mode: Literal["required", "optional"]
    deadline_seconds: int
    precondition: Callable[[Module | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableModule:
    """Which module of which workspace; `precondition` is that of `EnableModule`."""

    workspace_id: UUID
    name: str
    precondition: Callable[[Module | None], None]


async def enable_module(tx: Transaction, command: EnableModule) -> Module:
    """Enable the module, or change what it is enabled for."""
    command.precondition(await modules.find_module(tx, command.workspace_id, command.name, lock=True))
    wanted = Module(
        name=command.name,
        capabilities=tuple(sorted(set(command.capabilities))),
        mode=command.mode,
        deadline_seconds=command.deadline_seconds,
        version=1,
        updated_at=tx.now,
    )
    # not by what was found: a row that is not there cannot be locked
    module = await modules.put_module(tx, command.workspace_id, wanted)
    await tx.emit(module_changed(command.workspace_id, module), workspace=command.workspace_id)
    details: dict[str, JsonValue] = {"capabilities": list(module.capabilities), "mode": module.mode}
    await tx.audit("module.enable", f"module:{module.name}", scope=command.workspace_id, details=details)
    return module


async def disable_module(tx: Transaction, command: DisableModule) -> None:
    """Disable the module. Raises NotFound (404)."""
    module = await modules.find_module(tx, command.workspace_id, command.name, lock=True)
    command.precondition(module)
    if module is None:
        raise NotFound()
    await modules.delete_module(tx, command.workspace_id, command.name)
    await tx.emit(module_changed(command.workspace_id, module, deleted=True), workspace=command.workspace_id)
    await tx.audit("module.disable", f"module:{module.name}", scope=command.workspace_id)
