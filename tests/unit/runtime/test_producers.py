"""Producers: when a share of refusals is too large, when that is over, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from orchestrator import metrics
from orchestrator.errors import EventRefused
from orchestrator.runtime.ports import ENGINE
from orchestrator.runtime.producers import TRACKED_MAX, WINDOW_RECORDS, Producers, Refused

SECOND, MINUTE = 1_000, 60_000
NOT_JSON = EventRefused("not_json", "", "The event is not JSON.", "Send one JSON object an event.")


class Told:
    """A worker's producers, what they send, and what is said of them."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.producers = Producers(0.5)
        self.at_ms = 1_772_000_000_000
        self._caplog = caplog
        self._offset = 0

    def send(self, producer: str, *, refused: int = 0, taken: int = 0) -> None:
        """Let a batch come, a second after the one before."""
        self.wait(SECOND)
        letters = [Refused(producer, 3, self._offset + number, NOT_JSON) for number in range(refused)]
        self._offset += refused + taken
        self.producers.note(self.at_ms, [producer] * (refused + taken), letters)

    def wait(self, span_ms: int) -> None:
        """Let time pass in which nobody sends anything."""
        self.at_ms += span_ms
        self.producers.settle(self.at_ms)

    def lines(self) -> list[str]:
        """Return what has been said since the last call."""
        said = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return said


def share(producer: str) -> float | None:
    return REGISTRY.get_sample_value("journey_producer_refused_share", {"producer": producer})


def own_refused() -> float:
    return REGISTRY.get_sample_value("journey_own_records_refused_total") or 0.0


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Told]:
    caplog.set_level(logging.INFO, "orchestrator.runtime.producers")
    yield Told(caplog)
    metrics.PRODUCER_REFUSED_SHARE.clear()


def test_an_episode_has_a_gauge_and_one_line_at_its_start_and_one_at_its_end(told: Told) -> None:
    told.send("shop", refused=150, taken=49)
    assert (told.lines(), share("shop")) == ([], None)
    told.send("shop", refused=1)
    assert told.lines() == [
        "Producer shop had 151 of its latest 200 records refused (76%). They are dead letters, and everybody's other "
        "events are decided as ever. Mend the producer or the tracking plan, then `journey dead-letters redrive`. The "
        "latest, at partition 3, offset 199: The event is not JSON. Send one JSON object an event."
    ]
    told.send("shop", refused=500)
    assert (told.lines(), share("shop")) == ([], pytest.approx(651 / 700))
    told.send("shop", taken=700)
    assert (told.lines(), share("shop")) == ([], pytest.approx(501 / 1201))
    told.wait(MINUTE)
    assert told.lines() == [
        "Producer shop had 501 of its latest 1,201 records refused (42%). That has been bearable for a minute. The "
        "latest, at partition 3, offset 699: The event is not JSON. Send one JSON object an event."
    ]
    assert share("shop") is None


@pytest.mark.parametrize(("refused", "taken"), [(100, 100), (199, 0)], ids=["half", "too few to tell"])
def test_a_bearable_share_is_nobodys_concern(told: Told, refused: int, taken: int) -> None:
    told.send("shop", refused=refused, taken=taken)
    assert (told.lines(), share("shop")) == ([], None)


def test_each_producer_is_judged_by_what_it_sends_itself(told: Told) -> None:
    for _ in range(5):
        told.send("shop", taken=2_000)
        told.send("partner", refused=50)
    assert (share("shop"), share("partner"), len(told.lines())) == (None, 1.0, 1)


def test_refusals_long_ago_are_outnumbered_by_the_latest_records(told: Told) -> None:
    told.send("shop", taken=50_000)
    told.send("shop", refused=500)
    told.send("shop", refused=500)
    assert share("shop") == 1.0
    for _ in range(WINDOW_RECORDS // 100 + 1):
        told.send("shop", taken=100)
    told.wait(MINUTE)
    assert len(told.lines()) == 2


def test_a_share_that_swings_about_the_limit_says_no_more_than_one_pair_of_lines_a_minute(told: Told) -> None:
    told.send("shop", refused=300)
    for _ in range(100):
        told.send("shop", taken=800)
        told.send("shop", refused=900)
    assert len(told.lines()) == 1


def test_an_episode_ends_when_its_producer_falls_silent(told: Told) -> None:
    told.send("shop", refused=300)
    assert len(told.lines()) == 1
    told.wait(14 * MINUTE)
    assert (told.lines(), share("shop")) == ([], 1.0)
    told.wait(MINUTE)
    (line,) = told.lines()
    assert line.startswith(
        "Producer shop had 300 of its latest 300 records refused (100%). Nothing has come for a quarter of an hour. "
    )
    assert share("shop") is None
    told.wait(MINUTE)
    assert told.lines() == []


def test_an_episode_ends_with_the_last_partition(told: Told) -> None:
    told.send("shop", refused=300)
    told.send("partner", refused=30)
    told.lines()
    told.producers.forget()
    (line,) = told.lines()
    assert " This worker has given its partitions up. The latest, at partition 3, offset 299: " in line
    assert share("shop") is None


def test_records_that_no_gateway_wrote_are_one_producers(told: Told) -> None:
    told.send("", refused=200)
    assert share("(direct)") == 1.0


def test_names_that_anybody_can_make_up_take_no_more_than_their_room(told: Told) -> None:
    for number in range(TRACKED_MAX + 300):
        told.send(f"made-up-{number}", refused=1)
    told.send(ENGINE, refused=1)
    told.send("", refused=200)
    assert (share("(other)"), share("(direct)")) == (1.0, 1.0)
    assert len(told.producers._tallies) <= TRACKED_MAX + 3
    told.wait(15 * MINUTE)
    assert not told.producers._tallies


def test_one_refused_record_of_the_engines_own_is_a_fault_and_no_producers_share(told: Told) -> None:
    before = own_refused()
    told.send(ENGINE, refused=1, taken=499)
    assert told.lines() == [
        "Producer (engine) had 1 of its latest 500 records refused (0%). They are dead letters and the work goes on, "
        "but none of the engine's own may be refused: report this fault of the software. The latest, at partition 3, "
        "offset 0: The event is not JSON. Send one JSON object an event."
    ]
    told.send(ENGINE, refused=300)
    assert (told.lines(), own_refused() - before, share(ENGINE)) == ([], 301, None)
