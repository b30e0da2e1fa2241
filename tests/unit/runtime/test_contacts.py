"""Contacts: an address is the same however it is written, and noting it never holds up or fails a delivery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from connectors.protocol import Delivery, Receipt, Result
from orchestrator.adapters.memory_contact_book import MemoryContactBook
from orchestrator.errors import StoreUnavailable
from orchestrator.runtime.contacts import Contact, ContactNotes, customer_of, hashed, noting, plain


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("+49 151 1234-5678", "4915112345678"),
        ("whatsapp:+4915112345678", "4915112345678"),
        ("(+49) 151.12345678", "4915112345678"),
        (" Jo@Example.COM ", "jo@example.com"),
        ("49@example.com", "49@example.com"),
        ("U024BE7LH", "u024be7lh"),
        ("", ""),
    ],
)
def test_an_address_is_compared_without_how_it_is_written(written: str, compared: str) -> None:
    assert plain(written) == compared


def test_a_hash_tells_neither_the_address_nor_that_two_connectors_know_the_same() -> None:
    key = bytes(32)
    assert hashed(key, "sms", "+49151") == hashed(key, "sms", "49 151")
    assert len({hashed(key, "sms", "+49151"), hashed(key, "voice", "+49151"), hashed(b"x" * 32, "sms", "+49151")}) == 3


class Gate(MemoryContactBook):
    """A book that takes batches when it is let, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.batches: list[list[str]] = []
        self.failures: list[Exception] = []

    async def remember(self, contacts: Sequence[Contact]) -> None:
        self.batches.append([one.customer_id for one in contacts])
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()
        await super().remember(contacts)


def contact(customer_id: str) -> Contact:
    return Contact(connector="sms", address=f"+{customer_id}", customer_id=customer_id, at_ms=1)


async def test_what_is_noted_while_a_batch_is_written_goes_with_the_next() -> None:
    book = Gate()
    notes = ContactNotes(book)
    notes.note(contact("1"))
    await asyncio.sleep(0)
    notes.note(contact("2"))
    notes.note(contact("3"))
    book.open.set()
    await notes.written()
    assert book.batches == [["1"], ["2", "3"]]
    assert await book.find("sms", "+3") == contact("3")


@pytest.mark.parametrize("error", [StoreUnavailable("Redis does not answer."), ZeroDivisionError("a bug")])
async def test_a_book_that_fails_is_logged_and_asked_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    book = Gate()
    book.open.set()
    book.failures.append(error)
    notes = ContactNotes(book)
    with caplog.at_level(logging.WARNING):
        notes.note(contact("1"))
        await notes.written()
    assert caplog.messages == [f"1 contacts were not noted, so answers from there are nobody's: {error}"]
    notes.note(contact("2"))
    await notes.written()
    assert await book.find("sms", "+2") == contact("2")


class Sending:
    """A connector that answers with what a test says."""

    name = "sms"

    def __init__(self, receipt: Receipt) -> None:
        self.receipt = receipt
        self.closed = False

    async def send(self, delivery: Delivery) -> Receipt:
        return self.receipt

    async def check(self) -> str | None:
        return "mend it"

    async def close(self) -> None:
        self.closed = True


class StandingClock:
    def now_ms(self) -> int:
        return 7

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


DELIVERY = Delivery(id="a", customer_id="c1", kind="sms", params={}, decided_at_ms=1)


@pytest.mark.parametrize(
    ("receipt", "known"),
    [
        (Receipt(result=Result.DELIVERED, recipient="+49151"), True),
        (Receipt(result=Result.DELIVERED), False),
        (Receipt(result=Result.REFUSED, recipient="+49151"), False),
        (Receipt(result=Result.UNKNOWN, recipient="+49151"), True),
    ],
)
async def test_a_delivery_is_noted_where_its_receipt_says_to_whom(receipt: Receipt, known: bool) -> None:
    book = MemoryContactBook()
    inner: Any = Sending(receipt)
    connector = noting({"sms": inner}, book, StandingClock(), reporting=())["sms"]
    assert (connector.name, await connector.check()) == ("sms", "mend it")
    assert await connector.send(DELIVERY) is receipt
    await connector.close()
    assert inner.closed
    expected = Contact(connector="sms", address="+49151", customer_id="c1", at_ms=7) if known else None
    assert await book.find("sms", "+49151") == expected


async def test_a_delivery_does_not_wait_for_the_book() -> None:
    book = Gate()
    inner: Any = Sending(Receipt(result=Result.DELIVERED, recipient="+49151"))
    connector = noting({"sms": inner}, book, StandingClock(), reporting=())["sms"]
    await connector.send(DELIVERY)
    assert await book.find("sms", "+49151") is None
    book.open.set()
    await connector.close()
    assert await book.find("sms", "+49151") is not None


@pytest.mark.parametrize("result", Result)
async def test_an_action_is_noted_before_its_answer_where_the_other_side_reports(result: Result) -> None:
    book = MemoryContactBook()
    notes: list[str] = []

    class Answering(Sending):
        async def send(self, delivery: Delivery) -> Receipt:
            await connector._notes.written()
            notes.append(await customer_of(book, "sms", delivery.id, ""))
            return self.receipt

    inner: Any = Answering(Receipt(result=result))
    connector: Any = noting({"sms": inner}, book, StandingClock(), reporting={"sms"})["sms"]
    await connector.send(DELIVERY)
    assert notes == ["c1"]
    await connector.close()


async def test_actions_are_not_noted_where_nobody_reports() -> None:
    book = MemoryContactBook()
    inner: Any = Sending(Receipt(result=Result.DELIVERED, recipient="+49151"))
    connector = noting({"sms": inner}, book, StandingClock(), reporting={"voice"})["sms"]
    await connector.send(DELIVERY)
    await connector.close()
    assert await customer_of(book, "sms", DELIVERY.id, "") == ""
