"""Redrive: sending again what was given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from orchestrator.core.action import Action
from orchestrator.runtime.dispatch.intake import queued_of
from orchestrator.runtime.dispatch.queue import TRIED_BEFORE
from orchestrator.runtime.dispatch.step import Cause
from orchestrator.runtime.ports import DispatchQueue, Queued


async def redrive(queue: DispatchQueue, action_ids: Sequence[str]) -> list[Action]:
    """Queue failed or dropped actions again under the same ids, with a fresh budget; return those that were.

    That one of the attempts before may have arrived is not forgotten: no fallback follows unless the author wants both.
    Ids that the ledger does not know, or knows as delivered, expired or withdrawn, are left alone. The deadline
    stays: an action beyond it expires instead of being sent late. Any process may call this; dispatchers notice
    within a second. Raises ``StoreUnavailable``; may be repeated.
    """
    entries = await queue.ledger(action_ids)
    kept = [entry.detail for entry in entries if entry and "action" in entry.detail]
    given_up = [msgspec.convert(detail["action"], Action) for detail in kept]
    wanted = [_queued(action, detail) for action, detail in zip(given_up, kept, strict=True)]
    again = set(await queue.redrive(wanted))
    return [action for action in given_up if action.id in again]


def _queued(action: Action, detail: Mapping[str, Any]) -> Queued:
    queued = queued_of(action, detail.get("group", ""))
    # Of what an earlier release dropped the ledger says no more than that nobody knew.
    certain = detail.get("certain", detail.get("cause") != Cause.OUTCOME_UNKNOWN.value)
    return queued if certain else msgspec.structs.replace(queued, history=(TRIED_BEFORE,))
