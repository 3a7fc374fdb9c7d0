"""Modules that are enabled in the workspace."""

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from kgl_auth.api.cursors import text_after
from kgl_auth.api.place import found, unless_changed
from kgl_auth.db import modules
from kgl_auth.domain.identity import Capability, Module, ModuleName
from kgl_auth.use_cases import change_module
from kgl_auth.use_cases.change_module import DisableModule, EnableModule
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.errors import NotFound, PreconditionFailed
from kgl_servicekit.http import (
    ApiRouter,
    Caller,
    IfMatch,
    Page,
    PageParams,
    Reply,
    Run,
    Window,
    conditional,
    etag_of,
    page,
)

router = ApiRouter(prefix="/modules", tags=["modules"])

Name = Annotated[ModuleName, Path(description="name of the module, such as keyword-tagger")]


class Enablement(BaseModel):
    """What a module shall do here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capabilities: frozenset[Capability] = Field(min_length=1)
    mode: Literal["required", "optional"] = Field(
        default="required", description="whether a document's operation waits for this module"
    )
    deadline_seconds: int = Field(
        default=600, ge=1, le=7 * 24 * 3600, description="after which an optional request is skipped"
    )


@router.put("/{name}", permission="modules:manage", problems=[PreconditionFailed])
async def enable_module(name: Name, body: Enablement, caller: Caller, run: Run, if_match: IfMatch) -> Module:
    """Enable a module, or change what it is enabled for. It takes the built-in reader out for its capabilities."""
    command = EnableModule(
        workspace_id=caller.workspace_id,
        name=name,
        capabilities=sorted(body.capabilities),
        mode=body.mode,
        deadline_seconds=body.deadline_seconds,
        precondition=unless_changed(if_match),
    )
    return await run(change_module.enable_module, command, reply=lambda module: Reply({"ETag": etag_of(module)}))


@router.get("", permission="workspace:read")
async def list_modules(caller: Caller, run: Run, window: PageParams) -> Page[Module]:
    """The enabled modules, by name."""

    async def listed(tx: Transaction, asked: Window) -> list[Module]:
        return await modules.list_modules(tx, caller.workspace_id, text_after(asked), asked.fetch)

    return page(await run(listed, window), window.limit, lambda module: module.name)


@router.get("/{name}", permission="workspace:read", problems=[NotFound])
async def read_module(name: Name, request: Request, response: Response, caller: Caller, run: Run) -> Module:
    """One enabled module."""

    async def one(tx: Transaction, name: str) -> Module | None:
        return await modules.find_module(tx, caller.workspace_id, name)

    module = found(await run(one, name))
    conditional(request, response, etag_of(module))
    return module


@router.delete("/{name}", permission="modules:manage", status_code=204, problems=[NotFound, PreconditionFailed])
async def disable_module(name: Name, caller: Caller, run: Run, if_match: IfMatch) -> None:
    """Disable a module; the built-in reader serves its capabilities again, where no other module does."""
    command = DisableModule(workspace_id=caller.workspace_id, name=name, precondition=unless_changed(if_match))
    await run(change_module.disable_module, command)
