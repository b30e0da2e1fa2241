"""Outcomes in rules: known without a declaration, and what is misspelt is named."""

from __future__ import annotations

import textwrap

import pytest

from orchestrator.core.event import OUTCOMES
from orchestrator.rulebook import outcome_events
from orchestrator.rulebook.load import load_rulebook_files
from tests.spec.conftest import COMPANIONS

RULES = """
    journey: calls
    title: Calls
    stages:
      missed: {on: {event: call_missed}}
    rules:
      - id: text-instead
        title: Text who did not pick up
        on: {event: call_missed, where: {field: event.FIELD, op: eq, value: VALUE}}
        do: [{send: {connector: sms, template: text}}]
        limits: {consent: [service]}
"""


TEMPLATES = 'templates: {text: {kind: sms, params: {to: "{{ profile.phone }}", text: hello}}}'


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("reason", "busy", None),
        ("kind", "call", None),
        ("sip_response_code", "'486'", None),
        (
            "raeson",
            "busy",
            'unknown property of call_missed "raeson". Known: action_id, channel, connector, kind, reason, reference, '
            'sip_response_code. Did you mean "reason"?',
        ),
        (
            "reason",
            "bussy",
            'event.reason is never "bussy": unknown value "bussy". Known: busy, canceled, failed, no_answer. '
            'Did you mean "busy"?',
        ),
    ],
)
def test_a_rule_reads_what_an_outcome_has(field: str, value: str, problem: str | None) -> None:
    texts = {
        **COMPANIONS,
        "templates.yaml": TEMPLATES,
        "rules.yaml": RULES.replace("FIELD", field).replace("VALUE", value),
    }
    loaded = load_rulebook_files({name: textwrap.dedent(text).encode() for name, text in texts.items()})
    assert [one.message for one in loaded.problems] == ([] if problem is None else [problem])


def test_every_outcome_is_described() -> None:
    table = "\n".join(outcome_events.described())
    assert all(f"| `{name}` |" in table for name in OUTCOMES)
