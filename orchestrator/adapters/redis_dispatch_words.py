"""The words of the dispatch queue's script: its keys, and actions and quotas as it takes and gives them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from orchestrator.adapters.redis_round_trip import Word
from orchestrator.runtime.dispatch.queue import LEASE_ENDED, WITHDRAWN
from orchestrator.runtime.dispatch.rate import Rate
from orchestrator.runtime.ports import Queued, Quota

_STRUCTURES = (
    *("ready", "waiting", "leases", "deadlines", "since", "ranks", "entries", "marks", "groups"),
    *("holds", "bucket", "bookings", "starts", "recent"),
)

_NEVER = 9_999_999_999_999_999

#: Inverts priorities, so that the highest comes first in the order of bytes.
_PRIORITY_BASE = 5_000_000_000

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Queued)


class Keys:
    """The keys of one workspace."""

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self.connectors = f"journey:{workspace}:connectors".encode()
        self.structures = lru_cache(maxsize=1024)(self._structures)

    def pointer(self, action_id: str) -> bytes:
        """Return the key that names the connector of an id."""
        return f"journey:{self._workspace}:action:{action_id}".encode()

    def ledger(self, connector: str, action_id: str) -> bytes:
        """Return the key of an id's ledger entry."""
        return f"{{journey:{self._workspace}:q:{connector}}}:done:{action_id}".encode()

    def recent(self, connector: str) -> bytes:
        """Return the key of the ids that were settled last."""
        return self.structures(connector)[-1]

    def _structures(self, connector: str) -> tuple[bytes, ...]:
        tag = f"{{journey:{self._workspace}:q:{connector}}}"
        return tuple(f"{tag}:{structure}".encode() for structure in _STRUCTURES)


def placed(actions: Sequence[Queued]) -> list[Word]:
    """Return id, rank and entry of each action, as the script takes them."""
    words: list[Word] = []
    for one in actions:
        words += (one.id, _rank(one), encoded(one))
    return words


def encoded(one: Queued) -> bytes:
    """Return the entry of an action."""
    return _encoder.encode(one)


def _rank(one: Queued) -> bytes:
    """Return the action's place in its group, in the order of bytes, behind the prefix of its group."""
    group = one.group.encode()
    deadline = _NEVER if one.deadline_at is None else one.deadline_at
    order = f"{_PRIORITY_BASE - one.priority:010d}{deadline:016d}{one.not_before:016d}:{one.id}"
    return b"%d:%b%b" % (len(group), group, order.encode())


def below(priority: int) -> str:
    """Return where, in a group, the actions of a lower priority than this begin."""
    return f"{_PRIORITY_BASE - priority + 1:010d}"


def quota_words(quota: Quota) -> list[Word]:
    """Return slots, rate (zeros without one), then group and slots of each group."""
    rate = Rate.of(quota)
    words: list[Word] = [quota.slots, *((0, 0, 0) if rate is None else (rate.burst, rate.interval_us, rate.span_us))]
    for group, slots in quota.group_slots.items():
        words += (group, slots)
    return words


def leased_of(words: Sequence[Any]) -> list[Queued]:
    """Return the actions of entries, lapses and withdrawn marks, as the script gives them."""
    leased: list[Queued] = []
    for index in range(0, len(words), 3):
        queued, lapses, withdrawn = _decoder.decode(words[index]), words[index + 1], words[index + 2]
        if lapses or withdrawn:
            marks = (LEASE_ENDED,) * lapses + (WITHDRAWN,) * withdrawn
            queued = msgspec.structs.replace(
                queued, attempts=queued.attempts + lapses, history=(*queued.history, *marks)
            )
        leased.append(queued)
    return leased
