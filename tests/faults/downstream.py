"""A server outside that the jobs of the small service call; it fails as it is told, and counts."""

import asyncio
from collections import Counter
from typing import Literal

import orjson

from tests.faults.small_server import SmallServer

Mode = Literal["ok", "500", "slow"]
_SLOW = 5.0


class Downstream(SmallServer):
    """`calls` counts what came, `refused` what was answered with an error, by name."""

    def __init__(self) -> None:
        self.mode: Mode = "ok"
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    async def answer(self, body: bytes) -> tuple[int, bytes]:
        name, status = orjson.loads(body)["name"], 200
        self.calls[name] += 1
        if self.mode != "ok":
            self.refused[name] += 1
            status = 500
        if self.mode == "slow":
            await asyncio.sleep(_SLOW)
        return status, b""
