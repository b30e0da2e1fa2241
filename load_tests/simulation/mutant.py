"""What a mutant is: the engine with one known defect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from load_tests.simulation.make import Make


class Mutant(Make):
    """A variant of the engine with a defect; ``caught_by`` are the invariants that notice it."""

    name: ClassVar[str]
    caught_by: ClassVar[frozenset[str]]


@contextmanager
def replaced(owner: object, name: str, mutant: object) -> Iterator[None]:
    """Put something in the place of an attribute, for one run."""
    original = getattr(owner, name)
    setattr(owner, name, mutant)
    try:
        yield
    finally:
        setattr(owner, name, original)
