"""Faults of delivery: connectors that misbehave, and dispatchers killed between an answer and the ledger."""

from __future__ import annotations

import json
import random  # noqa: TID251 - the seeded nemesis.
import time
from collections.abc import Sequence
from typing import Any

import httpx

from load_tests.faults.case import Act, Case
from load_tests.faults.ground import Ground
from load_tests.processes import RoleProcess
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS

_CALLS = "/v1/calls"
#: As the rules' ``connectors.yaml`` says of calls.
_ATTEMPTS_MAX = 6
_FAILING = 20
#: How far the others' slowest percent may move by chance while one connector hangs.
_NOISE_MS = 200


def disturb_connector(case: Case) -> Act:
    """Let calls fail in every way, one after another, and look at what the other connectors notice of it."""
    ground = case.ground
    ground.patiently(lambda: ground.view.fresh(DEAD_LETTERS))
    span_s = case.times(12, short=3)
    usual = _others(ground, span_s)
    case.account.notes.append(f"p99 of the other connectors: {usual} ms undisturbed")
    _decided(ground, "voice")
    _order(case, "answers of 500", span_s, status=500)
    _order(case, "answers of 429", span_s / 2, status=429, retry_after=1)
    _order(case, "500 although it was taken", span_s / 2, status=500, accept=True)
    _order(case, "no answer after it was taken", span_s / 2, delay_s=17)
    struck = time.monotonic()
    _misbehave(ground, delay_s=10)
    during = _others(ground, span_s)
    _behave(ground)
    case.account.done["answers after 10 s"] += 1
    case.account.notes.append(f"{during} ms while every call hung for 10 s")
    # A few seconds hold too few deliveries for a slowest percent.
    unmoved = case.short or during <= 3 * usual + _NOISE_MS
    case.account.promise(unmoved, f"the others' p99 went from {usual} to {during} ms while calls hung")
    # Every call that was decided until now may have been given up, and taken each time that it was tried.
    calls = _decided(ground, "voice")
    case.account.bounds.failed["voice"] += calls
    case.account.bounds.repeats["voice"] += calls * (_ATTEMPTS_MAX - 1)
    for _ in range(case.times(3)):
        _reset_connections(case)
        case.pause(1.0)
    case.recovered(ground.await_deliveries(struck))
    verdict = yield
    letters = [one for one in ground.view.fresh(DEAD_LETTERS) if b'"origin":"dispatcher"' in one.value]
    case.account.notes.append(f"{verdict.failed} given up after the budget, {len(letters)} dead letters")
    case.account.promise(
        len(letters) == verdict.failed, f"{verdict.failed} failed, {len(letters)} dead letters of the dispatcher"
    )


def kill_dispatchers(case: Case) -> Act:
    """Kill dispatchers while answers are under way, after they came and before the ledger knows, and anywhere."""
    deployment = case.ground.deployment
    wanted = case.times(51)
    if not case.short:
        deployment.add_dispatcher()
        deployment.add_dispatcher()
    manners = [_anywhere, _answered_but_unwritten, _taken_but_unanswered]
    while case.account.done["kill -9 of a dispatcher"] < wanted:
        case.ground.await_roles()
        number = case.chance.randint(1, len(deployment.dispatchers))
        struck = time.monotonic()
        manner = manners[1] if case.short else case.chance.choice(manners)
        manner(case, case.chance.sample(deployment.dispatchers, number))
        case.account.done["kill -9 of a dispatcher"] += number
        case.recovered(case.ground.await_deliveries(struck))
    for surplus in deployment.dispatchers[1:]:
        deployment.dispatchers.remove(surplus)
        case.ground.stop(surplus)
    verdict = yield
    repeated = [one["id"] for one in _received(case.ground, "email") if one["repeats"]]
    case.account.promise(not repeated, f"{len(repeated)} letters came twice although their policy is to drop")
    case.account.notes.append(
        f"{verdict.dropped} letters dropped by policy and told of, none repeated; "
        f"{verdict.retracted} actions were said to be delivered and then dropped or cancelled"
    )


def _reset_connections(case: Case) -> None:
    """Kill the receiver and start it again: what is written to connections that were open may have been taken."""
    ground = case.ground
    _decided(ground, "email")
    case.note_under_way()
    ground.kill(ground.deployment.receiver)
    case.note_under_way()
    ground.launch(ground.deployment.receiver)
    ground.await_roles()
    case.account.bounds.dropped += _decided(ground, "email")
    case.account.done["connections reset"] += 1


def _decided(ground: Ground, connector: str) -> int:
    """Return how many actions of a connector were decided since the last look."""
    records = ground.patiently(lambda: ground.view.fresh(ACTIONS, connector))
    actions = [json.loads(one.value) for one in records]
    return sum(one.get("connector") == connector and not one.get("cancel") for one in actions)


def _anywhere(case: Case, victims: Sequence[RoleProcess]) -> None:
    case.pause(1.0)
    _strike(case, victims)


def _answered_but_unwritten(case: Case, victims: Sequence[RoleProcess]) -> None:
    """While the broker is frozen connectors answer, but their receipts cannot be written: that is when it strikes."""
    kafka = case.ground.deployment.kafka
    kafka.pause()
    try:
        time.sleep(0.3)
        _strike(case, victims)
    finally:
        kafka.resume()
    case.account.done["of these between answer and ledger"] += len(victims)


def _taken_but_unanswered(case: Case, victims: Sequence[RoleProcess]) -> None:
    _misbehave(case.ground, path="*", times=50, delay_s=1)
    time.sleep(0.5)
    _strike(case, victims)
    _behave(case.ground)
    case.account.done["of these while answers were under way"] += len(victims)


def _strike(case: Case, victims: Sequence[RoleProcess]) -> None:
    case.ground.kill(*victims)
    case.note_under_way()
    case.ground.launch(*victims)


def fail_calls(ground: Ground, chance: random.Random) -> int:
    """Let some calls fail in one of the ways that pass, for a few seconds, and return how many at most."""
    orders: list[dict[str, Any]] = [
        {"status": 500},
        {"status": 429, "retry_after": 1},
        {"status": 500, "accept": True},
        {"delay_s": 10},
    ]
    _misbehave(ground, times=_FAILING, **chance.choice(orders))
    time.sleep(chance.uniform(1, 3))
    _behave(ground)
    return _FAILING


# ---------------------------------------------------------------------------------------------- the receiver


def _order(case: Case, what: str, seconds: float, **order: Any) -> None:
    """Let calls misbehave for a while."""
    _misbehave(case.ground, **order)
    time.sleep(seconds)
    _behave(case.ground)
    case.account.done[f"{seconds:g} s of {what}"] += 1


def _misbehave(ground: Ground, *, path: str = _CALLS, times: int = 100_000, **order: Any) -> None:
    url = f"{ground.deployment.receiver.url}/control"
    httpx.post(url, json={"path": path, "times": times, **order}).raise_for_status()


def _behave(ground: Ground) -> None:
    httpx.delete(f"{ground.deployment.receiver.url}/control").raise_for_status()


def _received(ground: Ground, kind: str) -> list[dict[str, Any]]:
    url = f"{ground.deployment.receiver.url}/v1/received"
    items: list[dict[str, Any]] = httpx.get(url, params={"kind": kind, "limit": 5_000}, timeout=30).json()["items"]
    return items


def _others(ground: Ground, seconds: float) -> int:
    """Return the p99, in ms, from decision to arrival of what other connectors get during the next seconds."""
    since_ms = max((one["at_ms"] for one in _received(ground, "push")), default=0)
    time.sleep(seconds)
    found = sorted(one["latency_ms"] for one in _received(ground, "push") if one["at_ms"] > since_ms)
    if not found:
        raise AssertionError("nothing arrived at the other connectors")
    return int(found[min(len(found) - 1, round(0.99 * len(found)))])
