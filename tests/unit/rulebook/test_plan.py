"""The plan of an edit: what changes, in the author's words."""

from __future__ import annotations

import pytest

from orchestrator.rulebook.plan import differences

BEFORE = {
    "lead.yaml": """
journey: lead
title: Lead
stages:
  new: {on: {event: lead_submitted}}
  won: {on: {event: lead_won}, goal: true}
rules:
  - id: nudge
    on: {enter: new}
    do: [{wait: 1d}, {send: {connector: sms, template: hello}}]
    limits: {cooldown: 3d, quiet_hours: {from: "21:00", to: "08:00"}}
""",
    "templates.yaml": "templates:\n  hello: {kind: sms, params: {text: Hello}}\n",
    "tracking_plan.yaml": "events:\n  lead_submitted: {}\n  lead_won: {}\n",
    "lead.cases.yaml": "cases: []\n",
}


def changed(file: str, *edits: tuple[str, str]) -> list[str]:
    text = BEFORE[file]
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    after = {**BEFORE, file: text}
    return [str(one) for one in differences(_encoded(BEFORE), _encoded(after))]


def _encoded(files: dict[str, str]) -> dict[str, bytes]:
    return {path: text.encode() for path, text in files.items()}


def test_nothing_changes_between_equal_files_however_they_are_laid_out() -> None:
    assert changed("lead.yaml", ("limits: {cooldown: 3d, ", "# A comment.\n    limits: {cooldown: 3d,   ")) == []


@pytest.mark.parametrize(
    ("file", "edit", "said"),
    [
        ("lead.yaml", ("wait: 1d", "wait: 2d"), ['journey "lead": rule "nudge" changed: do 1 wait 1d → 2d']),
        (
            "lead.yaml",
            ("cooldown: 3d, ", ""),
            ['journey "lead": rule "nudge" changed: limits cooldown 3d removed'],
        ),
        (
            "lead.yaml",
            ('to: "08:00"', 'to: "09:00", zone: profile'),
            [
                'journey "lead": rule "nudge" changed: limits quiet_hours to 08:00 → 09:00; '
                "limits quiet_hours zone profile added"
            ],
        ),
        (
            "lead.yaml",
            ("[{wait: 1d}, ", "["),
            [
                'journey "lead": rule "nudge" changed: do [{"wait": "1d"}, {"send": {"connector": "sms", '
                '"template": "hello"}}] → [{"send": {"connector": "sms", "template": "hello"}}]'
            ],
        ),
        (
            "lead.yaml",
            ("id: nudge", "id: push"),
            ['journey "lead": rule "nudge" removed', 'journey "lead": rule "push" added'],
        ),
        (
            "lead.yaml",
            ("  won:", "  met: {on: {event: lead_met}}\n  won:"),
            [
                'journey "lead" changed: order of stages ["new", "won"] → ["new", "met", "won"]',
                'journey "lead": stage "met" added',
            ],
        ),
        ("lead.yaml", ("title: Lead", "title: Leads"), ['journey "lead" changed: title Lead → Leads']),
        ("templates.yaml", ("text: Hello", "text: Hi"), ['template "hello" changed: params text Hello → Hi']),
        ("tracking_plan.yaml", ("  lead_won: {}\n", ""), ['event "lead_won" removed']),
        ("lead.cases.yaml", ("[]", "[{case: one}]"), []),
    ],
)
def test_each_thing_that_changes_is_said_in_the_words_of_its_author(
    file: str, edit: tuple[str, str], said: list[str]
) -> None:
    assert changed(file, edit) == said


def test_a_journey_that_goes_takes_what_it_holds_with_it() -> None:
    after = {path: text for path, text in BEFORE.items() if path != "lead.yaml"}
    assert [str(one) for one in differences(_encoded(BEFORE), _encoded(after))] == [
        'journey "lead" removed',
        'journey "lead": rule "nudge" removed',
        'journey "lead": stage "new" removed',
        'journey "lead": stage "won" removed',
    ]
