"""Accounts that Keycloak keeps: their passwords never come into our tables."""

from dataclasses import replace
from uuid import UUID

from kgl_auth.domain.emails import account_name
from kgl_auth.issuer import by_user
from kgl_auth.problems import EmailTaken
from kgl_auth.settings import AuthSettings
from kgl_auth.stores.accounts import Credentials, admit_registration, malformed_email, weak_password
from kgl_auth.stores.keycloak_admin import AddressRefused, AddressTaken, KeycloakUsers, PasswordRefused
from kgl_auth.use_cases.create_first_owner import CreateFirstOwner, FirstOwner, create_first_owner
from kgl_auth.use_cases.register_user import Registered, RegisterUser, register_user
from kgl_servicekit.database.engine import Database


class KeycloakAccounts:
    """`Accounts` in the realm. What Keycloak has made and we have not, a first login makes up for."""

    def __init__(self, database: Database, settings: AuthSettings, users: KeycloakUsers) -> None:
        self._database = database
        self._settings = settings
        self._users = users

    async def register(self, typed: Credentials, name: str) -> Registered:
        email = await admit_registration(self._database, self._settings, typed)
        try:
            user_id = await self._create(email, name, typed.password)
        except AddressTaken as taken:
            raise EmailTaken() from taken
        command = RegisterUser(user_id=user_id, email=email, name=name, password_hash=None)
        return await self._database.run((), register_user, command, cause=by_user(user_id))

    async def create_first_owner(self, command: CreateFirstOwner) -> FirstOwner:
        email = account_name(command.email)
        user_id = await self._ensure(email, command.name, command.password)
        known = replace(command, email=email, password="", user_id=user_id)
        return await self._database.run((), create_first_owner, known)

    async def _ensure(self, email: str, name: str, password: str) -> UUID:
        known = await self._users.find_by_email(email)
        try:
            return known.id if known is not None else await self._create(email, name, password)
        except AddressTaken as taken:
            found = await self._users.find_by_email(email)  # made since we looked
            if found is None:
                raise EmailTaken() from taken
            return found.id

    async def _create(self, email: str, name: str, password: str) -> UUID:
        try:
            return await self._users.create(email, name, password)
        except PasswordRefused as refused:
            raise weak_password(refused.sentence) from refused
        except AddressRefused as refused:
            raise malformed_email(refused.sentence) from refused
