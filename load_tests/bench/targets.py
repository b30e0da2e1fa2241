"""What is promised, and whether it was measured so: the rows of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from load_tests.bench.figures import Figures

Value = Callable[[Figures], float | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what it is, where its value comes from, how it is written, and what it must be (None: nothing)."""

    group: str
    name: str
    value: Value
    form: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """The target in words; '' when there is none."""
        if self.at_least is not None:
            return f"≥ {self.form.format(self.at_least)}"
        return "" if self.at_most is None else f"≤ {self.form.format(self.at_most)}"

    def met(self, figures: Figures) -> bool | None:
        """Return whether the target is met; None without a target or a measurement."""
        value = self.value(figures)
        if value is None or not self.target:
            return None
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def measured(self, figures: Figures) -> str:
        """Return the measurement as text."""
        value = self.value(figures)
        return "not measured" if value is None else self.form.format(value)


def _of(name: str) -> Value:
    return lambda figures: figures.of(name)


def _ratio(name: str, to: str) -> Value:
    return lambda figures: figures.ratio(name, to)


def _worst(curve: str, value: str, by: str) -> Value:
    """Return how much worse (1: the same) the last point of a curve is than its first, in a rate or a cost."""

    def worst(figures: Figures) -> float | None:
        points = sorted(figures.curves.get(curve, ()), key=lambda point: point[by])
        if len(points) < 2:
            return None
        first, last = points[0][value], points[-1][value]
        return first / last if value.startswith("per_") else last / first

    return worst


def _at_last(curve: str, value: str, by: str) -> Value:
    def last(figures: Figures) -> float | None:
        points = sorted(figures.curves.get(curve, ()), key=lambda point: point[by])
        return points[-1][value] if points else None

    return last


def _more_customers(figures: Figures) -> float | None:
    """Return the worker's memory with many customers to that with few, under one setting."""
    caps = [point["cap"] for point in figures.curves.get("memory", ())]
    points = sorted(
        (one for one in figures.curves.get("memory", ()) if one["cap"] == min(caps)), key=lambda one: one["customers"]
    )
    return points[-1]["mib"] / points[0]["mib"] if len(points) > 1 else None


def _scaled(partitions: int, workers: int) -> Value:
    def speed(figures: Figures) -> float | None:
        found = figures.along("scaling", partitions=partitions, workers=workers)
        return None if found is None else found["per_s"]

    return speed


_THROUGHPUT = "Worker through Kafka and Redis, 100 rules"
_FLAT = "Flat cost"
_LATENCY = "Event to action"
_OTHER = "Other paths"
_MEMORY = "Memory and recovery"

_CONTEST = (
    Row(_THROUGHPUT, "(a) read and decode only", _of("read.per_s"), "{:,.0f} events/s"),
    Row(_THROUGHPUT, "(b) the same with one atomic write a batch", _of("read_write.per_s"), "{:,.0f} events/s"),
    Row(_THROUGHPUT, "(c) stock Faust agent with a table", _of("faust.per_s"), "{:,.0f} events/s"),
    Row(_THROUGHPUT, "(d) Quix Streams with state", _of("quix.per_s"), "{:,.0f} events/s"),
    Row(_THROUGHPUT, "one worker", _of("worker.per_s"), "{:,.0f} events/s"),
    Row(_THROUGHPUT, "one worker, a second of CPU", _of("worker.per_cpu_s"), "{:,.0f} events", at_least=30_000),
    Row(_THROUGHPUT, "worker to (a)", _ratio("worker.per_s", "read.per_s"), "{:.2f}"),
    Row(_THROUGHPUT, "worker to (b)", _ratio("worker.per_s", "read_write.per_s"), "{:.2f}", at_least=0.5),
    Row(_THROUGHPUT, "worker to (b), by CPU", _ratio("worker.per_cpu_s", "read_write.per_cpu_s"), "{:.2f}"),
    Row(_THROUGHPUT, "worker to (c)", _ratio("worker.per_s", "faust.per_s"), "{:.1f}", at_least=10),
    Row(_THROUGHPUT, "worker to (c), by CPU", _ratio("worker.per_cpu_s", "faust.per_cpu_s"), "{:.1f}"),
    Row(_THROUGHPUT, "worker to (d)", _ratio("worker.per_s", "quix.per_s"), "{:.1f}", at_least=3),
    Row(_THROUGHPUT, "worker to (d), by CPU", _ratio("worker.per_cpu_s", "quix.per_cpu_s"), "{:.1f}"),
)
_COSTS = (
    Row(
        _FLAT,
        "core alone, 100 rules: decode the state, decide, encode it",
        _of("core.100.with_state_us"),
        "{:.1f} us",
        at_most=8,
    ),
    Row(
        _FLAT,
        "1,000 rules to 10, the others listening elsewhere",
        _ratio("core.1000.decide_us", "core.10.decide_us"),
        "{:.2f}",
        at_most=1.3,
    ),
    Row(_FLAT, "5,000 rules to 10", _ratio("core.5000.decide_us", "core.10.decide_us"), "{:.2f}"),
    Row(
        _FLAT, "a long history to a short one", _worst("core.history", "with_state_us", "events"), "{:.2f}", at_most=1.3
    ),
    Row(
        _FLAT,
        "most customers to fewest, CPU of the worker",
        _worst("customers", "per_cpu_s", "customers"),
        "{:.2f}",
        at_most=1.3,
    ),
    Row(_FLAT, "1 worker, 1 partition", _scaled(1, 1), "{:,.0f} events/s"),
    Row(_FLAT, "1 worker, 4 partitions", _scaled(4, 1), "{:,.0f} events/s"),
    Row(_FLAT, "2 workers, 4 partitions", _scaled(4, 2), "{:,.0f} events/s"),
)


def _latency_rows(share: int, p50_ms: float | None, p99_ms: float) -> tuple[Row, ...]:
    spans = (("log", "to the log"), ("stub", "to the stub"), ("intended", "from the planned moment to the stub"))
    found = []
    for span, words in spans:
        at = f"at {share} % of capacity, {words}"
        found.append(Row(_LATENCY, f"{at}, p50", _of(f"at_{share}.{span}_ms_p50"), "{:.0f} ms", at_most=p50_ms))
        found.append(Row(_LATENCY, f"{at}, p99", _of(f"at_{share}.{span}_ms_p99"), "{:.0f} ms", at_most=p99_ms))
    timer = _of(f"at_{share}.timer_ms_p99")
    return (*found, Row(_LATENCY, f"at {share} % of capacity, timer error, p99", timer, "{:.0f} ms", at_most=250))


_LATENCIES = (
    Row(_LATENCY, "capacity with everything on this machine", _of("capacity.per_s"), "{:,.0f} events/s"),
    *_latency_rows(20, 20, 100),
    *_latency_rows(80, None, 1_000),
)
_PATHS = (
    Row(_OTHER, "backtest, a second of CPU", _of("backtest.per_cpu_s"), "{:,.0f} events", at_least=60_000),
    Row(_OTHER, "backtest, beyond its start", _of("backtest.beyond_start_per_cpu_s"), "{:,.0f} events"),
    Row(_OTHER, "embedded, durable and applied", _of("embedded.per_s"), "{:,.0f} events/s", at_least=5_000),
    Row(_OTHER, "gateway, batches, a second of CPU", _of("gateway.batch_per_cpu_s"), "{:,.0f} events", at_least=5_000),
    Row(_OTHER, "gateway, single, a second of CPU", _of("gateway.single_per_cpu_s"), "{:,.0f} events", at_least=1_500),
)
_SIZES = (
    Row(_MEMORY, "Redis, a customer as stored", _of("redis.state_bytes"), "{:,.0f} B"),
    Row(
        _MEMORY,
        "Redis, a customer with all overhead",
        _at_last("customers", "redis_bytes", "customers"),
        "{:,.0f} B",
        at_most=700,
    ),
    Row(_MEMORY, "Redis, an action in the ledger, kept for 7 days", _of("redis.ledger_bytes"), "{:,.0f} B"),
    Row(_MEMORY, "Redis, a record in a customer's timeline", _of("redis.timeline_bytes"), "{:,.0f} B"),
    Row(_MEMORY, "worker, more customers under one setting", _more_customers, "{:.2f}", at_most=1.1),
    Row(
        _MEMORY,
        "killed worker replaced after a session timeout of 6 s",
        _at_last("customers", "recovery_s", "customers"),
        "{:.1f} s",
    ),
)

ROWS: tuple[Row, ...] = (*_CONTEST, *_COSTS, *_LATENCIES, *_PATHS, *_SIZES)
