"""Generated code and interpreter are two readings of one condition tree; they must never differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.condition import (
    MISSING,
    AllOf,
    AnyOf,
    Compare,
    CountOf,
    FieldValue,
    FirstEver,
    InSegment,
    InStage,
    Not,
    Op,
    Path,
    Root,
    Since,
    SinceEnd,
    SumOf,
)
from orchestrator.core.definition import Journey, Stage, StageOn
from orchestrator.core.interpret import interpreted
from orchestrator.core.rulebook import build_rulebook
from orchestrator.core.state import CustomerState, Run
from orchestrator.core.view import View
from orchestrator.rulebook.compile import Source, compiled

NAMES = ["total", "country", 'x"]; raise SystemExit #', "ns.dotted", "__class__"]
SCALARS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from(["", "a", "ab", "IN", "é", "'; import os"]),
    st.booleans(),
)
VALUES = st.recursive(
    st.one_of(SCALARS, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)),
    max_leaves=4,
)
PATHS = st.one_of(
    st.builds(
        Path,
        st.sampled_from([Root.EVENT, Root.PROFILE, Root.CONTEXT]),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(tuple),
    ),
    st.builds(Path, st.just(Root.RUN), st.sampled_from([("stage",), ("started_at",), ("key",)])),
)
DEFAULTS = st.one_of(st.just(MISSING), SCALARS)
ORDERS = st.sampled_from([Op.LT, Op.LTE, Op.GT, Op.GTE, Op.EQ, Op.NE])
COMPARISONS = st.one_of(
    st.builds(
        Compare, PATHS, ORDERS, st.one_of(SCALARS, st.builds(FieldValue, PATHS, st.sampled_from([1, 2]))), DEFAULTS
    ),
    st.builds(Compare, PATHS, st.sampled_from([Op.IN, Op.NOT_IN]), st.lists(SCALARS, max_size=4).map(tuple), DEFAULTS),
    st.builds(Compare, PATHS, st.just(Op.BETWEEN), st.tuples(SCALARS, SCALARS), DEFAULTS),
    st.builds(Compare, PATHS, st.sampled_from([Op.EXISTS, Op.MISSING]), st.none(), DEFAULTS),
    st.builds(Compare, PATHS, st.sampled_from([Op.CONTAINS, Op.STARTS_WITH]), SCALARS, DEFAULTS),
    st.builds(Compare, PATHS, st.just(Op.MATCHES), st.sampled_from(["^a", "b$", "[IN]+"]), DEFAULTS),
)
AGGREGATES = st.sampled_from(["counted", "new-count", "stamped", "new-stamps", "never"])
LEAVES = st.one_of(
    COMPARISONS,
    st.builds(
        CountOf,
        st.sampled_from(["counted", "new-count", "never"]),
        st.just("e"),
        st.just(100),
        ORDERS,
        st.integers(0, 3),
    ),
    st.builds(
        SumOf, st.sampled_from(["summed", "never"]), st.just("e"), PATHS, st.just(6000), ORDERS, st.integers(0, 9)
    ),
    st.builds(
        Since,
        st.sampled_from(["stamped", "new-stamps", "never"]),
        st.just("e"),
        st.sampled_from(SinceEnd),
        ORDERS,
        st.integers(0, 200),
        st.sampled_from([None, True, False]),
    ),
    st.builds(FirstEver, st.sampled_from(["stamped", "new-stamps", "never"]), st.just("e")),
    st.builds(InStage, st.sampled_from(["j", "other"]), st.sampled_from([("open",), ("open", "done"), ("gone",)])),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
        st.builds(InSegment, st.just("s"), inner),
    ),
    max_leaves=6,
)
FACTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)

JOURNEY = Journey(id="j", title="", stages=(Stage("open", 0, StageOn("e")), Stage("done", 1, StageOn("f"))))
RULEBOOK = build_rulebook(
    version="v",
    journeys=[JOURNEY],
    aggregates=[],
    conditions=interpreted,
    aggregates_since={"new-count": 950, "new-stamps": 950},
)


def view_of(event: dict[str, Any], context: dict[str, Any], traits: dict[str, Any], with_run: bool) -> View:
    state = CustomerState(
        first_seen_ms=1,
        traits={name: (value, 0) for name, value in traits.items()},
        runs={"j/": Run("open", 1, 2), "other/k": Run("done", 1, 2)} if with_run else {},
        aggregates={
            "counted": [880, 950, 990],
            "new-count": [990],
            "summed": [[8, 2.5], [10, 4]],
            "stamped": [900, 950, 2],
            "new-stamps": [990, 990, 1],
        },
    )
    return View(RULEBOOK, state, 1000, event, context)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.one_of(st.none(), CONDITIONS), max_size=4), FACTS, FACTS, FACTS, st.booleans())
def test_generated_code_and_interpreter_give_the_same_answers(conditions, event, context, traits, with_run):
    asked = [("j", condition) for condition in conditions]
    view = view_of(event, context, traits, with_run)
    assert list(compiled(asked)(view)) == list(interpreted(asked)(view))


@settings(max_examples=200, deadline=None)
@given(CONDITIONS)
def test_generated_source_consists_of_the_compilers_own_words_only(condition):
    source = Source()
    text = source.function([source.truth(condition, "j\"'\n#")])
    for hostile in (*NAMES, "import os", "SystemExit", "\"'"):
        assert hostile not in text or hostile in {"total", "__class__"}
    assert "'total'" not in text


@pytest.mark.parametrize(
    ("value", "answer"),
    [(41, True), (40.0, True), (39, False), ("41", False), (True, False), (None, False), (MISSING, False)],
)
def test_a_number_is_only_compared_with_numbers(value, answer):
    event = {} if value is MISSING else {"total": value}
    condition = Compare(Path(Root.EVENT, ("total",)), Op.GTE, 40)
    assert bool(list(compiled([("j", condition)])(view_of(event, {}, {}, False)))) is answer


def test_unknown_is_neither_true_nor_false():
    """A churn score under 0.2 must not match customers who have no score, and neither must its negation."""
    low = Compare(Path(Root.PROFILE, ("churn",)), Op.LT, 0.2)
    asked = [("j", low), ("j", Not(low))]
    assert list(compiled(asked)(view_of({}, {}, {}, False))) == []
    assert list(compiled(asked)(view_of({}, {}, {"churn": 0.1}, False))) == [0]
    assert list(compiled(asked)(view_of({}, {}, {"churn": 0.3}, False))) == [1]
