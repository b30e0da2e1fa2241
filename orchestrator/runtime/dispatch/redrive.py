"""Redrive: sending again what was given up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchestrator.core.action import Action
from orchestrator.runtime.dispatch.intake import queued_of
from orchestrator.runtime.ports import DispatchQueue


async def redrive(queue: DispatchQueue, action_ids: Sequence[str]) -> list[Action]:
    """Queue failed or dropped actions again under the same ids, with a fresh budget; return those that were.

    Ids that the ledger does not know, or knows as delivered, expired or withdrawn, are left alone. The deadline
    stays: an action beyond it expires instead of being sent late. Any process may call this; dispatchers notice
    within a second. Raises ``StoreUnavailable``; may be repeated.
    """
    entries = await queue.ledger(action_ids)
    kept = [entry.detail for entry in entries if entry and "action" in entry.detail]
    given_up = [msgspec.convert(detail["action"], Action) for detail in kept]
    groups = [detail.get("group", "") for detail in kept]
    again = set(await queue.redrive([queued_of(*one) for one in zip(given_up, groups, strict=True)]))
    return [action for action in given_up if action.id in again]
