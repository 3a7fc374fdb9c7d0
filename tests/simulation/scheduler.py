"""Who goes next: all that processes ask of the database and the bus waits here until the seed chooses it.

Nothing else is left to chance. A process runs from one answer to its next question as it would on a real loop;
which question is answered next, how late, whether its connection breaks before or after, which process dies,
freezes or starts again, is drawn from the seed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.simulation.loop import PROCESS, Life, Loop

LOST_BEFORE, LOST_AFTER = "lost before it came", "answer lost"


@dataclass(slots=True, eq=False)
class Question:
    """Something asked of a server. `begin` and `go_on` say whether it has ended; `may_go_on` whether it may."""

    life: Life | None
    label: str
    begin: Callable[[], bool]
    finish: Callable[[], Any]
    future: "asyncio.Future[Any]"
    lose: Callable[[], None] | None = None
    go_on: Callable[[], bool] | None = None
    may_go_on: Callable[[], bool] = bool
    begun: bool = False
    ended: bool = False
    held: int = 0
    waits_since: int = 0
    weight: float = 1.0


@dataclass(slots=True)
class Chances:
    """How likely each fault is at a step; a schedule has some of them, and not the others."""

    lost: float = 0.0
    late: float = 0.0
    hold: float = 0.0
    jump: float = 0.0
    kill: float = 0.0
    freeze: float = 0.0
    other: float = 0.0


class Scheduler:
    """One schedule. `step` takes one choice."""

    def __init__(self, seed: int, loop: Loop) -> None:
        self.random = Random(seed)
        self.loop = loop
        self.waiting: list[Question] = []
        self.chances = Chances()
        self.lives: list[Life] = []
        self.steps = 0
        self.over = False
        self.calm = False
        """Whether all faults have ended; what shows nothing then is no step of its own."""
        self.faults: list[Callable[[], None]] = []
        self.on_kill: Callable[[Life], None] = lambda life: None
        self.trace: list[str] | None = None
        self.weights: dict[str, float] = {}
        self.in_line = False
        """Whether statements that waited go on at once, in the order in which they began to, as on a real server."""

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.steps:5d} {self.loop.now:8.3f}s  {who:12s} {what}")

    async def ask(
        self,
        label: str,
        begin: Callable[[], bool],
        finish: Callable[[], Any],
        lose: Callable[[], None] | None = None,
        go_on: Callable[[], bool] | None = None,
        may_go_on: Callable[[], bool] = bool,
    ) -> Any:
        """Ask a server, and wait for the answer. `lose` breaks the connection."""
        life = PROCESS.get()
        if self.over:
            raise ConnectionResetError("the schedule is over")
        question = Question(life, label, begin, finish, self.loop.create_future(), lose, go_on, may_go_on)
        question.weight = self.weights.get(life.name if life else "", 1.0)
        self.waiting.append(question)
        return await question.future

    def step(self) -> bool:
        """Take one choice; False when nothing can be chosen but to let the time pass."""
        self.steps += 1
        draw = self.random.random
        chances = self.chances
        if chances.kill and draw() < chances.kill:
            self._kill_one()
        if chances.freeze and draw() < chances.freeze:
            self._freeze_one()
        if self.faults and chances.other and draw() < chances.other:
            self.random.choice(self.faults)()
        self.loop.run_ready()
        steps = self.steps
        ready = [
            question
            for question in self.waiting
            if question.held <= steps
            and (question.life is None or question.life.frozen_until is None)
            and (question.ended or not question.begun or question.may_go_on())
        ]
        if self.in_line:
            in_line = [question for question in ready if question.begun and not question.ended]
            ready = sorted(in_line, key=lambda question: question.waits_since)[:1] or ready
        if not ready or (chances.jump and draw() < chances.jump):
            return False
        self._advance(ready[0] if len(ready) == 1 else self._choose(ready))
        self.loop.run_ready()
        return True

    def _choose(self, ready: list[Question]) -> Question:
        if not self.weights:
            return ready[int(self.random.random() * len(ready))]
        return self.random.choices(ready, [question.weight for question in ready])[0]

    def _advance(self, question: Question) -> None:
        draw = self.random.random
        self.loop.advance(self.loop.now + draw() * 0.002)
        if not question.begun:
            if question.held == 0 and self.chances.hold and draw() < self.chances.hold:
                question.held = self.steps + self.random.randrange(2, 40)
                return
            if question.lose is not None and self.chances.lost and draw() < self.chances.lost:
                self.lose(question, LOST_BEFORE if draw() >= 0.5 else LOST_AFTER)
                return
            question.begun, question.waits_since = True, self.steps
            question.ended = question.begin()
        elif not question.ended:
            assert question.go_on is not None
            question.ended = question.go_on()
        if not question.ended:
            self.note(_name(question), f"{question.label}: waits")
            return
        if self.chances.late and draw() < self.chances.late:
            question.held = self.steps + self.random.randrange(1, 20)
            self.note(_name(question), f"{question.label}: the answer is late")
            return
        self._answer(question)

    def _answer(self, question: Question) -> None:
        self.waiting.remove(question)
        try:
            answer = question.finish()
        except Exception as error:
            self.note(_name(question), f"{question.label}: {type(error).__name__} {error}")
            if not question.future.done():
                question.future.set_exception(error)
            return
        if self.trace is not None:
            self.note(_name(question), f"{question.label}: {_short(answer)}")
        if not question.future.done():
            question.future.set_result(answer)

    def lose(self, question: Question, what: str) -> None:
        """The connection breaks, before the question comes or with its answer on the way."""
        assert question.lose is not None
        if what == LOST_AFTER:
            if not question.begin():
                what = LOST_BEFORE
            else:
                self._quietly(question.finish)
        question.lose()
        self.waiting.remove(question)
        self.note(_name(question), f"{question.label}: {what}")
        if not question.future.done():
            question.future.set_exception(ConnectionResetError(what))

    def _quietly(self, finish: Callable[[], Any]) -> None:
        try:
            finish()
        except Exception as error:
            self.note("", f"unheard: {type(error).__name__}")

    def _kill_one(self) -> None:
        living = [life for life in self.lives if not life.dead]
        if living:
            self.kill(self.random.choice(living))

    def kill(self, life: Life) -> None:
        """kill -9: what is under way may still come to its server, nothing of the process runs again."""
        for question in [question for question in self.waiting if question.life is life]:
            self.waiting.remove(question)
            if not question.begun and self.random.random() < 0.5:
                self.note(life.name, f"{question.label}: still came")
                if question.begin():
                    self._quietly(question.finish)
        life.dead = True
        life.frozen_until = None
        self.lives.remove(life)
        self.note(life.name, "KILLED")
        self.on_kill(life)

    def _freeze_one(self) -> None:
        living = [life for life in self.lives if life.frozen_until is None]
        if living:
            life = self.random.choice(living)
            seconds = self.random.choice((0.1, 1.0, 8.0))
            life.frozen_until = self.loop.now + seconds
            self.note(life.name, f"FROZEN for {seconds:g} s")
            self.loop.call_later(seconds, self._thaw, life, context=_NOBODY)

    def _thaw(self, life: Life) -> None:
        if not life.dead and life.frozen_until is not None:
            self.note(life.name, "goes on")
            self.loop.thaw(life)

    def thaw_all(self) -> None:
        for life in self.lives:
            if life.frozen_until is not None:
                self.loop.thaw(life)


def _name(question: Question) -> str:
    return question.life.name if question.life else "world"


def _short(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) < 160 else text[:157] + "..."


def _nobody() -> Any:
    from contextvars import Context

    return Context()


_NOBODY = _nobody()
