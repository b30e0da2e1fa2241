"""Faults of input: poison, disorder, a backlog with timers in it, other rules under way, more than can be taken."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from load_tests.faults.case import Act, Case
from load_tests.faults.expectation import RULES
from load_tests.faults.ground import Ground, now_ms
from load_tests.faults.machine import peak_mb
from load_tests.faults.story import WEIGHTS, Event, Story
from load_tests.processes import RoleProcess
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, EVENTS

#: Refusals at once of one producer.
_FLOOD = 5_000
#: How long three times the capacity is offered.
_OVERLOAD_S = 40
#: How long it may take after that until nothing waits any more.
_DRAINED_S_MAX = 300
#: No role may ever take more; a gigabyte would be a leak at these numbers of customers.
_PEAK_MB_MAX = 600.0
_DAY_MS = 86_400_000


def poison(case: Case) -> Act:
    """Append records that are no events between those that are, then a flood of them from one producer alone."""
    ground = case.ground
    ground.patiently(lambda: ground.view.fresh(DEAD_LETTERS))
    sent = 0
    for _ in range(case.times(6)):
        records = list(_poison(case.chance.randrange(10**9)))
        ground.view.append(EVENTS, records)
        sent += len(records)
        case.pause(1.0)
    # More by far than everybody else sends meanwhile, so that nearly all of what a worker reads is refused.
    ground.view.append(EVENTS, [(b"spoilt-3", b"{")] * _FLOOD)
    sent += _FLOOD
    case.account.done["poison records"] += sent
    yield
    letters = [json.loads(one.value) for one in ground.view.fresh(DEAD_LETTERS)]
    places = {(one.get("partition"), one.get("offset")) for one in letters}
    case.account.notes.append(f"{len(letters)} dead letters, for {len({one.get('code') for one in letters})} reasons")
    case.account.promise(
        len(letters) == len(places) == sent, f"{len(letters)} dead letters for {len(places)} of {sent} poison records"
    )


def _poison(number: int) -> Iterator[tuple[bytes | None, bytes]]:
    """One record of each kind; ``number`` makes their ids new."""

    def event(**other: Any) -> bytes:
        told = {"id": f"spoilt-{number}", "type": "page_viewed", "customer_id": "spoilt-1", "occurred_at": now_ms()}
        return json.dumps(told | other).encode()

    key = b"spoilt-1"
    yield key, b'{"id": "broken", '
    yield key, b"\xff\xfe\x00"
    yield key, b""
    yield key, b"[]"
    yield key, b"42"
    yield key, event(customer_id=7)
    yield key, event(occurred_at="yesterday")
    yield key, event(occurred_at=now_ms() + _DAY_MS)
    yield key, event(type="never_declared")
    yield key, event(id="")
    yield key, event(properties={"deep": json.loads("[" * 40 + "]" * 40)})
    yield key, event(properties={"large": "x" * 60_000})
    yield b"spoilt-2", event()
    yield None, event()


def disorder(case: Case) -> Act:
    """Let most events come late, out of order, dated ahead or twice, and kill a worker meanwhile."""
    time.sleep(case.times(15, short=3))
    victim = case.chance.choice(case.ready_workers())
    struck = time.monotonic()
    case.ground.kill(victim)
    case.note_unpublished()
    case.ground.launch(victim)
    case.recovered(case.ground.await_progress(struck))
    verdict = yield
    case.account.done["events out of time"] += round(0.6 * verdict.events)
    case.account.done["duplicates"] += verdict.duplicates


def timers_while_down(case: Case) -> Act:
    """Stop all workers for longer than timers wait, while events that cancel some of them pile up."""
    ground, chance = case.ground, case.chance
    ground.patiently(lambda: ground.view.fresh(ACTIONS))
    for _ in range(case.times(3)):
        workers = case.ready_workers()
        began_ms = now_ms()
        for one in workers:
            if chance.random() < 0.5:
                ground.kill(one)
                case.note_unpublished()
            else:
                ground.stop(one)
        time.sleep(case.times(8, short=5))
        struck, ended_ms = time.monotonic(), now_ms()
        ground.launch(*workers)
        case.recovered(ground.await_progress(struck))
        case.account.done["all workers away past their timers"] += 1
        case.account.done["timers that came due meanwhile"] += _due_between(ground, began_ms, ended_ms, case)
    yield


def _due_between(ground: Ground, began_ms: int, ended_ms: int, case: Case) -> int:
    """Return how many timers were due in a span, after a check that each partition fired them in their order."""
    ends = ground.view.ends(ACTIONS)
    assert ends
    fired: dict[int, list[int]] = {}
    for record in ground.view.fresh(ACTIONS):
        action = json.loads(record.value)
        if action.get("rule") == "winback" and not action.get("cancel"):
            fired.setdefault(record.partition, []).append(action["decided_at"])
    for partition, moments in fired.items():
        case.account.promise(moments == sorted(moments), f"partition {partition} fired timers out of their order")
    return sum(began_ms < one < ended_ms for moments in fired.values() for one in moments)


def publish_under_way(case: Case) -> Act:
    """Publish one rulebook after another under load, kill a worker each time, and offer a rulebook that is none."""
    ground = case.ground
    ground.patiently(lambda: ground.view.fresh(ACTIONS))
    folders = [_edition(ground.folder, word) for word in ("two", "one")]
    versions: dict[str, str] = {}
    for number in range(case.times(4, short=1)):
        workers = case.ready_workers()
        publishing = _Publishing(ground, folders[number % 2])
        case.pause(2.0)
        struck = time.monotonic()
        victim = case.chance.choice(workers)
        ground.kill(victim)
        case.note_unpublished()
        ground.launch(victim)
        case.recovered(ground.await_progress(struck))
        versions[publishing.version()] = ("two", "one")[number % 2]
        case.account.done["rulebook published and a worker killed"] += 1
    _publish_bad(case)
    yield
    _check_editions(case, versions)


def _edition(folder: Path, word: str) -> Path:
    """Return the rules with another word in every template."""
    edition = folder / f"edition-{word}"
    shutil.copytree(RULES, edition, dirs_exist_ok=True)
    templates = edition / "templates.yaml"
    templates.write_text(templates.read_text().replace("edition one", f"edition {word}"))
    return edition


class _Publishing:
    """``journey publish`` beside what else happens."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        self._done: list[Any] = []
        url = ground.deployment.gateway.url
        run = ground.deployment.journey
        self._thread = threading.Thread(target=lambda: self._done.append(run("publish", str(folder), "--url", url)))
        self._thread.start()

    def version(self) -> str:
        """Return the version that was published, when that is done."""
        self._thread.join()
        done = self._done[0]
        if done.returncode != 0:
            raise AssertionError(f"journey publish: {done.stdout}{done.stderr}")
        return str(done.stdout.split()[1])


def _publish_bad(case: Case) -> None:
    """A rulebook with an error is refused and changes nothing."""
    ground = case.ground
    bad = _edition(ground.folder, "bad")
    path = bad / "contact.yaml"
    path.write_text(path.read_text().replace("connector: voice", "connector: nowhere"))
    url = ground.deployment.gateway.url
    before = ground.deployment.journey("versions", "--url", url, "--json").stdout
    refused = ground.deployment.journey("publish", str(bad), "--url", url)
    after = ground.deployment.journey("versions", "--url", url, "--json").stdout
    case.account.promise(refused.returncode == 1, f"the invalid rulebook ended with {refused.returncode}")
    case.account.promise("contact.yaml" in refused.stderr, f"the refusal does not say where: {refused.stderr}")
    case.account.promise(before == after, "the invalid rulebook changed the versions")
    case.account.done["invalid rulebook refused"] += 1


def _check_editions(case: Case, versions: dict[str, str]) -> None:
    """Every action is wholly of one version."""
    seen: dict[str, int] = {}
    for record in case.ground.view.fresh(ACTIONS):
        action = json.loads(record.value)
        if action.get("cancel") or str(action["customer_id"]).startswith("canary"):
            continue
        version = action["rulebook_version"]
        word = versions.get(version, "one")
        seen[word] = seen.get(word, 0) + 1
        mixed = f"edition {word}" not in json.dumps(action["params"])
        case.account.promise(not mixed, f"action {action['id']} of version {version} says {action['params']}")
    case.account.notes.append("actions by edition: " + ", ".join(f"{one} {number}" for one, number in seen.items()))


def overload(case: Case) -> Act:
    """Offer three times what the deployment can take through the gateway, then stop; and a flood past the gateway."""
    ground = case.ground
    case.ready_workers()
    roles = [(one, one.pid) for one in ground.roles()]
    capacity = _capacity(case)
    seconds = case.times(_OVERLOAD_S, short=5)
    with ground.load("overload-flood", 1, rate=round(3 * capacity), customers=round(3 * capacity)) as flood:
        began = time.monotonic()
        time.sleep(seconds)
        offered = len(flood.sent()) / (time.monotonic() - began)
        behind = ground.patiently(lambda: _lag(ground))
    case.sent += flood.sent()
    case.acknowledged += flood.acknowledged()
    case.account.answers += flood.answers(began, time.monotonic())
    _await_drained(case)
    case.recovered(time.monotonic() - began)
    case.account.done[f"{seconds} s of three times what is decided and delivered"] += 1
    case.account.notes.append(
        f"decided and delivered before: {capacity:,.0f} events a second; offered: {offered:,.0f}, which is "
        f"{offered / capacity:.1f} times as much; {behind:,} events and actions waited when it stopped"
    )
    case.account.promise(offered > 2.5 * capacity, f"only {offered / capacity:.1f} times the capacity was offered")
    _flood(case)
    _await_drained(case)
    _promise_peaks(case, roles)
    yield


def _promise_peaks(case: Case, roles: Sequence[tuple[RoleProcess, int]]) -> None:
    """Promise that every role lived through it, and never held more than it may."""
    for role, pid in roles:
        same = role.running and role.pid == pid
        peak = peak_mb(pid) if same else 0.0
        case.account.notes.append(f"{role.name}: {peak:.0f} MB at its peak")
        case.account.promise(same, f"the {role.name} of process {pid} did not live through it")
        case.account.promise(peak < _PEAK_MB_MAX, f"a {role.name} took {peak:.0f} MB")


def _capacity(case: Case) -> float:
    """Return how many events a second of the usual mix are decided and delivered."""
    number = case.times(6_000, short=500)
    story = Story("overload-before", 1, now_ms, at_once=number // 12)
    began = time.monotonic()
    _append(case, [event for event, _ in zip(story.events(), range(number), strict=False)])
    _await_drained(case)
    return number / (time.monotonic() - began)


def _await_drained(case: Case) -> None:
    """Return when all that the log holds now is decided and delivered."""
    now = time.monotonic()
    case.ground.await_progress(now, within_s=_DRAINED_S_MAX)
    case.ground.await_deliveries(now, within_s=_DRAINED_S_MAX)
    case.ground.until(lambda: not case.ground.queued(), within_s=_DRAINED_S_MAX, because="all is delivered")


def _lag(ground: Ground) -> int:
    """Return how many events are not decided and how many actions are not settled."""
    ends, positions = ground.view.ends(EVENTS), ground.positions()
    return sum(end - positions[one] for one, end in ends.items()) + ground.queued()


def _flood(case: Case) -> None:
    """Append more at once than the workers take in that time, past the gateway, which would not pass on so much."""
    number = case.times(24_000, short=3_000)
    quiet = {"page_viewed": 30, "identify": 20, "order_completed": 5}
    story = Story("overload-burst", case.chance.randrange(10**6), now_ms, at_once=number // 12, weights=WEIGHTS | quiet)
    events: list[Event] = [event for event, _ in zip(story.events(), range(number), strict=False)]
    began = time.monotonic()
    _append(case, events)
    appended_s = time.monotonic() - began
    drained_s = case.ground.await_progress(began, within_s=240)
    case.account.done[f"{number} events past the gateway in {appended_s:.1f} s"] += 1
    case.account.notes.append(
        f"past the gateway {number / appended_s:,.0f} events a second were offered, {number / drained_s:,.0f} decided"
    )


def _append(case: Case, events: list[Event]) -> None:
    case.ground.view.append(EVENTS, [(one["customer_id"].encode(), json.dumps(one).encode()) for one in events])
    case.sent += events
    case.acknowledged += [one["id"] for one in events]
