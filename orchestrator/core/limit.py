"""Limits: what may hold an action back. All of them fail closed, and whatever blocks leaves its reason.

The order is fixed: channel, consent, caps, quiet hours. Cooldown is a property of the rule and is asked before a play
starts. Caps count reservations: a stamp is written when an action is decided and taken back when its
receipt says that nothing was delivered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from orchestrator.core import channel
from orchestrator.core.definition import Cap, QuietHours, QuietThen, Rule, Send
from orchestrator.core.localtime import period_start_ms, quiet_until, shared_zone, zone_named, zones_told
from orchestrator.core.reason import Reason
from orchestrator.core.state import CustomerState
from orchestrator.core.turn import Turn
from orchestrator.core.view import Properties

#: Traits and properties that name the customer's zone and phone.
ZONE_TRAIT = "timezone"
PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the limits say of one action. ``reason`` None lets it pass; ``until_ms`` says when to ask again."""

    reason: Reason | None = None
    until_ms: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


_PASS = Verdict()


def judge(turn: Turn, rule: Rule, send: Send, facts: Properties) -> Verdict:
    """Return whether an action may be sent now. ``facts`` are the properties of the event behind it."""
    return judge_consent(turn.state, rule, send) or judge_contact(turn, rule, send, facts)


def judge_consent(state: CustomerState, rule: Rule, send: Send) -> Verdict | None:
    """Return what forbids an action whenever it were sent: a channel that is closed, a purpose without consent."""
    shut = channel.closed(state.consents, send.kind)
    if shut is not None:
        return Verdict(Reason.CHANNEL_WITHDRAWN, detail={"channel": send.kind, "because": shut[0], "since": shut[1]})
    missing = missing_consent(state, purposes(rule, send))
    return Verdict(Reason.CONSENT_MISSING, detail={"purpose": missing}) if missing else None


def judge_contact(turn: Turn, rule: Rule, send: Send, facts: Properties) -> Verdict:
    """Return whether caps and quiet hours leave room for an action now."""
    for cap in rule.limits.caps:
        if covers(cap, rule.id, send):
            used = _used(turn, cap, facts)
            if used >= cap.max:
                return Verdict(Reason.CAP_REACHED, detail={"cap": cap.of, "max": cap.max, "used": used})
    quiet = rule.limits.quiet_hours
    return _PASS if quiet is None or not quiet.holds_for(send.kind) else _judge_quiet(turn, quiet, facts)


def purposes(rule: Rule, send: Send) -> tuple[str, ...]:
    """Return the consent purposes an action needs: its own, else its rule's."""
    return send.consent or rule.limits.consent


def missing_consent(state: CustomerState, needed: Iterable[str]) -> str:
    """Return the first purpose without a standing consent, or ''."""
    for purpose in needed:
        given = state.consents.get(purpose)
        if given is None or not given[0]:
            return purpose
    return ""


def cooldown_left_ms(turn: Turn, rule: Rule, run: str) -> int:
    """Return how long the rule must still rest before it acts for a run.

    An action of it that waits for the end of quiet hours counts, unless it belongs to the play that begins anew.
    """
    if not rule.limits.cooldown_ms:
        return 0
    held = (play for play in turn.state.plays.values() if play.rule == rule.id and play.deferred)
    if any(not (rule.restart and play.run == run) for play in held):
        return rule.limits.cooldown_ms
    stamps = turn.state.sent.get(_cooldown_key(rule))
    return 0 if not stamps else max(0, stamps[-1] + rule.limits.cooldown_ms - turn.now_ms)


_REST = "rest:"


def _cooldown_key(rule: Rule) -> str:
    return _REST + rule.id


def covers(cap: Cap, rule_id: str, send: Send) -> bool:
    """Return whether an action counts against a cap."""
    scope, _, name = cap.of.partition(":")
    match scope:
        case "rule":
            return name in {"", rule_id}
        case "kind":
            return name == send.kind
        case "connector":
            return name == send.connector
        case "group":
            return True
        case _:
            return False


def _used(turn: Turn, cap: Cap, facts: Properties) -> int:
    stamps = turn.state.sent.get(cap.key, ())
    if cap.period is None:
        return sum(stamp > turn.now_ms - cap.per_ms for stamp in stamps)
    zones = zones_of(turn.state, "profile", facts) or (ZoneInfo("UTC"),)
    since = min(period_start_ms(turn.now_ms, cap.period.value, zone) for zone in zones)
    return sum(stamp >= since for stamp in stamps)


def counters_of(turn: Turn, rule: Rule, send: Send) -> list[str]:
    """Return the counters that an action counts against."""
    counters = [cap.key for cap in turn.rulebook.caps if covers(cap, rule.id, send) and _concerns(cap, rule)]
    return [*counters, _cooldown_key(rule)] if rule.limits.cooldown_ms else counters


def reserve(turn: Turn, counters: Iterable[str]) -> None:
    """Count an action that is about to be sent, now, against each of ``counters``."""
    for counter in counters:
        # Earlier stamps stay while they count, so that releasing one action does not release the others.
        turn.state.sent[counter] = [*_kept(turn, counter), turn.now_ms]


def _concerns(cap: Cap, rule: Rule) -> bool:
    """Caps of a rule or a group count what the rules that declare them send; the others what every rule sends."""
    own = any(one.key == cap.key for one in rule.limits.caps)
    return own or cap.of.partition(":")[0] in {"kind", "connector"}


_LONGEST_MS = 32 * 86_400_000


def _kept(turn: Turn, counter: str) -> list[int]:
    """Return the stamps of a counter that some window may still look at."""
    stamps = turn.state.sent.get(counter)
    if not stamps:
        return []
    longest = max((cap.per_ms or _LONGEST_MS for cap in turn.rulebook.caps if cap.key == counter), default=_LONGEST_MS)
    rested = turn.rulebook.rules.get(counter.removeprefix(_REST))
    if counter.startswith(_REST) and rested is not None:
        longest = rested.limits.cooldown_ms
    return [stamp for stamp in stamps if stamp > turn.now_ms - longest]


def release(state: CustomerState, counters: Iterable[str], decided_at_ms: int) -> None:
    """Take back the reservations of an action that never reached the customer."""
    for counter in counters:
        stamps = list(state.sent.get(counter, ()))
        if decided_at_ms in stamps:
            stamps.remove(decided_at_ms)
        if stamps:
            state.sent[counter] = stamps
        else:
            state.sent.pop(counter, None)


def zones_of(state: CustomerState, zone: str, facts: Properties) -> tuple[ZoneInfo, ...]:
    """Return the zones a customer may be in; empty when nobody knows.

    ``zone`` is an IANA name, or ``profile``: the ``timezone`` trait or property, else the phone number's prefix.
    """
    if zone != "profile":
        named = zone_named(zone)
        return () if named is None else (named,)
    return zones_told(_fact(state, facts, ZONE_TRAIT), _fact(state, facts, PHONE))


def zone_gap(state: CustomerState, zone: str, facts: Properties) -> dict[str, Any]:
    """Return why ``zones_of`` knows no zone: what the customer's ``timezone`` says, if anything, and the remedy."""
    told = _fact(state, facts, ZONE_TRAIT) if zone == "profile" else None
    if told is None:
        return {"remedy": "Send a timezone trait or a phone number."}
    return {"timezone": told, "remedy": "Send the trait timezone as an IANA name, such as Asia/Kolkata."}


def customer_facts(state: CustomerState, facts: Properties, now_ms: int) -> dict[str, Any]:
    """Return what templates read as ``customer.``: the ``timezone`` of the customer's clock, where that is known."""
    zone = shared_zone(zones_of(state, "profile", facts), now_ms)
    return {} if zone is None else {"timezone": zone.key}


def _fact(state: CustomerState, facts: Properties, name: str) -> Any:
    trait = state.traits.get(name)
    return facts.get(name) if trait is None or trait[0] is None else trait[0]


def _judge_quiet(turn: Turn, quiet: QuietHours, facts: Properties) -> Verdict:
    zones = zones_of(turn.state, quiet.zone, facts)
    if not zones:
        return Verdict(Reason.ZONE_UNKNOWN, detail=zone_gap(turn.state, quiet.zone, facts))
    until = quiet_until(turn.now_ms, quiet.start_min, quiet.end_min, zones)
    if until is None:
        return _PASS
    return Verdict(
        Reason.QUIET_HOURS,
        until_ms=until if quiet.then is QuietThen.DEFER else None,
        detail={"until": until, "zone": ",".join(zone.key for zone in zones)},
    )
