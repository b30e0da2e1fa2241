"""A trace and the interpreter are two readings of one condition tree; they must never differ."""

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
from orchestrator.core.explain import Gap, settling, trace
from orchestrator.core.interpret import evaluate, interpreted
from orchestrator.core.rulebook import build_rulebook
from orchestrator.core.state import CustomerState, Run
from orchestrator.core.view import View

NAMES = ["total", "country"]
SCALARS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, "", "a", "IN"]), st.booleans())
PATHS = st.one_of(
    st.builds(
        Path, st.sampled_from([Root.EVENT, Root.PROFILE, Root.CONTEXT]), st.sampled_from(NAMES).map(lambda n: (n,))
    ),
    st.builds(Path, st.just(Root.RUN), st.sampled_from([("stage",), ("key",)])),
)
DEFAULTS = st.one_of(st.just(MISSING), SCALARS)
ORDERS = st.sampled_from([Op.LT, Op.LTE, Op.GT, Op.GTE, Op.EQ, Op.NE])
LEAVES = st.one_of(
    st.builds(
        Compare, PATHS, ORDERS, st.one_of(SCALARS, st.builds(FieldValue, PATHS, st.sampled_from([1, 2]))), DEFAULTS
    ),
    st.builds(Compare, PATHS, st.sampled_from([Op.IN, Op.NOT_IN]), st.lists(SCALARS, max_size=3).map(tuple), DEFAULTS),
    st.builds(Compare, PATHS, st.sampled_from([Op.EXISTS, Op.MISSING]), st.none(), DEFAULTS),
    st.builds(
        CountOf, st.sampled_from(["counted", "new-count"]), st.just("e"), st.just(100), ORDERS, st.integers(0, 3)
    ),
    st.builds(
        SumOf, st.sampled_from(["summed", "new-sum"]), st.just("e"), PATHS, st.just(6000), ORDERS, st.integers(0, 9)
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
    st.builds(InStage, st.sampled_from(["j", "other"]), st.sampled_from([("open",), ("open", "done")])),
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
FACTS = st.dictionaries(st.sampled_from(NAMES), st.one_of(SCALARS, st.none()))
RULEBOOK = build_rulebook(
    version="v",
    journeys=[Journey(id="j", title="", stages=(Stage("open", 0, StageOn("e")), Stage("done", 1, StageOn("f"))))],
    aggregates=[],
    conditions=interpreted,
    aggregates_since={"new-count": 950, "new-sum": 950, "new-stamps": 950},
)


def view_of(event: dict[str, Any], traits: dict[str, Any] | None = None, *, with_run: bool = True) -> View:
    state = CustomerState(
        first_seen_ms=1,
        traits={name: (value, 0) for name, value in (traits or {}).items()},
        runs={"j/": Run("open", 1, 2), "other/k": Run("done", 1, 2)} if with_run else {},
        aggregates={
            "counted": [880, 950, 990],
            "new-count": [990],
            "summed": [[8, 2.5], [10, 4]],
            "stamped": [900, 950, 2],
            "new-stamps": [990, 990, 1],
        },
    )
    return View(RULEBOOK, state, 1000, event, {})


@settings(max_examples=600, deadline=None)
@given(CONDITIONS, FACTS, FACTS, st.booleans())
def test_a_trace_has_the_truth_of_the_interpreter_and_a_gap_exactly_where_a_leaf_is_unknown(
    condition, event, traits, with_run
):
    view = view_of(event, traits, with_run=with_run)
    found = trace(condition, view, "j")
    assert found.truth is evaluate(condition, view, "j")
    for leaf in _leaves(found):
        assert (leaf.gap is not None) is (leaf.truth is None)


@settings(max_examples=300, deadline=None)
@given(CONDITIONS, FACTS, FACTS)
def test_what_settled_a_trace_suffices_to_settle_it(condition, event, traits):
    """Whatever the other leaves had come to, the settling ones would have given the same answer."""
    found = trace(condition, view_of(event, traits), "j")
    decisive = {id(leaf) for leaf in settling(found)}
    if found.truth is None:
        return  # An unknown part decides nothing by itself: the others kept it from being decided.
    for assumed in (True, False, None):
        assert _evaluated(found, decisive, assumed) is found.truth


def _leaves(found):
    return [leaf for part in found.parts for leaf in _leaves(part)] if found.parts else _unless_empty(found)


def _unless_empty(found):
    return [] if isinstance(found.condition, AllOf | AnyOf) else [found]


def _evaluated(found, decisive, assumed):
    if id(found) in decisive:
        return found.truth
    parts = [_evaluated(part, decisive, assumed) for part in found.parts]
    match found.condition:
        case AllOf():
            return False if False in parts else None if None in parts else True
        case AnyOf():
            return True if True in parts else None if None in parts else False
        case Not():
            return None if parts[0] is None else not parts[0]
        case _:
            return assumed


TOTAL = Path(Root.EVENT, ("total",))
LIMIT = FieldValue(Path(Root.PROFILE, ("limit",)))


@pytest.mark.parametrize(
    ("condition", "event", "truth", "value", "gap"),
    [
        (Compare(TOTAL, Op.GTE, 40), {"total": 20}, False, 20, None),
        (Compare(TOTAL, Op.GTE, 40), {}, None, MISSING, Gap.FIELD_MISSING),
        (Compare(TOTAL, Op.GTE, 40), {"total": None}, None, None, Gap.FIELD_MISSING),
        (Compare(TOTAL, Op.GTE, 40), {"total": "40"}, None, "40", Gap.UNLIKE_TYPES),
        (Compare(TOTAL, Op.GTE, LIMIT), {"total": 40}, None, 40, Gap.OTHER_FIELD_MISSING),
        (Compare(TOTAL, Op.GTE, 40, default=50), {}, True, 50, None),
        (CountOf("counted", "e", 100, Op.GTE, 3), {}, False, 2, None),
        (CountOf("new-count", "e", 100, Op.GTE, 3), {}, None, 1, Gap.WINDOW_UNSEEN),
        (CountOf("new-count", "e", 100, Op.GTE, 1), {}, True, 1, None),
        (Since("stamped", "e", SinceEnd.LAST, Op.LTE, 60), {}, True, 50, None),
        (Since("never", "e", SinceEnd.LAST, Op.LTE, 60), {}, None, MISSING, Gap.NEVER_HAPPENED),
        (Since("new-stamps", "e", SinceEnd.FIRST, Op.LTE, 60), {}, None, 10, Gap.WINDOW_UNSEEN),
        (FirstEver("never", "e"), {}, None, 0, Gap.NEVER_HAPPENED),
        (InStage("j", ("done",)), {}, False, "open", None),
    ],
)
def test_a_leaf_tells_what_it_read_and_why_it_is_unknown(condition, event, truth, value, gap):
    found = trace(condition, view_of(event), "j")
    assert (found.truth, found.value, found.gap) == (truth, value, gap)


def test_the_first_false_part_settles_an_all_and_every_part_an_any():
    small, large = Compare(TOTAL, Op.GTE, 40), Compare(TOTAL, Op.GTE, 400)
    view = view_of({"total": 20})
    assert [one.condition for one in settling(trace(AllOf((small, large)), view, "j"))] == [small]
    assert [one.condition for one in settling(trace(AnyOf((small, large)), view, "j"))] == [small, large]
    assert [one.condition for one in settling(trace(Not(AnyOf((small, large))), view, "j"))] == [small, large]
