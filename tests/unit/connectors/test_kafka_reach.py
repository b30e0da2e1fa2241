"""The kafka connector stays within reach: whatever its brokers call each other, and however often a name changes."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from connectors.protocol import Connector, Delivery, Receipt, Result
from connectors.reach import Reach
from connectors.registry import build

TOPIC, NODE = "deliveries", 7
FORBIDDEN = "127.0.0.2"
ONLY_THIS = Reach.parsed("127.0.0.1")
PRODUCE, METADATA, API_VERSIONS, INIT_PRODUCER_ID = 0, 3, 18, 22


class AuthorsBroker:
    """Somebody's broker: one topic of one partition, whose leader is wherever ``advertised`` says."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self.advertised = "127.0.0.1", 0
        self.lets_in = True

    @asynccontextmanager
    async def running(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[AuthorsBroker]:
        server = await asyncio.start_server(self._connected, host, 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        self.advertised = host, self.port
        async with server:
            yield self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.lets_in:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                kind, _version, correlation = struct.unpack_from(">hhi", await reader.readexactly(size))
                answer = struct.pack(">i", correlation) + self._answer(kind)
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, kind: int) -> bytes:
        match kind:
            case _ if kind == API_VERSIONS:
                known = (PRODUCE, 3, 3), (METADATA, 1, 1), (API_VERSIONS, 0, 0), (INIT_PRODUCER_ID, 0, 0)
                return struct.pack(">hi", 0, len(known)) + b"".join(struct.pack(">hhh", *one) for one in known)
            case _ if kind == METADATA:
                host, port = self.advertised
                brokers = struct.pack(">ii", 1, NODE) + text(host) + struct.pack(">ih", port, -1)
                partition = struct.pack(">ihiiiiii", 1, 0, 0, NODE, 1, NODE, 1, NODE)
                return brokers + struct.pack(">iih", NODE, 1, 0) + text(TOPIC) + b"\0" + partition
            case _ if kind == INIT_PRODUCER_ID:
                return struct.pack(">ihqh", 0, 0, 1, 0)
            case _:
                return struct.pack(">i", 1) + text(TOPIC) + struct.pack(">iihqqi", 1, 0, 0, 41, -1, 0)


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


class Names:
    """A resolver that answers each name with its next address; a name that is asked for too often is an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[str]) -> None:
        self.left = {f"{name}.example": list(addresses) for name, addresses in answers.items()}
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._resolved)

    async def _resolved(self, host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        address = self.left[host].pop(0) if host in self.left else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


@pytest.fixture
async def broker() -> AsyncIterator[AuthorsBroker]:
    async with AuthorsBroker().running() as broker:
        yield broker


@pytest.fixture
async def victim() -> AsyncIterator[AuthorsBroker]:
    """Listens where connectors may not connect, and counts who does."""
    async with AuthorsBroker().running(FORBIDDEN) as victim:
        yield victim


@asynccontextmanager
async def opened(bootstrap: str, **settings: Any) -> AsyncIterator[Connector]:
    written = {"type": "kafka", "bootstrap": bootstrap, "topic": TOPIC, "timeout_s": 5, **settings}
    connector = build("feed", written, environ={}, reach=ONLY_THIS)
    try:
        yield connector
    finally:
        await connector.close()


def delivery() -> Delivery:
    return Delivery(id="a1", customer_id="c1", kind="publish", params={}, decided_at_ms=1_772_441_999_688)


def out_of_reach(host: str, port: int) -> str:
    return (
        f"{host} is not a public address, and connectors connect to no other. Whoever runs the dispatcher may permit "
        f"it with JOURNEY_PRIVATE_TARGETS={host}:{port}."
    )


async def test_a_broker_that_another_broker_names_is_judged_too(broker: AuthorsBroker, victim: AuthorsBroker) -> None:
    broker.advertised = FORBIDDEN, victim.port
    async with opened(f"127.0.0.1:{broker.port}") as connector:
        receipt, advice = await connector.send(delivery()), await connector.check()
    said = f"a broker's advertised listener is {FORBIDDEN}:{victim.port}. {out_of_reach(FORBIDDEN, victim.port)}"
    assert (receipt, advice) == (Receipt(result=Result.REFUSED, detail=said), said)
    assert (broker.connections, victim.connections) == (2, 0)


async def test_a_broker_that_moves_out_of_reach_later_is_refused_and_gets_no_connection(
    broker: AuthorsBroker, victim: AuthorsBroker
) -> None:
    async with opened(f"127.0.0.1:{broker.port}") as connector:
        assert (await connector.send(delivery())).result is Result.DELIVERED
        broker.advertised = FORBIDDEN, victim.port
        await connector._session.producer.client.force_metadata_update()
        receipt = await connector.send(delivery())
    assert receipt.result is Result.REFUSED
    assert victim.connections == 0


async def test_a_name_that_turns_to_a_forbidden_address_gains_nothing(
    victim: AuthorsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, rebind=["127.0.0.1", FORBIDDEN])
    async with opened(f"rebind.example:{victim.port}") as connector:
        receipt = await connector.send(delivery())
    said = out_of_reach("rebind.example", victim.port)
    assert receipt == Receipt(result=Result.REFUSED, detail=said)
    assert victim.connections == 0


async def test_an_advertised_name_that_turns_to_a_forbidden_address_gains_nothing(
    broker: AuthorsBroker, victim: AuthorsBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was in reach when the brokers were judged: nothing is sent, the log says why, the next attempt is refused."""
    Names(monkeypatch, rebind=["127.0.0.1"] + [FORBIDDEN] * 10_000)
    broker.advertised = "rebind.example", victim.port
    with caplog.at_level(logging.ERROR, logger="aiokafka"):
        async with opened(f"127.0.0.1:{broker.port}", timeout_s=0.5) as connector:
            first, second = await connector.send(delivery()), await connector.send(delivery())
    said = out_of_reach("rebind.example", victim.port)
    assert first == Receipt(result=Result.RETRY, detail="no broker was ready within 0.5 s")
    assert f"Unable connect to node with id {NODE}: {said.removesuffix('.')}" in caplog.messages
    assert second.detail == f"a broker's advertised listener is rebind.example:{victim.port}. {said}"
    assert victim.connections == 0


async def test_looking_whether_a_broker_listens_stays_within_reach(
    broker: AuthorsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.lets_in = False
    names = Names(monkeypatch, rebind=["127.0.0.1", "127.0.0.1", FORBIDDEN])
    victim = await asyncio.start_server(lambda *_: pytest.fail("it was connected to"), FORBIDDEN, broker.port)
    async with victim, opened(f"rebind.example:{broker.port}") as connector:
        advice = await connector.check()
    assert advice is not None
    assert advice.endswith(". Check bootstrap, the network and that the brokers are running.")
    assert names.left == {"rebind.example": []}


async def test_tls_verifies_the_name_and_the_connection_goes_to_the_judged_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each name is resolved twice, when brokers are judged and when one is connected to; what follows takes no more."""
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("first.example", "node.example").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    names = Names(monkeypatch, first=["127.0.0.1"] * 2, node=["127.0.0.1"] * 2)
    async with AuthorsBroker().running(tls=tls) as broker:
        broker.advertised = "node.example", broker.port
        bootstrap, ca_file = f"first.example:{broker.port}", str(tmp_path / "ca.pem")
        async with opened(bootstrap, security="tls", ca_file=ca_file) as connector:
            receipts = [await connector.send(delivery()), await connector.send(delivery())]
    assert receipts == [Receipt(result=Result.DELIVERED, reference=f"{TOPIC}/0/41")] * 2
    assert names.left == {"first.example": [], "node.example": []}
    assert broker.connections == 2


async def test_a_certificate_for_another_name_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("other.example", "127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    Names(monkeypatch, first=["127.0.0.1"] * 2)
    async with AuthorsBroker().running(tls=tls) as broker:
        bootstrap, ca_file = f"first.example:{broker.port}", str(tmp_path / "ca.pem")
        async with opened(bootstrap, security="tls", ca_file=ca_file) as connector:
            receipt = await connector.send(delivery())
    assert receipt.result is Result.RETRY
    assert "Unable to bootstrap" in receipt.detail
