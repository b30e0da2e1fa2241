"""Which Host headers are meant for a server that lets in whoever reaches it."""

from __future__ import annotations

import pytest

from connectors.hosts import Hosts


@pytest.mark.parametrize(
    "header",
    ["127.0.0.1", "127.0.0.1:8080", "192.168.0.9:80", "[::1]", "[2001:db8::1]:8080", "localhost", "LocalHost:8080"],
)
def test_addresses_and_localhost_are_always_included(header: str) -> None:
    assert Hosts().include(header)


@pytest.mark.parametrize("header", ["gateway", "gateway:8080", "Gateway.Example:443"])
def test_names_that_were_given_are_included_in_any_case_and_with_any_port(header: str) -> None:
    assert Hosts(["GATEWAY", "gateway.example"]).include(header)
    assert not Hosts().include(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        ":8080",
        "evil.example",
        "evil.example:8080",
        "gateway.evil.example",
        "localhost.",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "::1",
        "[::1",
        "[evil.example]",
        "[gateway]",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "evil.example#127.0.0.1",
        "evil.example/127.0.0.1",
        "evil.example, 127.0.0.1",
        "127.0.0.1:8080:evil.example",
        "127.0.0.1:x",
        "127.0.0.1\n",
        "\u0661\u0662\u0667.0.0.1",
    ],
)
def test_nothing_else_is(header: str) -> None:
    assert not Hosts(["gateway", ""]).include(header)
