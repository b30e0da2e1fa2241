"""Faults of workers: killed, killed while they recover, frozen, restarted in turn, added and removed without rest."""

from __future__ import annotations

import time

from load_tests.faults.case import Act, Case
from load_tests.processes import RoleProcess

#: How long a frozen worker sleeps: beyond the session timeout of six seconds.
_FROZEN_S = 9.0


def kill_workers(case: Case) -> Act:
    """Kill one, two or all workers at once: half of the times wherever they are, half within a commit."""
    wanted = case.times(100, short=1)
    while case.account.done["kill -9 of a worker"] < wanted:
        workers = case.ready_workers()
        number = case.chance.choices([1, 2, len(workers)], [2, 5, 3])[0] if wanted > 1 else 1
        victims = case.chance.sample(workers, number)
        if case.chance.random() < 0.5:
            case.pause(1.0)
        elif case.strike_within_commit():
            case.account.done["of these within a commit"] += number
        _kill(case, victims)
    yield


def kill_recovering_workers(case: Case) -> Act:
    """Kill a worker, then whoever takes its partitions over, again and again, before any recovery is complete."""
    for _ in range(case.times(5)):
        workers = case.ready_workers()
        struck = time.monotonic()
        victim = case.chance.choice(workers)
        for _ in range(case.times(3, short=2)):
            before = case.ground.epochs()
            _strike(case, [victim])
            _await_takeover(case, before)
            case.pause(0.3)
            alive = [one for one in case.ground.deployment.workers if one is not victim and one.ready()]
            victim = case.chance.choice(alive or workers)
            case.account.done["kill during recovery"] += 1
        _strike(case, [victim])
        case.recovered(case.ground.await_progress(struck, within_s=90))
    case.account.notes.append("recovery is from the first kill of a chain; every kill in it costs the silence anew")
    yield


def freeze_workers(case: Case) -> Act:
    """Freeze a worker beyond the session timeout, let it go on, and see that others have taken its place."""
    for _ in range(case.times(3)):
        frozen = case.chance.choice(case.ready_workers())
        if case.chance.random() < 0.7:
            case.strike_within_commit()
        struck = time.monotonic()
        frozen.pause()
        case.account.done["SIGSTOP beyond the session timeout"] += 1
        case.recovered(case.ground.await_progress(struck))
        time.sleep(max(0.0, _FROZEN_S - (time.monotonic() - struck)))
        frozen.resume()
        exits = len(case.ground.exits)
        case.ground.await_progress(time.monotonic())
        time.sleep(2)
        case.ground.await_roles()
        case.account.done["it ended and was replaced" if len(case.ground.exits) > exits else "it rejoined"] += 1
    yield


def restart_workers_in_turn(case: Case) -> Act:
    """Replace every worker by a fresh one, as a rolling update does: nothing lost, and nothing sent twice."""
    deployment = case.ground.deployment
    for _ in range(case.times(2)):
        for _ in case.ready_workers():
            deployment.add_worker()
            case.ground.await_roles()
            old = deployment.remove_worker()
            struck = time.monotonic()
            old.stop()
            case.account.promise(old.exit_code == 0, f"a worker that was asked to stop ended with {old.exit_code}")
            case.account.done["SIGTERM and a successor"] += 1
            case.recovered(case.ground.await_progress(struck))
    verdict = yield
    case.account.promise(verdict.republished == 0, f"{verdict.republished} actions were published again")


def storm(case: Case) -> Act:
    """Add or remove a worker every two to five seconds; half of those that go are killed."""
    deployment = case.ground.deployment
    usual = len(case.ready_workers())
    ending = time.monotonic() + case.times(60, short=12)
    while time.monotonic() < ending:
        time.sleep(case.chance.uniform(2, 5))
        case.ground.revive()
        if len(deployment.workers) <= usual - 1 or (len(deployment.workers) <= usual and case.chance.random() < 0.5):
            deployment.add_worker()
            case.account.done["worker added"] += 1
        else:
            leaving = deployment.remove_worker()
            abrupt = case.chance.random() < 0.5
            leaving.kill() if abrupt else leaving.stop()
            case.account.done["worker killed" if abrupt else "worker stopped"] += 1
    struck = time.monotonic()
    while len(deployment.workers) < usual:
        deployment.add_worker()
    while len(deployment.workers) > usual:
        deployment.remove_worker().stop()
    case.recovered(case.ground.await_progress(struck))
    yield


def _await_takeover(case: Case, before: dict[int, int]) -> None:
    case.ground.until(lambda: case.ground.epochs() != before, within_s=40, because="partitions are taken over")


def _kill(case: Case, victims: list[RoleProcess]) -> None:
    """Kill workers, start them again, and note how long it took until every partition went on."""
    struck = time.monotonic()
    _strike(case, victims)
    case.account.done["kill -9 of a worker"] += len(victims)
    case.account.done["strikes"] += 1
    case.recovered(case.ground.await_progress(struck))


def _strike(case: Case, victims: list[RoleProcess]) -> None:
    for one in victims:
        one.kill()
    for one in victims:
        one.launch()
