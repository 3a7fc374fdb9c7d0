"""The `events` workload: commands over HTTP at a rate, each with an Idempotency-Key, and what came of them."""

import asyncio
import bisect
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults.contract import KEY
from tests.faults.history import History
from tests.faults.http_client import Answer, Client, ConnectionLost

ITEMS, ZIPF, EVENTS = 200, 1.1, 20
MOST_AT_ONCE = 64
LARGE, LARGE_SHARE = 60_000, 0.01
PATIENCE = 30.0
DEADLINE = 10.0
PATH = "/faults/v1/commands"
_REPEAT = {409, 429, 503}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What the commands are: `events` of each, of how many `items`; shares of events and commands are 0 to 1.

    zipf      exponent of the law by which items are chosen; with 0 each is as frequent as any other
    trouble   kinds that a share of the events has, in items of their own (`poisoned-...`), one event each
    calls     share of events that start a job
    replays   share of commands that are sent again, and sent again with another body, after they are done
    twins     share of commands that two clients send at once with one key
    """

    events: int = EVENTS
    items: int = ITEMS
    zipf: float = ZIPF
    trouble: Sequence[str] = ()
    trouble_share: float = 0.0
    calls: float = 0.0
    replays: float = 0.02
    twins: float = 0.02


@dataclass(slots=True)
class EventsLoad:
    """Clients of the small service. `rate` is in events a second; `least` events are sent in all;
    `extra` are writes that the next commands have.
    """

    url: str
    history: History
    dice: random.Random
    mix: Mix = field(default_factory=Mix)
    sent: int = 0
    poisons: int = 0
    rate: float = 0.0
    least: int = 0
    patience: float = PATIENCE
    most_at_once: int = MOST_AT_ONCE
    extra: list[dict[str, Any]] = field(default_factory=list)
    _weights: list[float] = field(default_factory=list)
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        weights = (1 / rank**self.mix.zipf for rank in range(1, self.mix.items + 1))
        self._weights = list(itertools.accumulate(weights))

    async def drive(self, rate: float, until: asyncio.Event) -> None:
        """Send at this rate, whatever the answers take (up to `most_at_once`), until told."""
        loop = asyncio.get_running_loop()
        async with Client(self.url, {"Authorization": f"Bearer {KEY}"}, DEADLINE) as http:
            self.rate, due = rate, loop.time()
            while not until.is_set() or self.sent < self.least:
                due = max(
                    due + self.mix.events / self.rate, loop.time() - 1.0
                )  # a client that was held up does not catch up for ever
                await asyncio.sleep(max(0.0, due - loop.time()))
                if len(self._running) >= self.most_at_once:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                self.sent += self.mix.events
                task = asyncio.create_task(self._command(http))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            await asyncio.gather(*self._running)

    def change(self, **changes: Any) -> None:
        """From now on the commands are of another kind."""
        self.mix = replace(self.mix, **changes)
        self.__post_init__()

    def writes(self) -> list[dict[str, Any]]:
        """What the next command writes."""
        made, self.extra = self.extra[:20], self.extra[20:]
        for _ in range(self.mix.events - len(made)):
            each: dict[str, Any] = {"item": self._item()}
            if self.dice.random() < LARGE_SHARE:
                each["size"] = LARGE
            if self.dice.random() < self.mix.calls:
                each["call"] = True
            if self.mix.trouble and self.dice.random() < self.mix.trouble_share:
                trouble = self.mix.trouble[self.poisons % len(self.mix.trouble)]
                self.poisons += 1
                each = {"item": f"poisoned-{trouble}-{self.poisons}", "trouble": trouble}
            made.append(each)
        return made

    def _item(self) -> str:
        place = bisect.bisect_left(self._weights, self.dice.random() * self._weights[-1])
        return f"item-{place}"

    async def _command(self, http: Client) -> None:
        number = next(self._numbers)
        op, body = f"command-{number}", {"writes": self.writes()}
        twins = 2 if self.dice.random() < self.mix.twins else 1
        self.history.add("invoke", op, kind="command", writes=body["writes"], twins=twins)
        answers = await asyncio.gather(*(self._send(http, op, body) for _ in range(twins)))
        done = [answer for answer in answers if answer is not None and answer.status == 201]
        if done:
            told = done[0].json()
            same = len({answer.content for answer in done}) == 1
            self.history.add("ok", op, numbers=told["numbers"], command=told["command"], same=same)
            if self.dice.random() < self.mix.replays:
                await self._replay(http, op, body, done[0])
            return
        refused = next((answer for answer in answers if answer is not None), None)
        if refused is None:
            self.history.add("unknown", op)
        else:
            self.history.add("fail", op, status=refused.status, body=refused.content[:300].decode())

    async def _send(self, http: Client, op: str, body: dict[str, Any]) -> Answer | None:
        """The answer that ends this command for its client; None when none came in time."""
        loop = asyncio.get_running_loop()
        until, delay = loop.time() + self.patience, 0.05
        while loop.time() < until:
            started = loop.time()
            answer: Answer | None = None
            try:
                answer = await http.request("POST", PATH, body, {"Idempotency-Key": op})
                told: dict[str, Any] = {"status": answer.status, "retry_after": answer.headers.get("retry-after")}
                told["type"] = answer.headers.get("content-type")
            except ConnectionLost as lost:
                told = {"error": str(lost)}
            self.history.add("attempt", op, seconds=round(loop.time() - started, 4), **told)
            if answer is not None and answer.status not in _REPEAT:
                return answer
            await asyncio.sleep(delay * self.dice.uniform(0.5, 1.5))
            delay = min(delay * 2, 1.0)
        return None

    async def _replay(self, http: Client, op: str, body: dict[str, Any], first: Answer) -> None:
        """The same again gets the same answer; another body with this key gets none."""
        again = await self._send(http, op, body)
        other = await self._send(http, op, {"writes": [{"item": "another"}]})
        if again is not None:
            same = (again.status, again.content) == (first.status, first.content)
            self.history.add("note", op, kind="replay", same=same, status=again.status)
        if other is not None:
            self.history.add("note", op, kind="other_body", status=other.status)
