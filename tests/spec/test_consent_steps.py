"""Consent as a step: a rule gives or refuses it on any event, as the customer's own word would."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.core.state import CustomerState
from tests.spec.conftest import Story

Tell = Callable[..., Story]

RULES = """
    journey: payments
    title: Payments
    stages:
      failing: {on: {event: payment_failed}}
    rules:
      - id: remind
        title: Remind of the payment
        on: {event: payment_failed}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service]}
      - id: silence
        title: Say no more
        on: {event: order_completed}
        acts: anytime
        do:
          - set_consent: {service: false, marketing: true}
          - set_trait: {plan: quiet}
"""


def consents(state: CustomerState) -> dict[str, bool]:
    return {name: granted for name, (granted, _) in state.consents.items()}


def test_consent_is_set_by_purpose_and_each_leaves_its_line(tell: Tell) -> None:
    story = tell(RULES, consents={"service": True})
    story.happens("0s", "order_completed")
    story.happens("1m", "payment_failed", amount=1)
    told = story.told("1h")
    assert consents(told.state) == {"service": False, "marketing": True}
    assert told.table() == [
        ("+0s", "noted silence", "consent_set"),
        ("+0s", "noted silence", "consent_set"),
        ("+0s", "noted silence", "trait_set"),
        ("+60s", "blocked remind", "consent_missing"),
    ]
    assert [record.detail for record in told.records[:2]] == [
        {"purpose": "service", "consent": "refused"},
        {"purpose": "marketing", "consent": "given"},
    ]


def test_what_is_pending_and_needs_it_is_taken_back(tell: Tell) -> None:
    story = tell(RULES, consents={"service": True})
    story.happens("0s", "payment_failed", amount=1)
    story.happens("1s", "order_completed")
    assert story.told("1h").sent() == [("+0s", "sms"), ("+1s", "withdraw remind")]


@pytest.mark.parametrize(
    ("case", "consented", "ordered", "service"),
    [
        ("a word of before gives way", "0s", "1m", False),
        ("a newer word of the customer stands", "1m", "0s", True),
        ("also where the older event comes later", "1m", "30s", True),
    ],
)
def test_the_newer_word_stands(tell: Tell, case: str, consented: str, ordered: str, service: bool) -> None:
    story = tell(RULES)
    story.happens(consented, "consent_changed", service=True)
    story.happens(ordered, "order_completed", arrives="2m")
    assert consents(story.told("1h").state)["service"] is service, case


def test_consent_that_is_refused_at_the_same_moment_stays_refused(tell: Tell) -> None:
    story = tell(RULES)
    story.happens("0s", "consent_changed", marketing=False)
    story.happens("0s", "order_completed")
    assert consents(story.told("1h").state)["marketing"] is False
