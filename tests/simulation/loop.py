"""An event loop of one thread with a clock of its own. What is ready runs in the order in which it became ready.

Every callback belongs to a simulated process (by its context), which may be killed, so that none of its callbacks
ever runs again, or frozen for a while.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

PROCESS: "ContextVar[Life | None]" = ContextVar("PROCESS", default=None)


class Life:
    """One life of a process: from its start to its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen_until: float | None = None
        self.tasks: list[asyncio.Task[Any]] = []
        self.late: list[_Handle | _Timer] = []
        self.sessions: list[Any] = []
        self.memory: dict[str, Any] = {}


class _Handle(asyncio.Handle):
    """A callback, and whose it is. It does not look for a loop's debug mode, as there are many of them."""

    __slots__ = ("life",)

    def __init__(self, callback: Callable[..., object], args: Any, loop: "Loop", context: Context | None) -> None:
        self._context: Context = copy_context() if context is None else context
        self._loop = loop
        self._callback: Any = callback
        self._args: Any = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self.life = self._context.get(PROCESS)


class _Timer(asyncio.TimerHandle):
    __slots__ = ("life",)

    def __init__(
        self, when: float, callback: Callable[..., object], args: Any, loop: "Loop", context: Context | None
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.life = self._context.get(PROCESS)  # type: ignore[attr-defined]


class Loop(asyncio.AbstractEventLoop):
    """The loop; `now` is its time in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready: deque[_Handle | _Timer] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
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
        handle = _Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Timer(when, callback, args, self, context)
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
        ready = self.ready
        while ready:
            handle = ready.popleft()
            if handle._cancelled:
                continue
            life = handle.life
            if life is not None:
                if life.dead:
                    continue
                if life.frozen_until is not None:
                    life.late.append(handle)
                    continue
            handle._run()

    def next_timer(self) -> float | None:
        """When the next timer is due that still matters."""
        while self._timers:
            when, _, handle = self._timers[0]
            if handle.cancelled() or (handle.life is not None and handle.life.dead):
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
