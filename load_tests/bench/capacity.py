"""A model of what a deployment carries: each component's cost of an event, measured, over what the deployment has.

A component with ``c`` cores of which ``u`` are to be used at most carries ``c * u / cost`` events a second; a link of
``b`` bytes a second carries ``b * u / bytes``. The deployment carries what its weakest component does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from load_tests.bench.figures import Figures

#: The share of a core or a link that is planned with; the rest is for peaks, for restarts and for a lost machine.
USED_MAX = 0.6
MILLION = 1_000_000
BITS = 8


@dataclass(frozen=True, slots=True)
class Costs:
    """What one event takes: microseconds of a core and bytes on the wire; and bytes of Redis' memory.

    They are those of a customer's state, of an action in the ledger and of a record in a timeline.
    """

    worker_us: float
    gateway_us: float
    kafka_write_us: float
    kafka_read_us: float
    redis_us: float
    event_bytes: float
    redis_bytes: float
    customer_bytes: float
    ledger_bytes: float
    timeline_bytes: float

    @classmethod
    def of(cls, figures: Figures) -> Self | None:
        """Return the measured costs, or None when the run did not measure them all."""
        customers = figures.curves.get("customers", ())
        found = [
            _per_event(figures.of("worker.per_cpu_s")),
            _per_event(figures.of("gateway.batch_per_cpu_s")),
            figures.of("kafka.write_us"),
            figures.of("kafka.read_us"),
            figures.of("redis.us"),
            figures.of("event.bytes"),
            figures.of("redis.bytes_per_event"),
            customers[-1]["redis_bytes"] if customers else None,
            figures.of("redis.ledger_bytes"),
            figures.of("redis.timeline_bytes"),
        ]
        known = [one for one in found if one is not None]
        return cls(*known) if len(known) == len(found) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Machines: every worker and Redis shard is one core, brokers have ``broker_cores`` and a link of ``gbit`` each."""

    workers: int
    gateways: int
    shards: int
    brokers: int = 3
    broker_cores: int = 8
    gbit: float = 10
    replication: int = 3

    def carries(self, costs: Costs) -> dict[str, float]:
        """Return the events a second that each component carries."""
        # A broker's part of an event: its share of leading, and of fetching and writing what others lead.
        copies = self.replication - 1
        broker_us = costs.kafka_write_us * self.replication + costs.kafka_read_us * (1 + copies)
        wire_in = costs.event_bytes * self.replication
        wire_out = costs.event_bytes * (1 + copies)
        link_bytes = self.gbit * 1e9 / BITS
        return {
            "gateways": self.gateways * USED_MAX / costs.gateway_us * 1e6,
            "brokers, processors": self.brokers * self.broker_cores * USED_MAX / broker_us * 1e6,
            "brokers, network": self.brokers * link_bytes * USED_MAX / max(wire_in, wire_out),
            "workers": self.workers * USED_MAX / costs.worker_us * 1e6,
            "Redis, processors": self.shards * USED_MAX / costs.redis_us * 1e6,
            "Redis, network": self.shards * link_bytes * USED_MAX / costs.redis_bytes,
        }

    def bottleneck(self, costs: Costs) -> tuple[str, float]:
        """Return the weakest component and what it carries."""
        return min(self.carries(costs).items(), key=lambda one: one[1])


def needed(costs: Costs, events_per_s: float) -> dict[str, float]:
    """Return how many cores of each component a rate takes, at ``USED_MAX``; brokers with three copies."""
    one = Deployment(workers=1, gateways=1, shards=1, brokers=1, broker_cores=1)
    carried = one.carries(costs)
    return {name: events_per_s / carried[name] for name in carried if not name.endswith("network")}


def memory(costs: Costs, *, customers: int, actions: float, records: float) -> float:
    """Return the bytes of Redis for customers with so many actions in the ledger and records in the timeline each."""
    return customers * (costs.customer_bytes + actions * costs.ledger_bytes + records * costs.timeline_bytes)


def _per_event(per_cpu_s: float | None) -> float | None:
    return None if per_cpu_s is None else 1e6 / per_cpu_s
