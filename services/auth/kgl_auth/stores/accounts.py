"""The port behind registration and the first start: whoever keeps people's passwords."""

import math
from dataclasses import dataclass, field
from typing import Protocol

from kgl_auth.domain.emails import checked_email
from kgl_auth.domain.passwords import weakness
from kgl_auth.problems import EmailMalformed, RegistrationClosed, TooManyAttempts, WeakPassword
from kgl_auth.settings import AuthSettings
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, FirstOwner
from kgl_auth.use_cases.register_user import Registered, count_registration
from kgl_servicekit.database.engine import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a person typed, and the address of their client."""

    email: str
    password: str = field(repr=False)
    address: str


class Accounts(Protocol):
    """Makes accounts."""

    async def register(self, typed: Credentials, name: str) -> Registered:
        """Make an account and a personal workspace.

        Raises RegistrationClosed (403), EmailMalformed and WeakPassword (422), EmailTaken (409),
        TooManyAttempts (429), Unavailable (503).
        """
        ...

    async def create_first_owner(self, command: CreateFirstOwner) -> FirstOwner:
        """See the use case; where another identity provider has the accounts, this one is made there first.

        A second call changes nothing; an account that is there keeps its password. Raises SlugTaken (409),
        EmailMalformed and WeakPassword (422), Unavailable (503).
        """
        ...


async def admit_registration(database: Database, settings: AuthSettings, typed: Credentials) -> str:
    """The address in its stored form, of somebody who may register. Raises as `Accounts.register`."""
    if not settings.registration_is_open:
        raise RegistrationClosed()
    try:
        email = checked_email(typed.email)
    except ValueError as wrong:
        raise malformed_email(str(wrong)) from wrong
    if (weak := weakness(typed.password, email)) is not None:
        raise weak_password(weak)
    limit = settings.registrations_per_minute
    if (wait := await database.run((), count_registration, (typed.address, limit))) is not None:
        raise TooManyAttempts(retry_after=math.ceil(wait))
    return email


def weak_password(sentence: str) -> WeakPassword:
    """The refusal of a password, for this reason."""
    return WeakPassword(errors=[_place("password", sentence)])


def malformed_email(sentence: str) -> EmailMalformed:
    """The refusal of an address, for this reason."""
    return EmailMalformed(errors=[_place("email", sentence)])


def _place(member: str, detail: str) -> dict[str, str]:
    return {"pointer": f"#/{member}", "location": "body", "code": f"{member}_refused", "detail": detail}
