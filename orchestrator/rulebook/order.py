"""Order: shared things that name each other, each after those that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.rulebook.names import Names
from orchestrator.rulebook.source import Map

#: What each thing names, with the place of the name.
Uses = Mapping[str, Mapping[str, Map]]


def in_order(uses: Uses, key: str, noun: str, names: Names) -> Iterator[str]:
    """Yield every thing once, after all that it names, and report those that lead back to themselves.

    ``key`` is where a name is written. Chains may be of any length. Names that nothing bears are passed over.
    """
    settled: set[str] = set()
    for start in uses:
        opened = {} if start in settled else {start: iter(uses[start].items())}
        while opened:
            last = next(reversed(opened))
            named, at = next(opened[last], ("", None))
            if at is None:
                opened.popitem()
                settled.add(last)
                yield last
            elif named in opened:
                names.circle(noun, opened, named, at, key)
            elif named in uses and named not in settled:
                opened[named] = iter(uses[named].items())
