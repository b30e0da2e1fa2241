"""The rulebooks of the simulated world: small, in seconds instead of days, with one of each thing that can go wrong.

``FIRST`` is in force at the start, ``SECOND`` may be published meanwhile, ``BAD`` must be refused. The constants are
what the oracle knows of them; ``tests/simulation`` checks that it is what the texts say.
"""

from __future__ import annotations

import textwrap
from functools import cache

from load_tests.simulation.oracle import OraclePlay, OracleRule, OracleStage
from orchestrator.core.rulebook import Rulebook, with_earlier
from orchestrator.rulebook.load import Loaded, load_rulebook_files
from orchestrator.runtime.rulebooks import checked, compile_loaded

#: The run of a customer in the journey with stages, and the one that rules beside any run name.
PURCHASE, CONTACT = "purchase/", "contact/"
ABSENCE_MS = 4_000
DWELL_MS = 7_000
REENTRY_MS = 2_000
LATENESS_MS = 6_000
#: How far ahead of the log an event may be dated.
FUTURE_MS = 5_000

STAGES = (
    OracleStage("basket", event="cart_updated"),
    OracleStage("ordered", event="order_completed", final=True),
    OracleStage("abandoned", dwell_ms=DWELL_MS, final=True),
)
#: The play after a basket, and the rule on failed payments, whose limits the oracle works out.
GREET = OraclePlay("basket", 1_500, LATENESS_MS, exit_when="page_viewed")
HELP = OracleRule("help", "push", LATENESS_MS, cooldown_ms=1_000, caps=(("rule", 3, 20_000),))

_COMPANIONS = {
    "tracking_plan.yaml": """
        events:
          cart_updated: {properties: {total: number}}
          order_completed: {properties: {total: number}}
          payment_failed: {properties: {amount: number}}
          page_viewed: {}
          never_happens: {}
        traits: {timezone: string}
    """,
    "connectors.yaml": """
        connectors:
          voice: {type: webhook, kind: call, settings: {url: "http://127.0.0.1:1/voice"}}
          sms: {type: webhook, kind: sms, settings: {url: "http://127.0.0.1:1/sms"}}
          push: {type: webhook, kind: push, settings: {url: "http://127.0.0.1:1/push"}}
    """,
    "templates.yaml": """
        templates:
          ring: {kind: call, params: {text: "hello"}}
          text: {kind: sms, params: {text: "hello"}}
          note: {kind: push, params: {title: "hello"}}
    """,
}
_PURCHASE = """
    journey: purchase
    title: From basket to order
    stages:
      basket:    {on: {event: cart_updated}}
      ordered:   {on: {event: order_completed}, goal: true}
      abandoned: {on: {dwell: 7s}}
    reentry: {after: 2s}
    rules:
      - id: greet
        title: Greet a basket after a moment
        on: {enter: basket}
        lateness: 6s
        do: [{wait: 1500ms}, {send: {connector: sms, template: text}}]
        exit_when: {event: page_viewed}
      - id: soothe
        title: Soothe who fails to pay for a basket
        on: {event: payment_failed}
        lateness: 6s
        do: [{send: {connector: sms, template: text}}]
"""
#: Rules beside any run: nobody enters the only stage, and they act anytime.
_CONTACT = """
    journey: contact
    title: Getting in touch
    stages:
      touched: {on: {event: never_happens}}
    rules:
      - id: winback
        title: Call about a basket
        on: {absence: {after: cart_updated, of: order_completed, for: 4s, rearm: latest}}
        acts: anytime
        lateness: 6s
        do:
          - send: {connector: voice, template: ring, deadline: 6s, fallback: [{connector: sms, template: text}]}
      - id: help
        title: Help after a failed payment
        on: {event: payment_failed}
        acts: anytime
        lateness: 6s
        do: [{send: {connector: push, template: note}}]
        limits: {cooldown: 1s, cap: {max: 3, per: 20s}}
"""


def _files(contact: str = _CONTACT) -> dict[str, bytes]:
    texts = {**_COMPANIONS, "purchase.yaml": _PURCHASE, "contact.yaml": contact}
    return {name: textwrap.dedent(text).encode() for name, text in texts.items()}


@cache
def loaded() -> Loaded:
    """Return the rulebook in force at the start, with its tracking plan."""
    return checked(load_rulebook_files(_files()))


@cache
def first() -> Rulebook:
    """Return the rulebook in force at the start."""
    return compile_loaded(loaded(), "default")


@cache
def second() -> Rulebook:
    """Return another version: other rules send, plays of the first go on as they began, and unknown calls fall back."""
    edited = _CONTACT.replace("id: help", "id: help-two").replace("id: winback", "id: winback-two")
    edited = edited.replace("fallback:", "fallback_on_unknown: true, fallback:")
    return with_earlier(compile_loaded(checked(load_rulebook_files(_files(edited))), "default"), [first()])


def bad() -> Loaded:
    """Return a rulebook that is not one; raises ``RulebookRefused``."""
    return checked(_bad())


@cache
def _bad() -> Loaded:
    return load_rulebook_files(_files(_CONTACT.replace("connector: voice", "connector: smoke_signal")))
