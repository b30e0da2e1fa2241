"""The event: what a customer did, in its normal form."""

from __future__ import annotations

from typing import Any

import msgspec

#: Event types with a meaning of their own; every other type is the tracking plan's to declare.
IDENTIFY = "identify"
ALIAS = "alias"
CONSENT_CHANGED = "consent_changed"
CUSTOMER_ERASED = "customer_erased"
MERGE_REQUESTED = "merge_requested"
PROFILE_MERGED = "profile_merged"
MERGE_REFUSED = "merge_refused"
ACTION_DELIVERED = "action_delivered"
ACTION_FAILED = "action_failed"
ACTION_EXPIRED = "action_expired"
ACTION_CANCELLED = "action_cancelled"
ACTION_CANCEL_TOO_LATE = "action_cancel_too_late"
#: The dispatcher has booked an action into a slot of the next opening. Its ``properties`` hold ``action_id``,
#: ``slot_at`` (epoch ms), ``connector``, ``kind``, ``rule`` and ``journey``. It settles nothing: a receipt follows.
ACTION_SCHEDULED = "action_scheduled"

#: The dispatcher's receipts. Their ``properties`` hold at least ``action_id``; those that say that it was not delivered
#: also ``certain``: false when an attempt may have arrived all the same.
RECEIPTS = frozenset({ACTION_DELIVERED, ACTION_FAILED, ACTION_EXPIRED, ACTION_CANCELLED, ACTION_CANCEL_TOO_LATE})

MESSAGE_BOUNCED = "message_bounced"
UNSUBSCRIBED = "unsubscribed"
RESUBSCRIBED = "resubscribed"
#: What providers report of a delivery, or hear from the customer. Their ``properties`` hold at least ``connector`` and
#: ``kind``, and ``action_id`` where the provider names the delivery.
OUTCOMES = frozenset(
    {
        "message_delivered",
        "message_read",
        "email_opened",
        MESSAGE_BOUNCED,
        "message_failed",
        "link_clicked",
        "message_received",
        UNSUBSCRIBED,
        RESUBSCRIBED,
        "call_answered",
        "call_missed",
        "call_ended",
    }
)
#: What says of the action that it names that it has arrived.
ARRIVALS = frozenset(
    {
        ACTION_DELIVERED,
        "message_delivered",
        "message_read",
        "email_opened",
        "link_clicked",
        "message_received",
        "call_answered",
        "call_ended",
    }
)
SYSTEM_TYPES = (RECEIPTS | OUTCOMES) | {
    IDENTIFY,
    ALIAS,
    ACTION_SCHEDULED,
    CONSENT_CHANGED,
    CUSTOMER_ERASED,
    MERGE_REQUESTED,
    PROFILE_MERGED,
    MERGE_REFUSED,
    "page",
    "screen",
    "group",
}


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One behavioural event in its normal form (see the event contract in the README).

    Moments are epoch milliseconds, UTC. ``occurred_at_ms`` is the event time, claimed by the producer;
    ``received_at_ms`` is the log's own stamp and the ``now`` of every decision about this event.
    ``context`` may carry consent in Segment's form, ``{"consent": {"categoryPreferences": {...}}}``.

    Two fields are the engine's own. ``via`` is the id that a producer named, where that one has been merged and
    forwards its events. ``granted`` is who vouches that two known people may be made one: the name of a key, '' for
    nobody.
    """

    id: str
    type: str
    customer_id: str
    occurred_at_ms: int
    received_at_ms: int
    properties: dict[str, Any] = {}
    context: dict[str, Any] = {}
    source: str = ""
    via: str = ""
    granted: str = ""
