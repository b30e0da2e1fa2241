"""Telling people what is going on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Telling:
    """Steps of a run whose number is known before; ``say`` tells about the inside of a step. All of it on stderr."""

    def __init__(self, steps: int) -> None:
        self._console = Console(stderr=True)
        self._done, self._steps = 0, steps
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=steps)

    def step(self, name: str) -> None:
        """Begin the next step."""
        self._done += 1
        if self._bar is None:
            sys.stderr.write(f"[{self._done}/{self._steps}] {name}\n")
            sys.stderr.flush()
        else:
            self._bar.update(self._task, completed=self._done - 1, description=name)

    def say(self, message: str) -> None:
        """Tell a detail of the step."""
        if self._bar is None:
            sys.stderr.write(f"    {message}\n")
            sys.stderr.flush()
        else:
            self._bar.console.print(f"    {message}", style="dim", markup=False, highlight=False)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
