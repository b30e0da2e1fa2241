"""The contact book: which customer an address or an action belongs to, learned from what was delivered.

A customer who answers "STOP" sends a number and no id of ours, and many a voice system hands back the id of the call
and nothing else. The dispatcher notes whom it has written to and for whom each action is, so that the gateway can tell
who answers and whom a report concerns. The newest contact counts: a number that was written to for two customers is
taken for the latter's.

Addresses are kept as keyed hashes. The key lies beside them and is made by chance on first use, so the entries tell a
number to nobody who sees only them (a log, a trace, a scan by key), and destroying the one key forgets the whole book.
An address is kept ``KEPT_MS`` after the last delivery: longer than a year, so that an answer to a yearly reminder still
finds its customer. An action is kept ``ACTION_KEPT_MS``: far longer than the ledger of the dispatch queue knows its id.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from connectors.protocol import Connector, Delivery, Receipt, Result
from orchestrator.errors import Unavailable
from orchestrator.runtime.ports import Clock

KEPT_MS = 400 * 86_400_000
ACTION_KEPT_MS = 30 * 86_400_000
KEY_BYTES = 32

_logger = logging.getLogger(__name__)
#: Sets actions apart from addresses: no number and no mailbox begins like this.
_ACTION = "action:"
_PHONE = re.compile(r"(?:whatsapp:|tel:|sms:)?[+\d\s().\-/]+")


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a customer on a connector; ``at_ms`` is when something was last delivered there."""

    connector: str
    address: str
    customer_id: str
    at_ms: int

    @property
    def until_ms(self) -> int:
        """Until when it is kept, epoch milliseconds."""
        return self.at_ms + (ACTION_KEPT_MS if self.address.startswith(_ACTION) else KEPT_MS)


class ContactBook(Protocol):
    """Remembers contacts, by connector and address. All methods raise ``StoreUnavailable`` and may be repeated."""

    async def remember(self, contacts: Sequence[Contact]) -> None:
        """Keep contacts; of two for the same connector and address the newer by ``at_ms`` counts."""
        ...

    async def find(self, connector: str, address: str) -> Contact | None:
        """Return the newest contact there, however its address is written, or None. ``address`` is the one asked."""
        ...

    async def forget(self, customer_id: str) -> None:
        """Forget every contact of a customer; addresses that are somebody else's by now stay theirs."""
        ...


def place_of(action_id: str) -> str:
    """Return what stands for an action where a contact has its address."""
    return f"{_ACTION}{action_id}"


async def customer_of(book: ContactBook, connector: str, action_id: str, address: str) -> str:
    """Return whom an action of ``connector`` was for, else who was last written to at ``address``; "" for nobody.

    Either may be empty. Raises ``StoreUnavailable``.
    """
    for place in (place_of(action_id) if action_id else "", address):
        contact = await book.find(connector, place) if place else None
        if contact is not None:
            return contact.customer_id
    return ""


def plain(address: str) -> str:
    """Return an address as it is compared: a phone number's digits, anything else in lower case."""
    text = address.strip().casefold()
    return re.sub(r"\D", "", text) if _PHONE.fullmatch(text) else text


def hashed(key: bytes, connector: str, address: str) -> bytes:
    """Return what a book keeps in place of an address: 20 bytes of HMAC-SHA256 over connector and plain address."""
    return hmac.digest(key, f"{connector}\x1f{plain(address)}".encode(), "sha256")[:20]


class ContactNotes:
    """Notes contacts in batches, aside: what comes while a batch is being written goes with the next.

    No delivery waits for it or fails by it. A crash loses what was delivered in the last moments: answers from there
    are nobody's until the next delivery.
    """

    def __init__(self, book: ContactBook) -> None:
        self._book = book
        self._waiting: list[Contact] = []
        self._writing: asyncio.Task[None] | None = None

    def note(self, contact: Contact) -> None:
        """Have a contact kept soon. Returns at once."""
        self._waiting.append(contact)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="note contacts")

    async def written(self) -> None:
        """Return when everything noted so far is kept, or was given up."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._book.remember(batch)
            except Exception as error:  # Whatever it is, deliveries go on.
                known = isinstance(error, Unavailable)
                message = "%d contacts were not noted, so answers from there are nobody's: %s"
                _logger.warning(message, len(batch), error, exc_info=not known)
        self._writing = None


_MAY_HAVE_REACHED = frozenset({Result.DELIVERED, Result.UNKNOWN})


class NotingConnector:
    """A connector that notes whom it has, or may have, delivered to, where its receipt says so.

    When ``reports`` says that the other side reports back, it also notes for whom each action is. It does so while
    the action is being sent, since the first report may come with the answer.
    """

    def __init__(self, connector: Connector, notes: ContactNotes, clock: Clock, *, reports: bool) -> None:
        self.name = connector.name
        self._connector = connector
        self._notes = notes
        self._clock = clock
        self._reports = reports

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt, as the connector does."""
        if self._reports:
            self._note(delivery, place_of(delivery.id))
        receipt = await self._connector.send(delivery)
        if receipt.recipient and receipt.result in _MAY_HAVE_REACHED:
            self._note(delivery, receipt.recipient)
        return receipt

    def _note(self, delivery: Delivery, place: str) -> None:
        at_ms = self._clock.now_ms()
        self._notes.note(Contact(connector=self.name, address=place, customer_id=delivery.customer_id, at_ms=at_ms))

    async def check(self) -> str | None:
        """Return what the connector says of itself."""
        return await self._connector.check()

    async def close(self) -> None:
        """Release the connector's sockets, and return when everything is noted."""
        await self._connector.close()
        await self._notes.written()


def noting(
    connectors: Mapping[str, Connector], book: ContactBook, clock: Clock, reporting: Collection[str]
) -> dict[str, Connector]:
    """Return the connectors so that they write into ``book`` whom they have delivered to.

    ``reporting`` names those whose other side may report back.
    """
    notes = ContactNotes(book)
    return {
        name: NotingConnector(connector, notes, clock, reports=name in reporting)
        for name, connector in connectors.items()
    }
