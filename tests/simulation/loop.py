"""An event loop of one thread with a clock of its own. What is ready runs in the order in which it became ready.

Every callback belongs to a simulated process (by its context), which may be killed, so that none of its callbacks
ever runs again, or frozen for a while.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any

PROCESS: "ContextVar[Life | None]" = ContextVar("PROCESS", default=None)


class Life:
    """One life of a process: from its start to its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen_until: float | None = None
        self.tasks: list[asyncio.Task[Any]] = []
        self.late: list[asyncio.Handle] = []
        self.sessions: list[Any] = []
        self.memory: dict[str, Any] = {}


class Loop(asyncio.AbstractEventLoop):
    """The loop; `now` is its time in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = 0
        self.failures: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None: ...

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        life = PROCESS.get() if context is None else context.get(PROCESS)
        if life is not None:
            life.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def run_ready(self) -> None:
        """Run all that is ready, and what becomes ready by it; none of it of dead or frozen processes."""
        while self.ready:
            handle = self.ready.popleft()
            if handle.cancelled():
                continue
            life = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if life is not None and life.dead:
                continue
            if life is not None and life.frozen_until is not None:
                life.late.append(handle)
                continue
            handle._run()

    def next_timer(self) -> float | None:
        """When the next timer is due that still matters."""
        while self._timers:
            when, _, handle = self._timers[0]
            life = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if handle.cancelled() or (life is not None and life.dead):
                heapq.heappop(self._timers)
                continue
            return when
        return None

    def advance(self, to: float) -> None:
        """Let the time come; timers that are due become ready."""
        self.now = max(self.now, to)
        while self._timers and self._timers[0][0] <= self.now:
            _, _, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self.ready.append(handle)

    def thaw(self, life: Life) -> None:
        """Let a frozen process go on, with what came for it meanwhile."""
        life.frozen_until = None
        self.ready.extend(life.late)
        life.late = []
