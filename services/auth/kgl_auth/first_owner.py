"""`python -m kgl_auth.first_owner`: the first login of an installation, with the secrets that the operator drew.

Run it again at will: what is there stays as it is.
"""

import sys
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from kgl_auth.bootstrap import build
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.accounts import Accounts
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner
from kgl_auth.use_cases.enrol_module import EnrolModule, enrol_module
from kgl_servicekit.bus.choose import bus_of
from kgl_servicekit.errors import Problem
from kgl_servicekit.identity.credential import ApiKey
from kgl_servicekit.identity.problems import CredentialMalformed
from kgl_servicekit.process import run
from kgl_servicekit.settings import NotConfigured, settings_of


def _is_key(value: SecretStr) -> SecretStr:
    _key(value)
    return value


def _key(value: SecretStr) -> ApiKey:
    try:
        return ApiKey.parse(value.get_secret_value())
    except CredentialMalformed as wrong:
        raise ValueError("no API key; it is kgl_<16 hexadecimal digits>_<43 characters>") from wrong


Key = Annotated[SecretStr, AfterValidator(_is_key)]


class FirstOwnerSettings(AuthSettings):
    """Who the first owner is, and what they and the built-in reader log in with."""

    owner_email: str = "owner@kgl.localhost"
    owner_password: SecretStr
    owner_name: str = "Owner"
    owner_workspace: str = Field(default="lab", description="slug of their workspace")
    owner_api_key: Key
    reader_api_key: Key


async def ensure(settings: FirstOwnerSettings) -> str:
    """Make what is missing; what was done, as a sentence. Raises NotConfigured."""
    service = build(settings, bus_of(settings, "first-owner"))
    accounts: Accounts = service.outside.accounts
    command = CreateFirstOwner(
        email=settings.owner_email,
        password=settings.owner_password.get_secret_value(),
        name=settings.owner_name,
        workspace_slug=settings.owner_workspace,
        api_key=_key(settings.owner_api_key),
    )
    reader = EnrolModule(module="reader", key=_key(settings.reader_api_key))
    try:
        async with service.opened():
            owner = await accounts.create_first_owner(command)
            await service.database.run((), enrol_module, reader)
    except Problem as refused:
        raise NotConfigured(f"the first owner cannot be made: {refused}") from refused
    return f"first owner: {settings.owner_email}, workspace {owner.workspace_slug} ({owner.workspace_id})"


def main() -> None:
    """Run it once."""
    try:
        sys.stdout.write(run(ensure(settings_of(FirstOwnerSettings))) + "\n")
    except NotConfigured as wrong:
        sys.exit(str(wrong))


if __name__ == "__main__":
    main()
