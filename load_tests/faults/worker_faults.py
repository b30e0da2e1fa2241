"""Faults of workers: killed, killed while they recover, frozen, restarted in turn, added and removed without rest."""

from __future__ import annotations

import time
from collections.abc import Mapping

from load_tests.faults.case import Act, Case
from load_tests.processes import RoleProcess
from orchestrator.runtime.ports import EVENTS

#: How many owners are killed at most until one has left an outbox behind.
_ORPHANS_TRIED_MAX = 12
#: How long a frozen worker sleeps: beyond the session timeout of six seconds.
_FROZEN_S = 9.0


def kill_workers(case: Case) -> Act:
    """Kill one, two or all workers at once: half of the times wherever they are, half aimed at a commit."""
    wanted = case.times(100, short=1)
    while case.account.done["kill -9 of a worker"] < wanted:
        workers = case.ready_workers()
        owners = case.ground.owners()
        number = case.chance.choices([1, 2, len(workers)], [2, 5, 3])[0] if wanted > 1 else 1
        victims = case.chance.sample(workers, number)
        if case.chance.random() < 0.5:
            case.pause(1.0)
        elif (partition := case.within_commit()) is not None:
            case.account.done["of these aimed at a commit"] += number
            if partition in owners and owners[partition] not in victims:
                victims[0] = owners[partition]
        _kill(case, victims, owners)
    yield


def kill_recovering_workers(case: Case) -> Act:
    """Kill the owner of a partition that has decisions to publish, then its heirs as soon as they have taken it.

    The first kill waits for an outbox that is not empty, until one is left behind that is not. Whoever takes that
    partition has a new epoch, the outbox still to publish and the log to catch up with: at that moment every
    worker is killed, the heir among them. Only heirs that left work behind count.
    """
    ground, done = case.ground, case.account.done
    for _ in range(case.times(5)):
        struck = time.monotonic()
        partition = _orphaned(case)
        for _ in range(case.times(3, short=2)):
            _await_heir(case, partition)
            ground.kill(*ground.deployment.workers)
            case.note_unpublished()
            done["kill of an heir"] += 1
            done["of these with an outbox to publish"] += ground.outboxes()[partition] > 0
            done["of these with a log to catch up with"] += _behind(case, partition) > 0
            ground.launch(*ground.deployment.workers)
        case.recovered(ground.await_progress(struck, within_s=90))
    case.account.notes.append("recovery is from the first kill of a chain; every kill in it costs the silence anew")
    hits = done["of these with an outbox to publish"] + done["of these with a log to catch up with"]
    case.account.promise(hits > 0, "no kill fell into a recovery")
    verdict = yield
    case.account.notes.append(f"{verdict.republished} actions were published again")
    case.account.promise(verdict.republished > 0, "nothing was published again, so no kill fell between P1 and P3")


def _orphaned(case: Case) -> int:
    """Kill owners of partitions until one leaves an outbox that is not empty, and return its partition."""
    ground = case.ground
    for _ in range(_ORPHANS_TRIED_MAX):
        case.ready_workers()
        owners = ground.owners()
        partition = case.within_commit()
        if partition is None or partition not in owners:
            continue
        ground.kill(owners[partition])
        case.account.done["kill of an owner"] += 1
        left = ground.outboxes()
        held = [one for one, number in left.items() if number and owners.get(one) is owners[partition]]
        case.note_unpublished()
        ground.launch(owners[partition])
        if held:
            case.account.done["of these within a commit"] += 1
            return held[0]
        ground.await_progress(time.monotonic())
    raise AssertionError("no kill of an owner left anything in an outbox")


def _await_heir(case: Case, partition: int) -> None:
    """Return the moment that the partition has another epoch."""
    epoch = case.ground.epochs()[partition]
    case.ground.until(
        lambda: case.ground.epochs()[partition] > epoch,
        within_s=40,
        because="the partition is taken over",
        pause_s=0,
    )


def _behind(case: Case, partition: int) -> int:
    """Return how many records of a partition are not applied."""
    ends = case.ground.patiently(lambda: case.ground.view.ends(EVENTS))
    return int(ends[partition]) - case.ground.positions()[partition]


def freeze_workers(case: Case) -> Act:
    """Freeze a worker beyond the session timeout, let it go on, and see that others have taken its place."""
    for _ in range(case.times(3)):
        frozen = case.chance.choice(case.ready_workers())
        if case.chance.random() < 0.7:
            case.within_commit()
        struck = time.monotonic()
        frozen.pause()
        # What it was publishing may still arrive when it wakes up, after its heir has published it.
        case.note_unpublished(copies=2)
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
            case.ground.stop(old)
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
            if abrupt:
                case.ground.kill(leaving)
                case.note_unpublished()
            else:
                case.ground.stop(leaving)
            case.account.done["worker killed" if abrupt else "worker stopped"] += 1
    struck = time.monotonic()
    while len(deployment.workers) < usual:
        deployment.add_worker()
    while len(deployment.workers) > usual:
        deployment.remove_worker().stop()
    case.recovered(case.ground.await_progress(struck))
    yield


def _kill(case: Case, victims: list[RoleProcess], owners: Mapping[int, RoleProcess]) -> None:
    """Kill workers, start them again, and note how long it took until every partition went on."""
    struck = time.monotonic()
    case.ground.kill(*victims)
    left = case.ground.outboxes()
    case.account.bounds.republished += sum(left.values())
    case.ground.launch(*victims)
    held = {owners[one].folder for one, number in left.items() if number and one in owners and owners[one] in victims}
    case.account.done["kill -9 of a worker"] += len(victims)
    case.account.done["strikes"] += 1
    case.account.done["workers that left an outbox behind"] += len(held)
    case.recovered(case.ground.await_progress(struck))
