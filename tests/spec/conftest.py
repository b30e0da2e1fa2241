"""Spec tables: a rulebook in YAML, stimuli in log order, and what must come of them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from orchestrator.core.action import Action
from orchestrator.core.decision import DecisionRecord
from orchestrator.core.event import Event
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.rulebook.load import load_rulebook_files
from orchestrator.rulebook.span import parsed_span_ms
from orchestrator.runtime.replay import Replayed, replay
from orchestrator.runtime.rulebooks import compile_loaded

COMPANIONS = {
    "tracking_plan.yaml": """
        events:
          lead_submitted: {properties: {lead_id: string, phone: string, source: string, budget: number}}
          lead_contacted: {properties: {lead_id: string}}
          deal_won: {properties: {lead_id: string}}
          product_viewed: {properties: {sku: string}}
          cart_updated: {properties: {cart_id: string, total: number}}
          checkout_started: {properties: {cart_id: string}}
          order_completed: {properties: {cart_id: string, total: number}}
          payment_failed: {properties: {amount: number, cart_id: string}}
          visit_booked: {properties: {starts_at: string}}
          visit_done: {}
          payment_succeeded: {properties: {amount: number}}
          kyc_started: {}
          kyc_completed: {}
          email_opened: {}
          unsubscribed: {}
        traits:
          {country: string, timezone: string, phone: string, churn: number, limit: number, plan: string,
           renews_at: string}
        consents: {marketing: Offers, callback: Calls, service: Service messages}
    """,
    "connectors.yaml": """
        connectors:
          voice: {type: voice, kind: call, settings: {base_url: "http://127.0.0.1:1"}}
          sms: {type: webhook, kind: sms, settings: {url: "http://127.0.0.1:1/sms"}}
          email: {type: webhook, kind: email, settings: {url: "http://127.0.0.1:1/email"}}
          push: {type: webhook, kind: push, settings: {url: "http://127.0.0.1:1/push"}}
    """,
    "templates.yaml": """
        templates:
          call: {kind: call, params: {phone: "{{ event.phone }}", agent: sales}}
          text: {kind: sms, params: {text: "hello"}}
          mail: {kind: email, params: {subject: "hello"}}
          note: {kind: push, params: {title: "hello"}}
    """,
}


@dataclass
class Story:
    """One customer's story, told in spans after its start."""

    rulebook: Rulebook
    start_ms: int
    customer_id: str = "c1"
    traits: dict[str, Any] = field(default_factory=dict)
    consents: dict[str, bool] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def happens(
        self, after: str, event_type: str, *, arrives: str | None = None, id: str = "", **properties: Any
    ) -> None:
        """Add an event that happened ``after`` the start and reaches the log at ``arrives`` (default: at once)."""
        context = properties.pop("context", {})
        self.events.append(
            Event(
                id=id or f"e{len(self.events) + 1}",
                type=event_type,
                customer_id=self.customer_id,
                occurred_at_ms=self.moment(after),
                received_at_ms=self.moment(arrives or after),
                properties=properties,
                context=context,
            )
        )

    def in_force_at(self, at_ms: int) -> Rulebook:
        """Return the one rulebook that the story is told under."""
        return self.rulebook

    def version(self, version: str) -> Rulebook | None:
        return self.rulebook if version == self.rulebook.version else None

    def moment(self, after: str) -> int:
        span_ms = parsed_span_ms(after)
        assert span_ms is not None, after
        return self.start_ms + span_ms

    def told(self, until: str) -> Told:
        """Replay the story up to ``until``, timers included."""
        state = CustomerState(
            first_seen_ms=self.start_ms,
            traits={name: (value, 0) for name, value in self.traits.items()},
            consents={name: (value, 0) for name, value in self.consents.items()},
        )
        log = sorted(self.events, key=lambda event: event.received_at_ms)
        done = replay(self.rulebook, log, until_ms=self.moment(until), states={self.customer_id: state})
        assert not done.failures, done.failures
        return Told(self, done)


@dataclass
class Told:
    """A story that was replayed."""

    story: Story
    done: Replayed

    @property
    def state(self) -> CustomerState:
        return self.done.states[self.story.customer_id]

    @property
    def actions(self) -> list[Action]:
        return self.done.actions

    @property
    def records(self) -> list[DecisionRecord]:
        return self.done.records

    def table(self) -> list[tuple[str, str, str]]:
        """Return decisions as rows: after the start in seconds, outcome of the rule, reason."""
        return [
            (f"+{(one.at - self.story.start_ms) / 1000:.10g}s", f"{one.outcome.value} {one.rule}", one.reason.value)
            for one in self.records
        ]

    def sent(self) -> list[tuple[str, str]]:
        """Return what was sent or withdrawn: after the start in seconds, and over which connector."""
        return [
            (
                f"+{(one.decided_at - self.story.start_ms) / 1000:.10g}s",
                f"withdraw {one.rule}" if one.cancel else one.connector,
            )
            for one in self.actions
        ]


Tell = Callable[..., Story]


@pytest.fixture(scope="session")
def tell() -> Tell:
    """Start a story under the rules of a YAML text."""

    def start(rules: str, *, at: str = "2026-03-02T10:00:00+05:30", **customer: Any) -> Story:
        texts = {**COMPANIONS, "rules.yaml": rules}
        loaded = load_rulebook_files({name: textwrap.dedent(text).encode() for name, text in texts.items()})
        assert loaded.ok, "\n".join(map(str, loaded.problems))
        moment = datetime.fromisoformat(at)
        return Story(compile_loaded(loaded, "default"), round(moment.timestamp() * 1000), **customer)

    return start
