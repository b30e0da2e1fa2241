"""The other ways in and through: backtest, the embedded engine, the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from load_tests.bench import machine
from load_tests.bench.contest import backlog
from load_tests.bench.figures import Figures
from load_tests.bench.http_load import post_all
from load_tests.bench.sizes import Sizes
from load_tests.bench.stage import Stage
from load_tests.many_rules import write_rules
from load_tests.processes import JOURNEY, EmbeddedEngine, RoleProcess, environment_of, until
from load_tests.servers import free_port
from load_tests.servers.process import Say
from load_tests.shoppers import Event
from load_tests.traffic import batches

_EVENTS_PATH = "/v1/events"
_BATCH_CONNECTIONS, _SINGLE_CONNECTIONS = 4, 32


def run_backtest(folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    """Backtest a file of events, and a tenth of it, which tells what the command costs before the first event."""
    rules = write_rules(folder / "rules", rules=sizes.rules)
    events = backlog(sizes, events=sizes.backtest_events)
    spent: dict[int, float] = {}
    for number in (len(events) // 10, len(events)):
        path = folder / f"{number}.jsonl"
        path.write_bytes(b"".join(_json(event) + b"\n" for event in events[:number]))
        spent[number] = min(_cpu_of("backtest", "--events", str(path), "--rules", str(rules)) for _ in range(2))
    few, all_events = sorted(spent)
    figures.add(backtest__per_cpu_s=all_events / spent[all_events])
    figures.add(backtest__beyond_start_per_cpu_s=(all_events - few) / (spent[all_events] - spent[few]))
    say(f"{all_events / spent[all_events]:,.0f} events per CPU second, the start included")


def _cpu_of(*arguments: str) -> float:
    """Run the command on the contenders' core and return the processor seconds that it took."""
    process = subprocess.Popen([str(JOURNEY), *arguments], env=environment_of({}), stdout=subprocess.DEVNULL)
    machine.pin(process.pid, machine.contender_cores())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"journey {' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def run_embedded(folder: Path, sizes: Sizes, figures: Figures, say: Say) -> None:
    """Post to ``journey dev`` until every event is applied: accepted, decided and on disk."""
    events = backlog(sizes, events=sizes.embedded_events)
    engine = EmbeddedEngine(folder, rules=write_rules(folder / "rules", rules=sizes.rules), say=say)
    with engine:
        machine.pin(engine.pid, machine.contender_cores())
        bodies = [_json(list(batch)) for batch in batches(events, sizes.gateway_batch_events)]
        began, cpu = time.perf_counter(), machine.cpu_s([engine.pid])
        asyncio.run(_post(engine.url, bodies, _BATCH_CONNECTIONS))
        until(lambda: _applied(engine.url) >= len(events), within_s=300, because="every event is applied")
        wall_s, cpu_s = time.perf_counter() - began, machine.cpu_s([engine.pid]) - cpu
    figures.add(embedded__per_s=len(events) / wall_s, embedded__per_cpu_s=len(events) / cpu_s)
    say(f"embedded: {len(events) / wall_s:,.0f} events/s durable and applied")


def _applied(url: str) -> int:
    """Return how many events the engine has decided, duplicates among them."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    wanted = {"journey_events_processed", "journey_events_duplicate"}
    return int(
        sum(
            sample.value
            for family in text_string_to_metric_families(text)
            if family.name in wanted
            for sample in family.samples
            if sample.name.endswith("_total")
        )
    )


def run_gateway(stage: Stage, sizes: Sizes, figures: Figures, say: Say) -> None:
    """Post to the gateway of the distributed engine, whose log is Kafka: in batches, then one by one."""
    stage.clear(sizes.partitions)
    batched = backlog(sizes, events=sizes.gateway_batches * sizes.gateway_batch_events)
    singles = backlog(sizes, events=sizes.gateway_singles, seed=2)
    gateway = RoleProcess(
        "gateway", "--port", str(free_port()), folder=stage.folder / "gateway", environment=stage.settings()
    )
    with gateway:
        machine.pin(gateway.pid, machine.contender_cores())
        bodies = [_json(list(batch)) for batch in batches(batched, sizes.gateway_batch_events)]
        for name, posted, connections in (
            ("batch", bodies, _BATCH_CONNECTIONS),
            ("single", [_json(event) for event in singles], _SINGLE_CONNECTIONS),
        ):
            events = len(batched) if name == "batch" else len(singles)
            cpu = machine.cpu_s([gateway.pid])
            wall_s = asyncio.run(_post(gateway.url, posted, connections))
            per_cpu_s = events / (machine.cpu_s([gateway.pid]) - cpu)
            figures.add(**{f"gateway__{name}_per_s": events / wall_s, f"gateway__{name}_per_cpu_s": per_cpu_s})
            say(f"gateway, {name} calls: {events / wall_s:,.0f} events/s, {per_cpu_s:,.0f} per CPU second")


async def _post(url: str, bodies: list[bytes], connections: int) -> float:
    parts = urlsplit(url)
    return await post_all(parts.hostname or "", parts.port or 80, _EVENTS_PATH, bodies, connections=connections)


def _json(value: Event | list[Event]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
