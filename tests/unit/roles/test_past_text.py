"""An explanation in the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from orchestrator.roles.past_text import explained_lines, timeline_table

EXPLANATION = {
    "rule": "cart-recovery",
    "standing": "conditions_failed",
    "sentence": "cart-recovery did not fire at 10:30: event.total >= 40 is false (it is 20).",
    "trigger": {"text": "cart_updated", "state": "cart_updated was last seen at 10:30", "due_at": None},
    "conditions": {
        "text": "event.total >= 40 and in segment staff",
        "truth": "false",
        "reading": "",
        "because": "",
        "parts": [
            {"text": "event.total >= 40", "truth": "false", "reading": "it is 20", "because": "", "parts": []},
            {"text": "in segment staff", "truth": "unknown", "reading": "", "because": "", "parts": []},
        ],
    },
    "limits": [{"kind": "cap", "text": "cap of 2 per 7d for kind:sms: 2 used", "blocks": True, "detail": {}}],
    "arbitration": {
        "slot": "contact",
        "score": 3.0,
        "factors": {"propensity": 1.0, "context": 1.5, "value": 2.0, "weight": 1.0},
        "rivals": [{"rule": "mail-them", "score": 2.5, "factors": {}, "won": False}],
    },
    "ledger": [{"at": "2026-03-02T10:30:00Z", "outcome": "blocked", "text": "the cap is used up", "action_id": ""}],
    "rulebook_version": "abc",
    "notes": ["A note."],
}


def test_one_explanation_is_shown_in_full_and_brackets_are_no_markup():
    console = Console(record=True, width=200, file=io.StringIO())
    for line in explained_lines({"explanations": [EXPLANATION], "notes": ["In [red] general."]}):
        console.print(line)
    assert console.export_text() == (
        "cart-recovery did not fire at 10:30: event.total >= 40 is false (it is 20).\n"
        "  trigger     cart_updated: cart_updated was last seen at 10:30\n"
        "  conditions\n"
        "    ✗ event.total >= 40 and in segment staff\n"
        "      ✗ event.total >= 40   (it is 20)\n"
        "      ? in segment staff\n"
        "  limits\n"
        "    ✗ cap of 2 per 7d for kind:sms: 2 used\n"
        "  slot contact: scored 3 = propensity 1 x context 1.5 x value 2 x weight 1\n"
        "    against mail-them 2.5\n"
        "  ledger\n"
        "    2026-03-02 10:30:00.000 UTC  blocked: the cap is used up\n"
        "  version     abc\n"
        "  A note.\n"
        "In [red] general.\n"
    )


def test_many_explanations_are_shown_by_their_sentence():
    lines = list(explained_lines({"explanations": [EXPLANATION] * 4, "notes": []}))
    assert [line.plain for line in lines] == [EXPLANATION["sentence"]] * 4


def test_a_timeline_that_begins_later_says_so():
    table = timeline_table({"customer_id": "c1", "whole": False, "entries": []})
    assert table.title == "c1 (recent; earlier history is summed up in the state)"
