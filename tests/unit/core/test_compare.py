"""One definition of comparison, as a table."""

from __future__ import annotations

import pytest

from orchestrator.core.compare import compare, is_number, same
from orchestrator.core.condition import MISSING, Op
from orchestrator.core.pattern import TEXT_CHARS_MAX, pattern_of

YES, NO, UNKNOWN = True, False, None


@pytest.mark.parametrize(
    ("op", "left", "right", "answer"),
    [
        ("eq", 1, 1.0, YES),
        ("eq", "a", "a", YES),
        ("eq", True, 1, NO),
        ("eq", 1, True, NO),
        ("eq", False, 0.0, NO),
        ("eq", "1", 1, NO),
        ("eq", [1], [1], YES),
        ("ne", "1", 1, YES),
        ("ne", 2, 2.0, NO),
        ("lt", 1, 2, YES),
        ("lt", 2, 2, NO),
        ("lte", 2, 2.0, YES),
        ("gt", "b", "a", YES),
        ("gte", "a", "b", NO),
        ("lt", "1", 2, UNKNOWN),
        ("gt", True, 0, UNKNOWN),
        ("gte", [2], [1], UNKNOWN),
        ("lte", {}, 1, UNKNOWN),
        ("between", 2, (2, 4), YES),
        ("between", 4, (2, 4), YES),
        ("between", 4.1, (2, 4), NO),
        ("between", "b", ("a", "c"), YES),
        ("between", "b", (1, 3), UNKNOWN),
        ("in", "a", ("a", "b"), YES),
        ("in", 1.0, (1, 2), YES),
        ("in", True, (1, 2), NO),
        ("in", [1], (1, 2), NO),
        ("in", "a", (), NO),
        ("not_in", "c", ("a", "b"), YES),
        ("not_in", "a", ("a",), NO),
        ("contains", "abc", "bc", YES),
        ("contains", "abc", "x", NO),
        ("contains", "abc", 1, UNKNOWN),
        ("contains", [1, "a"], "a", YES),
        ("contains", [1], True, NO),
        ("contains", 12, 1, UNKNOWN),
        ("starts_with", "abc", "ab", YES),
        ("starts_with", "abc", "b", NO),
        ("starts_with", 12, "1", UNKNOWN),
        ("matches", "abc", "^a", YES),
        ("matches", "abc", pattern_of("c$"), YES),
        ("matches", "abc", "^b", NO),
        ("matches", 1, "1", UNKNOWN),
        ("matches", "a\ud800", "a", UNKNOWN),
        ("matches", "abc", "(", UNKNOWN),
        ("matches", "Zürich", "(?i)^zür.ch$", YES),
        ("matches", "a" * (TEXT_CHARS_MAX + 1), "a", UNKNOWN),
        ("exists", 0, None, YES),
        ("exists", "", None, YES),
        ("exists", False, None, YES),
        ("missing", 0, None, NO),
    ],
)
def test_present_values_compare_by_type(op, left, right, answer):
    assert compare(Op(op), left, right) is answer


@pytest.mark.parametrize("absent", [None, MISSING])
@pytest.mark.parametrize("op", Op)
def test_what_is_absent_is_unknown_to_all_but_the_two_that_ask_for_it(op, absent):
    expected = {Op.EXISTS: False, Op.MISSING: True}.get(op)
    assert compare(op, absent, ("a", "b") if op is Op.BETWEEN else "a") is expected
    if op not in {Op.EXISTS, Op.MISSING}:
        assert compare(op, "a", absent) is None


@pytest.mark.parametrize(("value", "answer"), [(1, YES), (1.5, YES), (True, NO), ("1", NO), (None, NO)])
def test_a_boolean_is_no_number(value, answer):
    assert is_number(value) is answer


@pytest.mark.parametrize(("left", "right", "answer"), [(0, False, NO), (1, 1.0, YES), ("", None, NO), ({}, {}, YES)])
def test_sameness_needs_like_types(left, right, answer):
    assert same(left, right) is answer
