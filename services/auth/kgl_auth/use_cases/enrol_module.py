"""The key by which a module of the whole installation works, such as the built-in reader."""

from dataclasses import dataclass

from kgl_auth.db import api_keys
from kgl_auth.use_cases.change_key import CreateKey, create_key
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE, ROLES


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolModule:
    """The module, and the key that it has been given."""

    module: str
    key: ApiKey


async def enrol_module(tx: Transaction, command: EnrolModule) -> None:
    """Let the key speak for the module in every workspace; a second time changes nothing."""
    await tx.execute("select pg_advisory_xact_lock(hashtext('kgl_auth.enrol_module'))")
    if await api_keys.find_key(tx, command.key.id) is not None:
        return
    permissions = ROLES["module"]
    wanted = CreateKey(
        workspace_id=INSTANCE_WORKSPACE,
        name=f"Module {command.module}",
        permissions=sorted(permissions),
        own=permissions,
        module=command.module,
        given=command.key,
    )
    await create_key(tx, wanted)
