"""The suite over types of other packages: examples announced as entry points, and what became of each promise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

from connectors.conformance.bench import Example, on_bench
from connectors.conformance.promises import PROMISES, PromiseBroken
from connectors.connector_type import ConnectorType

#: Where a package announces the example of a type, under the type's name.
EXAMPLE_GROUP = "journey.connector_examples"


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise of one type; ``broken`` is None when it is kept, else what was seen instead."""

    type: str
    promise: str
    broken: str | None


def announced_examples() -> dict[str, Example]:
    """Return the examples of installed packages by the name of their type."""
    return {entry.name: entry.load() for entry in entry_points(group=EXAMPLE_GROUP)}


async def findings(types: Sequence[ConnectorType], examples: dict[str, Example]) -> AsyncIterator[Finding]:
    """Yield what became of each promise that concerns each of ``types``, in order, each on a bench of its own."""
    for known in types:
        example = examples[known.type]
        for promise in PROMISES:
            if promise.concerns(frozenset(example.cannot)):
                async with on_bench(known, example) as case:
                    try:
                        await promise(case)
                    except PromiseBroken as error:
                        yield Finding(known.type, promise.name, str(error))
                    else:
                        yield Finding(known.type, promise.name, None)
