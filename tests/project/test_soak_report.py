"""The soak's judgement: what grows is said to grow, by role, and what only wavers is not."""

from __future__ import annotations

from typing import Any

import pytest

from load_tests.faults.samples import SAMPLES_MIN, WARM_UP_S, Growth, Sample, Series, growth
from load_tests.faults.verdict import Verdict
from load_tests.soak import SPARED, Soak, markdown

ABOUT = {"date": "2026-11-27", "machine": "2 cores", "versions": {"Python": "3.11"}, "commit": "abc", "seed": 1}


def series(role: str, mb_per_hour: float, descriptors_per_hour: float = 0, minutes: int = 60) -> Series:
    """Return samples every ten seconds that rise steadily, with a sawtooth over them and a fast warm-up."""
    samples = []
    for number in range(minutes * 6):
        hours = number / 360
        warming = max(0.0, 1 - number * 10 / WARM_UP_S) * 50
        own_mb = 100 - warming + mb_per_hour * hours + number % 7
        samples.append(Sample(number * 10.0, own_mb, round(20 + descriptors_per_hour * hours + number % 3)))
    return Series(role, 1, samples)


def whole(*given: Series, **other: Any) -> Soak:
    """Return a soak of an hour in which everything was watched, reconciled and flat but for the given series."""
    flat = [series(role, 0) for role in SPARED if role not in {one.role for one in given}]
    return Soak(minutes=60, growths=moved(*given, *flat), **{"verdicts": [Verdict(due=1)], **other})


def moved(*given: Series) -> list[Growth]:
    return [one for one in map(growth, given) if one is not None]


@pytest.mark.parametrize(
    ("leaking", "held"),
    [
        (series("worker 1", 0), True),
        (series("worker 1", 30), False),
        (series("dispatcher 1", -30), True),
        (series("gateway", 0, descriptors_per_hour=20), False),
        (series("redis", 100), True),
        (series("redis", 100, descriptors_per_hour=20), False),
        (series("kafka", 100), True),
    ],
    ids=lambda value: f"{value.role}" if isinstance(value, Series) else "flat" if value else "leaks",
)
def test_a_role_that_grows_does_not_hold(leaking: Series, held: bool) -> None:
    soak = whole(leaking)
    assert soak.holds is held
    assert (f"{leaking.role} (1) grew" in markdown(soak, ABOUT)) is not held


def test_the_slope_is_the_settled_one_and_the_curve_shows_its_quarters() -> None:
    (found,) = moved(series("worker 1", 24))
    assert found.own_mb_per_hour == pytest.approx(24, abs=1)
    assert found.descriptors_per_hour == 0
    assert found.minutes == pytest.approx(45, abs=0.2)
    assert [round(b - a) for a, b in zip(found.own_mb, found.own_mb[1:], strict=False)] == pytest.approx(
        [5.5] * 3, abs=4
    )


def test_connections_that_come_and_go_are_no_leak() -> None:
    found = series("dispatcher 1", 0)
    for number, sample in enumerate(found.samples):
        if number > 200 and number % 40 < 25:
            found.samples[number] = Sample(sample.at_s, sample.own_mb, 220)
    assert whole(found).holds


def test_a_short_series_tells_nothing() -> None:
    assert growth(Series("worker 1", 1, series("worker 1", 500).samples[:SAMPLES_MIN])) is None
    assert "too short to tell what grows" in markdown(Soak(), ABOUT)


def test_an_effect_lost_does_not_hold() -> None:
    soak = whole(verdicts=[Verdict(due=1, lost=["a-1"])])
    assert not soak.holds
    assert "**1 lost and 0 extra among 1 effects" in markdown(soak, ABOUT)
    assert "did not hold: " in markdown(soak, ABOUT)


def test_a_soak_in_which_nothing_was_judged_or_watched_does_not_hold() -> None:
    assert not Soak().holds
    assert not Soak(verdicts=[Verdict(due=1)]).holds
    assert not whole(verdicts=[]).holds
    assert not whole(verdicts=[Verdict()]).holds
    assert whole().holds


def test_a_role_that_ended_by_itself_does_not_hold() -> None:
    soak = whole(exits=[("dispatcher", "out of memory")])
    assert not soak.holds
    assert "- did not hold: dispatcher ended by itself: out of memory" in markdown(soak, ABOUT)


@pytest.mark.parametrize("role", SPARED)
def test_a_spared_role_without_a_series_as_long_as_the_run_does_not_hold(role: str) -> None:
    soak = whole(series(role, 0, minutes=40))
    assert not soak.holds
    assert f"- did not hold: {role} has no series as long as the run" in markdown(soak, ABOUT)
