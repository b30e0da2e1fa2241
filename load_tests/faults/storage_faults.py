"""Faults of what is stored: no room on the disk, and a log that is not the one that the store knows."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from load_tests.faults.case import Act, Case
from load_tests.faults.ground import Ground
from load_tests.processes import RoleProcess
from load_tests.servers import ServerFailed
from orchestrator.runtime.ports import EVENTS

_ROOM_MB = 160


@contextmanager
def small_disks(folder: Path) -> Iterator[Path]:
    """Return a folder in which Kafka's and Redis' data lie on small file systems of their own; needs to be root."""
    places = [folder / "kafka", folder / "redis"]
    mounted = []
    try:
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={_ROOM_MB}m", "tmpfs", str(place)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise ServerFailed(
                    f"A small file system for the disk-full fault cannot be mounted: {done.stderr.strip()}"
                )
            mounted.append(place)
        yield folder
    finally:
        for place in mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=False)


def fill_disks(case: Case) -> Act:
    """Fill the disk under Redis, then the one under the broker, and make room again."""
    ground = case.ground
    for _ in range(case.times(2)):
        _fill_redis(case, ground)
        _fill_kafka(case, ground)
    yield


def _fill_redis(case: Case, ground: Ground) -> None:
    server = ground.deployment.redis
    filler = _filled(server.folder)
    struck = time.monotonic()
    try:
        ground.until(lambda: _is_full(ground), within_s=60, because="Redis says that its disk is full")
        case.note_under_way()
        case.note_unpublished()
        said = "MISCONF"
        ground.until(
            lambda: any(said in one.said() for one in ground.deployment.workers),
            within_s=30,
            because="a worker says why it waits",
        )
    finally:
        filler.unlink()
    case.account.done["disk full under Redis"] += 1
    if not server.running:
        case.account.notes.append("Redis ended and was started again")
        server.start()
    case.recovered(ground.await_progress(struck, within_s=120))


def _is_full(ground: Ground) -> bool:
    persistence: Any = ground.patiently(lambda: ground.store.info("persistence"))
    return bool(persistence["aof_last_write_status"] == "err")


def _fill_kafka(case: Case, ground: Ground) -> None:
    server = ground.deployment.kafka
    # The log is kept beside the data, and must be able to tell of the error.
    filler = _filled(server.folder, spare_kb=64)
    struck = time.monotonic()
    try:
        ground.until(lambda: not server.running, within_s=90, because="the broker has stopped on a full disk")
        answer = _ingest(ground)
        case.note_unanswered()
        case.account.promise(answer == 503, f"ingest answered {answer} while the broker was away")
        _idle(ground, 2)
    finally:
        filler.unlink(missing_ok=True)
    case.account.done["disk full under the broker"] += 1
    server.start()
    case.recovered(ground.await_progress(struck, within_s=120))


def _filled(folder: Path, spare_kb: int = 0) -> Path:
    """Fill a file system to its end but for ``spare_kb``, and return the file that did."""
    filler = folder / "filler"
    free = max(0, shutil.disk_usage(folder).free - spare_kb * 1024)
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while free > 0:
            free -= file.write(b"\0" * min(free, 65_536))
    return filler


def _ingest(ground: Ground) -> int:
    event = {"id": "storage-asks", "type": "customer_met", "customer_id": "canary-full", "occurred_at": 1}
    with ground.deployment.client() as client:
        try:
            return client.post("/v1/events", json=[event]).status_code
        except httpx.TransportError:
            return 0


def _idle(ground: Ground, seconds: float) -> None:
    ending = time.monotonic() + seconds
    while time.monotonic() < ending:
        ground.revive()
        time.sleep(0.1)


# ------------------------------------------------------------------------------------------------ a lost log


def lose_the_log(case: Case) -> Act:
    """Let offsets fall out of retention, make the topic anew, add partitions: the worker refuses, and says why."""
    ground = case.ground
    ground.await_progress(time.monotonic())
    yield
    workers = [ground.deployment.remove_worker() for _ in list(ground.deployment.workers)]
    for one in workers:
        one.stop()
    ground.post([_event(number) for number in range(200)])
    behind = ground.positions()
    ends = ground.view.ends(EVENTS)
    ground.view.delete_records(EVENTS, ends)
    messages = [
        f"Partition {one} of {EVENTS}: events {behind[one]} to {end - 1} fell out of retention "
        "before they were applied."
        for one, end in ends.items()
        if behind[one] < end
    ]
    _refuses(case, workers[0], *messages)
    case.account.done["offsets out of retention"] += 1

    ground.view.delete_topic(EVENTS)
    made = ground.deployment.journey("topics", "create")
    case.account.promise(made.returncode == 0, f"journey topics create: {made.stdout}{made.stderr}")
    _refuses(case, workers[0], "the topic was recreated (its id was ")
    case.account.done["topic recreated"] += 1

    ground.store.flushall()
    ground.view.add_partitions(EVENTS, ground.partitions + 2)
    wanted = f"Topic {EVENTS} has {ground.partitions + 2} partitions, but JOURNEY_PARTITIONS is {ground.partitions}."
    _refuses(case, workers[0], wanted)
    case.account.done["partitions added"] += 1


def _refuses(case: Case, worker: RoleProcess, *wanted: str) -> None:
    """A worker that is started now must end, with one of these messages: what is wrong and what to do."""
    worker.launch()
    deadline = time.monotonic() + 40
    while worker.running and time.monotonic() < deadline:
        time.sleep(0.1)
    said = worker.said()
    if worker.running:
        worker.kill()
        case.account.broken.append(f"the worker did not refuse; awaited: {wanted[0]}")
        return
    found = [line for line in said.splitlines() if any(one in line for one in wanted)]
    case.account.promise(bool(found), f"the worker ended without saying {wanted[0]!r}: {said[-600:]}")
    case.account.notes += [f"“{line.strip()}”" for line in found[:1]]


def _event(number: int) -> dict[str, object]:
    return {
        "id": f"later-{number}",
        "type": "customer_met",
        "customer_id": f"later-{number}",
        "occurred_at": 1_700_000_000_000,
        "properties": {},
    }
