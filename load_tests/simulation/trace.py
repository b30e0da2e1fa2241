"""The trace of a run: what happened when, in which process, readable afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.runtime.ports import Claim, Commit, LedgerEntry, Outgoing, Ownership, Queued, Record

_WIDTH = 150


class Trace:
    """Collects steps as they are and turns them into words only when somebody reads them."""

    def __init__(self, now_ms: Callable[[], int], start_ms: int) -> None:
        self._now_ms = now_ms
        self._start_ms = start_ms
        self._steps: list[tuple[int, str, str, tuple[Any, ...]]] = []

    def __call__(self, process: str, step: str, *what: Any) -> None:
        """Note a step."""
        self._steps.append((self._now_ms(), process, step, what))

    def __len__(self) -> int:
        return len(self._steps)

    def lines(self, last: int | None = None) -> Iterator[str]:
        """Yield the trace as a table, its last steps only when told how many."""
        yield f"{'time':>10}  {'process':<15} {'step':<10} what"
        for at_ms, process, step, what in self._steps if last is None else self._steps[-last:]:
            said = "  ".join(words for one in what if (words := _said(one)))
            yield f"{(at_ms - self._start_ms) / 1000:>9.3f}s  {process:<15} {step:<10} {said[:_WIDTH]}"


def _said(what: Any) -> str:
    match what:
        case None:
            return ""
        case str() | int():
            return str(what)
        case Exception():
            return f"-> {type(what).__name__}: {what}"
        case Commit():
            return (
                f"epoch {what.epoch} #{what.sequence} offset {what.next_offset} clock ..{what.clock_ms % 10**7} "
                f"states {','.join(what.states)} outbox {len(what.outbox)}"
            )
        case Ownership():
            return f"-> epoch {what.epoch}, offset {what.next_offset}, #{what.sequence}"
        case Claim():
            return "-> " + (" ".join(one.id[:8] for one in what.actions) or "nothing")
        case Queued():
            return f"{what.id[:8]} attempts {what.attempts} {' '.join(what.history[-1:])}"
        case LedgerEntry():
            return f"{what.id[:8]} {what.outcome} {what.detail.get('cause', '')}"
        case Outgoing():
            return f"{what.topic} {what.key!r} {what.value[:40]!r}"
        case Record():
            return f"@{what.offset}"
        case list() | tuple():
            return "[" + "; ".join(_said(one) for one in what[:6]) + ("; ..." if len(what) > 6 else "") + "]"
        case _:
            return str(what)[:60]
