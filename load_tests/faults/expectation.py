"""What must have happened, worked out slowly from the log of acknowledged events.

The rules are those of ``load_tests/faults/rules``; what they promise is told by ``load_tests.simulation.oracle``, which
goes through a customer's whole history again for every question. Nothing of the engine takes part but the names of
things and the hash behind an action's id.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load_tests.simulation.oracle import (
    Arrival,
    OracleRule,
    OracleStage,
    absences_latest,
    distinct,
    sends,
    stages_walked,
)
from orchestrator.core.action import action_id

RULES = Path(__file__).with_name("rules")

LATENESS_MS, ABSENCE_MS, DWELL_MS, REENTRY_MS = 6_000, 3_000, 5_000, 2_000
#: After this long without an event no timer of a customer is left.
REST_MS = DWELL_MS + 1_000

STAGES = (
    OracleStage("basket", event="cart_updated"),
    OracleStage("ordered", event="order_completed", final=True),
    OracleStage("abandoned", dwell_ms=DWELL_MS, final=True),
)
CALLBACK = OracleRule("callback", "call", LATENESS_MS)
LETTER = OracleRule("letter", "email", LATENESS_MS)
HELP = OracleRule("help", "push", LATENESS_MS, cooldown_ms=1_000, caps=(("rule", 3, 20_000),))
_TRIGGERS = (("lead_submitted", CALLBACK), ("receipt_requested", LETTER), ("payment_failed", HELP))
#: The connector that each rule sends by.
CONNECTORS = {"callback": "voice", "winback": "sms", "help": "push", "welcome": "push", "letter": "email"}
_CONTACT, _PURCHASE = "contact/", "purchase/"
_RECEIPTS = {"action_delivered", "action_failed", "action_expired", "action_cancelled"}


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a customer in the end: the run's stage and moments, the trait's value, the pages counted."""

    run: tuple[str, int, int, bool] | None
    number: int | None
    pages: int


@dataclass(slots=True)
class Expectation:
    """Of the customers of a run: actions by id, ids that were taken back, and each customer's standing.

    ``due`` maps the ids of actions to their rules. What is in ``withdrawn`` may or may not have been sent.
    ``receipts`` are the last words that came back, by action id: for each type the detail. The dispatcher may write
    one word again, under one id; two words are a contradiction. ``doubtful`` are actions of which a last word says that
    they may have arrived all the same. ``logged`` are the events of the log as it holds them, each of its records.
    """

    due: dict[str, str] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    standings: dict[str, Standing] = field(default_factory=dict)
    receipts: dict[str, dict[str, str]] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    logged: list[dict[str, Any]] = field(default_factory=list)
    event_ids: set[str] = field(default_factory=set)

    @property
    def duplicates(self) -> int:
        """How many records told of an event that was in the log already."""
        return len(self.logged) - len(self.event_ids)


@dataclass(slots=True)
class _Customer:
    log: list[Arrival] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


def expectation(records: Iterable[Any], watch: str, until_ms: int) -> Expectation:
    """Return what follows from the records of ``journey.events`` when timers are due up to ``until_ms``.

    ``watch`` is the engine's name of the one absence, of which a timer's id is made. Records that are no events are
    left out, as they must be.
    """
    found = Expectation()
    customers: defaultdict[str, _Customer] = defaultdict(_Customer)
    for stamp_ms, event in _events(records):
        if event["type"] in _RECEIPTS:
            told = event["properties"]
            found.receipts.setdefault(told["action_id"], {})[event["type"]] = told.get("detail", "")
            if told.get("certain") is False:
                found.doubtful.add(told["action_id"])
            continue
        if event.get("source") == "dispatcher":
            continue
        found.logged.append(event)
        found.event_ids.add(event["id"])
        customer = customers[event["customer_id"]]
        customer.log.append(Arrival(event["id"], event["type"], stamp_ms, event["occurred_at"]))
        customer.numbers[event["id"]] = event.get("properties", {}).get("number")
    for name, customer in customers.items():
        _work_out(found, name, customer, watch, until_ms)
    return found


def _events(records: Iterable[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for record in records:
        try:
            told = json.loads(record.value)
        except (ValueError, TypeError, RecursionError):
            continue
        for event in told if isinstance(told, list) else [told]:
            if isinstance(event, dict) and isinstance(event.get("occurred_at"), int) and event.get("customer_id"):
                yield record.timestamp, event


def _work_out(found: Expectation, name: str, customer: _Customer, watch: str, until_ms: int) -> None:
    log = distinct(customer.log)
    for trigger, rule in _TRIGGERS:
        for sent in sends(log, trigger, [rule]):
            found.due[_id(name, rule.id, sent.cause)] = rule.id
    _expect_winbacks(found, name, log, watch, until_ms)
    pages = [one for one in log if one.type == "page_viewed"]
    if pages and pages[0].late_ms <= LATENESS_MS:
        found.due[_id(name, "welcome", pages[0].id)] = "welcome"
    run, _ = stages_walked(log, STAGES, REENTRY_MS, until_ms)
    stood = None if run is None else (STAGES[run.place].name, run.started_ms, run.entered_ms, run.ended)
    found.standings[name] = Standing(stood, _trait(log, customer.numbers), len(pages))


def _expect_winbacks(found: Expectation, name: str, log: Sequence[Arrival], watch: str, until_ms: int) -> None:
    """An order takes back those firings that were made before it was known and whose spans it lies in."""
    filled = {one.id: one.at_ms for one in log if one.type == "cart_updated"}
    orders = [one for one in log if one.type == "order_completed"]
    for effect in absences_latest(log, "cart_updated", "order_completed", ABSENCE_MS, LATENESS_MS, until_ms):
        if effect.what != "fire":
            continue
        one, began_ms = _id(name, "winback", f"absence|{watch}|@{effect.at_ms}"), filled[effect.cause]
        found.due[one] = "winback"
        if any(began_ms <= late.at_ms < began_ms + ABSENCE_MS and late.stamp_ms >= effect.at_ms for late in orders):
            found.withdrawn.add(one)


def _trait(log: Sequence[Arrival], numbers: dict[str, Any]) -> int | None:
    """The number of the newest ``identify`` by event time, of those of one moment the last that came."""
    newest: tuple[int, int | None] = (-1, None)
    for one in log:
        if one.type == "identify" and one.at_ms >= newest[0]:
            newest = (one.at_ms, numbers[one.id])
    return newest[1]


def _id(customer: str, rule: str, cause: str) -> str:
    return action_id("default", customer, _CONTACT, rule, "0", cause)
