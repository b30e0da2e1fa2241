"""How fast one worker is through Kafka and Redis, and how soon an event becomes an action.

    python -m load_tests.speed [--events 50000] [--rate 500] [--seconds 20]

Everything runs on loopback and stops by itself. Figures of one machine mean little; ratios against the
baseline of the same run are what counts. Baselines: (a) reading and decoding the same records with aiokafka
and msgspec, in one process, without deciding anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from load_tests.deployment import Deployment
from load_tests.processes import RoleProcess, unthrottled_rules, until
from load_tests.traffic import Mix, Traffic
from orchestrator.adapters.clock import SystemClock
from orchestrator.core.action import Action
from orchestrator.rulebook.load import load_rulebook
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import ACTIONS, EVENTS, Record

PARTITIONS = 4
TICKS_S = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.speed", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000, help="events of the throughput run")
    parser.add_argument("--customers", type=int, default=5_000, help="customers of the throughput run")
    parser.add_argument("--rate", type=int, default=500, help="events a second of the latency run")
    parser.add_argument("--seconds", type=int, default=20, help="length of the latency run")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="journey-speed-") as folder:
        found = asyncio.run(_measure(Path(folder), options))
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _print(found)


async def _measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    rules = unthrottled_rules(folder / "rules")
    deployment = Deployment(folder, rules, workers=0, partitions=PARTITIONS, say=_say)
    with deployment:
        events = Traffic(seed=1, now_ms=SystemClock().now_ms(), mix=Mix()).events(options.events, options.customers)
        _say(f"Writing {len(events)} events ...")
        await _produce(deployment.kafka.bootstrap, events)
        read_s = await _read_only(deployment.kafka.bootstrap, rules, len(events))
        worker = deployment.add_worker()
        worker.await_ready()
        wall_s, cpu_s, applied = _drained(worker, options.events)
        latencies = await _latencies(deployment, options.rate, options.seconds)
    ordered = sorted(latencies)
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("faust-streaming", "aiokafka", "redis", "msgspec")},
        "events": applied,
        "read_and_decode_per_s": len(events) / read_s,
        "worker_per_s": applied / wall_s,
        "worker_per_cpu_s": applied / cpu_s,
        "worker_to_baseline": (applied / wall_s) / (len(events) / read_s),
        "actions_measured": len(ordered),
        "event_to_action_ms": {
            "p50": statistics.median(ordered),
            "p99": ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))],
            "max": ordered[-1],
        },
    }


async def _produce(bootstrap: str, events: Sequence[dict[str, Any]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=200_000)
    await producer.start()
    try:
        pending = []
        for event in events:
            value = json.dumps(event, separators=(",", ":")).encode()
            pending.append(await producer.send(EVENTS, value, key=event["customer_id"].encode()))
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


async def _read_only(bootstrap: str, rules: Path, number: int) -> float:
    """Return how long it takes to read and decode every record: what no worker can beat."""
    limits = Limits(event_bytes_max=32_000, depth_max=16, future_tolerance_ms=300_000)
    intake = Intake(load_rulebook(rules).plan, "default", limits)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(EVENTS, partition) for partition in range(PARTITIONS)])
        began, read = time.perf_counter(), 0
        while read < number:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                for one in records:
                    intake.from_record(Record(one.partition, one.offset, one.timestamp, one.key, one.value))
                read += len(records)
        return time.perf_counter() - began
    finally:
        await consumer.stop()


def _drained(worker: RoleProcess, number: int) -> tuple[float, float, int]:
    """Return wall and CPU seconds in which the worker applied the events, and how many it applied."""
    first = until(lambda: _processed(worker), within_s=60, because="the worker applies its first batch")
    began, cpu = time.perf_counter(), _cpu_s(worker.pid)
    until(lambda: _processed(worker) >= number, within_s=300, because="the worker has caught up")
    return time.perf_counter() - began, _cpu_s(worker.pid) - cpu, number - first


def _processed(worker: RoleProcess) -> int:
    text = httpx.get(f"{worker.url}/metrics", timeout=30).text
    for family in text_string_to_metric_families(text):
        if family.name == "journey_events_processed":
            return int(sum(sample.value for sample in family.samples if sample.name.endswith("_total")))
    return 0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


async def _latencies(deployment: Deployment, rate: int, seconds: int) -> list[float]:
    """Return the milliseconds from the log's stamp of an event to its action's arrival at a reader of the topic."""
    _say(f"Sending {rate} events a second for {seconds} s ...")
    clock = SystemClock()
    traffic = Traffic(seed=2, now_ms=clock.now_ms(), run="paced", mix=Mix(asks_for_call=0.8, shops=0.2, repeats=0))
    events = list(traffic.events(rate * seconds, rate * seconds // 3))
    known = {one["id"] for one in events if one["type"] == "lead_submitted"}
    consumer = AIOKafkaConsumer(ACTIONS, bootstrap_servers=deployment.kafka.bootstrap, auto_offset_reset="latest")
    await consumer.start()
    found: list[float] = []
    reading = asyncio.create_task(_collect(consumer, clock, found))
    try:
        await _paced(deployment.gateway.url, events, rate)
        await asyncio.sleep(2)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await consumer.stop()
    _say(f"{len(found)} actions of {len(known)} leads measured")
    return found


async def _collect(consumer: AIOKafkaConsumer, clock: SystemClock, found: list[float]) -> None:
    import msgspec  # noqa: PLC0415 - only the reader decodes.

    decode = msgspec.json.Decoder(Action).decode
    async for record in consumer:
        action = decode(record.value)
        if action.reason == "triggered" and action.customer_id.startswith("paced") and action.rule == "lead-callback":
            found.append(clock.now_ms() - action.decided_at)


async def _paced(url: str, events: Sequence[dict[str, Any]], rate: int) -> None:
    """Post events at a steady rate, a tenth of a second's worth at a time."""
    slice_size = max(1, rate // 10)
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        began = time.perf_counter()
        for number, start in enumerate(range(0, len(events), slice_size)):
            await asyncio.sleep(max(0.0, began + number * 0.1 - time.perf_counter()))
            answer = await client.post("/v1/events", json=list(events[start : start + slice_size]))
            answer.raise_for_status()


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")


def _print(found: dict[str, Any]) -> None:
    latency = found["event_to_action_ms"]
    sys.stdout.write(
        f"{found['machine']}; {', '.join(f'{name} {one}' for name, one in found['versions'].items())}\n"
        f"(a) read and decode only        {found['read_and_decode_per_s']:>9,.0f} events/s   1.00\n"
        f"one worker, Kafka and Redis     {found['worker_per_s']:>9,.0f} events/s   {found['worker_to_baseline']:.2f}\n"
        f"  per CPU second of the worker  {found['worker_per_cpu_s']:>9,.0f} events\n"
        f"event to action, {found['actions_measured']} actions   p50 {latency['p50']:.0f} ms"
        f"   p99 {latency['p99']:.0f} ms"
        f"   max {latency['max']:.0f} ms\n"
    )


if __name__ == "__main__":
    main()
