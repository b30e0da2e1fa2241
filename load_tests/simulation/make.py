"""What a run makes its parts with: the engine as it is, from which mutants differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from load_tests.simulation.network import Link
from load_tests.simulation.witness import WitnessedStore
from orchestrator.runtime.dispatch import Dispatcher
from orchestrator.runtime.ports import Record
from orchestrator.runtime.surroundings import Surroundings
from orchestrator.runtime.worker import Worker


class Make:
    """Makes the parts under test; a mutant makes one of them otherwise."""

    #: Whether Redis loses its latest second, as in a power cut with ``appendfsync everysec``.
    power_cuts: ClassVar[bool] = False

    def __init__(self) -> None:
        self.store: type[WitnessedStore] = WitnessedStore

    def worker(self, surroundings: Surroundings) -> Worker:
        """Return a worker."""
        return Worker(surroundings)

    def dispatcher(self, **parts: Any) -> Dispatcher:
        """Return a dispatcher."""
        return Dispatcher(**parts)

    def queue(self, link: Link, queue: Any) -> Any:
        """Return the queue as a dispatcher uses it."""
        return queue

    async def taken(
        self, dispatcher: Dispatcher, records: Sequence[Record], acknowledge: Callable[[int], None]
    ) -> None:
        """Hand records over, then acknowledge them."""
        await dispatcher.accept(records)
        acknowledge(records[-1].offset + 1)

    def in_place(self) -> AbstractContextManager[None]:
        """Put into place what this variant changes elsewhere, for one run."""
        return nullcontext()


class PowerCuts(Make):
    """The engine as it is, in worlds in which the power fails."""

    power_cuts = True
