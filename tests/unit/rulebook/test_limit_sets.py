"""Shared sets of limits: merged into a rule in the order in which they are named, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.rulebook.build_limits import limit_layers
from orchestrator.rulebook.gather import gathered
from orchestrator.rulebook.load import folder_files, load_rulebook_files
from orchestrator.rulebook.problem import Report, rendered

BASE = {
    **folder_files(Path(__file__).parent / "broken" / "base"),
    "segments.yaml": b"segments: {}",
    "templates.yaml": b"templates: {welcome: {params: {text: Hi}}}",
}
RULE = """journey: a
stages: {new: {on: {event: signed_up}}}
rules:
  - id: hello
    on: {event: signed_up}
    do: [{send: {connector: sms, template: welcome}}]
    limits: {use: USED, consent: [marketing]}
"""


def files(sets: str, used: str) -> dict[str, bytes]:
    return {**BASE, "limits.yaml": f"limits:\n{sets}".encode(), "a.yaml": RULE.replace("USED", used).encode()}


def layers(sets: str, used: str) -> list[str]:
    names = gathered(files(sets, used), "", Report())
    part = names.journeys["a"].rules[0].limits
    known = {id(one): name for name, one in names.limit_sets.items()}
    return [known.get(id(one), "own") for one in limit_layers(part, names)]


DIAMOND = """  a: {use: [b, c], cooldown: 1d}
  b: {use: [d], cap: {max: 1, per: 1d}}
  c: {use: [d, e]}
  d: {quiet_hours: {from: "21:00", to: "08:00"}}
  e: {cap: {max: 9, per: 30d}}
"""


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ("a", ["own", "a", "b", "d", "c", "e"]),
        ("[c, a]", ["own", "c", "d", "e", "a", "b"]),
        ("[e, e, nowhere]", ["own", "e"]),
        ("[]", ["own"]),
    ],
)
def test_a_rule_takes_each_set_once_in_the_order_of_names(used: str, expected: list[str]):
    assert layers(DIAMOND, used) == expected


def test_what_two_sets_share_holds_once():
    loaded = load_rulebook_files(files(DIAMOND, "a"))
    assert rendered(loaded.problems) == ""
    limits = loaded.journeys[0].rules[0].limits
    assert limits.cooldown_ms == 86_400_000
    assert [cap.max for cap in limits.caps] == [1, 9]
    assert limits.quiet_hours is not None


@pytest.mark.parametrize("length", [60, 3_000])
def test_sets_that_use_each_other_twice_are_walked_once(length: int):
    sets = "".join(f"  l{one}: {{use: [l{one + 1}, l{one + 1}]}}\n" for one in range(length))
    loaded = load_rulebook_files(files(f"{sets}  l{length}: {{cooldown: 1d}}\n", "l0"))
    assert rendered(loaded.problems) == ""
    assert loaded.journeys[0].rules[0].limits.cooldown_ms == 86_400_000


def test_sets_that_nobody_uses_are_checked_as_well():
    sets = "  one: {use: two}\n  two: {use: [one, thre]}\n  three: {use: three}\n"
    assert rendered(load_rulebook_files(files(sets, "[]")).problems) == (
        'limits.yaml:3  limits "two"\n'
        '    unknown limit set "thre". Known: one, three, two. Did you mean "three"?\n'
        'limits.yaml:3  limits "two"\n'
        "    limit sets refer to each other in a circle: one → two → one\n"
        'limits.yaml:4  limits "three"\n'
        "    limit sets refer to each other in a circle: three → three"
    )
