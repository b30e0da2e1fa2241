"""Channels: whether a customer may be reached by a kind of action at all, whatever its purpose.

Who unsubscribes from ``purposes`` alone closes no channel: those purposes are refused, on every channel.

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
#: An outcome that names more is taken to mean the channel.
PURPOSES_MAX = 20
_OPT_OUTS = frozenset({UNSUBSCRIBED, RESUBSCRIBED})


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


def changes(event: Event, consents: Mapping[str, tuple[bool, int]]) -> dict[str, bool]:
    """Return the consents that an outcome sets: entries of its channel, or the purposes that it names instead.

    One that names neither a purpose nor a kind of action sets none. What opens purposes opens the channel as well, and
    of the purposes those in ``consents``: START is no consent to what the customer never had a word about.
    """
    named = _purposes(event)
    if named and event.type == UNSUBSCRIBED:
        return dict.fromkeys(named, False)
    return {name: True for name in named if name in consents} | _entry_changes(event)


def _purposes(event: Event) -> list[str]:
    """Return the purposes that opting out or in is about; none when it is the channel, or is not understood."""
    named = event.properties.get("purposes") if event.type in _OPT_OUTS else None
    if not isinstance(named, list) or not 0 < len(named) <= PURPOSES_MAX:
        return []
    return named if all(isinstance(one, str) and one for one in named) else []


def _entry_changes(event: Event) -> dict[str, bool]:
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
