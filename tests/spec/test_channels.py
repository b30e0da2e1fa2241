"""Channels: a customer who says STOP, or at whose address nobody is, gets nothing more there, whatever it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core.state import Pending
from orchestrator.runtime.explain import explain
from orchestrator.runtime.explanation import Explanation
from orchestrator.runtime.timeline import History
from tests.spec.conftest import Story

REMINDER = """
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
"""
WITH_FALLBACK = REMINDER.replace(
    "{connector: sms, template: text}",
    "{connector: sms, template: text, fallback: [{connector: email, template: mail}]}",
)
SERVED = {"service": True}
STOP = ("unsubscribed", {"connector": "sms", "kind": "sms"})
BOUNCE = ("message_bounced", {"connector": "sms", "kind": "sms", "permanent": True})

LEAVES = ("unsubscribed", {"connector": "mail", "kind": "sms", "purposes": ["marketing"]})

Tell = Callable[..., Story]


@pytest.mark.parametrize(
    ("case", "said", "outcome"),
    [
        ("STOP closes the channel", [STOP], "channel_withdrawn"),
        ("so does a bounce", [BOUNCE], "channel_withdrawn"),
        ("a bounce that may pass does not", [("message_bounced", {"kind": "sms", "permanent": False})], "triggered"),
        ("STOP on another channel does not", [("unsubscribed", {"kind": "email"})], "triggered"),
        ("STOP without a channel does not", [("unsubscribed", {})], "triggered"),
        ("nor of a kind that does not exist", [("unsubscribed", {"kind": "pigeon"})], "triggered"),
        ("a consent may say so as well", [("consent_changed", {"kind:sms": False})], "channel_withdrawn"),
        ("who leaves a newsletter still gets the bill", [LEAVES], "triggered"),
        (
            "but not what else they leave",
            [("unsubscribed", {"kind": "sms", "purposes": ["service"]})],
            "consent_missing",
        ),
        (
            "whatever the channel they left by",
            [("unsubscribed", {"kind": "email", "purposes": ["marketing", "service"]})],
            "consent_missing",
        ),
        ("no purpose is the channel", [("unsubscribed", {"kind": "sms", "purposes": []})], "channel_withdrawn"),
        ("so is what is not understood", [("unsubscribed", {"kind": "sms", "purposes": [1]})], "channel_withdrawn"),
        ("or too much", [("unsubscribed", {"kind": "sms", "purposes": ["x"] * 21})], "channel_withdrawn"),
        ("a bounce is about the address", [("message_bounced", {**LEAVES[1]})], "channel_withdrawn"),
        (
            "START gives the purposes back",
            [
                ("unsubscribed", {"kind": "sms", "purposes": ["service"]}),
                ("resubscribed", {"kind": "sms", "purposes": ["service"]}),
            ],
            "triggered",
        ),
        ("and the channel", [STOP, ("resubscribed", {"kind": "sms", "purposes": ["marketing"]})], "triggered"),
        ("START opens it again", [STOP, ("resubscribed", {"kind": "sms"})], "triggered"),
        ("also after a bounce", [BOUNCE, ("resubscribed", {"kind": "sms"})], "triggered"),
        ("and so does a consent", [STOP, ("consent_changed", {"kind:sms": True})], "triggered"),
        ("a new number ends a bounce", [BOUNCE, ("identify", {"phone": "+4915112345678"})], "triggered"),
        ("a new number ends no STOP", [STOP, ("identify", {"phone": "+4915112345678"})], "channel_withdrawn"),
        ("the number that is known is not new", [BOUNCE, ("identify", {"phone": "+14155550100"})], "channel_withdrawn"),
        ("no number is not a new one", [BOUNCE, ("identify", {"phone": None})], "channel_withdrawn"),
        ("nor is another mailbox", [BOUNCE, ("identify", {"email": "new@example.com"})], "channel_withdrawn"),
    ],
)
def test_a_channel_is_closed_by_what_the_customer_or_the_provider_says(
    tell: Tell, case: str, said: list[tuple[str, dict[str, Any]]], outcome: str
) -> None:
    story = tell(REMINDER, consents=SERVED, traits={"phone": "+14155550100"})
    for number, (event_type, properties) in enumerate(said):
        story.happens(f"{number + 1}m", event_type, **properties)
    story.happens("10m", "payment_failed", amount=1)
    assert [row[2] for row in story.told("1h").table()] == [outcome], case


def test_start_gives_no_consent_that_was_never_spoken_of(tell: Tell) -> None:
    story = tell(REMINDER, consents={})
    story.happens("0s", "resubscribed", kind="sms", purposes=["service"])
    story.happens("1m", "payment_failed", amount=1)
    assert [row[2] for row in story.told("1h").table()] == ["consent_missing"]


def test_a_closed_channel_leaves_its_fallback_and_its_reason(tell: Tell) -> None:
    story = tell(WITH_FALLBACK, consents=SERVED)
    story.happens("0s", *STOP[:1], **STOP[1])
    story.happens("1m", "payment_failed", amount=1)
    told = story.told("1h")
    assert told.table() == [
        ("+60s", "blocked remind", "channel_withdrawn"),
        ("+60s", "sent remind", "fallback"),
    ]
    assert told.records[0].detail == {"channel": "sms", "because": "unsubscribed", "since": story.moment("0s")}
    assert told.sent() == [("+60s", "email")]


def test_an_action_does_not_take_a_fallback_along_whose_channel_is_closed(tell: Tell) -> None:
    story = tell(WITH_FALLBACK, consents=SERVED)
    story.happens("0s", "unsubscribed", kind="email")
    story.happens("1m", "payment_failed", amount=1)
    (text,) = story.told("1h").actions
    assert (text.connector, text.fallback) == ("sms", ())


@pytest.mark.parametrize(
    ("case", "event_type", "properties"),
    [
        ("STOP", *STOP),
        ("a bounce", *BOUNCE),
        ("the purpose by one click", "unsubscribed", {"kind": "email", "purposes": ["service"]}),
        ("the channel by consent", "consent_changed", {"kind:sms": False}),
        ("the purpose by consent", "consent_changed", {"service": False}),
        (
            "the purpose beside traits",
            "identify",
            {"context": {"consent": {"categoryPreferences": {"service": False}}}},
        ),
    ],
)
def test_opting_out_takes_back_what_has_not_been_sent(
    tell: Tell, case: str, event_type: str, properties: dict[str, Any]
) -> None:
    story = tell(REMINDER, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    story.happens("1s", event_type, **properties)
    assert story.told("1h").sent() == [("+0s", "sms"), ("+1s", "withdraw remind")], case


def test_opting_out_of_another_channel_takes_nothing_back(tell: Tell) -> None:
    story = tell(REMINDER, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    story.happens("1s", "unsubscribed", kind="call")
    assert story.told("1h").sent() == [("+0s", "sms")]


def test_a_fallback_that_only_stands_by_is_taken_back_without_the_action(tell: Tell) -> None:
    story = tell(WITH_FALLBACK, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    story.happens("1s", "unsubscribed", kind="email")
    told = story.told("2s")
    text, cancelled = told.actions
    (mail,) = text.fallback
    assert (text.cancel, cancelled.id, cancelled.cancel) == (False, mail.id, True)
    story.happens("5m", "action_failed", action_id=text.id, fallback=mail.id)
    assert story.told("1h").state.pending == {}


QUIET = """
    journey: payments
    title: Payments
    stages:
      failing: {on: {event: payment_failed}}
    rules:
      - id: remind
        title: Remind of the payment
        on: {event: payment_failed}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service], quiet_hours: {from: "21:00", to: "08:00", zone: Europe/Berlin, then: defer}}
"""


def test_an_action_that_waits_for_the_morning_is_not_sent_after_a_stop_in_the_night(tell: Tell) -> None:
    story = tell(QUIET, at="2026-03-02T22:00:00+01:00", consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    story.happens("1h", *STOP[:1], **STOP[1])
    assert story.told("12h").table() == [
        ("+0s", "deferred remind", "quiet_hours"),
        ("+36000s", "blocked remind", "channel_withdrawn"),
    ]


def test_a_stop_said_by_either_id_holds_when_they_become_one(tell: Tell) -> None:
    """What the known id has pending is taken back, although it never had an entry for the channel."""
    story = tell(REMINDER, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    story.customer_id = "anonymous"
    story.happens("1s", *STOP[:1], **STOP[1])
    story.customer_id = "c1"
    story.happens("2s", "alias", previous_id="anonymous")
    story.happens("1m", "payment_failed", amount=1)
    told = story.told("1h")
    assert told.sent() == [("+0s", "sms"), ("+2s", "withdraw remind")]
    assert told.table()[-1] == ("+60s", "blocked remind", "channel_withdrawn")


# ------------------------------------------------------------------------------------------------- explain


def explained(story: Story, until: str) -> Explanation:
    told = story.told(until)
    history = History(story.customer_id, story.events, told.records, [], bounded=False)
    answer = explain(story, history, told.state, now_ms=story.moment(until))
    return answer.explanations[0]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (STOP, "the customer unsubscribed from it on 2026-03-02 09:31:00 UTC"),
        (BOUNCE, "their address bounced on 2026-03-02 09:31:00 UTC"),
    ],
)
def test_explain_names_the_channel_and_since_when(tell: Tell, said: tuple[str, dict[str, Any]], words: str) -> None:
    story = tell(REMINDER, at="2026-03-02T15:00:00+05:30")
    story.happens("0s", "consent_changed", service=True)
    story.happens("1m", said[0], **said[1])
    story.happens("2m", "payment_failed", amount=1)
    found = explained(story, "1h")
    assert f"the channel sms is closed: {words}" in found.sentence
    assert f"channel sms: {words}" in [line.text for line in found.limits if line.blocks]


# ---------------------------------------------------------------------------------- fallbacks that took over


CAPPED = WITH_FALLBACK.replace("{consent: [service]}", '{consent: [service], cap: {max: 1, per: 7d, of: "kind:sms"}}')


def handed_on(tell: Tell, rules: str) -> tuple[Story, str]:
    """A text that could not be delivered, ten minutes after it was decided; the mail in its place has its id."""
    story = tell(rules, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    (text,) = story.told("1s").actions
    (mail,) = text.fallback
    story.happens("10m", "action_expired", action_id=text.id, fallback=mail.id)
    return story, mail.id


def test_the_fallback_is_what_is_pending_and_counts_instead(tell: Tell) -> None:
    story, mail = handed_on(tell, CAPPED)
    story.happens("11m", "payment_failed", id="again", amount=1)
    told = story.told("12m")
    assert told.state.pending[mail].kind == "email"
    assert told.table()[-1] == ("+660s", "sent remind", "triggered"), "the text that failed leaves room for another"


@pytest.mark.parametrize(
    ("event_type", "properties"), [("unsubscribed", {"kind": "email"}), ("consent_changed", {"service": False})]
)
def test_a_fallback_that_took_over_is_taken_back_by_opting_out(
    tell: Tell, event_type: str, properties: dict[str, Any]
) -> None:
    story, mail = handed_on(tell, WITH_FALLBACK)
    story.happens("11m", event_type, **properties)
    *_, cancelled = story.told("1h").actions
    assert (cancelled.id, cancelled.cancel, cancelled.reason) == (mail, True, "consent_withdrawn")


@pytest.mark.parametrize(
    ("receipt", "pending"),
    [("action_delivered", True), ("action_failed", None)],
)
def test_the_fallbacks_own_receipt_settles_it(tell: Tell, receipt: str, pending: bool | None) -> None:
    story, mail = handed_on(tell, WITH_FALLBACK)
    story.happens("11m", receipt, action_id=mail)
    entry = story.told("12m").state.pending.get(mail)
    assert (None if entry is None else entry.delivered) == pending


def test_a_fallbacks_receipt_may_come_before_the_one_that_names_it(tell: Tell) -> None:
    story = tell(WITH_FALLBACK, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    (text,) = story.told("1s").actions
    (mail,) = text.fallback
    story.happens("10m", "action_delivered", action_id=mail.id)
    story.happens("11m", "action_expired", action_id=text.id, fallback=mail.id)
    (entry,) = story.told("12m").state.pending.items()
    assert entry[0] == mail.id and isinstance(entry[1], Pending) and entry[1].delivered


# ------------------------------------------------------------------------- nobody knows whether it arrived

CAPPED_TEXT = REMINDER.replace("{consent: [service]}", '{consent: [service], cap: {max: 1, per: 7d, of: "kind:sms"}}')


@pytest.mark.parametrize(
    ("receipt", "certain", "outcome"),
    [
        ("action_failed", True, "sent remind"),
        ("action_failed", False, "blocked remind"),
        ("action_expired", False, "blocked remind"),
        ("action_cancelled", False, "blocked remind"),
        ("action_failed", None, "sent remind"),  # Of a release that did not say.
    ],
)
def test_what_may_have_arrived_is_not_sent_beyond_its_cap(
    tell: Tell, receipt: str, certain: bool | None, outcome: str
) -> None:
    story = tell(CAPPED_TEXT, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    (text,) = story.told("1s").actions
    story.happens("10m", receipt, action_id=text.id, **({} if certain is None else {"certain": certain}))
    story.happens("11m", "payment_failed", id="again", amount=1)
    assert story.told("12m").table()[-1][1] == outcome


BOTH = WITH_FALLBACK.replace("fallback:", "fallback_on_unknown: true, fallback:")


def test_an_action_tells_the_dispatcher_whether_both_are_wanted(tell: Tell) -> None:
    for rules, wanted in ((WITH_FALLBACK, False), (BOTH, True)):
        story = tell(rules, consents=SERVED)
        story.happens("0s", "payment_failed", amount=1)
        told = story.told("1s")
        (text,) = told.actions
        (standby,) = told.state.pending[text.id].standbys
        assert (text.fallback_on_unknown, standby.on_unknown) == (wanted, wanted)


def test_each_alternative_is_in_doubt_by_those_before_it(tell: Tell) -> None:
    alternatives = (
        "fallback: [{connector: email, template: mail},"
        " {connector: push, template: note, fallback_on_unknown: true},"
        ' {connector: voice, params: {phone: "1", agent: a}}]}'
    )
    rules = REMINDER.replace("template: text}", f"template: text, {alternatives}")
    story = tell(rules, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    (entry,) = story.told("1s").state.pending.values()
    assert [one.on_unknown for one in entry.standbys] == [False, False, True]


@pytest.mark.parametrize("report", ["message_delivered", "action_delivered", "link_clicked"])
def test_a_late_word_of_the_provider_takes_back_the_fallback_that_has_not_left(tell: Tell, report: str) -> None:
    story = tell(BOTH, consents=SERVED)
    story.happens("0s", "payment_failed", amount=1)
    (text,) = story.told("1s").actions
    (mail,) = text.fallback
    story.happens("10m", "action_expired", action_id=text.id, fallback=mail.id, certain=False)
    story.happens("11m", report, action_id=text.id)
    told = story.told("12m")
    *_, cancelled = told.actions
    assert (cancelled.id, cancelled.cancel, cancelled.reason) == (mail.id, True, "arrived_late")
    assert told.table()[-1] == ("+660s", "withdrawn remind", "arrived_late")


# -------------------------------------------------------------------------------------------- late events


ABSENT = """
    journey: kyc
    title: KYC
    stages:
      started: {on: {event: kyc_started}}
    rules:
      - id: nudge
        title: Nudge
        on: {absence: {after: kyc_started, of: kyc_completed, for: 1h}}
        do:
          - send: {connector: sms, template: text}
          - wait: 1m
          - send: {connector: email, template: mail}
        lateness: 1d
        limits: {consent: [service], quiet_hours: {from: "21:00", to: "08:00", zone: Europe/Berlin, then: defer}}
"""


@pytest.mark.parametrize(
    ("case", "at", "arrives", "sent"),
    [
        (
            "sent at once, and after a wait",
            "2026-03-02T12:00:00+01:00",
            "1h2m",
            [("+3600s", "sms"), ("+3660s", "email"), ("+3720s", "withdraw nudge"), ("+3720s", "withdraw nudge")],
        ),
        (
            "sent when quiet hours were over",
            "2026-03-02T21:30:00+01:00",
            "10h30m30s",
            [("+37800s", "sms"), ("+37830s", "withdraw nudge")],
        ),
    ],
)
def test_a_late_event_takes_back_all_that_the_play_sent(
    tell: Tell, case: str, at: str, arrives: str, sent: list[tuple[str, str]]
) -> None:
    story = tell(ABSENT, at=at, consents=SERVED)
    story.happens("0s", "kyc_started")
    story.happens("30m", "kyc_completed", arrives=arrives)
    assert story.told("20h").sent() == sent, case
