"""The port behind the browser's login: whoever authenticates people and gives their tokens."""

from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from kgl_auth.use_cases.redeem import Keep


class LoginRefused(Exception):
    """The provider does not, or no longer, vouch for this login; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """An access token for every API of the system, and the seconds for which it is good."""

    text: str = field(repr=False)
    expires_in: int


class IdentityProvider(Protocol):
    """An OpenID provider, as the browser flow uses it. Each method raises Unavailable (503) while it is out.

    `keep` is called in a transaction with what the provider gave: the built-in issuer calls it in the very
    transaction that makes the tokens, so that neither is ever without the other.
    """

    @property
    def takes_used_tokens(self) -> bool:
        """Whether a refresh token that a twin has just used is taken again; where not, twins have to queue."""
        ...

    async def authorization_url(self, *, state: str, nonce: str, code_challenge: str) -> str:
        """Where a browser goes to log in."""
        ...

    async def exchange(self, *, code: str, verifier: str, nonce: str, keep: Keep) -> None:
        """Turn an authorization code into a login; raises LoginRefused, also when the nonce is another one."""
        ...

    async def refresh(self, refresh_token: str, keep: Keep) -> AccessToken:
        """A new access token, and the next refresh token given to `keep`; raises LoginRefused."""
        ...

    async def end(self, session_id: str, user_id: UUID, refresh_token: str) -> None:
        """End the login at the provider and here, by its own user's wish."""
        ...
