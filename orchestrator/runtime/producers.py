"""Producers: whom records are from, and how many of each one's are refused.

What one producer sends is dead-lettered record by record and stops nobody. This module says who sends what is refused:
a gauge and two lines in the log for each episode, during which a larger share of a producer's latest records is refused
than is bearable. Of the engine's own records none may be refused: that is a fault of ours.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator import metrics
from orchestrator.errors import EventRefused
from orchestrator.runtime.ports import ENGINE

log = logging.getLogger(__name__)

#: Who stands for records of the topic that no gateway wrote, and for all producers beyond ``TRACKED_MAX``.
DIRECT = "(direct)"
OTHER = "(other)"
#: Names may come from the topic, where anybody who may write to it can make them up.
TRACKED_MAX = 200
#: A share is one of a producer's latest records, about so many, and says nothing of fewer than ``SAMPLE_MIN``.
WINDOW_RECORDS = 1_000
SAMPLE_MIN = 200
_SLOT_RECORDS = 100
#: An episode ends when the share has been bearable for so long, or the producer silent: never twice a minute.
CALM_MS = 60_000
SILENT_MS = 15 * 60_000
_JUDGE_EVERY_MS = 1_000


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that was refused, where it stands and why."""

    producer: str
    partition: int
    offset: int
    why: EventRefused

    def __str__(self) -> str:
        return f"partition {self.partition}, offset {self.offset}: {self.why} {self.why.remedy}"


class Producers:
    """The producers of all partitions of a worker. Not for several threads."""

    def __init__(self, share_max: float = 0.5) -> None:
        """``share_max`` is the share of refused records that is still bearable."""
        self._share_max = share_max
        self._tallies: dict[str, _Tally] = {}
        self._judged_at_ms = 0

    def note(self, now_ms: int, senders: Iterable[str], refused: Sequence[Refused]) -> None:
        """Take note of a batch: the ``producer`` of each of its records, and those that were refused."""
        refusals = Counter(one.producer for one in refused)
        latest = {one.producer: one for one in refused}
        for producer, number in Counter(senders).items():
            name = self._name(producer)
            tally = self._tallies.setdefault(name, _Tally())
            tally.add(number, refusals[producer], now_ms)
            tally.latest = latest.get(producer, tally.latest)
            self._judge(name, tally, now_ms)
        if refusals[ENGINE]:
            metrics.OWN_RECORDS_REFUSED.inc(refusals[ENGINE])

    def settle(self, now_ms: int) -> None:
        """End the episodes that are over and forget who is silent: called as time passes, mostly at no cost."""
        if 0 <= now_ms - self._judged_at_ms < _JUDGE_EVERY_MS:
            return
        self._judged_at_ms = now_ms
        for name, tally in list(self._tallies.items()):
            self._judge(name, tally, now_ms)
            if now_ms - tally.heard_at_ms >= SILENT_MS:
                self._end(name, tally, "Nothing has come for a quarter of an hour.")
                del self._tallies[name]

    def forget(self) -> None:
        """End every episode and begin anew: whoever has the partitions from now on sees for itself."""
        for name, tally in self._tallies.items():
            self._end(name, tally, "This worker has given its partitions up.")
        self._tallies.clear()

    def _name(self, producer: str) -> str:
        name = producer or DIRECT
        # Our own names stand in brackets and are few; they have a place whoever else has taken one.
        if name in self._tallies or name.startswith("(") or len(self._tallies) < TRACKED_MAX:
            return name
        return OTHER

    def _judge(self, name: str, tally: _Tally, now_ms: int) -> None:
        if self._bearable(name, tally):
            if tally.unbearable_at_ms is not None and now_ms - tally.unbearable_at_ms >= CALM_MS:
                self._end(name, tally, "That has been bearable for a minute.")
        else:
            if tally.unbearable_at_ms is None:
                log.error("%s", _began(name, tally))
            tally.unbearable_at_ms = now_ms
        if tally.unbearable_at_ms is not None and name != ENGINE:
            metrics.PRODUCER_REFUSED_SHARE.labels(name).set(tally.share)

    def _bearable(self, name: str, tally: _Tally) -> bool:
        if name == ENGINE:
            return tally.refused == 0
        return tally.records < SAMPLE_MIN or tally.share <= self._share_max

    def _end(self, name: str, tally: _Tally, why: str) -> None:
        if tally.unbearable_at_ms is None:
            return
        tally.unbearable_at_ms = None
        log.warning("%s %s The latest, at %s", _told(name, tally), why, tally.latest)
        if name != ENGINE:
            metrics.PRODUCER_REFUSED_SHARE.remove(name)


@dataclass(slots=True)
class _Tally:
    """A producer's latest records in slots of (records, refused), and the sums of these.

    ``unbearable_at_ms`` is when the share was last too large; None outside an episode.
    """

    slots: deque[tuple[int, int]] = field(default_factory=deque)
    records: int = 0
    refused: int = 0
    heard_at_ms: int = 0
    latest: Refused | None = None
    unbearable_at_ms: int | None = None

    @property
    def share(self) -> float:
        return self.refused / self.records

    def add(self, records: int, refused: int, now_ms: int) -> None:
        self.heard_at_ms = now_ms
        self.records += records
        self.refused += refused
        if self.slots and self.slots[-1][0] < _SLOT_RECORDS:
            before = self.slots.pop()
            records, refused = records + before[0], refused + before[1]
        self.slots.append((records, refused))
        while self.records - self.slots[0][0] >= WINDOW_RECORDS:
            gone = self.slots.popleft()
            self.records -= gone[0]
            self.refused -= gone[1]


def _began(name: str, tally: _Tally) -> str:
    if name == ENGINE:
        return (
            f"{_told(name, tally)} They are dead letters and the work goes on, but none of the engine's own may be "
            f"refused: report this fault of the software. The latest, at {tally.latest}"
        )
    return (
        f"{_told(name, tally)} They are dead letters, and everybody's other events are decided as ever. Mend the "
        f"producer or the tracking plan, then `journey dead-letters redrive`. The latest, at {tally.latest}"
    )


def _told(name: str, tally: _Tally) -> str:
    return f"Producer {name} had {tally.refused:,} of its latest {tally.records:,} records refused ({tally.share:.0%})."
