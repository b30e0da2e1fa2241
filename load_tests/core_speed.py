"""What one decision costs: the core alone, in one process, without a log or a store.

    python -m load_tests.core_speed [--rules 100] [--events 40000] [--customers 2000] [--profile]

Every event goes the way it goes in a worker and in a replay: the customer's state is decoded, the event decided, the
new state encoded. Prints microseconds of CPU an event, medians over slices of the events: all of it, and how much of
that deciding is. Compare figures of one run with each other only.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random  # noqa: TID251 - a seeded source of traffic, which decides nothing.
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from load_tests.many_rules import STAGES, write_rules
from orchestrator.core.decide import decide
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook, build_rulebook
from orchestrator.core.state import decode_state, encode_state
from orchestrator.roles.collection import spare_collector
from orchestrator.rulebook.compile import compiled
from orchestrator.rulebook.load import load_rulebook

START_MS = 1_772_442_000_000
SHARES = (0.55, 0.30, 0.10, 0.05)


#: Events that are timed together.
_SLICE = 500


@dataclass(frozen=True, slots=True)
class CoreCost:
    """Microseconds of CPU per event, and what the run looked like. ``decide_us`` leaves out decoding and encoding."""

    rules: int
    with_state_us: float
    decide_us: float
    state_bytes: float
    actions: int


def measure(rulebook: Rulebook, events: Sequence[Event]) -> CoreCost:
    """Decide the first half of ``events`` so that customers have a history, and measure the second half."""
    stored: dict[str, bytes] = {}
    warm = len(events) // 2
    decide_all(rulebook, stored, events[:warm])
    wholes, codecs, actions = [], [], 0
    for start in range(warm, len(events), _SLICE):
        part = events[start : start + _SLICE]
        began = time.process_time()
        actions += decide_all(rulebook, stored, part)
        decided = time.process_time()
        for event in part:
            encode_state(decode_state(stored[event.customer_id]))
        codecs.append((time.process_time() - decided) / len(part) * 1e6)
        wholes.append((decided - began) / len(part) * 1e6)
    return CoreCost(
        rules=len(rulebook.rules),
        with_state_us=median(wholes),
        decide_us=median(wholes) - median(codecs),
        state_bytes=sum(map(len, stored.values())) / len(stored),
        actions=actions,
    )


def decide_all(rulebook: Rulebook, stored: dict[str, bytes], events: Sequence[Event]) -> int:
    """Decide events against the states in ``stored`` and write the new ones there; return the number of actions."""
    actions = 0
    for event in events:
        state = decode_state(stored.get(event.customer_id))
        decision = decide(rulebook, state, event, event.received_at_ms)
        stored[event.customer_id] = encode_state(decision.state)
        actions += len(decision.actions)
    return actions


def shop_events(number: int, customers: int, *, seed: int = 1) -> list[Event]:
    """Return ``number`` events of ``customers`` customers, the first of each an ``identify``; the same for one seed."""
    draw = random.Random(seed)
    events = [_identify(customer) for customer in range(customers)]
    for place in range(number - customers):
        customer = draw.randrange(customers)
        event_type = draw.choices(STAGES, SHARES)[0]
        at_ms = START_MS + place * 20
        properties = {
            "total": draw.randrange(10, 120),
            "cart_id": f"cart-{customer}",
            "product_id": f"sku-{draw.randrange(500)}",
            "category": "shoes",
            "quantity": draw.randrange(1, 4),
            "currency": "INR",
            "channel": "web",
            "price": draw.randrange(10, 200),
        }
        events.append(_event(f"e-{place}", event_type, customer, at_ms, properties))
    return events


def _identify(customer: int) -> Event:
    consent = {"consent": {"categoryPreferences": {"marketing": customer % 10 != 0}}}
    traits = {"country": ("IN", "SG", "AE", "US")[customer % 4], "tier": "gold", "timezone": "Asia/Kolkata"}
    return Event(
        id=f"i-{customer}",
        type="identify",
        customer_id=f"customer-{customer}",
        occurred_at_ms=START_MS,
        received_at_ms=START_MS,
        properties=traits,
        context=consent,
    )


def _event(event_id: str, event_type: str, customer: int, at_ms: int, properties: dict[str, object]) -> Event:
    return Event(
        id=event_id,
        type=event_type,
        customer_id=f"customer-{customer}",
        occurred_at_ms=at_ms,
        received_at_ms=at_ms + 15,
        properties=properties,
    )


def many_rules(rules: int, listening: int = 5) -> Rulebook:
    """Return a compiled rulebook of ``rules`` rules, ``listening`` of them to ``cart_updated``."""
    with tempfile.TemporaryDirectory(prefix="journey-rules-") as folder:
        loaded = load_rulebook(write_rules(Path(folder) / "rules", rules=rules, listening=listening))
    if not loaded.ok:
        raise SystemExit("\n".join(map(str, loaded.problems)))
    return build_rulebook(
        version=loaded.version, journeys=loaded.journeys, aggregates=loaded.aggregates, conditions=compiled
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.core_speed", description=__doc__)
    parser.add_argument("--rules", type=int, nargs="+", default=[10, 100, 1_000], help="sizes of the rulebook")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--profile", action="store_true", help="show where the time goes, for the last size")
    options = parser.parse_args()
    events = shop_events(options.events, options.customers)
    spare_collector()
    for rules in options.rules:
        found = measure(many_rules(rules), events)
        sys.stdout.write(
            f"{found.rules:>6} rules   {found.with_state_us:6.2f} us an event, {found.decide_us:5.2f} us to decide   "
            f"state {found.state_bytes:.0f} B   {found.actions} actions\n"
        )
    if options.profile:
        profiler = cProfile.Profile()
        profiler.runcall(measure, many_rules(options.rules[-1]), events)
        pstats.Stats(profiler, stream=sys.stdout).strip_dirs().sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
