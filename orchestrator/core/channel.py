"""Channels: whether a customer may be reached by a kind of action at all, whatever its purpose.

Two entries among the consents say no, each by itself:

=================  ================================================  ========================================
entry              refused by                                        granted again by
=================  ================================================  ========================================
``kind:sms``       ``unsubscribed``, ``consent_changed``             ``resubscribed``, ``consent_changed``
``address:sms``    ``message_bounced``, unless ``permanent: false``  ``resubscribed``, a new ``phone`` trait
=================  ================================================  ========================================

An entry that is absent says nothing: the purposes decide alone. Both are ordinary consents, so the newer one by event
time stands, and the more restrictive one when two ids of a customer become one. A bounce that is told of after the
new address counts against the new one, since nobody says which address it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.core.action import Kind
from orchestrator.core.event import MESSAGE_BOUNCED, RESUBSCRIBED, UNSUBSCRIBED, Event

#: Why a channel is closed: the person said so, or nobody is there.
CAUSES = ("unsubscribed", "bounced")
_ENTRIES = {kind.value: (f"kind:{kind.value}", f"address:{kind.value}") for kind in Kind}
#: Traits that are addresses, and the kinds of action that go there.
ADDRESSES: Mapping[str, tuple[Kind, ...]] = {
    "phone": (Kind.CALL, Kind.SMS, Kind.WHATSAPP),
    "email": (Kind.EMAIL,),
    "push_token": (Kind.PUSH,),
}


def closed(consents: Mapping[str, tuple[bool, int]], kind: str) -> tuple[str, int] | None:
    """Return why no action of ``kind`` may be sent, of ``CAUSES``, and since when (event time); None when it may."""
    for entry, cause in zip(_ENTRIES.get(kind, ()), CAUSES, strict=False):
        given = consents.get(entry)
        if given is not None and not given[0]:
            return cause, given[1]
    return None


def entries(kind: str) -> tuple[str, ...]:
    """Return the names of a kind's entries among the consents; none for what is no kind."""
    return _ENTRIES.get(kind, ())


def closing(consents: Mapping[str, tuple[bool, int]]) -> set[str]:
    """Return the entries that close a channel."""
    names = (name for both in _ENTRIES.values() for name in both)
    return {name for name in names if (given := consents.get(name)) is not None and not given[0]}


def changes(event: Event) -> dict[str, bool]:
    """Return the entries that an outcome sets. One that names no kind of action sets none."""
    kind = event.properties.get("kind")
    both = _ENTRIES.get(kind) if isinstance(kind, str) else None
    if both is None:
        return {}
    stated, reachable = both
    if event.type == UNSUBSCRIBED:
        return {stated: False}
    if event.type == MESSAGE_BOUNCED:
        return {} if event.properties.get("permanent") is False else {reachable: False}
    return {stated: True, reachable: True} if event.type == RESUBSCRIBED else {}


def needed(kind: str, purposes: Collection[str], refused: Collection[str]) -> bool:
    """Return whether an action of ``kind`` for ``purposes`` needs one of the consents in ``refused``."""
    return any(one in refused for one in (*purposes, *_ENTRIES.get(kind, ())))
