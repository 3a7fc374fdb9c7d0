"""An issuer of tokens whose keys can be changed, and that fails as it is told; it counts who asks."""

import asyncio
from typing import Literal
from uuid import UUID

import orjson

from kgl_servicekit.identity.testing import TokenSigner
from tests.faults.small_server import SmallServer

Mode = Literal["ok", "out", "500", "garbage", "slow"]
_SLOW = 10.0


class Issuer(SmallServer):
    """`asked` counts the requests for its keys."""

    def __init__(self) -> None:
        self.mode: Mode = "ok"
        self.asked = 0
        self.signer = TokenSigner(kid="key-1")

    def token(self, user: UUID) -> str:
        """A token of the present key."""
        return self.signer.token(user)

    def rotate(self) -> None:
        """A new key; the old one is told no more."""
        self.signer = TokenSigner(issuer=self.signer.issuer, kid=f"key-{id(self.signer)}")

    async def answer(self, body: bytes) -> tuple[int, bytes] | None:
        self.asked += 1
        if self.mode == "slow":
            await asyncio.sleep(_SLOW)
        if self.mode == "out":
            return None
        keys = b"<html>not here</html>" if self.mode == "garbage" else orjson.dumps(self.signer.jwks())
        return 500 if self.mode == "500" else 200, keys
