"""Intake: records of ``journey.actions`` become actions, withdrawals, or dead letters that say what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from orchestrator.core.action import Action
from orchestrator.runtime.dispatch.receipt import DISPATCHER
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, Outgoing, Queued, Record
from orchestrator.runtime.workspace import DEFAULT_WORKSPACE, KeySpace

#: Moments beyond this one (the year 2286) are not epoch milliseconds; queues order by 13 digits.
MOMENT_MAX_MS = 9_999_999_999_999
PRIORITY_MAX = 100

_decoder = msgspec.json.Decoder(Action)
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Intake:
    """What a batch of records asks for, in the order of the log."""

    actions: list[Action] = field(default_factory=list)
    withdrawals: list[Action] = field(default_factory=list)
    dead_letters: list[Outgoing] = field(default_factory=list)


def read_records(records: Iterable[Record], now_ms: int) -> Intake:
    """Sort records by what they ask for. Never raises: a record that cannot be read becomes a dead letter."""
    intake = Intake()
    for record in records:
        try:
            action = _decoder.decode(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            intake.dead_letters.append(_dead_letter(record, "malformed", str(error), now_ms))
            continue
        if fault := fault_of(action):
            intake.dead_letters.append(_dead_letter(record, "malformed", fault, now_ms))
        else:
            (intake.withdrawals if action.cancel else intake.actions).append(action)
    return intake


class _Owner(msgspec.Struct):
    """As much of an action as says whose it is."""

    workspace: str = DEFAULT_WORKSPACE


_decode_owner = msgspec.json.Decoder(_Owner).decode


def own_records(records: Iterable[Record], keys: KeySpace) -> list[Record]:
    """Return the records of a workspace on a topic that several share: its actions, and by key what is no action."""
    return [record for record in records if _own(record, keys)]


def _own(record: Record, keys: KeySpace) -> bool:
    try:
        return _decode_owner(record.value or b"").workspace == keys.workspace
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return not keys.foreign(record.key)


def fault_of(action: Action) -> str:
    """Return why an action cannot be queued, or ''."""
    for name in ("id", "customer_id") if action.cancel else ("id", "customer_id", "connector"):
        if not getattr(action, name):
            return f"`{name}` is empty."
    if not 0 <= action.priority <= PRIORITY_MAX:
        return f"`priority` is {action.priority}; it must be 0 to {PRIORITY_MAX}."
    for name in ("decided_at", "not_before", "deadline_at"):
        moment = getattr(action, name)
        if moment is not None and not 0 <= moment <= MOMENT_MAX_MS:
            return f"`{name}` is {moment}; it must be epoch milliseconds."
    return next((f"`fallback`: {fault}" for one in action.fallback if (fault := fault_of(one))), "")


def queued_of(action: Action, group: str = "", since_ms: int = 0) -> Queued:
    """Return the action as it enters its connector's queue at ``since_ms``, for one group of its lines.

    It has been ready since then at the earliest: whoever waits longest of those alike goes first.
    """
    return Queued(
        id=action.id,
        connector=action.connector,
        priority=action.priority,
        not_before=max(action.not_before, since_ms),
        deadline_at=action.deadline_at,
        body=_encoder.encode(action),
        group=group,
    )


def action_of(queued: Queued) -> Action:
    """Return the action that a queue entry carries."""
    return _decoder.decode(queued.body)


def _dead_letter(record: Record, reason: str, detail: str, now_ms: int) -> Outgoing:
    letter = {
        "origin": DISPATCHER,
        "reason": reason,
        "detail": detail,
        "action": {"raw": (record.value or b"").decode(errors="replace")},
        "history": [],
        "at": now_ms,
        "topic": ACTIONS,
        "partition": record.partition,
        "offset": record.offset,
    }
    key = record.key or f"{record.partition}:{record.offset}".encode()
    return Outgoing(topic=DEAD_LETTERS, key=key, value=msgspec.json.encode(letter))
