"""What the benchmark writes into documents: the README's table and the capacity model. Nothing is typed by hand."""

from __future__ import annotations

from pathlib import Path

from load_tests.bench.capacity import MILLION, USED_MAX, Costs, Deployment, memory, needed
from load_tests.bench.figures import Figures
from load_tests.bench.report import about, markdown, replace_between
from load_tests.processes import ROOT

README = ROOT / "README.md"
CAPACITY = ROOT / "deploy" / "capacity.md"

_EXAMPLES = (
    ("small", Deployment(workers=2, gateways=4, shards=1, broker_cores=4)),
    ("medium", Deployment(workers=8, gateways=16, shards=3)),
    ("large", Deployment(workers=32, gateways=64, shards=12, broker_cores=16, gbit=25)),
)

#: Records of timeline that the example's customers have.
_RECORDS = 10


def write(figures: Figures) -> list[Path]:
    """Write what this run measured; return the files. What it did not measure wholly stays as it was."""
    replace_between(README, "speed", markdown(figures))
    costs = Costs.of(figures)
    if costs is None:
        return [README]
    replace_between(CAPACITY, "constants", constants(figures, costs))
    replace_between(CAPACITY, "examples", examples(costs))
    replace_between(CAPACITY, "million", million(costs))
    return [README, CAPACITY]


def constants(figures: Figures, costs: Costs) -> str:
    """Return the measured costs as a table."""
    rows = (
        ("w", "worker, a core", f"{costs.worker_us:.1f} us"),
        ("g", "gateway, a core, batch calls", f"{costs.gateway_us:.1f} us"),
        ("kw", "broker, a core, writing", f"{costs.kafka_write_us:.1f} us"),
        ("kr", "broker, a core, reading and the worker's own writing", f"{costs.kafka_read_us:.1f} us"),
        ("r", "Redis, its core", f"{costs.redis_us:.1f} us"),
        ("e", "an event on the wire", f"{costs.event_bytes:,.0f} B"),
        ("s", "sent to Redis", f"{costs.redis_bytes:,.0f} B"),
        ("m", "a customer's state in Redis' memory", f"{costs.customer_bytes:,.0f} B"),
        ("l", "an action in the ledger there, for 7 days", f"{costs.ledger_bytes:,.0f} B"),
        ("t", "a record in a customer's timeline there", f"{costs.timeline_bytes:,.0f} B"),
        ("u", "the share of a core or a link that is planned with", f"{USED_MAX:.0%}"),
    )
    lines = [f"{line}  " for line in about(figures)]
    return "\n".join([*lines, "", "| | of one event | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def examples(costs: Costs) -> str:
    """Return what the example deployments carry, component by component."""
    names = list(_EXAMPLES[0][1].carries(costs))
    head = ["", *(name for name, _ in _EXAMPLES)]
    table = [head, ["---"] * len(head)]
    table.append(["machines", *(_described(one) for _, one in _EXAMPLES)])
    table += [[name, *(f"{one.carries(costs)[name]:,.0f}/s" for _, one in _EXAMPLES)] for name in names]
    bottlenecks = [one.bottleneck(costs) for _, one in _EXAMPLES]
    table.append(["**carries**", *(f"**{rate:,.0f}/s** ({name})" for name, rate in bottlenecks)])
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def million(costs: Costs) -> str:
    """Return what a million events a second take, and where the first limit lies."""
    cores = needed(costs, MILLION)
    states = memory(costs, customers=100 * MILLION, actions=0, records=0) / 2**30
    pasts = memory(costs, customers=100 * MILLION, actions=1, records=_RECORDS) / 2**30
    three_nodes = Deployment(workers=MILLION, gateways=MILLION, shards=MILLION, broker_cores=16, gbit=25)
    name, rate = three_nodes.bottleneck(costs)
    first = max(cores, key=lambda one: cores[one])
    return "\n".join(
        (
            "| | cores |",
            "|---|---|",
            *(f"| {component} | {number:,.0f} |" for component, number in cores.items()),
            "",
            f"Most of it is {first}. Three brokers of 16 cores and 25 Gbit/s, with as many workers and shards as one "
            f"likes, carry {rate:,.0f} events/s; what limits them first is the {name.partition(', ')[2]}. "
            f"The states of a hundred million customers take {states:,.0f} GiB of Redis; with an action a week and "
            f"{_RECORDS} records of timeline each it is {pasts:,.0f} GiB.",
        )
    )


def _described(one: Deployment) -> str:
    return (
        f"gateways {one.gateways}; brokers {one.brokers}, each {one.broker_cores} cores and {one.gbit:g} Gbit/s; "
        f"workers {one.workers}; shards {one.shards}"
    )
