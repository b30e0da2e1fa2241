"""The action: what a connector is asked to do, under an id that never changes."""

from __future__ import annotations

from enum import Enum
from hashlib import blake2b
from typing import Any

import msgspec


class Kind(Enum):
    """What an action is, whichever connector carries it; caps and consent speak of kinds."""

    CALL = "call"
    SMS = "sms"
    WHATSAPP = "whatsapp"
    EMAIL = "email"
    PUSH = "push"
    CHAT = "chat"
    CRM = "crm"
    WEBHOOK = "webhook"
    PUBLISH = "publish"


class QuietWindow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The customer's quiet hours, for the dispatcher to check again at the real moment of sending.

    ``start_min`` and ``end_min`` are minutes of the local day; ``zone`` is an IANA name.
    """

    start_min: int
    end_min: int
    zone: str


class Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One record of ``journey.actions``; a later record with the same id and ``cancel`` withdraws it.

    Moments are epoch milliseconds, UTC. ``params`` are rendered: the connector needs nothing else.
    ``priority`` is 0 to 100, the higher the sooner. ``fallback_on_unknown`` lets the fallback follow also when nobody
    knows whether this action arrived, so that both may. ``reason`` says why in the closed words of
    ``orchestrator.core.reason.Reason``.
    """

    id: str
    customer_id: str
    connector: str = ""
    kind: str = ""
    params: dict[str, Any] = {}
    rule: str = ""
    rulebook_version: str = ""
    journey: str = ""
    run: str = ""
    stage: str = ""
    step: str = ""
    variant: str = ""
    priority: int = 50
    decided_at: int = 0
    not_before: int = 0
    deadline_at: int | None = None
    fallback: tuple[Action, ...] = ()
    reason: str = ""
    quiet_hours: QuietWindow | None = None
    workspace: str = "default"
    cancel: bool = False
    fallback_on_unknown: bool = False


def action_id(workspace: str, customer_id: str, run: str, rule: str, step: str, cause: str) -> str:
    """Name an action by what brought it about, so that deciding twice still names one action.

    ``cause`` is the id of the triggering event (never its offset) or of the timer. 128 bits, hexadecimal.
    """
    identity = "\x1f".join((workspace, customer_id, run, rule, step, cause))
    return blake2b(identity.encode(), digest_size=16).hexdigest()
