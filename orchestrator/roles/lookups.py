"""Look-ups of the gateway and the CLI, over whichever adapters a role has put together."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from pydantic import BaseModel

from orchestrator.core.action import Action
from orchestrator.core.definition import Journey
from orchestrator.core.moment import aware_moment
from orchestrator.core.state import CustomerState, decode_state
from orchestrator.errors import EventRefused
from orchestrator.gateway.page import Filling, Page, place_in_topic, written_place
from orchestrator.gateway.views import (
    ActionView,
    DeadLetterView,
    RulebookVersion,
    action_view,
    dead_letter_view,
    version_view,
)
from orchestrator.runtime.contacts import ContactBook
from orchestrator.runtime.intake import DeadLetter, HttpIntake, decode_dead_letter
from orchestrator.runtime.outcomes import attributed
from orchestrator.runtime.ports import (
    ACTIONS,
    DEAD_LETTERS,
    Clock,
    DispatchQueue,
    EventLog,
    Outgoing,
    Record,
    StateStore,
)
from orchestrator.runtime.rulebooks import FOLDER, PublishedRulebooks
from orchestrator.runtime.workspace import KeySpace

log = logging.getLogger(__name__)

#: Records of a topic's end that a look-up reads at most.
TAIL_MAX = 5_000
#: Of these, so many at a time and about so many bytes: how large they are is not known before.
STEP_MIN, STEP_MAX = 16, 256
STEP_BYTES_MAX = 8_000_000


class LogTail(Protocol):
    """Reads the newest records of a topic."""

    async def latest(self, topic: str, limit: int, ends: Mapping[int, int] | None = None) -> list[Record]:
        """Return up to ``limit`` of the newest records of all partitions, newest first, each partition in its order.

        Of a partition in ``ends`` those before that offset. Fewer than ``limit`` are all that there are.
        """
        ...

    async def latest_of(self, topic: str, key: bytes, limit: int) -> list[Record]:
        """Return the newest records of a key, newest first: those among ``limit`` of its partition, or more."""
        ...


V = TypeVar("V", bound=BaseModel)
Views = Callable[[Sequence[Record]], Awaitable[Sequence[V | None]]]


class _Place:
    """How far a topic has been read from its end, by partition."""

    def __init__(self, before: str | None) -> None:
        self.ends = place_in_topic(before)
        self.passed = 0
        self._bytes = 0

    def is_before(self, record: Record) -> bool:
        return record.offset < self.ends.get(record.partition, record.offset + 1)

    def passes(self, records: Sequence[Record]) -> None:
        for record in records:
            self.ends[record.partition] = record.offset
            self.passed += 1
            self._bytes += len(record.value or b"")

    def fill(self, filling: Filling[V], records: Sequence[Record], views: Sequence[V | None]) -> bool:
        """Put views on a page and pass their records; return whether it is full before the end of them."""
        for record, view in zip(records, views, strict=True):
            if view is not None and not filling.takes(view):
                return True
            self.passes([record])
        return False

    def step(self, step: int, bytes_max: int) -> int:
        """Return how many records to read next, so that they come to about so many bytes, as those before did."""
        average = self._bytes // max(1, self.passed) + 1
        return max(STEP_MIN, min(2 * step, STEP_MAX, bytes_max // average))

    def written(self) -> str:
        return written_place(self.ends)


async def _page_of_tail(tail: LogTail, topic: str, place: _Place, filling: Filling[V], views: Views[V]) -> Page[V]:
    """Fill a page from the end of a topic, some records at a time; a record without a view is passed over.

    A page that finds little among ``TAIL_MAX`` records ends there and leads on.
    """
    step = STEP_MIN
    while True:
        records = await tail.latest(topic, step, place.ends)
        if place.fill(filling, records, await views(records)):
            return Page(filling.items, place.written())
        if len(records) < step:
            return Page(filling.items)
        if place.passed >= TAIL_MAX:
            return Page(filling.items, place.written())
        step = place.step(step, filling.room_bytes)


class StoredCustomers:
    """Customers by id; ``partition_of`` maps a record key to its partition."""

    def __init__(self, store: StateStore, key: Callable[[str], bytes], partition_of: Callable[[bytes], int]) -> None:
        self._store = store
        self._key = key
        self._partition_of = partition_of

    async def state(self, customer_id: str) -> CustomerState | None:
        """Return a customer's state, None when nothing is known."""
        stored = await self._store.load(self._partition_of(self._key(customer_id)), [customer_id])
        return None if stored[0] is None else decode_state(stored[0])


class RulebookJourneys:
    """Journeys of the rulebook in force, and the versions that were published."""

    def __init__(self, rulebooks: PublishedRulebooks, loaded_at_ms: int) -> None:
        self._rulebooks = rulebooks
        self._loaded_at_ms = loaded_at_ms

    async def active(self) -> Sequence[Journey]:
        """Return the journeys in force."""
        return list(self._rulebooks.current.journeys.values())

    async def versions(self) -> Sequence[RulebookVersion]:
        """Return the version in force and then the others, the latest published first.

        As long as nothing was ever published that is the folder's alone.
        """
        current = self._rulebooks.current
        if published := self._rulebooks.published():
            published.sort(key=lambda one: one.version != current.version)
            return [version_view(one, active=one.version == current.version) for one in published]
        return [
            RulebookVersion(
                version=current.version,
                active=True,
                published_at=aware_moment(self._loaded_at_ms),
                journeys=sorted(current.journeys),
                author=FOLDER,
            )
        ]


class RecentActions:
    """The latest actions with what became of them: the topic says what was decided, the ledger how it ended."""

    def __init__(self, tail: LogTail, queue: DispatchQueue, keys: KeySpace) -> None:
        self._tail = tail
        self._queue = queue
        self._keys = keys

    async def recent(self, limit: int, customer_id: str | None, before: str | None = None) -> Page[ActionView]:
        """Return a page of the latest actions, newest first; of one customer when given."""
        place = _Place(before)
        filling: Filling[ActionView] = Filling(limit)
        known: set[str] = set()

        async def views(records: Sequence[Record]) -> list[ActionView | None]:
            return await self._views(records, customer_id, known)

        if customer_id is None:
            return await _page_of_tail(self._tail, ACTIONS, place, filling, views)
        records = await self._tail.latest_of(ACTIONS, self._keys.key(customer_id), TAIL_MAX)
        records = [record for record in records if place.is_before(record)]
        full = place.fill(filling, records, await views(records))
        return Page(filling.items, place.written() if full else None)

    async def _views(
        self, records: Sequence[Record], customer_id: str | None, known: set[str]
    ) -> list[ActionView | None]:
        """Return the views of actions; None for what is no action of ours, or one that has come before."""
        actions = [msgspec.json.decode(record.value or b"{}", type=Action) for record in records]
        entries = await self._queue.ledger([action.id for action in actions])
        views: list[ActionView | None] = []
        for action, entry in zip(actions, entries, strict=True):
            ours = action.workspace == self._keys.workspace and customer_id in {None, action.customer_id}
            if not ours or action.cancel or action.id in known:
                views.append(None)
                continue
            known.add(action.id)
            views.append(action_view(action) if entry is None else action_view(action, entry.outcome, entry.at_ms))
        return views


Redrive = Callable[[Sequence[str]], Awaitable[Sequence[Any]]]


class StoredDeadLetters:
    """Dead letters of events and of actions, newest first, named by where they stand in their topic."""

    def __init__(
        self,
        tail: LogTail,
        log: EventLog,
        intake: HttpIntake,
        clock: Clock,
        redrive_actions: Redrive,
        contacts: ContactBook,
    ) -> None:
        self._tail = tail
        self._log = log
        self._intake = intake
        self._clock = clock
        self._redrive_actions = redrive_actions
        self._contacts = contacts
        self._keys = intake.keys

    async def recent(self, limit: int, before: str | None = None) -> Page[DeadLetterView]:
        """Return a page of the latest dead letters, newest first."""

        async def views(records: Sequence[Record]) -> list[DeadLetterView | None]:
            own = {_name(record) for record in self._keys.own(records)}
            return [_view(record) if _name(record) in own else None for record in records]

        return await _page_of_tail(self._tail, DEAD_LETTERS, _Place(before), Filling(limit), views)

    async def redrive(self, ids: Sequence[str] | None) -> int:
        """Send dead letters again and return how many: events to their topic, actions to their connector's queue.

        Reports of providers that concerned nobody go to whom the contact book names by now.
        """
        wanted = None if ids is None else set(ids)
        number, actions = 0, dict[str, None]()
        place, step = _Place(None), STEP_MIN
        while records := await self._tail.latest(DEAD_LETTERS, step, place.ends):
            events: list[Outgoing] = []
            for record in self._keys.own(records):
                if wanted is not None and _name(record) not in wanted:
                    continue
                letter = _letter(record)
                if letter is None:
                    actions |= dict.fromkeys(_action_ids(record))
                elif letter.value is not None:
                    events += self._again(await attributed(letter, self._contacts))
            if events:
                await self._log.append(events)
            number += len(events)
            place.passes(records)
            if len(records) < step or place.passed >= TAIL_MAX:
                break
            step = place.step(step, STEP_BYTES_MAX)
        return number + len(await self._redrive_actions(list(actions)))

    def _again(self, letter: DeadLetter) -> list[Outgoing]:
        """Return the records of a dead letter; none while the reason for its refusal stands."""
        try:
            return self._intake.again(letter, self._clock.now_ms())
        except EventRefused as refused:
            log.info("a dead letter is refused again: %s %s", refused, refused.remedy)
            return []


def _name(record: Record) -> str:
    return f"{record.partition}-{record.offset}"


def _letter(record: Record) -> DeadLetter | None:
    """Return the dead letter of an event, or None for one of an action."""
    try:
        return decode_dead_letter(record.value or b"")
    except msgspec.MsgspecError:
        return None


class _UndeliveredAction(msgspec.Struct):
    """The part of a dispatcher's dead letter that look-ups show."""

    reason: str
    detail: str
    action: dict[str, Any]
    at: int = 0


def _undelivered(record: Record) -> _UndeliveredAction:
    return msgspec.json.decode(record.value or b"{}", type=_UndeliveredAction)


def _action_ids(record: Record) -> list[str]:
    action_id = _undelivered(record).action.get("id")
    return [action_id] if isinstance(action_id, str) else []


def _view(record: Record) -> DeadLetterView:
    letter = _letter(record)
    if letter is not None:
        return dead_letter_view(_name(record), letter)
    undelivered = _undelivered(record)
    return DeadLetterView(
        id=_name(record),
        origin="dispatcher",
        code=undelivered.reason,
        field=f"action {undelivered.action.get('id', '')}",
        message=undelivered.detail or undelivered.reason,
        remedy="Mend the connector or the action's params, then redrive.",
        refused_at=aware_moment(undelivered.at or record.stamp_ms),
        value=(record.value or b"").decode(errors="replace"),
    )
