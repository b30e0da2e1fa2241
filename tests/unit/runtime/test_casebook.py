"""What people read of a case that failed, and of what no case reaches."""

from __future__ import annotations

import textwrap

import pytest

from orchestrator.rulebook.load import load_rulebook_files
from orchestrator.runtime.casebook import CaseResult, Coverage, coverage_of, run_cases
from orchestrator.runtime.rulebooks import compile_loaded

FILES = {
    "tracking_plan.yaml": """
        events: {cart_updated: {properties: {cart_id: string}}, mail_opened: {}}
        traits: {timezone: string, phone: string, tier: string}
        consents: {marketing: Offers}
    """,
    "connectors.yaml": 'connectors: {sms: {type: webhook, kind: sms, settings: {url: "http://127.0.0.1:1"}}}',
    "templates.yaml": """
        templates:
          waiting: {kind: sms, params: {to: "{{ profile.phone }}", data: {cart: "{{ event.cart_id }}", tags: [a, b]}}}
    """,
    "cart.yaml": """
        journey: purchase
        title: Purchase
        stages: {basket: {on: {event: cart_updated}}, stalled: {on: {dwell: 60d}}}
        rules:
          - id: nudge
            title: Nudge
            on: {event: cart_updated}
            do:
              - wait: 31d
              - {send: {connector: sms, template: waiting}}
              - {wait_for: {event: mail_opened, within: 1d, else: [{set_trait: {tier: cold}}]}}
              - set_stage: stalled
    """,
}

CASE = """
    cases:
      - case: a basket
        customer: {id: c1, traits: {phone: "+919812345678"TRAITS}}
        events: [{at: "2026-03-02T10:00:00+05:30", type: cart_updated, properties: {cart_id: k1}}]
        until: "UNTIL"
        expect: EXPECT
"""


def ran(expect: str, *, until: str = "+31d", traits: str = "") -> tuple[CaseResult, Coverage]:
    case = CASE.replace("EXPECT", expect).replace("UNTIL", until).replace("TRAITS", traits)
    texts = {**FILES, "cart.cases.yaml": case}
    loaded = load_rulebook_files({name: textwrap.dedent(text).encode() for name, text in texts.items()})
    assert loaded.ok, "\n".join(map(str, loaded.problems))
    rulebook = compile_loaded(loaded, "default")
    (result,) = run_cases(rulebook, loaded.plan, loaded.cases)
    return result, coverage_of(rulebook, [result])


@pytest.mark.parametrize(
    ("action", "expected", "got"),
    [
        # Of what agrees nothing is printed.
        ("{at: '+31d', params: {to: '+911'}}", 'to: "+911"', 'to: "+919812345678"'),
        ("{params: {data: {cart: k2, tags: [a, b]}}}", "data.cart: k2", "data.cart: k1"),
        ("{params: {data: {cart: k1, tags: [a, c, d]}}}", "data.tags[1]: c\ndata.tags[2]: d", "data.tags[1]: b\n"
         "data.tags[2]: nothing"),
        ("{params: {subject: hello}}", "subject: hello", "subject: nothing"),
        ("{variant: b, connector: sms}", "variant: b", "variant: none"),
        # Moments are the customer's, and since the first event, in the spans in which authors write.
        (
            "{at: '+30d'}",
            "at 2026-04-01 10:00:00 Asia/Calcutta (+30d)",
            "at 2026-04-02 10:00:00 Asia/Calcutta (+31d)",
        ),
        (
            "{rule: nudge, cancel: true}",
            "withdraw the action by nudge",
            "send sms waiting by nudge\nat 2026-04-02 10:00:00 Asia/Calcutta (+31d)\n"
            'to: "+919812345678"\ndata: {"cart":"k1","tags":["a","b"]}',
        ),
    ],
)  # fmt: skip
def test_a_case_that_fails_shows_what_differs_and_nothing_else(action: str, expected: str, got: str) -> None:
    result, _ = ran(f"{{actions: [{action}]}}")
    assert [(one.expected, one.got) for one in result.differences] == [(expected, got)]


def test_a_zone_of_its_own_counts_before_the_phone() -> None:
    result, _ = ran("{actions: [{at: '+1d'}]}", traits=", timezone: America/New_York")
    assert [one.got for one in result.differences] == ["at 2026-04-02 00:30:00 America/New_York (+31d)"]


def test_what_did_not_come_says_what_came_instead() -> None:
    result, _ = ran("{actions: [{rule: nudge}], decisions: [{rule: nudge, reason: holdout}]}", until="+1d")
    assert [(one.expected, one.got) for one in result.differences] == [
        ("send by nudge", "nothing (nudge: waiting, waiting_for_time)"),
        ("nudge, holdout", "nudge: waiting, waiting_for_time"),
    ]


def test_what_no_case_reaches_is_named_by_what_it_does() -> None:
    _, coverage = ran("{}", until="+1d")
    assert coverage.unreached == (
        "rule nudge, send sms waiting (step 1)",
        "rule nudge, wait for mail_opened within 1d (step 2)",
        "rule nudge, set trait tier (step 2.else.0)",
        "rule nudge, set stage stalled (step 3)",
    )
    _, reached = ran("{decisions: [{outcome: noted, reason: trait_set}, {reason: stage_set}]}", until="+33d")
    assert reached.unreached == ()
