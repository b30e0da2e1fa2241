"""The core alone: what an event costs against the number of rules and the length of a customer's history."""

from __future__ import annotations

import time
from statistics import median

from load_tests.bench.figures import Figures
from load_tests.bench.sizes import Sizes
from load_tests.core_speed import decide_all, many_rules, measure, shop_events
from load_tests.servers.process import Say
from orchestrator.roles.collection import spare_collector

_CUSTOMERS = 2_000
#: Few customers, so that each has a long history soon.
_FAITHFUL_CUSTOMERS = 10


def run_rules(sizes: Sizes, figures: Figures, say: Say) -> None:
    """Measure against the size of the rulebook, in turns."""
    events = shop_events(sizes.core_events, min(_CUSTOMERS, sizes.core_events // 4))
    rulebooks = {number: many_rules(number) for number in sizes.rulebooks}
    spare_collector()
    for number in range(sizes.rounds):
        for rules, rulebook in rulebooks.items():
            cost = measure(rulebook, events)
            figures.add(
                **{
                    f"core__{rules}__decide_us": cost.decide_us,
                    f"core__{rules}__with_state_us": cost.with_state_us,
                    f"core__{rules}__state_bytes": cost.state_bytes,
                }
            )
            say(
                f"round {number + 1}: {rules} rules, {cost.with_state_us:.1f} us an event, "
                f"{cost.decide_us:.1f} us of it to decide"
            )
    for rules in sizes.rulebooks:
        figures.point("core.rules", rules=rules, decide_us=figures.of(f"core.{rules}.decide_us") or 0)


def run_history(sizes: Sizes, figures: Figures, say: Say) -> None:
    """Measure the same customers again and again as their histories grow."""
    rulebook = many_rules(sizes.rules)
    longest = max(sizes.history)
    events = shop_events(longest * _FAITHFUL_CUSTOMERS, _FAITHFUL_CUSTOMERS)
    stored: dict[str, bytes] = {}
    slice_events = min(sizes.history) * _FAITHFUL_CUSTOMERS // 4
    costs: list[float] = []
    for start in range(0, len(events) - slice_events + 1, slice_events):
        began = time.process_time()
        decide_all(rulebook, stored, events[start : start + slice_events])
        costs.append((time.process_time() - began) / slice_events * 1e6)
        reached = (start + slice_events) // _FAITHFUL_CUSTOMERS
        if reached in sizes.history:
            size = sum(map(len, stored.values())) / len(stored)
            figures.point("core.history", events=reached, with_state_us=median(costs[-4:]), state_bytes=size)
            say(f"after {reached} events a customer: {median(costs[-4:]):.1f} us an event, state {size:.0f} B")
