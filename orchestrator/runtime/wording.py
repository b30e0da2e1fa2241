"""Wording: conditions, triggers and reasons in the words in which authors write them, for people who ask why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_never

import msgspec

from orchestrator.core.condition import (
    MISSING,
    AllOf,
    AnyOf,
    Compare,
    Condition,
    CountOf,
    FieldValue,
    FirstEver,
    InSegment,
    InStage,
    Not,
    Op,
    Root,
    Since,
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
    Trigger,
)
from orchestrator.core.event import Event
from orchestrator.core.explain import Gap, Trace
from orchestrator.core.limit_trace import LimitKind, LimitTrace
from orchestrator.core.moment import aware_moment
from orchestrator.core.pattern import Pattern
from orchestrator.core.reason import Reason
from orchestrator.rulebook.span import shown_clock, shown_span

_SIGNS = {Op.EQ: "=", Op.NE: "!=", Op.LT: "<", Op.LTE: "<=", Op.GT: ">", Op.GTE: ">="}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_TRUTHS = {True: "true", False: "false", None: "unknown"}


def moment_text(at_ms: int) -> str:
    """Return a moment as people read it, in UTC to the second."""
    return f"{aware_moment(at_ms):%Y-%m-%d %H:%M:%S UTC}"


def value_text(value: Any) -> str:
    """Return a value as JSON; lists of an author without quotes where nothing is lost by it."""
    if isinstance(value, tuple):
        return f"[{', '.join(value_text(one) for one in value)}]"
    if isinstance(value, Pattern):
        return f"/{value.text}/"
    if isinstance(value, FieldValue):
        return str(value.path) if value.times == 1 else f"{value.times:g} x {value.path}"
    if isinstance(value, str) and value.isidentifier():
        return value
    return msgspec.json.encode(value).decode()


def truth_text(truth: bool | None) -> str:
    """Return ``true``, ``false`` or ``unknown``."""
    return _TRUTHS[truth]


def condition_text(condition: Condition) -> str:
    """Return a condition in one line."""
    match condition:
        case Compare():
            return _compare_text(condition)
        case CountOf(event=event, within_ms=within_ms, op=op, value=value):
            return f"count of {event} within {shown_span(within_ms)} {_SIGNS[op]} {value}"
        case SumOf(event=event, path=path, within_ms=within_ms, op=op, value=total):
            return f"sum of {'.'.join(path.parts)} of {event} within {shown_span(within_ms)} {_SIGNS[op]} {total:g}"
        case Since(event=event, end=end, op=op, value_ms=value_ms):
            return f"time since the {end.value} {event} {_SIGNS[op]} {shown_span(value_ms)}"
        case FirstEver(event=event):
            return f"the first {event} ever"
        case InSegment(segment=segment):
            return f"in segment {segment}"
        case InStage(journey=journey, stages=stages):
            return f"{journey} in stage {' or '.join(stages)}"
        case AllOf(parts):
            return " and ".join(_within(part) for part in parts) or "nothing asked"
        case AnyOf(parts):
            return " or ".join(_within(part) for part in parts) or "any of nothing"
        case Not(part):
            return f"not {_within(part)}"
        case _:
            assert_never(condition)


def _within(condition: Condition) -> str:
    text = condition_text(condition)
    return f"({text})" if isinstance(condition, AllOf | AnyOf) and len(condition.parts) > 1 else text


def _compare_text(condition: Compare) -> str:
    path, op, value = condition.path, condition.op, condition.value
    default = "" if condition.default is MISSING else f" (default {value_text(condition.default)})"
    match op:
        case Op.EXISTS:
            return f"{path} exists"
        case Op.MISSING:
            return f"{path} is missing"
        case Op.BETWEEN:
            return f"{path} between {value_text(value[0])} and {value_text(value[1])}{default}"
        case _:
            return f"{path} {_SIGNS.get(op) or op.value.replace('_', ' ')} {value_text(value)}{default}"


# --------------------------------------------------------------------------------------------------- traces


def reading_text(traced: Trace) -> str:
    """Return what a leaf read: ``it is 20``, ``it was 3``, ``there is none``; '' for a node that only combines."""
    condition, value = traced.condition, traced.value
    match condition:
        case Compare():
            if value is MISSING or value is None:
                return "there is none"
            other = "" if traced.other is MISSING else f"; the other is {value_text(traced.other)}"
            return f"it is {value_text(value)}{other}"
        case CountOf() | SumOf():
            return f"it is {value:g}"
        case Since():
            return "it never happened" if value is MISSING else f"it is {shown_span(max(0, value))}"
        case FirstEver():
            return f"it happened {value} time{'' if value == 1 else 's'}"
        case InStage():
            return "there is no such run" if value is MISSING else f"it is in {value}"
        case _:
            return ""


def gap_text(traced: Trace) -> str:
    """Return why a leaf is unknown; '' when it is not."""
    condition = traced.condition
    match traced.gap:
        case None:
            return ""
        case Gap.FIELD_MISSING:
            assert isinstance(condition, Compare)
            return f"{_OWNERS[condition.path.root]} has no {'.'.join(condition.path.parts)}"
        case Gap.OTHER_FIELD_MISSING:
            assert isinstance(condition, Compare)
            return f"{value_text(condition.value)} is missing or is not a number"
        case Gap.UNLIKE_TYPES:
            return "the two values cannot be compared"
        case Gap.WINDOW_UNSEEN:
            return _unseen_text(condition, traced.since_ms)
        case Gap.NEVER_HAPPENED:
            return "it never happened, and the rule does not say what then"
        case Gap.NO_RUN_NAMED:
            return "the event belongs to no run"
        case _:
            assert_never(traced.gap)


def _unseen_text(condition: Condition, since_ms: int) -> str:
    began = f"counting began at {moment_text(since_ms)}"
    match condition:
        case CountOf(within_ms=within_ms) | SumOf(within_ms=within_ms) if within_ms:
            return f"{began}, so the last {shown_span(within_ms)} are known from {moment_text(since_ms + within_ms)} on"
        case _:
            return f"{began}, after the customer was first seen"


_OWNERS = {
    Root.EVENT: "the event",
    Root.PROFILE: "the profile",
    Root.CONTEXT: "the event's context",
    Root.RUN: "the run",
}


def settled_text(leaf: Trace) -> str:
    """Return why a leaf kept its rule from firing: ``event.total >= 40 is false (it is 20)``."""
    text = f"{condition_text(leaf.condition)} is {truth_text(leaf.truth)}"
    because = gap_text(leaf) or reading_text(leaf)
    return f"{text}{f' ({because})' if because else ''}{', and must not be' if leaf.truth else ''}"


# ------------------------------------------------------------------------------------------------- triggers


def trigger_text(trigger: Trigger) -> str:
    """Return what sets a rule off, in one line."""
    match trigger:
        case OnEvent(event, where):
            return event if where is None else f"{event} where {condition_text(where)}"
        case OnEnter(stage):
            return f"entering stage {stage}"
        case OnLeave(stage):
            return f"leaving stage {stage}"
        case OnDwell(stage, for_ms):
            return f"{shown_span(for_ms)} in stage {stage}"
        case OnAbsence():
            return f"{trigger.after}, then no {trigger.of} for {shown_span(trigger.for_ms)}"
        case OnSequence():
            steps = ", then ".join(step.event for step in trigger.steps)
            return f"{steps}, within {shown_span(trigger.within_ms)}"
        case OnSchedule(at_min, days):
            named = "every day" if len(days) == len(_DAYS) else " ".join(_DAYS[day] for day in days)
            return f"{shown_clock(at_min)} local time, {named}"
        case _:
            assert_never(trigger)


# ------------------------------------------------------------------------------------------ events, reasons


def event_text(event: Event) -> str:
    """Return an event in one line, with the first of its properties."""
    shown = [f"{name} {value_text(value)}" for name, value in list(event.properties.items())[:_PROPERTIES_SHOWN]]
    more = "…" if len(event.properties) > _PROPERTIES_SHOWN else ""
    return f"{event.type}{': ' if shown else ''}{', '.join(shown)}{more}"


_PROPERTIES_SHOWN = 4

Detail = Mapping[str, Any]


def reason_text(reason: Reason, detail: Detail) -> str:
    """Return the reason of a ledger line in a few words; ``detail`` are the line's facts."""
    written = _REASONS.get(reason)
    return reason.value.replace("_", " ") if written is None else written(detail)


def _quiet(detail: Detail) -> str:
    until = detail.get("until")
    return f"quiet hours{'' if until is None else f' until {moment_text(until)}'} in {detail.get('zone', 'their zone')}"


def _lost(detail: Detail) -> str:
    scores = f"{detail.get('score', 0):g} against {detail.get('winning_score', 0):g}"
    return f"{detail.get('winner', 'another rule')} won the slot {detail.get('slot', '')}, {scores}"


_CLOSED = {"unsubscribed": "the customer unsubscribed from it", "bounced": "their address bounced"}


def _shut(detail: Detail) -> str:
    since = f" on {moment_text(detail['since'])}" if "since" in detail else ""
    return (
        f"the channel {detail.get('channel')} is closed: {_CLOSED.get(detail.get('because', ''), 'withdrawn')}{since}"
    )


def _wait(detail: Detail) -> str:
    until = detail.get("until")
    return "waiting for a moment" if until is None else f"waiting until {moment_text(until)}"


def _not_open(detail: Detail) -> str:
    if "started_at" in detail:
        return f"the run began only at {moment_text(detail['started_at'])}"
    if "ended_at" not in detail:
        return "no run was open"
    return f"no run was open: {ended_text(detail['ended_at'], detail.get('again_from'))}"


def ended_text(ended_ms: int, again_ms: int | None) -> str:
    """Return when a run ended, and from when it may start anew."""
    anew = "never starts anew" if again_ms is None else f"may start anew from {moment_text(again_ms)}"
    return f"the run ended at {moment_text(ended_ms)} and {anew}"


_IF_PAST = {
    "go": "it went on at once",
    "skip": "the step that it was to wait for was left out",
    "end": "the play ended",
}


def _past(detail: Detail) -> str:
    if "until" not in detail:
        return "the moment that it was to wait for had passed"
    then = _IF_PAST.get(detail.get("then", ""), "the play ended")
    return f"the moment that it was to wait for had passed at {moment_text(detail['until'])}, so {then}"


_APART = {
    "known": "the id is known by itself, and nobody who may vouched that they are one",
    "too_large": "what is known under the id is too large to be handed over",
    "too_many": "one customer has too many ids",
    "erased": "the id was erased after it was named",
}


def _apart(detail: Detail) -> str:
    other = detail.get("previous_id") or detail.get("into") or "another id"
    return f"{other} stays a customer of its own: {_APART.get(str(detail.get('why')), 'it was refused')}"


_REASONS: dict[Reason, Callable[[Detail], str]] = {
    Reason.TRIGGERED: lambda detail: "nothing stood in the way",
    Reason.RESUMED: lambda detail: "its wait was over",
    Reason.REVALIDATED: lambda detail: "the deferred action still held",
    Reason.FALLBACK: lambda detail: "as the fallback",
    Reason.CONSENT_MISSING: lambda detail: f"there is no consent for {detail.get('purpose', 'its purpose')}",
    Reason.CHANNEL_WITHDRAWN: _shut,
    Reason.COOLDOWN: lambda detail: f"it rests for another {shown_span(detail.get('left_ms', 0))}",
    Reason.CAP_REACHED: lambda detail: (
        f"the cap of {detail.get('max')} for {detail.get('cap')} is used up ({detail.get('used')} used)"
    ),
    Reason.QUIET_HOURS: _quiet,
    Reason.ZONE_UNKNOWN: lambda detail: (
        f"the timezone {value_text(detail['timezone'])} is no time zone; an IANA name such as Asia/Kolkata is"
        if "timezone" in detail
        else "nobody knows the customer's time zone"
    ),
    Reason.MOMENT_UNKNOWN: lambda detail: "nobody knows the moment that it was to wait for",
    Reason.MOMENT_PASSED: _past,
    Reason.HOLDOUT: lambda detail: "the customer is in the experiment's holdout",
    Reason.ARBITRATION_LOST: _lost,
    Reason.ALREADY_IN_PLAY: lambda detail: "an earlier play of it was still open",
    Reason.RUN_NOT_OPEN: _not_open,
    Reason.TOO_LATE: lambda detail: (
        f"the event came {shown_span(detail['late_ms'])} late and {shown_span(detail['lateness_ms'])} is tolerated"
        if {"late_ms", "lateness_ms"} <= detail.keys()
        else "the action had been sent already"
    ),
    Reason.TEMPLATE_VALUE_MISSING: lambda detail: (
        f"template {detail.get('template')} needs {detail.get('variable')}, which the customer does not have"
    ),
    Reason.WAITING_FOR_TIME: _wait,
    Reason.WAITING_FOR_EVENT: lambda detail: "waiting for an event",
    Reason.EXITED: lambda detail: "its exit event happened",
    Reason.GOAL_REACHED: lambda detail: "the journey's goal was reached",
    Reason.RUN_ENDED: lambda detail: "the run ended",
    Reason.RESTARTED: lambda detail: "a newer trigger took its place",
    Reason.COMPLETED: lambda detail: "its program came to its end",
    Reason.TRAIT_SET: lambda detail: f"it set the trait {detail.get('trait')}",
    Reason.CONSENT_SET: lambda detail: f"consent for {detail.get('purpose')} was {detail.get('consent')} by it",
    Reason.STAGE_SET: lambda detail: f"it moved the run to stage {detail.get('stage')}",
    Reason.CONSENT_WITHDRAWN: lambda detail: "consent was withdrawn",
    Reason.LATE_EVENT: lambda detail: "a late event would have prevented it",
    Reason.EXECUTION_FAILED: lambda detail: (
        "nobody knows whether the connector delivered it"
        if detail.get("certain") is False
        else "the connector could not deliver it"
    ),
    Reason.ARRIVED_LATE: lambda detail: "the action that it was to take the place of has arrived after all",
    Reason.MERGED: lambda detail: "two ids of the customer were united",
    Reason.MERGE_REFUSED: _apart,
    Reason.ERASED: lambda detail: "the customer was erased",
}


# --------------------------------------------------------------------------------------------------- limits


def limit_text(traced: LimitTrace) -> str:
    """Return what a limit says, in one line."""
    detail = traced.detail
    match traced.kind:
        case LimitKind.IN_PLAY:
            return "a play of it is open already" if traced.blocks else "no play of it is open"
        case LimitKind.COOLDOWN:
            rested = f"another {shown_span(detail['left_ms'])} to rest" if traced.blocks else "it has rested"
            return f"cooldown of {shown_span(detail['cooldown_ms'])}: {rested}"
        case LimitKind.EXPERIMENT:
            return f"experiment {detail['split']}: the customer is in arm {detail['arm']}"
        case LimitKind.CHANNEL:
            return f"channel {detail['channel']}: {_channel_text(traced)}"
        case LimitKind.CONSENT:
            return f"consent for {detail['purpose']}: {_consent_text(traced)}"
        case LimitKind.CAP:
            per = detail.get("period") or shown_span(detail["per_ms"])
            return f"cap of {detail['max']} per {per} for {detail['of']}: {detail['used']} used"
        case LimitKind.QUIET_HOURS:
            window = f"quiet hours {shown_clock(detail['start_min'])} to {shown_clock(detail['end_min'])}"
            return f"{window}: {_quiet_text(traced)}"
        case _:
            assert_never(traced.kind)


def _channel_text(traced: LimitTrace) -> str:
    since = moment_text(traced.detail["since"])
    return f"{_CLOSED[traced.detail['because']]} on {since}" if traced.blocks else f"open since {since}"


def _consent_text(traced: LimitTrace) -> str:
    if not traced.detail["known"]:
        return "never given"
    return f"{'withdrawn' if traced.blocks else 'given'} on {moment_text(traced.detail['since'])}"


def _quiet_text(traced: LimitTrace) -> str:
    if not traced.blocks:
        return "not now"
    if "until" not in traced.detail:
        return "nobody knows the customer's time zone, so they hold"
    held = {"defer": "released", "drop": "dropped; over", "fallback": "only a fallback may be sent; over"}
    over = moment_text(traced.detail["until"])
    return f"they hold in {traced.detail['zone']}; {held[traced.detail['then']]} at {over}"
