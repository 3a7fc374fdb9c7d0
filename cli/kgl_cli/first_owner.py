"""The first login of an embedded system, and the key of its built-in reader."""

from dataclasses import replace

from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, create_first_owner
from kgl_auth.use_cases.enrol_module import EnrolModule, enrol_module
from kgl_cli.home import Credentials, Home
from kgl_servicekit.service import Service

EMAIL = "owner@kgl.localhost"
WORKSPACE = "lab"


async def ensure_first_owner(home: Home, auth: Service, url: str) -> Credentials:
    """The credentials of this home for this public URL, made at the first start.

    The secrets are kept before they are used, so that a crash in between leaves nothing that nobody can open.
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
    owner_key, reader_key = home.api_keys(["first_owner", "reader"])
    command = CreateFirstOwner(
        email=EMAIL, password=password, name="Owner", workspace_slug=WORKSPACE, api_key=owner_key
    )
    owner = await auth.database.run((), create_first_owner, command)
    await auth.database.run((), enrol_module, EnrolModule(module="reader", key=reader_key))
    return Credentials(
        url=url,
        email=EMAIL,
        password=password,
        workspace_id=str(owner.workspace_id),
        workspace=owner.workspace_slug,
        api_key=owner_key.text,
        module_key=reader_key.text,
    )
