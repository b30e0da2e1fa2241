"""The probe: how soon an event becomes an action, and how near to its moment a timer fires.

Four spans are kept apart, each of every action, in milliseconds:

log       from the log's stamp of the event to the log's stamp of the action in journey.actions
stub      from the log's stamp of the event to the action's arrival at the stub behind the connector
intended  from the moment at which the event was planned to be sent to that arrival: free of coordinated omission
timer     from the moment at which a timer was due to the log's stamp of its action
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from hdrh.histogram import HdrHistogram

from load_tests.many_rules import write_rules
from load_tests.processes import arrivals_of
from orchestrator.core.action import Action
from orchestrator.runtime.ports import ACTIONS

SPAN_MS_MAX = 3_600_000
SPANS = ("log", "stub", "intended", "timer")
TIMER_RULE = "stalled-checkout"
#: How long a checkout is given before the timer's rule writes.
STALLED_AFTER_S = 4


def probe_rules(folder: Path, *, rules: int, stub_url: str) -> Path:
    """Write the shop's rules with one more, which waits for a timer, and with actions that arrive at the stub.

    Events carry ``sent_at``, and every action hands it on.
    """
    write_rules(folder, rules=rules)
    with _edited(folder / "tracking_plan.yaml") as plan:
        for event in plan["events"].values():
            event["properties"]["sent_at"] = "number"
    with _edited(folder / "templates.yaml") as templates:
        templates["templates"]["offer"]["params"]["sent_at"] = "{{ event.sent_at }}"
    with _edited(folder / "connectors.yaml") as connectors:
        stub = {"type": "webhook", "kind": "email", "settings": {"url": f"{stub_url}/hooks/email"}}
        connectors["connectors"]["log"] = {**stub, "delivery": {"concurrency": 20}}
    with _edited(folder / "shop.yaml") as shop:
        shop["rules"].append(
            {
                "id": TIMER_RULE,
                "title": "Ask what is wrong",
                "on": {"absence": {"after": "checkout_started", "of": "order_completed", "for": f"{STALLED_AFTER_S}s"}},
                "do": [{"send": {"connector": "log", "template": "offer"}}],
                "limits": {"consent": ["marketing"]},
            }
        )
    return folder


@contextmanager
def _edited(path: Path) -> Iterator[Any]:
    """Give the body a YAML file's content, and write it back."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    yield content
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _histogram() -> Any:
    return HdrHistogram(1, SPAN_MS_MAX, 3)


@dataclass(slots=True)
class Latencies:
    """One HDR histogram a span."""

    spans: dict[str, Any] = field(default_factory=lambda: {name: _histogram() for name in SPANS})

    def record(self, span: str, value_ms: int) -> None:
        """Count one action. Clocks of one machine agree, so that a span below nothing is nothing."""
        self.spans[span].record_value(max(0, value_ms))

    def count(self, span: str) -> int:
        """Return how many actions a span was measured of."""
        return int(self.spans[span].get_total_count())

    def at(self, span: str, percentile: float) -> float:
        """Return the span that ``percentile`` percent of the actions did not exceed, in ms."""
        return float(self.spans[span].get_value_at_percentile(percentile))

    def points(self, span: str) -> Iterable[tuple[float, float]]:
        """Return (percentile, ms) along the histogram, for a plot."""
        percentiles = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99)
        return [(one, self.at(span, one)) for one in percentiles]


async def measured(bootstrap: str, partitions: int, record: Path, *, from_ms: int) -> Latencies:
    """Return the spans of all actions whose events were planned for ``from_ms`` or later; wait for nothing.

    Left out are timers that were already due when their event was sent, for they cannot be on time, and actions that
    have not arrived at the stub.
    """
    arrived = {one["id"]: one["at_ms"] for one in arrivals_of(record)}
    found = Latencies()
    for stamp_ms, action in await _actions(bootstrap, partitions):
        sent_at_ms = int(float(action.params.get("sent_at", 0)))
        if action.cancel or sent_at_ms < from_ms:
            continue
        if action.rule == TIMER_RULE:
            if action.decided_at > sent_at_ms:
                found.record("timer", stamp_ms - action.decided_at)
            continue
        found.record("log", stamp_ms - action.decided_at)
        if action.id in arrived:
            found.record("stub", arrived[action.id] - action.decided_at)
            found.record("intended", arrived[action.id] - sent_at_ms)
    return found


async def _actions(bootstrap: str, partitions: int) -> list[tuple[int, Action]]:
    """Return what journey.actions holds, with the broker's stamps."""
    decode = msgspec.json.Decoder(Action).decode
    where = [TopicPartition(ACTIONS, number) for number in range(partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(where)
        ends = await consumer.end_offsets(where)
        found: list[tuple[int, Action]] = []
        while any([await consumer.position(one) < ends[one] for one in where]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [(record.timestamp, decode(record.value)) for record in records]
        return found
    finally:
        await consumer.stop()
