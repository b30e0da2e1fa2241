"""The wall clock of a machine that somebody sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        f"The wall clock was stepped by {step_ms / 1000:.1f} s. It is followed if it stays so for 5 minutes.",
        f"The wall clock stayed so: time moves by {step_ms / 1000:.1f} s.",
    ]


def test_a_further_step_does_not_begin_the_waiting_of_the_first_anew() -> None:
    machine = Machine()
    machine.wall_ms += 3_600_000
    machine.goes_on(0)
    machine.goes_on(BELIEVED_AFTER_MS - 1)
    machine.wall_ms += 3_600_000
    assert machine.goes_on(1) == BELIEVED_AFTER_MS + 3_600_000
    assert machine.goes_on(BELIEVED_AFTER_MS - 1) == 2 * BELIEVED_AFTER_MS - 1 + 3_600_000
    assert machine.goes_on(1) == 2 * BELIEVED_AFTER_MS + 7_200_000


@pytest.mark.parametrize("counted", [True, False], ids=["the elapsed time counts pauses", "it does not"])
def test_a_step_is_followed_however_often_the_machine_pauses(counted: bool) -> None:
    """Pauses of a second every ten, after each of which the wall is right; a step of two hours before them."""
    machine = Machine()
    machine.wall_ms += 7_200_000
    for _ in range(BELIEVED_AFTER_MS // 10_000):
        machine.goes_on(10_000)
        machine.goes_on(1_000 if counted else 0, wall_ms=1_000)
    machine.goes_on(10_000)
    assert machine.steady.now_ms() - machine.wall_ms >= (0 if counted else -31_000)
    assert machine.goes_on(BELIEVED_AFTER_MS) == machine.wall_ms - NOON


@pytest.mark.parametrize("counted", [True, False], ids=["the elapsed time counts the pause", "it does not"])
def test_a_step_during_a_pause_is_followed_five_minutes_after_it(counted: bool) -> None:
    machine = Machine()
    machine.goes_on(0)
    before_ms = machine.elapsed_ms
    machine.goes_on(3_600_000 if counted else 0, wall_ms=3_600_000 + 7_200_000)
    passed_ms = machine.elapsed_ms - before_ms
    assert machine.goes_on(BELIEVED_AFTER_MS - 1) == passed_ms + BELIEVED_AFTER_MS - 1
    assert machine.goes_on(1) == machine.wall_ms - NOON


def test_a_pause_between_the_readings_of_the_two_clocks_is_no_step(caplog: pytest.LogCaptureFixture) -> None:
    machine, pauses_ms = Machine(), [0]

    def wall_ms() -> int:
        shown_ms = machine.wall_ms
        pause_ms = pauses_ms.pop() if pauses_ms else 0
        machine.elapsed_ms += pause_ms
        machine.wall_ms += pause_ms
        return shown_ms

    machine.steady = SteadyTime(wall_ms, lambda: machine.elapsed_ms)
    machine.wall_ms += 3_600_000
    machine.goes_on(0)
    for pauses in ([400], [400, 400], [400] * 3, [400] * 7):
        pauses_ms[:] = pauses
        machine.goes_on(BELIEVED_AFTER_MS // 4)
        pauses_ms.clear()
    assert machine.goes_on(1) == machine.wall_ms - NOON
    assert len(caplog.records) == 2, "one step, and that it was followed"


MOVES = st.lists(
    st.tuples(
        st.integers(0, 400_000),
        st.sampled_from([0, 0, 0, 0, 20, -20, 1_000, -1_000, 60_000, 7_200_000, -7_200_000]),
    ),
    max_size=60,
)


@given(moves=MOVES)
def test_time_moves_no_further_than_the_wall_has_been_for_five_minutes_and_comes_to_it_in_ten(
    moves: list[tuple[int, int]],
) -> None:
    machine = Machine()
    looks: list[tuple[int, int]] = []
    offset_ms = machine.steady.now_ms() - machine.elapsed_ms
    for span_ms, step_ms in moves:
        machine.goes_on(span_ms, wall_ms=span_ms + step_ms)
        looks.append((machine.elapsed_ms, machine.wall_ms - machine.elapsed_ms))
        moved_to_ms = machine.steady.now_ms() - machine.elapsed_ms
        if abs(moved_to_ms - offset_ms) > STEP_MS:
            latest = [wall for at_ms, wall in looks if at_ms > machine.elapsed_ms - BELIEVED_AFTER_MS]
            # Less than a step is slewing, which is followed at once.
            spans = [(min(offset_ms, wall) - STEP_MS, max(offset_ms, wall) + STEP_MS) for wall in latest]
            assert all(low <= moved_to_ms <= high for low, high in spans)
        offset_ms = moved_to_ms
    for _ in range(2):
        machine.goes_on(0)
        machine.goes_on(BELIEVED_AFTER_MS)
    assert abs(machine.steady.now_ms() - machine.wall_ms) <= STEP_MS


def test_the_clock_of_the_process_goes_forward() -> None:
    clock = SystemClock()
    earlier_ms = clock.now_ms()
    assert clock.now_ms() >= earlier_ms > NOON
