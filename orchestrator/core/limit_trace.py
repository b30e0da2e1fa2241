"""Limit traces: what every limit of a rule says at a moment, one by one, also those that let the action pass.

The production code answers each question; only the order of asking is ours, since ``limit.judge`` stops at the first
obstacle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from orchestrator.core.channel import closed, entries
from orchestrator.core.definition import HOLDOUT, Cap, Limits, Rule, Send, Split
from orchestrator.core.limit import cooldown_left_ms, covers, judge_contact, missing_consent, purposes
from orchestrator.core.play import first_outlook, play_key
from orchestrator.core.turn import Turn
from orchestrator.core.view import Properties


class LimitKind(Enum):
    """What was asked."""

    IN_PLAY = "in_play"
    COOLDOWN = "cooldown"
    EXPERIMENT = "experiment"
    CHANNEL = "channel"
    CONSENT = "consent"
    CAP = "cap"
    QUIET_HOURS = "quiet_hours"


@dataclass(frozen=True, slots=True)
class LimitTrace:
    """The answer of one limit; ``detail`` are its figures (spans and moments in milliseconds)."""

    kind: LimitKind
    blocks: bool
    detail: dict[str, Any] = field(default_factory=dict)


def limit_traces(turn: Turn, rule: Rule, run: str, facts: Properties) -> list[LimitTrace]:
    """Return what each limit says of the rule's first action for a run. The turn's state is not changed."""
    outlook, variant = first_outlook(turn, rule, run, facts)
    traces = [LimitTrace(LimitKind.IN_PLAY, play_key(rule, run) in turn.state.plays and not rule.restart)]
    if rule.limits.cooldown_ms:
        left_ms = cooldown_left_ms(turn, rule, run)
        detail = {"cooldown_ms": rule.limits.cooldown_ms, "left_ms": left_ms}
        traces.append(LimitTrace(LimitKind.COOLDOWN, left_ms > 0, detail))
    split = next((step for step in rule.program if isinstance(step, Split)), None)
    if split is not None and variant:
        traces.append(LimitTrace(LimitKind.EXPERIMENT, variant == HOLDOUT, {"split": split.id, "arm": variant}))
    send = outlook.send if outlook is not None else _first_send(rule)
    if send is not None:
        traces += _of_send(turn, rule, send, facts)
    return traces


def _first_send(rule: Rule) -> Send | None:
    return next((step for step in rule.program if isinstance(step, Send)), None)


def _of_send(turn: Turn, rule: Rule, send: Send, facts: Properties) -> Iterator[LimitTrace]:
    stated = [given[1] for entry in entries(send.kind) if (given := turn.state.consents.get(entry)) is not None]
    if stated:
        shut = closed(turn.state.consents, send.kind)
        because, since = (None, max(stated)) if shut is None else shut
        yield LimitTrace(
            LimitKind.CHANNEL, shut is not None, {"channel": send.kind, "because": because, "since": since}
        )
    for purpose in purposes(rule, send):
        given = turn.state.consents.get(purpose)
        detail = {"purpose": purpose, "known": given is not None, "since": None if given is None else given[1]}
        yield LimitTrace(LimitKind.CONSENT, bool(missing_consent(turn.state, (purpose,))), detail)
    for cap in rule.limits.caps:
        if covers(cap, rule.id, send):
            used = _used(turn, rule, send, cap, facts)
            detail = {"of": cap.of, "max": cap.max, "used": used, "per_ms": cap.per_ms}
            yield LimitTrace(
                LimitKind.CAP, used >= cap.max, detail | ({} if cap.period is None else {"period": cap.period.value})
            )
    quiet = rule.limits.quiet_hours
    if quiet is not None:
        verdict = _alone(turn, rule, send, Limits(quiet_hours=quiet), facts)
        window = {"start_min": quiet.start_min, "end_min": quiet.end_min, "then": quiet.then.value}
        yield LimitTrace(LimitKind.QUIET_HOURS, verdict.reason is not None, window | verdict.detail)


def _used(turn: Turn, rule: Rule, send: Send, cap: Cap, facts: Properties) -> int:
    # A cap of nothing always blocks, and whatever blocks tells its count.
    verdict = _alone(turn, rule, send, Limits(caps=(replace(cap, max=0),)), facts)
    return int(verdict.detail["used"])


def _alone(turn: Turn, rule: Rule, send: Send, limits: Limits, facts: Properties) -> Any:
    """Return the verdict of some of a rule's limits, as if the rule had no others."""
    return judge_contact(turn, replace(rule, limits=limits), send, facts)
