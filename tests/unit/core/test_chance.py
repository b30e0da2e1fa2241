"""Chance: sticky, evenly spread, and independent between experiments, for a fixed set of customers."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from orchestrator.core.chance import choose_arm, lot

CUSTOMERS = [f"customer-{number}" for number in range(20_000)]
HALVES = (("a", 50.0), ("b", 50.0))
#: What chi-square exceeds with a probability of one in a thousand, by degrees of freedom.
CRITICAL = {1: 10.83, 2: 13.82, 4: 18.47, 9: 27.88}


def chi_square(observed: Counter, expected: dict) -> float:
    return sum((observed[key] - wanted) ** 2 / wanted for key, wanted in expected.items())


def test_arms_get_their_shares():
    arms = (("holdout", 10.0), ("nudge", 45.0), ("offer", 45.0))
    observed = Counter(choose_arm("cart-q4", customer, arms) for customer in CUSTOMERS)
    expected = {arm: len(CUSTOMERS) * percent / 100 for arm, percent in arms}
    assert chi_square(observed, expected) < CRITICAL[2]


@pytest.mark.parametrize(("first", "second"), [("x", "y"), ("split-1", "split-2"), ("a", "aa"), ("q4", "q4 ")])
def test_two_experiments_are_independent(first, second):
    observed = Counter((choose_arm(first, one, HALVES), choose_arm(second, one, HALVES)) for one in CUSTOMERS)
    expected = {pair: len(CUSTOMERS) / 4 for pair in product("ab", "ab")}
    assert chi_square(observed, expected) < CRITICAL[4]


def test_the_same_experiment_chooses_the_same_arm_again():
    assert [choose_arm("x", one, HALVES) for one in CUSTOMERS[:100]] == [
        choose_arm("x", one, HALVES) for one in CUSTOMERS[:100]
    ]


def test_lots_are_spread_evenly():
    observed = Counter(int(lot("s", customer) * 10) for customer in CUSTOMERS)
    assert chi_square(observed, dict.fromkeys(range(10), len(CUSTOMERS) / 10)) < CRITICAL[9]
    assert all(0 <= lot("s", customer) < 1 for customer in CUSTOMERS[:1_000])


def test_the_parts_of_an_identity_do_not_run_into_each_other():
    assert lot("ab", "c") != lot("a", "bc")


@pytest.mark.parametrize("arms", [(("all", 100.0),), (("never", 0.0), ("all", 1.0)), (("all", 1.0), ("never", 0.0))])
def test_an_arm_of_nothing_is_never_chosen(arms):
    assert {choose_arm("s", customer, arms) for customer in CUSTOMERS[:500]} == {"all"}


def test_a_smaller_share_grows_without_moving_those_who_are_in_it():
    """Raising the first arm from 10 to 20 percent keeps everyone who was in it."""
    small = {one for one in CUSTOMERS if choose_arm("s", one, (("in", 10), ("out", 90))) == "in"}
    large = {one for one in CUSTOMERS if choose_arm("s", one, (("in", 20), ("out", 80))) == "in"}
    assert small < large
