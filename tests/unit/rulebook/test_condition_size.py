"""How large conditions may become through the segments in them, and that no chain of them is walked twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.condition import AllOf, AnyOf, Condition, InSegment
from orchestrator.rulebook import build_conditions
from orchestrator.rulebook.condition_size import LEAVES_MAX, LEVELS_MAX
from orchestrator.rulebook.load import Loaded, folder_files, load_rulebook_files
from orchestrator.rulebook.problem import rendered
from orchestrator.runtime.rulebooks import compile_loaded

ARROW = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"
BASE = {"tracking_plan.yaml": folder_files(Path(__file__).parent / "broken" / "base")["tracking_plan.yaml"]}
HEAD = "journey: a\nstages: {new: {on: {event: signed_up}}}\nrules:\n"
LEAF = "{field: profile.age, op: gte, value: 18}"


def load(segments: dict[str, str], *whens: str, rules: str = "") -> Loaded:
    """Load segments by name, and a rule for each of the conditions."""
    written = "".join(f"  {name}: {{when: {when}}}\n" for name, when in segments.items())
    ruled = "".join(
        f"  - {{id: r{number}, on: {{event: signed_up}}, when: {when}, do: [{{wait: 1d}}]}}\n"
        for number, when in enumerate(whens)
    )
    asked = {"segments.yaml": f"segments:\n{written}".encode()} if segments else {}
    return load_rulebook_files({**BASE, **asked, "a.yaml": f"{HEAD}{ruled}{rules}".encode()}, shown_as="rules")


def doubling(levels: int) -> dict[str, str]:
    """s0 asks s1 twice, s1 asks s2 twice, and so on."""
    asked = {f"s{one}": f"{{all: [{{in_segment: s{one + 1}}}, {{in_segment: s{one + 1}}}]}}" for one in range(levels)}
    return {**asked, f"s{levels}": LEAF}


BARE = "{in_segment: NEXT}"
GROUPED = "{any: [{in_segment: NEXT}, " + LEAF + "]}"


def chain(length: int, link: str) -> dict[str, str]:
    return {**{f"s{one}": link.replace("NEXT", f"s{one + 1}") for one in range(length)}, f"s{length}": LEAF}


# ------------------------------------------------------------------------------------------------ how large


@pytest.mark.parametrize("levels", [11, 30, 3_000])
def test_segments_that_double_each_other_are_refused_where_they_become_too_large(levels: int):
    first = levels - 11
    assert rendered(load(doubling(levels), "{in_segment: s0}").problems) == (
        f'rules/segments.yaml:{first + 2}  segment "s{first}"\n'
        "    comes to 2048 conditions with its segments written out; at most 2000 are allowed."
        f' The largest is the segment "s{first + 1}" with 1024: name it once, or put values of one field into one list'
        " with `op: in`"
    )


def test_a_rule_that_puts_large_segments_together_is_refused_itself():
    when = "{any: [{in_segment: s0}, {not: {in_segment: s1}}, {in_segment: s0}]}"
    assert rendered(load(doubling(10), when).problems) == (
        f'rules/a.yaml:4  journey "a" {ARROW} rule "r0"\n'
        "    comes to 2560 conditions with its segments written out; at most 2000 are allowed."
        ' The largest is the segment "s0" with 1024: name it once, or put values of one field into one list with'
        " `op: in`"
    )


@pytest.mark.parametrize(("extra", "ok"), [(0, True), (1, False)])
def test_a_condition_may_be_just_as_large_as_is_said(extra: int, ok: bool):
    when = f"{{any: [{', '.join([LEAF] * (LEAVES_MAX + extra))}]}}"
    loaded = load({}, when)
    assert loaded.ok is ok
    assert rendered(loaded.problems) == (
        ""
        if ok
        else f'rules/a.yaml:4  journey "a" {ARROW} rule "r0"\n'
        "    comes to 2001 conditions with its segments written out; at most 2000 are allowed. Put values of one field"
        " into one list with `op: in`"
    )


def test_each_condition_of_a_rule_has_its_own_ceiling():
    ask = "{in_segment: s0}"
    rules = f"""  - id: many
    on: {{event: signed_up}}
    when: {ask}
    do: [{{if: {ask}, then: [{{wait: 1d}}]}}, {{if: {ask}, then: [{{wait: 1d}}]}}]
    arbitrate: {{slot: a, context: {{segment: {{s0: 10}}, levers: [{{when: {ask}, lever: 20}}]}}}}
"""
    loaded = load(doubling(10), rules=rules)
    assert rendered(loaded.problems) == ""
    compile_loaded(loaded, "default")


def test_all_rules_together_have_one_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build_conditions, "LEAVES_OF_ALL_MAX", 100)
    segments = doubling(5)
    assert load(segments, *["{in_segment: s0}"] * 3).ok, "96 conditions"
    rules = """  - id: bid
    on: {event: signed_up}
    arbitrate: {slot: a, context: {segment: {s0: 10}}}
    do: [{wait: 1d}]
"""
    assert rendered(load(segments, *["{in_segment: s0}"] * 3, rules=rules).problems) == (
        f'rules/a.yaml:9  journey "a" {ARROW} rule "bid"\n'
        "    the rules up to here come to more than 100 conditions with segments written out; ask for large segments in"
        " fewer rules"
    )


# ------------------------------------------------------------------------------------------------- how deep


@pytest.mark.parametrize(("link", "each"), [(BARE, 1), (GROUPED, 2)], ids=["bare", "grouped"])
@pytest.mark.parametrize("length", [200, 5_000])
def test_a_long_chain_of_segments_is_refused_where_it_becomes_too_deep(link: str, each: int, length: int):
    loaded = load(chain(length, link), "{in_segment: s0}")
    deep = length - LEVELS_MAX // each - 1
    assert rendered(loaded.problems) == (
        f'rules/segments.yaml:{deep + 2}  segment "s{deep}"\n'
        f"    is nested {LEVELS_MAX + each} levels deep with its segments written out; at most 64 are allowed."
        f' The deepest is the segment "s{deep + 1}" with 64: put a shorter way in its place'
    )


def test_a_chain_of_the_greatest_depth_compiles():
    loaded = load(chain(30, GROUPED), "{all: [{not: {in_segment: s0}}, {not: {in_segment: s1}}]}")
    assert rendered(loaded.problems) == ""
    compile_loaded(loaded, "default")


# ------------------------------------------------------------------------------------------- each only once


def when_of(loaded: Loaded, rule: int) -> Condition:
    when = loaded.journeys[0].rules[rule].when
    assert when is not None
    return when


def test_whoever_asks_for_a_segment_is_given_the_same():
    loaded = load(doubling(3), "{in_segment: s0}", "{any: [{in_segment: s1}, {in_segment: s0}]}")
    first, second = when_of(loaded, 0), when_of(loaded, 1)
    assert isinstance(first, InSegment) and isinstance(first.condition, AllOf) and isinstance(second, AnyOf)
    assert second.parts[1] is first
    assert first.condition.parts[0] is first.condition.parts[1] is second.parts[0]


def test_a_segment_may_stand_before_those_that_it_names():
    loaded = load({"a": "{in_segment: c}", "b": LEAF, "c": "{in_segment: b}"}, "{in_segment: a}")
    assert rendered(loaded.problems) == ""
    outer = when_of(loaded, 0)
    assert isinstance(outer, InSegment) and isinstance(outer.condition, InSegment)
    assert (outer.segment, outer.condition.segment) == ("a", "c")


def test_circles_are_told_one_by_one_and_a_long_one_in_short():
    around = {f"s{one}": f"{{in_segment: s{(one + 1) % 3_000}}}" for one in range(3_000)}
    names = " → ".join(f"s{one}" for one in range(10))
    assert rendered(load(around, "{in_segment: s5}").problems) == (
        f'rules/segments.yaml:3001  segment "s2999"\n    segments refer to each other in a circle: {names} → … → s0'
    )


def test_of_many_circles_the_first_are_told():
    back = {
        f"s{one}": f"{{any: [{{in_segment: s{one + 1}}}, {{in_segment: s0}}, {{in_segment: s{one}}}]}}"
        for one in range(100)
    }
    loaded = load({**back, "s100": LEAF})
    assert not loaded.ok
    assert len(loaded.problems) == 20


def test_a_segment_knows_no_journey_whoever_asks():
    loaded = load({"new": "{in_stage: new}"}, "{in_segment: new}")
    assert rendered(loaded.problems) == (
        'rules/segments.yaml:2  segment "new"\n    say which journey is meant: add `journey: …`'
    )
