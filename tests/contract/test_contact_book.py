"""Contact books: who has an address, over every implementation."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pytest
from redis.asyncio import Redis, RedisCluster

from orchestrator.adapters.memory_contact_book import MemoryContactBook
from orchestrator.adapters.redis_connection import cluster_client
from orchestrator.adapters.redis_contact_book import RedisContactBook
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_contact_book import SCHEMA, SqliteContactBook
from orchestrator.errors import StoreUnavailable
from orchestrator.runtime.contacts import ACTION_KEPT_MS, KEPT_MS, Contact, ContactBook, customer_of, place_of

AT_MS = 1_772_000_000_000


class Books(Protocol):
    async def open(self) -> ContactBook: ...

    async def close(self) -> None: ...

    async def contents(self) -> bytes: ...


class InMemory:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.book = MemoryContactBook()

    async def open(self) -> ContactBook:
        return self.book

    async def close(self) -> None:
        pass

    async def contents(self) -> bytes:
        return repr(self.book._contacts).encode()


class InSqlite:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.path = request.getfixturevalue("tmp_path") / "book.db"
        self.databases: list[SqliteDatabase] = []

    async def open(self) -> ContactBook:
        database = SqliteDatabase(self.path, SCHEMA)
        await database.open()
        self.databases.append(database)
        return SqliteContactBook(database)

    async def close(self) -> None:
        while self.databases:
            await self.databases.pop().close()

    async def contents(self) -> bytes:
        await self.close()
        return bytes(self.path.read_bytes())


class InRedis:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.url: str = request.getfixturevalue("redis_url")
        self.workspace = f"book-{uuid.uuid4().hex[:12]}"
        self.clients: list[Redis | RedisCluster] = []

    def client(self) -> Redis | RedisCluster:
        return Redis.from_url(self.url)

    async def open(self) -> ContactBook:
        client = self.client()
        self.clients.append(client)
        return RedisContactBook(client, self.workspace)

    async def close(self) -> None:
        while self.clients:
            await self.clients.pop().aclose()

    async def contents(self) -> bytes:
        client = self.clients[0]
        found: list[Any] = []
        async for key in client.scan_iter(f"journey:{self.workspace}:*"):
            kind = await client.type(key)
            found += [key, await (client.hgetall(key) if kind == b"hash" else client.dump(key))]
        return repr(found).encode()


class InCluster(InRedis):
    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.url = request.getfixturevalue("cluster_url")

    def client(self) -> RedisCluster:
        return cluster_client(self.url)


BOOKS = [
    pytest.param(InMemory, id="memory"),
    pytest.param(InSqlite, id="sqlite"),
    pytest.param(InRedis, id="redis", marks=pytest.mark.integration),
    pytest.param(InCluster, id="cluster", marks=pytest.mark.integration),
]


@pytest.fixture(params=BOOKS)
async def books(request: pytest.FixtureRequest) -> AsyncIterator[Books]:
    implementation: Callable[[pytest.FixtureRequest], Books] = request.param
    opened = implementation(request)
    yield opened
    await opened.close()


@pytest.fixture
async def book(books: Books) -> ContactBook:
    return await books.open()


def contact(customer_id: str, address: str = "+4915112345678", connector: str = "sms", at_ms: int = AT_MS) -> Contact:
    return Contact(connector=connector, address=address, customer_id=customer_id, at_ms=at_ms)


async def test_a_contact_is_found_under_the_address_that_was_asked_for(book: ContactBook) -> None:
    await book.remember([contact("c1"), contact("c2", "jo@example.com", "email")])
    assert await book.find("sms", "+4915112345678") == contact("c1")
    assert await book.find("email", "Jo@Example.com") == contact("c2", "Jo@Example.com", "email")


@pytest.mark.parametrize(
    "written", ["+49 151 1234-5678", "whatsapp:+4915112345678", "4915112345678", "(+49) 15112345678"]
)
async def test_a_number_is_the_same_however_it_is_written(book: ContactBook, written: str) -> None:
    await book.remember([contact("c1")])
    found = await book.find("sms", written)
    assert found is not None and found.customer_id == "c1"


@pytest.mark.parametrize(
    ("connector", "address"), [("voice", "+4915112345678"), ("sms", "+4915112345679"), ("sms", "")]
)
async def test_an_address_is_nobodys_on_another_connector_or_when_it_is_another(
    book: ContactBook, connector: str, address: str
) -> None:
    await book.remember([contact("c1")])
    assert await book.find(connector, address) is None


async def test_the_newer_contact_counts_in_whichever_order_they_come(book: ContactBook) -> None:
    await book.remember([contact("c2", at_ms=AT_MS + 1)])
    await book.remember([contact("c1")])
    assert await book.find("sms", "+4915112345678") == contact("c2", at_ms=AT_MS + 1)
    await book.remember([contact("c3", at_ms=AT_MS + 2), contact("c4", at_ms=AT_MS + 3)])
    assert await book.find("sms", "+4915112345678") == contact("c4", at_ms=AT_MS + 3)


async def test_what_is_remembered_twice_is_known_once(book: ContactBook) -> None:
    for _ in range(2):
        await book.remember([contact("c1")])
    await book.forget("c1")
    assert await book.find("sms", "+4915112345678") is None


async def test_a_customer_is_forgotten_with_all_addresses_and_the_others_stay(book: ContactBook) -> None:
    await book.remember([contact("c1"), contact("c1", "+1", "voice"), contact("c2", "+2")])
    await book.remember([contact("c1", "+3"), contact("c3", "+3", at_ms=AT_MS + 1)])
    await book.forget("c1")
    await book.forget("never seen")
    found = [
        await book.find(*one) for one in (("sms", "+4915112345678"), ("voice", "+1"), ("sms", "+2"), ("sms", "+3"))
    ]
    assert found == [None, None, contact("c2", "+2"), contact("c3", "+3", at_ms=AT_MS + 1)]


async def test_an_action_says_whom_a_report_concerns_until_its_customer_is_forgotten(book: ContactBook) -> None:
    await book.remember([contact("c1", place_of("a1"), "voice"), contact("c2", "+2", "voice")])
    asked = (("voice", "a1", ""), ("voice", "a1", "+2"), ("voice", "a2", "+2"), ("voice", "", ""), ("sms", "a1", ""))
    assert [await customer_of(book, *one) for one in asked] == ["c1", "c1", "c2", "", ""]
    await book.forget("c1")
    assert [await customer_of(book, *one) for one in asked] == ["", "c2", "c2", "", ""]


@pytest.mark.parametrize(("action_id", "address"), [("4915112345678", ""), ("", "action:a1")])
async def test_an_action_is_no_address_and_an_address_is_no_action(
    book: ContactBook, action_id: str, address: str
) -> None:
    await book.remember([contact("c1"), contact("c1", place_of("a1"), "voice")])
    assert await customer_of(book, "sms", action_id, address) == ""


async def test_nothing_to_remember_is_no_trouble(book: ContactBook) -> None:
    await book.remember([])
    assert await book.find("sms", "+1") is None


async def test_a_book_that_is_opened_again_finds_what_it_kept(books: Books) -> None:
    await (await books.open()).remember([contact("c1")])
    assert await (await books.open()).find("sms", "+4915112345678") == contact("c1")


async def test_no_address_stands_in_the_book(books: Books) -> None:
    await (await books.open()).remember([contact("c1"), contact("c2", "jo@example.com")])
    kept = await books.contents()
    assert b"c1" in kept
    assert b"15112345678" not in kept and b"example.com" not in kept


async def test_what_was_not_written_to_for_long_is_forgotten_in_sqlite(tmp_path: Any) -> None:
    database = SqliteDatabase(tmp_path / "book.db", SCHEMA)
    await database.open()
    try:
        book = SqliteContactBook(database)
        await book.remember([contact("c1"), contact("c1", place_of("a1"))])
        await book.remember([contact("c2", "+2", at_ms=AT_MS + ACTION_KEPT_MS)])
        assert await customer_of(book, "sms", "a1", "") == "c1"
        await book.remember([contact("c2", "+2", at_ms=AT_MS + KEPT_MS)])
        assert await customer_of(book, "sms", "a1", "") == ""
        assert await book.find("sms", "+4915112345678") == contact("c1")
        await book.remember([contact("c2", "+2", at_ms=AT_MS + KEPT_MS + 1)])
        assert await book.find("sms", "+4915112345678") is None
    finally:
        await database.close()


@pytest.mark.integration
async def test_what_was_not_written_to_for_long_is_forgotten_in_redis(redis_url: str) -> None:
    client = Redis.from_url(redis_url)
    try:
        workspace = f"book-{uuid.uuid4().hex[:12]}"
        book = RedisContactBook(client, workspace)
        await book.remember([contact("c1"), contact("c1", place_of("a1"), "voice")])
        await book.remember([contact("c2", place_of("a2"), "voice")])
        spans = {
            key.decode().removeprefix(f"journey:{workspace}:"): await client.pttl(key)
            async for key in client.scan_iter(f"journey:{workspace}:contact*")
        }
    finally:
        await client.aclose()
    assert spans.pop("contact-key") == -1
    # The names of c1's places outlive the longer kept of them, those of c2's the only one.
    kept_ms = [spans.pop("contacts:c1"), spans.pop("contacts:c2"), *sorted(spans.values(), reverse=True)]
    expected_ms = [KEPT_MS, ACTION_KEPT_MS, KEPT_MS, ACTION_KEPT_MS, ACTION_KEPT_MS]
    assert all(whole - 60_000 < span <= whole for span, whole in zip(kept_ms, expected_ms, strict=True))


@pytest.mark.integration
async def test_the_names_of_what_is_no_longer_kept_go_in_redis(redis_url: str) -> None:
    client = Redis.from_url(redis_url)
    try:
        workspace = f"book-{uuid.uuid4().hex[:12]}"
        book = RedisContactBook(client, workspace)
        for number in range(3):
            at_ms = AT_MS + number * (ACTION_KEPT_MS + 1)
            await book.remember([contact("c1", place_of(f"a{number}"), "voice", at_ms)])
        assert await client.zcard(f"journey:{workspace}:contacts:c1") == 1
    finally:
        await client.aclose()


async def test_a_redis_that_does_not_answer_is_a_store_that_is_unavailable() -> None:
    client = Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=0.5)
    book = RedisContactBook(client, "w")
    try:
        for question in (book.remember([contact("c1")]), book.find("sms", "+1"), book.forget("c1")):
            with pytest.raises(StoreUnavailable, match=r"^Redis: "):
                await question
    finally:
        await client.aclose()
