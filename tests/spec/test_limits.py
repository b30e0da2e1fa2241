"""Limits: consent, cooldown, caps and quiet hours, each with the reason it leaves (scenarios 1, 2 and 10)."""

from __future__ import annotations

import pytest

from orchestrator.runtime.wording import reason_text

LEAD = """
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
          - send: {connector: voice, template: call, deadline: 5m, fallback: [{connector: sms, template: text}]}
        exit_when: {event: lead_contacted}
        limits:
          consent: [callback]
          quiet_hours: {from: "21:00", to: "08:00", zone: profile, then: defer}
"""
CALLABLE = {"callback": True}
INDIA = {"timezone": "Asia/Kolkata"}


def lead(story, after="0s", lead_id="l1", **properties):
    story.happens(after, "lead_submitted", lead_id=lead_id, **{"phone": "+919812345678", **properties})


def test_a_lead_in_the_afternoon_is_called_at_once_with_everything_needed(tell):
    story = tell(LEAD, at="2026-03-02T15:00:00+05:30", traits=INDIA, consents=CALLABLE)
    lead(story)
    (call,) = story.told("1h").actions
    assert (call.connector, call.kind, call.rule, call.stage) == ("voice", "call", "callback", "submitted")
    assert call.params == {"phone": "+919812345678", "agent": "sales"}
    assert call.deadline_at == story.moment("5m")
    assert call.rulebook_version == story.rulebook.version
    assert [one.connector for one in call.fallback] == ["sms"]
    assert call.reason == "triggered"


@pytest.mark.parametrize(
    ("case", "traits", "phone", "rows"),
    [
        (
            "the zone is the profile's",
            INDIA,
            "+14155550100",
            [("+0s", "deferred callback", "quiet_hours"), ("+36000s", "sent callback", "revalidated")],
        ),
        (
            "else the phone prefix tells it",
            {},
            "+919812345678",
            [("+0s", "deferred callback", "quiet_hours"), ("+36000s", "sent callback", "revalidated")],
        ),
        ("nobody knows the zone: quiet", {}, "12345", [("+0s", "blocked callback", "zone_unknown")]),
    ],
)
def test_a_lead_at_night_waits_for_the_morning(tell, case, traits, phone, rows):
    story = tell(LEAD, at="2026-03-02T22:00:00+05:30", traits=traits, consents=CALLABLE)
    lead(story, phone=phone)
    assert story.told("11h").table() == rows, case


def test_a_lead_that_is_contacted_in_the_night_is_not_called_in_the_morning(tell):
    story = tell(LEAD, at="2026-03-02T22:00:00+05:30", traits=INDIA, consents=CALLABLE)
    lead(story)
    story.happens("1h", "lead_contacted", lead_id="l1")
    assert story.told("11h").table() == [
        ("+0s", "deferred callback", "quiet_hours"),
        ("+3600s", "ended callback", "exited"),
    ]


def test_consent_withdrawn_in_the_night_stops_the_morning_call(tell):
    story = tell(LEAD, at="2026-03-02T22:00:00+05:30", traits=INDIA, consents=CALLABLE)
    lead(story)
    story.happens("1h", "consent_changed", callback=False)
    assert story.told("11h").table()[-1] == ("+36000s", "blocked callback", "consent_missing")


@pytest.mark.parametrize(
    ("at", "released"),
    [
        ("2026-03-28T22:00:00+01:00", "+32400s"),  # clocks go forward in this night: one hour less
        ("2026-10-24T22:00:00+02:00", "+39600s"),  # clocks go back: one hour more
        ("2026-06-01T22:00:00+02:00", "+36000s"),
    ],
)
def test_the_morning_comes_at_the_right_instant_on_a_day_of_changed_clocks(tell, at, released):
    story = tell(LEAD, at=at, traits={"timezone": "Europe/Berlin"}, consents=CALLABLE)
    lead(story)
    assert story.told("12h").table()[-1] == (released, "sent callback", "revalidated")


def test_no_consent_no_call_but_the_reason(tell):
    story = tell(LEAD, at="2026-03-02T15:00:00+05:30", traits=INDIA)
    lead(story)
    assert story.told("1h").table() == [("+0s", "blocked callback", "consent_missing")]


def test_consent_in_the_events_own_context_counts(tell):
    story = tell(LEAD, at="2026-03-02T15:00:00+05:30", traits=INDIA)
    lead(story, context={"consent": {"categoryPreferences": {"callback": True}}})
    assert story.told("1h").sent() == [("+0s", "voice")]


def test_a_late_consent_does_not_overwrite_a_newer_refusal(tell):
    story = tell(LEAD, at="2026-03-02T15:00:00+05:30", traits=INDIA)
    story.happens("10m", "consent_changed", callback=False)
    story.happens("5m", "consent_changed", arrives="11m", callback=True)
    lead(story, "20m")
    assert story.told("1h").table() == [("+1200s", "blocked callback", "consent_missing")]


CAPPED = """
    journey: payments
    title: Payments
    stages:
      failing: {on: {event: payment_failed}}
      paid:    {on: {event: payment_succeeded}}
    rules:
      - id: first
        title: One
        on: {event: payment_failed}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service], cap: {max: 2, per: 7d, of: "kind:sms"}}
      - id: second
        title: Two
        on: {event: payment_succeeded}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service]}
"""


def test_fifty_events_at_once_have_at_most_as_many_effects_as_the_cap(tell):
    story = tell(CAPPED, consents={"service": True})
    for number in range(50):
        story.happens("0s", "payment_failed", id=f"p{number}", amount=1)
    told = story.told("1h")
    assert told.sent() == [("+0s", "sms")] * 2
    assert [row[2] for row in told.table()].count("cap_reached") == 48


def test_what_other_rules_send_of_the_kind_counts_too(tell):
    story = tell(CAPPED, consents={"service": True})
    story.happens("0s", "payment_succeeded", amount=1)
    story.happens("1s", "payment_succeeded", amount=1)
    story.happens("2s", "payment_failed", amount=1)
    assert story.told("1h").table()[-1] == ("+2s", "blocked first", "cap_reached")


def test_a_failed_send_releases_its_reservation(tell):
    story = tell(CAPPED, consents={"service": True})
    for number in range(2):
        story.happens("0s", "payment_failed", id=f"p{number}", amount=1)
    failed = story.told("1s").actions[0]
    story.happens("2s", "action_failed", action_id=failed.id)
    story.happens("3s", "payment_failed", amount=1)
    assert story.told("1h").table()[-2:] == [
        ("+2s", "noted first", "execution_failed"),
        ("+3s", "sent first", "triggered"),
    ]


def test_the_cap_opens_again_when_its_window_has_passed(tell):
    story = tell(CAPPED, consents={"service": True})
    for after in ("0s", "1d", "6d", "7d1s"):
        story.happens(after, "payment_failed", amount=1)
    assert [row[1] for row in story.told("8d").table()] == [
        "sent first",
        "sent first",
        "blocked first",
        "sent first",
    ]


COOL = CAPPED.replace('cap: {max: 2, per: 7d, of: "kind:sms"}', "cooldown: 1h")


def test_a_rule_rests_for_its_cooldown(tell):
    story = tell(COOL, consents={"service": True})
    for after in ("0s", "59m", "60m"):
        story.happens(after, "payment_failed", amount=1)
    assert story.told("2h").table() == [
        ("+0s", "sent first", "triggered"),
        ("+3540s", "blocked first", "cooldown"),
        ("+3600s", "sent first", "triggered"),
    ]


COUNTED = """
    journey: payments
    title: Payments
    stages:
      failing: {on: {event: payment_failed}}
      paid:    {on: {event: payment_succeeded}}
    rules:
      - id: help
        title: Help after three failures
        on: {event: payment_failed}
        when:
          all:
            - {count: payment_failed, within: 10m, op: gte, value: 3}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service], cooldown: 1h}
"""


@pytest.mark.parametrize(
    ("case", "events", "sent"),
    [
        ("three in ten minutes", [("0s", None), ("5m", None), ("9m", None)], [("+540s", "sms")]),
        ("spread over eleven", [("0s", None), ("5m", None), ("11m", None)], []),
        ("out of order", [("0s", None), ("9m", None), ("5m", "9m30s")], [("+570s", "sms")]),
        ("out of order and spread", [("0s", None), ("11m", None), ("5m", "11m30s")], []),
    ],
)
def test_three_failures_within_ten_minutes_of_event_time(tell, case, events, sent):
    story = tell(COUNTED, consents={"service": True})
    for after, arrives in events:
        story.happens(after, "payment_failed", arrives=arrives, amount=1)
    assert story.told("1h").sent() == sent, case


@pytest.mark.parametrize(
    ("traits", "event", "text"),
    [
        ({"timezone": "Asia/Kolkata"}, {"phone": "+447911123456"}, "Asia/Kolkata"),
        ({"phone": "+919812345678"}, {}, "Asia/Calcutta"),
        ({}, {"phone": "+919812345678"}, "Asia/Calcutta"),
        ({"phone": "+18005550100"}, {}, "nobody knows"),
        ({}, {}, "nobody knows"),
    ],
)
def test_a_template_reads_the_zone_that_quiet_hours_go_by(tell, traits, event, text):
    """Also when the play has waited, and only the event told the number."""
    story = tell(
        """
        journey: lead
        title: Lead
        stages: {submitted: {on: {event: lead_submitted}}}
        rules:
          - id: later
            on: {event: lead_submitted}
            do:
              - wait: 1h
              - send: {connector: sms, params: {text: "{{ customer.timezone | default: 'nobody knows' }}"}}
        """,
        traits=traits,
    )
    story.happens("0s", "lead_submitted", lead_id="l1", **event)
    assert [one.params["text"] for one in story.told("2h").actions] == [text]


@pytest.mark.parametrize(
    ("traits", "context", "hour"),
    [
        # The libraries send the zone of the device with every call.
        ({}, {"timezone": "Asia/Kolkata"}, "+0s"),
        ({}, {"timezone": "India Standard Time"}, "+0s"),
        ({"timezone": "America/New_York"}, {"timezone": "Asia/Kolkata"}, None),
        ({}, {"timezone": "nowhere"}, None),
        ({}, {}, None),
    ],
)
def test_the_zone_of_the_device_counts_where_none_is_known_of_the_customer(tell, traits, context, hour):
    story = tell(QUIET_CALL, consents={"callback": True}, traits=traits)
    story.happens("0s", "identify", context=context)
    story.happens("0s", "lead_submitted", lead_id="l1", phone="12345")
    assert story.told("1s").sent() == ([] if hour is None else [(hour, "voice")])


def test_a_zone_that_is_none_is_named_with_what_to_send(tell):
    story = tell(QUIET_CALL, consents={"callback": True}, traits={"timezone": "Mumbai"})
    story.happens("0s", "lead_submitted", lead_id="l1", phone="12345")
    (line,) = story.told("1s").records
    assert line.detail == {
        "timezone": "Mumbai",
        "remedy": "Send the trait timezone as an IANA name, such as Asia/Kolkata.",
    }
    assert reason_text(line.reason, line.detail) == (
        "the timezone Mumbai is no time zone; an IANA name such as Asia/Kolkata is"
    )


QUIET_CALL = """
    journey: enquiry
    title: Enquiry
    key: event.lead_id
    stages: {enquired: {on: {event: lead_submitted}}}
    rules:
      - id: callback
        title: Call
        on: {event: lead_submitted}
        do: [{send: {connector: voice, template: call}}]
        limits: {consent: [callback], quiet_hours: {from: "20:00", to: "08:00", zone: profile, then: drop}}
"""
