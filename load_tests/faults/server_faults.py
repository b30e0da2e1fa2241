"""Faults of Kafka and Redis: restarted, killed, frozen, slow and away, under load."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import redis

from load_tests.faults.case import Act, Case
from load_tests.faults.machine import rss_mb
from load_tests.servers import ServerProcess

#: What a role may grow by while a broker is frozen: far more than its buffers hold, far less than a leak brings.
_GROWTH_MB_MAX = 150.0


def restart_kafka(case: Case) -> Act:
    """Stop the broker cleanly or kill it, half of the times within a commit, and start it again on the same log."""
    kafka = case.ground.deployment.kafka
    after_s: list[float] = []
    for number in range(case.times(20)):
        case.ground.await_roles()
        kill = bool(number % 2) or case.short
        if case.chance.random() < 0.5:
            case.pause(1.0)
        elif case.strike_within_commit():
            case.account.done["of these within a commit"] += 1
        struck = time.monotonic()
        kafka.restart(kill=kill)
        answered = time.monotonic()
        case.account.done["kill -9 of the broker" if kill else "clean restart of the broker"] += 1
        case.recovered(case.ground.await_progress(struck, within_s=120))
        after_s.append(time.monotonic() - answered)
    case.account.notes.append(
        f"of the recovery, {statistics.median(after_s):.1f} s (at worst {max(after_s):.1f} s) came after the broker "
        "answered again; the rest is the broker's own start"
    )
    yield


def freeze_kafka(case: Case) -> Act:
    """Freeze the broker for half a minute and more: the engine waits, within the memory that it has."""
    deployment = case.ground.deployment
    roles = [deployment.gateway, deployment.dispatcher, *case.ready_workers()]
    before = {role.pid: rss_mb(role.pid) for role in roles}
    for seconds in [31, 45][: case.times(2)] if not case.short else [12]:
        _frozen(case, deployment.kafka, seconds)
        case.account.done[f"broker frozen for {seconds} s"] += 1
    grown = max((rss_mb(pid) - was for pid, was in before.items() if rss_mb(pid)), default=0.0)
    case.account.notes.append(f"no role grew by more than {grown:.0f} MB")
    case.account.promise(grown < _GROWTH_MB_MAX, f"a role grew by {grown:.0f} MB")
    yield


def disturb_redis(case: Case) -> Act:
    """Restart Redis, cleanly and by kill -9; make it slow; take it away for longer than clients wait."""
    server = case.ground.deployment.redis
    for number in range(case.times(20)):
        case.ground.await_roles()
        if case.chance.random() < 0.5:
            case.pause(1.0)
        elif case.strike_within_commit():
            case.account.done["of these within a commit"] += 1
        struck = time.monotonic()
        kill = bool(number % 2) or case.short
        server.restart(kill=kill)
        case.account.done["kill -9 of Redis" if kill else "clean restart of Redis"] += 1
        case.recovered(case.ground.await_progress(struck))
    if not case.short:
        for seconds in (2, 4):
            _slow(case, seconds)
        _frozen(case, server, 14)
        case.account.done["Redis silent for 14 s"] += 1
        _away(case, server, 8)
        case.account.done["Redis away for 8 s"] += 1
    verdict = yield
    case.account.notes.append(f"{verdict.repeats} repeats under one id")


def _slow(case: Case, seconds: int) -> None:
    """Let Redis keep every command waiting for up to ``seconds``, twice."""
    struck = time.monotonic()
    for _ in range(2):
        _pause_clients(case.ground.deployment.redis.port, seconds)
        case.account.done[f"Redis busy for {seconds} s"] += 1
    case.recovered(case.ground.await_progress(struck))


def _pause_clients(port: int, seconds: int) -> None:
    with redis.Redis(port=port, socket_timeout=seconds + 10) as client:
        client.execute_command("CLIENT", "PAUSE", seconds * 1000, "ALL")
        client.ping()


def _frozen(case: Case, server: ServerProcess, seconds: float) -> None:
    struck = time.monotonic()
    server.pause()
    _through(case, seconds, server.resume)
    case.recovered(case.ground.await_progress(struck, within_s=120))


def _away(case: Case, server: ServerProcess, seconds: float) -> None:
    struck = time.monotonic()
    server.kill()
    _through(case, seconds, server.start)
    case.recovered(case.ground.await_progress(struck, within_s=120))


def _through(case: Case, seconds: float, mend: Callable[[], object]) -> None:
    ending = time.monotonic() + seconds
    while time.monotonic() < ending:
        time.sleep(0.2)
        case.ground.revive()
    mend()
