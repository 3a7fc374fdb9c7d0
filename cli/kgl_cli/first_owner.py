"""The first login of an embedded system, and the key of its built-in reader."""

from dataclasses import replace

from kgl_auth.use_cases.change_key import CreateKey, create_key
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, create_first_owner
from kgl_cli.home import Credentials, Home
from kgl_servicekit.database.transaction import Transaction
from kgl_servicekit.identity.permissions import INSTANCE_WORKSPACE, ROLES
from kgl_servicekit.service import Service

_EMAIL = "owner@kgl.localhost"
_WORKSPACE = "lab"


async def ensure_first_owner(home: Home, auth: Service, url: str) -> Credentials:
    """The credentials of this home for this public URL, made at the first start.

    The password is kept before it is used, so that a crash in between leaves nothing that nobody can open.
    """
    known = home.credentials(url)
    if known is not None:
        return known
    earlier = home.any_credentials()
    made = replace(earlier, url=url) if earlier is not None else await _create(home, auth, url)
    home.write_credentials(made)
    return made


async def _create(home: Home, auth: Service, url: str) -> Credentials:
    password = home.passwords(["first_owner"])["first_owner"]
    command = CreateFirstOwner(email=_EMAIL, password=password, name="Owner", workspace_slug=_WORKSPACE)
    owner = await auth.database.run((), create_first_owner, command)

    async def keys(tx: Transaction, _: None) -> tuple[str, str]:
        permissions = ROLES["owner"]
        first = owner.api_key or await create_key(
            tx,
            CreateKey(
                workspace_id=owner.workspace_id, name="First owner", permissions=sorted(permissions), own=permissions
            ),
        )
        # a key of the instance that speaks for a module may work in every workspace
        module = CreateKey(
            workspace_id=INSTANCE_WORKSPACE,
            name="Built-in reader",
            permissions=sorted(ROLES["module"]),
            own=ROLES["module"],
            module="reader",
        )
        return first.key, (await create_key(tx, module)).key

    api_key, module_key = await auth.database.run((), keys, None)
    return Credentials(
        url=url,
        email=_EMAIL,
        password=password,
        workspace_id=str(owner.workspace_id),
        workspace=owner.workspace_slug,
        api_key=api_key,
        module_key=module_key,
    )
