"""Faults of Kafka and Redis: restarted, killed, frozen, slow and away, under load."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable

import redis

from load_tests.faults.case import Act, Case
from load_tests.faults.machine import peak_mb, rss_mb
from load_tests.servers import ServerProcess

#: What a role may grow by while a broker is frozen: far more than its buffers hold, far less than a leak brings.
_GROWTH_MB_MAX = 150.0
#: Longer than the gateway waits for the broker.
_AWAY_S = 15


def restart_kafka(case: Case) -> Act:
    """Stop the broker cleanly or kill it, half of the times aimed at a commit, and start it again on the same log.

    Once it is away for longer than the gateway waits for it, so that ingest has to refuse.
    """
    kafka = case.ground.deployment.kafka
    after_s: list[float] = []
    for number in range(case.times(20)):
        case.ground.await_roles()
        kill = bool(number % 2) or case.short
        case.aim()
        struck = time.monotonic()
        kafka.kill() if kill else kafka.stop()
        case.account.done["of these that left decisions to publish"] += case.note_unanswered() > 0
        kafka.start()
        answered = time.monotonic()
        _note_answers(case, struck, answered)
        case.account.done["kill -9 of the broker" if kill else "clean restart of the broker"] += 1
        case.recovered(case.ground.await_progress(struck, within_s=120))
        after_s.append(time.monotonic() - answered)
    case.account.notes.append(
        f"of the recovery, {statistics.median(after_s):.1f} s (at worst {max(after_s):.1f} s) came after the broker "
        "answered again; the rest is the broker's own start"
    )
    if not case.short:
        answers = _away(case, kafka, _AWAY_S)
        case.account.done[f"broker away for {_AWAY_S} s"] += 1
        case.account.promise(answers[503] > 0, f"ingest never answered 503 while the broker was away: {answers}")
    yield


def freeze_kafka(case: Case) -> Act:
    """Freeze the broker for half a minute and more: the engine refuses or waits, within the memory that it has."""
    deployment = case.ground.deployment
    roles = [deployment.gateway, deployment.dispatcher, *case.ready_workers()]
    before = [(role, role.pid, rss_mb(role.pid)) for role in roles]
    for seconds in [31, 45][: case.times(2)] if not case.short else [12]:
        answers = _frozen(case, deployment.kafka, seconds)
        case.account.done[f"broker frozen for {seconds} s"] += 1
        refused = answers[503] + answers[429]
        case.account.promise(refused > 0, f"ingest refused nothing while the broker was frozen: {dict(answers)}")
    for role, pid, was_mb in before:
        same = role.running and role.pid == pid
        case.account.promise(same, f"the {role.name} of process {pid} did not live through it")
        grown = peak_mb(pid) - was_mb if same else 0.0
        case.account.notes.append(f"{role.name}: from {was_mb:.0f} MB by {grown:.0f} MB at its peak")
        case.account.promise(grown < _GROWTH_MB_MAX, f"a {role.name} grew by {grown:.0f} MB")
    yield


def disturb_redis(case: Case) -> Act:
    """Restart Redis, cleanly and by kill -9; make it slow; take it away for longer than clients wait."""
    server = case.ground.deployment.redis
    for number in range(case.times(20)):
        case.ground.await_roles()
        case.aim()
        kill = bool(number % 2) or case.short
        _note_before(case)
        struck = time.monotonic()
        server.restart(kill=kill)
        case.account.done["of these that left decisions to publish"] += case.note_unpublished() > 0
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
    case.account.notes.append(
        f"{verdict.repeats} repeats under one id, of {case.account.bounds.repeats.total()} that were under way"
    )


def _note_before(case: Case) -> None:
    """Note what Redis is asked about just before it is struck: afterwards it cannot say."""
    case.note_under_way()
    case.note_unpublished()


def _slow(case: Case, seconds: int) -> None:
    """Let Redis keep every command waiting for up to ``seconds``, twice."""
    struck = time.monotonic()
    for _ in range(2):
        _note_before(case)
        _pause_clients(case.ground.deployment.redis.port, seconds)
        case.account.done[f"Redis busy for {seconds} s"] += 1
    case.recovered(case.ground.await_progress(struck))


def _pause_clients(port: int, seconds: int) -> None:
    with redis.Redis(port=port, socket_timeout=seconds + 10) as client:
        client.execute_command("CLIENT", "PAUSE", seconds * 1000, "ALL")
        client.ping()


def _frozen(case: Case, server: ServerProcess, seconds: float) -> Counter[int]:
    """Freeze a server for a while and return what ingest answered meanwhile."""
    _note_before(case)
    struck = time.monotonic()
    server.pause()
    return _through(case, server, struck, server.resume, seconds=seconds)


def _away(case: Case, server: ServerProcess, seconds: float) -> Counter[int]:
    """Kill a server, start it again after a while, and return what ingest answered meanwhile."""
    _note_before(case)
    struck = time.monotonic()
    server.kill()
    return _through(case, server, struck, server.start, seconds=seconds)


def _through(
    case: Case, server: ServerProcess, struck: float, mend: Callable[[], object], *, seconds: float
) -> Counter[int]:
    ending = struck + seconds
    while time.monotonic() < ending:
        time.sleep(0.2)
        case.ground.revive()
    ended = time.monotonic()
    if server is case.ground.deployment.kafka:
        case.note_unanswered()
    mend()
    case.recovered(case.ground.await_progress(struck, within_s=120))
    return _note_answers(case, struck, ended)


def _note_answers(case: Case, since: float, until: float) -> Counter[int]:
    """Note and return what ingest answered; the load ends on any other answer than 2xx, 429 and 503."""
    answers = case.load.answers(since, until)
    for status, number in answers.items():
        case.account.answers[status] += number
    case.account.promise(not answers[0], f"{answers[0]} requests got no answer although the gateway ran")
    return answers
