"""What every log of a single process shares: the partition of a key, and waking whoever waits for records."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from orchestrator.errors import ConfigurationError, PositionLost


class Partitions:
    """How many partitions each topic has and which of them takes a key.

    ``counts`` is one number for all topics, or numbers by topic, where a topic that is not named has one.
    A key always belongs to the same partition of a topic as long as the topic's number does not change.
    """

    def __init__(self, counts: Mapping[str, int] | int) -> None:
        """Raise ``ConfigurationError`` for a number below 1."""
        self._default = counts if isinstance(counts, int) else 1
        self._counts = {} if isinstance(counts, int) else dict(counts)
        for count in (self._default, *self._counts.values()):
            if count < 1:
                raise ConfigurationError(f"A topic cannot have {count} partitions; give it 1 or more.")

    def count(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        return self._counts.get(topic, self._default)

    def of_key(self, topic: str, key: bytes) -> int:
        """Return the partition, counted from 0, that takes the records of ``key``."""
        return zlib.crc32(key) % self.count(topic)

    def check(self, topic: str, partition: int) -> None:
        """Raise ``ConfigurationError`` unless the topic has this partition."""
        count = self.count(topic)
        if not 0 <= partition < count:
            raise ConfigurationError(f"Topic {topic} has no partition {partition}: it has {count}, counted from 0.")


class Arrivals:
    """Wakes the readers of a partition, all of one event loop, when it has taken records.

    A reader takes ``expect`` before it looks for records and waits for it only after it found none, so a
    record that arrives in between is never missed.
    """

    def __init__(self) -> None:
        self._expected: dict[tuple[str, int], asyncio.Event] = {}

    def expect(self, topic: str, partition: int) -> asyncio.Event:
        """Return the event that the next ``announce`` of the partition sets."""
        return self._expected.setdefault((topic, partition), asyncio.Event())

    def announce(self, topic: str, partition: int) -> None:
        """Wake every reader that waits for the partition."""
        if event := self._expected.pop((topic, partition), None):
            event.set()


def check_position(topic: str, partition: int, offset: int, *, first: int, end: int) -> None:
    """Raise ``PositionLost``, naming the remedy, unless the log holds ``offset`` or it is the log's end."""
    if offset < first:
        raise PositionLost(
            f"Offset {offset} of {topic}, partition {partition}, is out of retention: the earliest is {first}. "
            f"Records were lost to this reader; keep them for longer, or start it at {first} on purpose."
        )
    if offset > end:
        raise PositionLost(
            f"Offset {offset} of {topic}, partition {partition}, lies beyond the end of the log, {end}. "
            "The log was created anew or restored from an older copy; restore the store that goes with it."
        )
