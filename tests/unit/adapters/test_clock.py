"""The wall clock of a machine that somebody sets."""

from __future__ import annotations

import pytest

from orchestrator.adapters.clock import BELIEVED_AFTER_MS, STEP_MS, SteadyTime, SystemClock

NOON = 1_772_452_800_000


class Machine:
    def __init__(self) -> None:
        self.elapsed_ms = 5_000
        self.wall_ms = NOON
        self.steady = SteadyTime(lambda: self.wall_ms, lambda: self.elapsed_ms)

    def goes_on(self, span_ms: int, *, wall_ms: int | None = None) -> int:
        self.elapsed_ms += span_ms
        self.wall_ms += span_ms if wall_ms is None else wall_ms
        return self.steady.now_ms() - NOON


def test_time_goes_on_with_the_wall() -> None:
    assert [Machine().goes_on(span_ms) for span_ms in (0, 1, 86_400_000)] == [0, 1, 86_400_000]


def test_a_wall_that_is_slewed_is_followed_however_far_it_gets() -> None:
    machine = Machine()
    for _ in range(100):
        machine.goes_on(1_000, wall_ms=1_040)
    assert machine.goes_on(0) == 104_000


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 86_400_000, -86_400_000, STEP_MS + 1])
def test_a_step_that_is_mended_changes_nothing(step_ms: int) -> None:
    machine = Machine()
    machine.wall_ms += step_ms
    assert machine.goes_on(100) == 100
    assert machine.goes_on(BELIEVED_AFTER_MS - 200) == BELIEVED_AFTER_MS - 100
    machine.wall_ms -= step_ms
    assert machine.goes_on(BELIEVED_AFTER_MS) == 2 * BELIEVED_AFTER_MS - 100


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000])
def test_a_step_that_lasts_is_believed(step_ms: int, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.wall_ms += step_ms
    assert machine.goes_on(0) == 0
    assert machine.goes_on(BELIEVED_AFTER_MS) == BELIEVED_AFTER_MS + step_ms
    assert [record.getMessage() for record in caplog.records] == [
        f"The wall clock was stepped by {step_ms / 1000:.1f} s. It is followed if it stays so for 5 minutes."
    ]


def test_another_step_begins_the_waiting_anew() -> None:
    machine = Machine()
    machine.wall_ms += 3_600_000
    machine.goes_on(0)
    machine.goes_on(BELIEVED_AFTER_MS - 1)
    machine.wall_ms += 3_600_000
    assert machine.goes_on(1) == BELIEVED_AFTER_MS
    assert machine.goes_on(BELIEVED_AFTER_MS) == 2 * BELIEVED_AFTER_MS + 7_200_000


def test_the_clock_of_the_process_goes_forward() -> None:
    clock = SystemClock()
    earlier_ms = clock.now_ms()
    assert clock.now_ms() >= earlier_ms > NOON
