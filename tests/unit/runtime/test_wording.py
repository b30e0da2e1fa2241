"""Conditions, triggers and limits in words."""

from __future__ import annotations

import pytest

from orchestrator.core.condition import (
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
from orchestrator.core.definition import (
    OnAbsence,
    OnDwell,
    OnEnter,
    OnEvent,
    OnLeave,
    OnSchedule,
    OnSequence,
    SequenceStep,
)
from orchestrator.core.limit_trace import LimitKind, LimitTrace
from orchestrator.core.pattern import pattern_of
from orchestrator.core.reason import Reason
from orchestrator.runtime.wording import condition_text, limit_text, reason_text, trigger_text

TOTAL = Path(Root.EVENT, ("total",))
LIMIT = Path(Root.PROFILE, ("limit",))
DAY_MS = 86_400_000
BIG = Compare(TOTAL, Op.GTE, 40)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (BIG, "event.total >= 40"),
        (Compare(TOTAL, Op.GTE, 40, default=0), "event.total >= 40 (default 0)"),
        (Compare(Path(Root.PROFILE, ("plan",)), Op.EQ, "pro"), "profile.plan = pro"),
        (Compare(Path(Root.PROFILE, ("city",)), Op.NE, "New Delhi"), 'profile.city != "New Delhi"'),
        (Compare(Path(Root.PROFILE, ("country",)), Op.NOT_IN, ("IN", "SG")), "profile.country not in [IN, SG]"),
        (Compare(TOTAL, Op.BETWEEN, (1, 2.5)), "event.total between 1 and 2.5"),
        (Compare(TOTAL, Op.EXISTS), "event.total exists"),
        (Compare(TOTAL, Op.MISSING), "event.total is missing"),
        (Compare(TOTAL, Op.MATCHES, pattern_of("^a b$")), "event.total matches /^a b$/"),
        (Compare(TOTAL, Op.GT, FieldValue(LIMIT)), "event.total > profile.limit"),
        (Compare(TOTAL, Op.GT, FieldValue(LIMIT, 2)), "event.total > 2 x profile.limit"),
        (CountOf("a", "viewed", 7 * DAY_MS, Op.GTE, 2), "count of viewed within 7d >= 2"),
        (SumOf("a", "paid", TOTAL, DAY_MS, Op.LT, 99.5), "sum of total of paid within 1d < 99.5"),
        (Since("a", "paid", SinceEnd.LAST, Op.GTE, 30 * DAY_MS), "time since the last paid >= 30d"),
        (FirstEver("a", "paid"), "the first paid ever"),
        (InSegment("staff", BIG), "in segment staff"),
        (InStage("purchase", ("basket", "checkout")), "purchase in stage basket or checkout"),
        (AllOf((BIG, AnyOf((BIG, Not(BIG))))), "event.total >= 40 and (event.total >= 40 or not event.total >= 40)"),
    ],
)
def test_a_condition_reads_as_its_author_wrote_it(condition, text):
    assert condition_text(condition) == text


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        (OnEvent("paid"), "paid"),
        (OnEvent("paid", BIG), "paid where event.total >= 40"),
        (OnEnter("basket"), "entering stage basket"),
        (OnLeave("basket"), "leaving stage basket"),
        (OnDwell("basket", 2 * DAY_MS), "2d in stage basket"),
        (OnAbsence("n", "cart_updated", "order_completed", 1_800_000), "cart_updated, then no order_completed for 30m"),
        (OnSequence("n", (SequenceStep("a"), SequenceStep("b")), 60_000), "a, then b, within 1m"),
        (OnSchedule(540), "09:00 local time, every day"),
        (OnSchedule(540, (0, 4)), "09:00 local time, Mon Fri"),
    ],
)
def test_a_trigger_reads_in_one_line(trigger, text):
    assert trigger_text(trigger) == text


@pytest.mark.parametrize(
    ("kind", "blocks", "detail", "text"),
    [
        (LimitKind.IN_PLAY, True, {}, "a play of it is open already"),
        (
            LimitKind.COOLDOWN,
            True,
            {"cooldown_ms": DAY_MS, "left_ms": 3_600_000},
            "cooldown of 1d: another 1h to rest",
        ),
        (
            LimitKind.CONSENT,
            True,
            {"purpose": "marketing", "known": False, "since": None},
            "consent for marketing: never given",
        ),
        (
            LimitKind.CONSENT,
            True,
            {"purpose": "marketing", "known": True, "since": 0},
            "consent for marketing: withdrawn on 1970-01-01 00:00:00 UTC",
        ),
        (
            LimitKind.CAP,
            True,
            {"of": "kind:sms", "max": 2, "used": 2, "per_ms": 0, "period": "week"},
            "cap of 2 per week for kind:sms: 2 used",
        ),
        (
            LimitKind.QUIET_HOURS,
            True,
            {"start_min": 1260, "end_min": 480, "then": "defer", "remedy": "…"},
            "quiet hours 21:00 to 08:00: nobody knows the customer's time zone, so they hold",
        ),
        (
            LimitKind.QUIET_HOURS,
            True,
            {"start_min": 1260, "end_min": 480, "then": "drop", "until": 0, "zone": "Asia/Kolkata"},
            "quiet hours 21:00 to 08:00: they hold in Asia/Kolkata; dropped; over at 1970-01-01 00:00:00 UTC",
        ),
    ],
)
def test_a_limit_says_what_it_is_and_how_it_stands(kind, blocks, detail, text):
    assert limit_text(LimitTrace(kind, blocks, detail)) == text


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_can_be_told_even_without_its_figures(reason):
    assert reason_text(reason, {})
