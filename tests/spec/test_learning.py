"""Learned propensity and decision windows: arbitration that gets better, and that waits a moment."""

from __future__ import annotations

import pytest

from orchestrator.core.propensity import Arm, BetaBernoulli, Lesson
from orchestrator.core.state import CustomerState
from orchestrator.runtime.replay import replay
from orchestrator.runtime.sequencer import Sequencer

SLOTS = """
    journey: contact
    title: Who may speak
    key: event.lead_id
    stages:
      submitted: {on: {event: lead_submitted}}
      won:       {on: {event: deal_won}, goal: true}
    rules:
      - id: call
        title: Call
        on: {event: lead_submitted}
        do: [{send: {connector: voice, template: call}}]
        limits: {consent: [service]}
        arbitrate: {slot: contact, propensity: {learn: call, reward: lead_contacted, horizon: 1d}}
      - id: text
        title: Text
        on: {event: lead_submitted}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service]}
        arbitrate: {slot: contact, propensity: {learn: text, reward: lead_contacted, horizon: 1d}}
"""
SERVICE = {"service": True}


def test_what_succeeds_is_chosen_more_and_more_and_nothing_is_given_up(tell):
    """Calls reach every lead, texts none: after two hundred leads nearly every new one is called."""
    story = tell(SLOTS)
    granted = {"consent": {"categoryPreferences": SERVICE}}
    states: dict[str, CustomerState] = {f"c{number}": CustomerState() for number in range(300)}
    sequencer = Sequencer(story.rulebook, states)
    chosen: list[str] = []
    for number in range(300):
        story.customer_id = f"c{number}"
        lead = {"lead_id": "l1", "phone": "+919812345678"}
        story.happens(f"{number * 2}h", "lead_submitted", id=f"s{number}", context=granted, **lead)
        sequencer.apply(story.events[-1], story.events[-1].received_at_ms)
        chosen.append(sequencer.outcome.actions[-1].connector)
        if chosen[-1] == "voice":
            story.happens(f"{number * 120 + 1}m", "lead_contacted", id=f"c{number}", lead_id="l1")
            sequencer.apply(story.events[-1], story.events[-1].received_at_ms)
    late = chosen[150:]
    assert late.count("voice") / len(late) > 0.85
    assert late.count("sms") > 0


def test_a_replay_draws_the_same_lots(tell):
    story = tell(SLOTS, consents=SERVICE)
    for number in range(40):
        story.happens(f"{number}h", "lead_submitted", id=f"s{number}", lead_id=f"l{number}", phone="+919812345678")
    assert story.told("3d").actions == story.told("3d").actions
    assert replay(story.rulebook, story.events).actions == replay(story.rulebook, story.events).actions


def test_evidence_fades_with_its_half_life():
    model = BetaBernoulli({"call|": Arm(8.0, 0.0, 0)})
    model.learn(Lesson("call", "", False, 30 * 86_400_000))
    assert model.arms["call|"] == Arm(4.0, 1.0, 30 * 86_400_000)


@pytest.mark.parametrize(("successes", "failures"), [(0, 0), (9, 1), (1, 9), (400, 100)])
def test_draws_follow_the_beta_distribution(successes, failures):
    model = BetaBernoulli({"call|": Arm(successes, failures, 0)})
    draws = [model.propensity("call", "", f"d{number}", 0) for number in range(4_000)]
    mean = (1 + successes) / (2 + successes + failures)
    expected = 0.95 * mean + 0.05 * 0.5
    assert all(0 <= draw <= 1 for draw in draws)
    assert abs(sum(draws) / len(draws) - expected) < 0.02


WINDOWED = """
    journey: contact
    title: Who may speak
    stages:
      submitted: {on: {event: lead_submitted}}
      won:       {on: {event: deal_won}, goal: true}
    rules:
      - id: call
        title: Call
        on: {event: lead_submitted}
        do: [{send: {connector: voice, template: call}}]
        limits: {consent: [service]}
        arbitrate: {slot: contact, value: 2.0, decision_window: 5s}
      - id: help
        title: Help with the payment
        on: {event: payment_failed}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service]}
        arbitrate: {slot: contact, value: 9.0, decision_window: 5s}
"""


@pytest.mark.parametrize(
    ("second_at", "sent"),
    [("3s", [("+5s", "sms")]), ("6s", [("+5s", "voice"), ("+11s", "sms")])],
    ids=["within the window the better one wins", "after it both act"],
)
def test_candidates_of_a_slot_are_collected_for_its_window(tell, second_at, sent):
    story = tell(WINDOWED, consents=SERVICE)
    story.happens("0s", "lead_submitted", lead_id="l1", phone="+919812345678")
    story.happens(second_at, "payment_failed", amount=1)
    assert story.told("1m").sent() == sent


def test_a_candidate_that_loses_its_consent_within_the_window_does_not_act(tell):
    story = tell(WINDOWED, consents=SERVICE)
    story.happens("0s", "lead_submitted", lead_id="l1", phone="+919812345678")
    story.happens("2s", "consent_changed", service=False)
    assert story.told("1m").table() == [("+5s", "blocked call", "consent_missing")]
