"""A deterministic event loop: virtual time, and processes that can be stopped, resumed and killed at any moment.

Nothing here waits. When nothing is ready the clock moves to the next timer. Everything that a process schedules
carries the process in its context, so a paused process's callbacks are parked until it is resumed, and a dead one's
are never run: no ``finally`` and no ``except`` of it sees the end, as with SIGKILL.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

#: Callbacks that may run without the clock moving; more of them means that somebody is busy for nothing.
BUSY_MAX = 200_000


class Process:
    """A process of the simulated world: what runs in its context stops and ends with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused = False
        self.parked: list[asyncio.Handle] = []
        self.context = Context()
        self.context.run(_OWNER.set, self)
        self.tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return self.name


_OWNER: ContextVar[Process | None] = ContextVar("process", default=None)


class SimulationLoop(asyncio.BaseEventLoop):
    """An event loop whose time is a number. Callbacks run in the order in which they were scheduled."""

    _ready: deque[asyncio.Handle]

    def __init__(self) -> None:
        super().__init__()
        self._time_s = 0.0
        self._order = 0
        self._at: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._busy = 0
        self.steps = 0
        self.ended = False
        #: Hears of every error that ended a task of a process or a callback, by name.
        self.failed: Callable[[str, BaseException], None] = lambda name, error: None
        self.set_exception_handler(lambda _loop, context: self._callback_failed(context))

    def time(self) -> float:
        """Return the virtual time in seconds since the start."""
        return self._time_s

    def spawn(self, process: Process, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a task of a process; it ends with the process."""
        task = self.create_task(work, name=name, context=process.context.copy())
        process.tasks.add(task)
        task.add_done_callback(self._spawned_done, context=_WORLD)
        task.add_done_callback(process.tasks.discard, context=_WORLD)
        return task

    def _spawned_done(self, task: asyncio.Task[Any]) -> None:
        """Tell of an error that ended a task of a process: nothing of the kind is meant to happen."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(task.get_name(), error)

    def _callback_failed(self, context: dict[str, Any]) -> None:
        """Tell of an error in a callback. That nobody asked for the result of a dead process's task is no error."""
        if "handle" in context and (error := context.get("exception")) is not None:
            self.failed("a callback", error)

    def call_at(  # type: ignore[override]  # as the base class, without the types of the arguments.
        self, when: float, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedule a callback at a virtual moment."""
        handle = asyncio.TimerHandle(when, callback, arguments, self, context)
        self._order += 1
        heapq.heappush(self._at, (when, self._order, handle))
        return handle

    def call_later(  # type: ignore[override]  # likewise.
        self, delay: float, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedule a callback after a span of virtual time."""
        return self.call_at(self._time_s + delay, callback, *arguments, context=context)

    def world_later(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Schedule a callback that no process owns: the world's own doing goes on whoever is dead or paused."""
        return self.call_at(self._time_s + delay_s, callback, *arguments, context=_WORLD)

    def call_soon(  # type: ignore[override]  # likewise.
        self, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback; after the end of the run it is forgotten."""
        handle = asyncio.Handle(callback, arguments, self, context)
        if not self.ended:
            self._ready.append(handle)
        return handle

    def run_in_executor(  # type: ignore[override]  # there are no threads here: the work is done on the spot.
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do the work now."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def resume(self, process: Process) -> None:
        """Let a paused process go on, with all that it has missed."""
        process.paused = False
        parked, process.parked = process.parked, []
        self._ready.extend(parked)

    def end(self) -> None:
        """Stop for good; what is left of tasks goes without a word."""
        self.ended = True
        self._ready.clear()
        self._at.clear()

    # ------------------------------------------------------------------------------ what BaseEventLoop calls

    def _run_once(self) -> None:
        ready = self._ready
        at = self._at
        if not ready:
            while at and at[0][2].cancelled():
                heapq.heappop(at)
            if not at:
                raise AssertionError("Nothing is left to happen, and the simulation has not ended.")
            self._time_s = max(self._time_s, at[0][0])
            self._busy = 0
        while at and at[0][0] <= self._time_s:
            ready.append(heapq.heappop(at)[2])
        for _ in range(len(ready)):
            if not ready:
                return
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner: Process | None = handle._context.get(_OWNER)  # type: ignore[attr-defined]  # not in its stub.
            if owner is not None and (owner.dead or owner.paused):
                if not owner.dead:
                    owner.parked.append(handle)
                continue
            self.steps += 1
            handle._run()
        self._busy += 1
        if self._busy > BUSY_MAX:
            raise AssertionError(f"Something is still busy after {BUSY_MAX} turns in which no time has passed.")

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is one thread."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is dropped when its turn comes."""


_WORLD = Context()


def driven(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, as those of the adapters in memory, and return its result."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # a StopIteration carries the result untyped.
    raise AssertionError("An adapter in memory has waited for something.")
