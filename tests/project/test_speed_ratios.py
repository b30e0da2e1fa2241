"""Speed as ratios within one process, so that a busy or another machine gives the same answer.

A slice of events is decided, then the same slice goes through a piece of plain Python of a fixed amount of work, and so
on in turns. Whatever slows one down slows its neighbour down; the median over many slices moves by a few per cent.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import pytest

from load_tests.core_speed import decide_all, many_rules, shop_events
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import decode_state, encode_state

EVENTS, CUSTOMERS, SLICE = 10_000, 500, 100
WARM = 4_000

#: How many times the reference an event may cost: a third more than it does (1.3 and 0.36).
DECIDE_MAX = 1.75
RECODE_MAX = 0.48
#: What 990 rules may add that listen to other events (the promise of "Speed" in the README).
RULES_MAX = 1.3


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """Something small to make."""

    customer_id: str
    at_ms: int
    facts: dict[str, object]
    total: int = 0


class Contender:
    """States of its own, so that every contender meets each event at the same point of a customer's history."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook
        self._stored: dict[str, bytes] = {}

    def decide(self, events: Sequence[Event]) -> None:
        decide_all(self._rulebook, self._stored, events)

    def recode(self, events: Sequence[Event]) -> None:
        for event in events:
            encode_state(decode_state(self._stored[event.customer_id]))


def reference(events: Sequence[Event]) -> None:
    """Attribute access, copies, small objects, text and arithmetic, in the language's own library and outside it."""
    notes: dict[str, Note] = {}
    for event in events:
        facts = copy.deepcopy(event.properties)
        note = Note(event.customer_id, event.occurred_at_ms, {**facts, "mark": f"{event.customer_id}/{event.id}"})
        total = 0
        for name, value in note.facts.items():
            if isinstance(value, int):
                total += value * len(name)
        later = notes.get(note.customer_id)
        if later is None or later.at_ms <= note.at_ms:
            notes[note.customer_id] = dataclasses.replace(note, total=total)
        sorted(note.facts)


@contextmanager
def without_collector() -> Iterator[None]:
    """The collector of cycles strikes whoever happens to run; it is no part of what is compared."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds(work: Callable[[Sequence[Event]], None], events: Sequence[Event]) -> float:
    began = time.thread_time()
    work(events)
    return time.thread_time() - began


def ratios(events: Sequence[Event], measured: Sequence[Callable[[Sequence[Event]], None]], to: int) -> list[float]:
    """Return each one's cost as a multiple of the one at ``to``: medians over the slices."""
    found: list[list[float]] = [[] for _ in measured]
    with without_collector():
        for start in range(0, len(events), SLICE):
            spent = [seconds(work, events[start : start + SLICE]) for work in measured]
            for ratio, one in zip(found, spent, strict=True):
                ratio.append(one / spent[to])
    return [median(one) for one in found]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return shop_events(EVENTS, CUSTOMERS)


@pytest.fixture(scope="module")
def ten_rules() -> Rulebook:
    return many_rules(10)


def test_an_event_costs_no_more_than_its_multiple_of_plain_python(events, ten_rules):
    contender = Contender(ten_rules)
    contender.decide(events[:WARM])
    decided, recoded, _ = ratios(events[WARM:], (contender.decide, contender.recode, reference), to=2)
    assert decided <= DECIDE_MAX, f"an event costs {decided:.2f} times the reference"
    assert recoded <= RECODE_MAX, f"decoding and encoding the state costs {recoded:.2f} times the reference"


def test_a_hundred_times_the_rules_cost_an_event_nothing_when_they_listen_to_others(events, ten_rules):
    few, many = Contender(ten_rules), Contender(many_rules(1_000))
    for contender in (few, many):
        contender.decide(events[:WARM])
    _, ratio = ratios(events[WARM:], (few.decide, many.decide), to=0)
    assert ratio <= RULES_MAX, f"with 1,000 rules an event costs {ratio:.2f} times what it costs with 10"


def test_a_long_history_costs_an_event_nothing(ten_rules):
    """Of two customers with the same events, the second is given a long history before."""
    young, old = Contender(ten_rules), Contender(ten_rules)
    told = shop_events(5_000, 3)
    old.decide(told[:-2_400])
    # Both say who they are first.
    young.decide([*told[:3], *told[-2_700:-2_400]])
    _, ratio = ratios(told[-2_400:], (young.decide, old.decide), to=0)
    assert ratio <= RULES_MAX, f"after 860 events an event costs {ratio:.2f} times what it costs after 100"
