"""Scenarios that cross several parts of the language, and where each of the fifteen is told.

==  ===============================================================================================
 1  test_limits: a lead in the afternoon (and tests/project/test_readme for the second it takes)
 2  here, and test_limits: a lead at night
 4  test_absence: a basket without an order
 5  test_absence: an order that arrives after the firing
 6  here: a KYC that stalls
 7  test_limits: three failures within ten minutes
 8  test_stages_and_plays: conversion in minute one of a wait of thirty days
 9  test_stages_and_plays: one rule wins the slot
10  test_limits: fifty events at once
13  test_versions
14  here: a backtest is the live decision
15  test_explain, test_erasure, test_identity
==  ===============================================================================================

1, 2, 3, 10, 11 and 12 need connectors as well: tests/integration/test_scenarios.py tells them with real servers.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.adapters.memory_state_store import MemoryStateStore
from orchestrator.core.state import CustomerState, decode_state, encode_state
from orchestrator.runtime.intake import Intake, Limits, encode_event
from orchestrator.runtime.ports import ACTIONS, Record
from orchestrator.runtime.replay import replay
from orchestrator.runtime.sequencer import Sequencer
from orchestrator.runtime.surroundings import Extent, Surroundings
from orchestrator.runtime.worker import Worker

NIGHT = """
    journey: lead
    title: From lead to deal
    key: event.lead_id
    stages:
      submitted: {on: {event: lead_submitted}}
      won:       {on: {event: deal_won}, goal: true}
    rules:
      - id: callback
        title: Call at once
        on: {enter: submitted}
        do:
          - send:
              connector: voice
              template: call
              fallback: [{connector: sms, template: text, consent: [service]}]
        limits:
          consent: [callback]
          quiet_hours: {from: "21:00", to: "08:00", zone: profile, then: defer, kinds: [call]}
"""


@pytest.mark.parametrize(
    ("consents", "rows"),
    [
        (
            {"callback": True, "service": True},
            [
                ("+0s", "deferred callback", "quiet_hours"),
                ("+0s", "sent callback", "fallback"),
                ("+36000s", "sent callback", "revalidated"),
            ],
        ),
        (
            {"callback": True},
            [("+0s", "deferred callback", "quiet_hours"), ("+36000s", "sent callback", "revalidated")],
        ),
    ],
    ids=["a text goes at once where that channel allows it", "and not where it does not"],
)
def test_a_lead_at_night_is_called_in_the_morning(tell, consents, rows):
    story = tell(NIGHT, at="2026-03-02T22:00:00+05:30", traits={"timezone": "Asia/Kolkata"}, consents=consents)
    story.happens("0s", "lead_submitted", lead_id="l1", phone="+919812345678")
    assert story.told("11h").table() == rows


KYC = """
    journey: kyc
    title: Know your customer
    stages:
      started:   {on: {event: kyc_started}}
      completed: {on: {event: kyc_completed}, goal: true}
    rules:
      - id: stalled
        title: Stalled for a day
        on: {absence: {after: kyc_started, of: kyc_completed, for: 24h}}
        do: [{send: {connector: push, template: note}}]
        limits: {consent: [service]}
"""
SERVICE = {"service": True}


@pytest.mark.parametrize(("completed_at", "nudges"), [(None, 1), ("23h59m59s", 0), ("25h", 1)])
def test_a_kyc_that_stalls_is_nudged_once_whatever_restarts_in_between(tell, completed_at, nudges):
    """The state is stored and read back before every stimulus, as a restart or a rebalance would."""
    story = tell(KYC, consents=SERVICE)
    story.happens("0s", "kyc_started")
    story.happens("1h", "email_opened")
    if completed_at:
        story.happens(completed_at, "kyc_completed")
    state = CustomerState(consents={"service": (True, 0)})
    sent = []
    for until in [*(event.received_at_ms for event in story.events), story.moment("30h"), story.moment("60h")]:
        restarted = {"c1": decode_state(encode_state(state))}
        sequencer = Sequencer(story.rulebook, restarted)
        wake_ms = restarted["c1"].next_wake_ms()
        sequencer.expect([] if wake_ms is None else [(wake_ms, "c1")])
        for event in story.events:
            if event.received_at_ms == until:
                sequencer.apply(event, until)
        sequencer.advance(until)
        sent += [action for action in sequencer.outcome.actions if not action.cancel]
        state = restarted["c1"]
    assert [action.decided_at for action in sent] == [story.moment("24h")] * nudges


class _Now:
    """A clock that stands where the story ends."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class _Whole:
    """The extent of a log that begins at its beginning."""

    def __init__(self, end: int) -> None:
        self._end = end

    async def extent(self, partition: int) -> Extent:
        return Extent("log", 0, self._end)


class _EveryType:
    """A tracking plan that declares everything."""

    def check(self, type, properties):
        return None


class _InForce:
    def __init__(self, rulebook) -> None:
        self.current = rulebook


async def test_a_backtest_is_the_live_decision_to_the_byte(tell):
    """The commit protocol over real records, cut into odd batches, and one replay of the same log."""
    story = tell(KYC.replace("rules:", "reentry: {after: 0s}\n    rules:"), consents={})
    granted = {"consent": {"categoryPreferences": {"service": True}}}
    for number in range(60):
        story.customer_id = f"c{number % 7}"
        story.happens(f"{number}h", "kyc_started", id=f"s{number}", context=granted)
        if number % 3 == 0:
            story.happens(f"{number}h", "kyc_completed", id=f"k{number}", context=granted)
    until_ms = story.moment("100h")
    clock = _Now(until_ms)
    log = MemoryEventLog(clock)
    worker = Worker(
        Surroundings(
            store=MemoryStateStore(),
            log=log,
            extents=_Whole(len(story.events)),
            intake=Intake(_EveryType(), "default", Limits(event_bytes_max=32_000, depth_max=16, future_tolerance_ms=0)),
            rulebooks=_InForce(story.rulebook),
            clock=clock,
            grace_ms=0,
        )
    )
    records = [
        Record(0, offset, one.received_at_ms, one.customer_id.encode(), encode_event(one))
        for offset, one in enumerate(story.events)
    ]
    await worker.assigned(0)
    start = 0
    for size in (1, 3, 7, 11, len(records)):
        await worker.process(0, records[start : start + size])
        start += size
    await worker.advance(0, until_ms)
    published = await log.read_range(ACTIONS, 0, 0, 10_000)
    live = [record.value for record in published]
    replayed = replay(story.rulebook, story.events, until_ms=until_ms)
    assert live == [msgspec.json.encode(action) for action in replayed.actions]
    assert live
