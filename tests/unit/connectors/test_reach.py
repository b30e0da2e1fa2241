"""Connectors reach public addresses, and others only by the word of whoever runs the process."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import aiohttp
import pytest

from connectors.clock import now_s
from connectors.http import HttpParameters, HttpSender
from connectors.http_pool import GuardedConnector
from connectors.protocol import Result
from connectors.reach import ForbiddenTarget, Reach
from connectors.registry import build, settings_problems

NOBODY = Reach()

JUDGED = [
    # host            port  address                     permitted by                       verdict
    ("example.com", 443, "93.184.215.14", "", True),
    ("example.com", 443, "2606:2800:21f:cb07::1", "", True),
    ("example.com", 443, "127.0.0.1", "", False),
    ("example.com", 443, "10.1.2.3", "", False),
    ("example.com", 443, "172.16.0.1", "", False),
    ("example.com", 443, "192.168.0.1", "", False),
    ("example.com", 443, "100.64.0.1", "", False),
    ("example.com", 443, "169.254.169.254", "", False),
    ("example.com", 443, "0.0.0.0", "", False),
    ("example.com", 443, "224.0.0.1", "", False),
    ("example.com", 443, "255.255.255.255", "", False),
    ("example.com", 443, "::1", "", False),
    ("example.com", 443, "::", "", False),
    ("example.com", 443, "fe80::1", "", False),
    ("example.com", 443, "fd00:ec2::254", "", False),
    ("example.com", 443, "ff02::1", "", False),
    ("example.com", 443, "::ffff:127.0.0.1", "", False),
    ("example.com", 443, "::ffff:93.184.215.14", "", True),
    ("example.com", 443, "2002:7f00:1::", "", False),
    ("example.com", 443, "64:ff9b::7f00:1", "", False),
    ("example.com", 443, "64:ff9b::5db8:d70e", "", True),
    ("example.com", 443, "64:ff9b:1::a9fe:a9fe", "", False),
    ("example.com", 443, "64:ff9b:1::7f00:1", "", False),
    ("example.com", 443, "64:ff9b:1::5db8:d70e", "", True),
    ("example.com", 443, "64:ff9b:1:a9fe:a9:fe00:5db8:d70e", "", False),
    ("example.com", 443, "2001:0:7f00:1::1", "", False),
    ("example.com", 443, "2001:db8::1", "", False),
    ("example.com", 443, "::127.0.0.1", "", False),
    ("example.com", 443, "::93.184.215.14", "", False),
    ("example.com", 443, "::ffff:0:a9fe:a9fe", "", False),
    ("example.com", 443, "fec0::2", "", False),
    ("example.com", 443, "5f00::1", "", False),
    ("example.com", 443, "4000::1", "", False),
    ("example.com", 443, "192.0.0.192", "", False),
    ("example.com", 443, "192.0.0.9", "", False),
    ("example.com", 443, "168.63.129.16", "", False),
    ("example.com", 443, "168.63.129.17", "", True),
    ("example.com", 443, "::ffff:168.63.129.16", "", False),
    ("127.0.0.1", 8090, "127.0.0.1", "127.0.0.1:8090", True),
    ("127.0.0.1", 6379, "127.0.0.1", "127.0.0.1:8090", False),
    ("::1", 8090, "::1", "[::1]:8090", True),
    ("crm", 80, "10.1.2.3", "crm", True),
    ("CRM.", 80, "10.1.2.3", "crm:80", True),
    ("crm", 81, "10.1.2.3", "crm:80", False),
    ("other", 80, "10.1.2.3", "crm", False),
    ("crm", 80, "169.254.169.254", "crm", False),
    ("crm", 80, "168.63.129.16", "crm", False),
    ("crm", 80, "192.0.0.192", "crm", False),
    ("crm", 80, "100.100.100.200", "crm", False),
    ("crm", 80, "fd00:ec2::254", "crm", False),
    ("crm", 80, "64:ff9b:1::a9fe:a9fe", "crm", False),
    ("crm", 80, "fec0::2", "crm", True),
    ("other", 80, "10.1.2.3", "10.0.0.0/8", True),
    ("other", 80, "11.0.0.1", "10.0.0.0/8", True),
    ("other", 80, "::ffff:10.1.2.3", "10.0.0.0/8", True),
    ("169.254.169.254", 80, "169.254.169.254", "169.254.169.254/32", True),
    ("other", 80, "168.63.129.16", "168.63.129.16", True),
    ("other", 80, "64:ff9b:1:1::1", "64:ff9b:1::/48", True),
    ("other", 80, "224.0.0.1", "0.0.0.0/0", False),
    ("other", 80, "127.0.0.1", " 10.0.0.0/8 , 127.0.0.1 ", True),
]


@pytest.mark.parametrize(("host", "port", "address", "permitted", "verdict"), JUDGED)
def test_an_address_is_judged_by_what_it_is_and_by_who_permits_it(
    host: str, port: int, address: str, permitted: str, verdict: bool
) -> None:
    assert Reach.parsed(permitted).permits(host, port, ip_address(address)) is verdict


@pytest.mark.parametrize("text", ["10.0.0.0/99", "crm:http", "crm:0", "crm:70000"])
def test_a_list_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Reach.parsed(text)


def test_the_reach_comes_from_the_environment_and_never_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNEY_PRIVATE_TARGETS", "crm:8080")
    assert HttpParameters().reach == Reach(hosts=frozenset({("crm", 8080)}))
    assert "reach" not in HttpParameters.model_fields
    assert HttpParameters().within(NOBODY).reach == NOBODY


# --------------------------------------------------------------------------------------------- over real sockets


@pytest.fixture
async def target() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server of this machine that remembers what reached it."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


FORMS = ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]


@pytest.mark.parametrize("host", FORMS)
async def test_no_spelling_of_a_loopback_address_reaches_this_machine(
    target: tuple[int, list[bytes]], host: str
) -> None:
    port, heard = target
    sender = HttpSender(HttpParameters().within(NOBODY), now_s)
    receipt = await sender.send("POST", f"http://{host}:{port}/", body=b"{}", headers={})
    await sender.close()
    bare = host.strip("[]")
    assert heard == []
    assert receipt.result is Result.REFUSED
    assert receipt.detail == (
        f"{bare} is not a public address, and connectors connect to no other. Whoever runs the dispatcher may "
        f"permit it with JOURNEY_PRIVATE_TARGETS={host}:{port}"
    )


@pytest.mark.parametrize("host", ["0177.0.0.1", "127.1", "2130706433", "0x7f.1", "0X7F000001", "crm.1", "127.0.0.1."])
def test_a_host_that_resolvers_read_differently_is_no_setting(host: str) -> None:
    assert settings_problems("crm", {"type": "webhook", "url": f"http://{host}/"}) != ()


async def test_a_webhook_of_a_rulebook_is_refused_what_the_process_may_not_reach(
    target: tuple[int, list[bytes]],
) -> None:
    port, heard = target
    webhook = build("crm", {"type": "webhook", "url": f"http://127.0.0.1:{port}/"}, environ={}, reach=NOBODY)
    try:
        assert await webhook.check() == (
            "127.0.0.1 is not a public address, and connectors connect to no other. Whoever runs the dispatcher may "
            f"permit it with JOURNEY_PRIVATE_TARGETS=127.0.0.1:{port}."
        )
    finally:
        await webhook.close()
    assert heard == []


async def test_the_connection_goes_to_the_address_that_was_judged(
    target: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is judged and loopback a moment later is resolved once: nothing is gained."""
    port, heard = target
    answers = iter(["127.0.0.1", "169.254.169.254"])
    asked: list[str] = []

    async def rebinding(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    sender = HttpSender(HttpParameters().within(Reach.parsed("rebind.example")), now_s)
    receipt = await sender.send("POST", f"http://rebind.example:{port}/", body=b"{}", headers={})
    await sender.close()
    assert receipt.result is Result.DELIVERED
    assert asked == ["rebind.example"]
    assert f"host: rebind.example:{port}\r\n".encode() in heard[0].lower()


async def test_of_several_addresses_only_permitted_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mixed(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        found = ["10.0.0.1", "93.184.215.14", "::1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", mixed)
    assert await NOBODY.addresses("mixed.example", 443) == ["93.184.215.14"]


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("example.com", 70000, "70000 is no port"),
        ("a..example", 443, "a..example is no name of a host: "),
        (f"{'a' * 64}.example", 443, f"{'a' * 64}.example is no name of a host: "),
    ],
)
async def test_what_cannot_be_resolved_is_an_error_of_the_network(host: str, port: int, said: str) -> None:
    with pytest.raises(OSError, match=f"^{re.escape(said)}"):
        await NOBODY.addresses(host, port)


async def test_the_pool_of_aiohttp_takes_its_connections_from_the_guard(target: tuple[int, list[bytes]]) -> None:
    port, heard = target
    async with aiohttp.ClientSession(connector=GuardedConnector(NOBODY)) as session:
        for host in ("127.0.0.1", "localhost", "[::1]"):
            with pytest.raises(aiohttp.ClientConnectorError) as refused:
                await session.get(f"http://{host}:{port}/")
            assert isinstance(refused.value.os_error, ForbiddenTarget)
    assert heard == []
