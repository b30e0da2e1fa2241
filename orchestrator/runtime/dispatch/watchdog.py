"""The watchdog: ends calls that take longer than they may, with one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Watchdog:
    """Cancels tasks that have been under its eye for ``bound_s``.

    All tasks have the same bound, so they are due in the order in which they began and one timer, for the oldest, is
    enough; a timer for each would cost more than the rest of a quick call's bookkeeping.
    """

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._due_s: dict[asyncio.Task[Any], float] = {}
        self._bitten: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the current task in this block; raises ``TimeoutError`` when it took too long."""
        task = asyncio.current_task()
        assert task is not None
        self._begin(task)
        try:
            yield
        except asyncio.CancelledError:
            # The cancellation is taken back when it is the watchdog's and nobody else's.
            if task in self._bitten and task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            self._due_s.pop(task, None)
            self._bitten.discard(task)

    def _begin(self, task: asyncio.Task[Any]) -> None:
        loop = asyncio.get_running_loop()
        self._due_s[task] = loop.time() + self._bound_s
        if self._timer is None:
            self._timer = loop.call_later(self._bound_s, self._look)

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
