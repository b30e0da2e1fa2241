"""The watchdog: ends calls that take longer than they may, with one timer for all of them."""

from __future__ import annotations

import asyncio


class Watchdog:
    """Cancels tasks that have been under its eye for ``bound_s``.

    All tasks have the same bound, so they are due in the order in which they began and one timer, for the oldest, is
    enough; a timer for each would cost more than the rest of a quick call's bookkeeping.
    """

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._due_s: dict[asyncio.Task[None], float] = {}
        self._bitten: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[None]) -> None:
        """Watch a task from now on."""
        loop = asyncio.get_running_loop()
        self._due_s[task] = loop.time() + self._bound_s
        if self._timer is None:
            self._timer = loop.call_later(self._bound_s, self._look)

    def end(self, task: asyncio.Task[None]) -> None:
        """Watch the task no longer."""
        self._due_s.pop(task, None)
        self._bitten.discard(task)

    def ended(self, task: asyncio.Task[None]) -> bool:
        """Return whether a cancellation of the task is the watchdog's and nobody else's, and take it back if so."""
        return task in self._bitten and task.uncancel() == 0

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for task, due_s in list(self._due_s.items()):
            if due_s > loop.time():
                self._timer = loop.call_at(due_s, self._look)
                return
            del self._due_s[task]
            self._bitten.add(task)
            task.cancel()
