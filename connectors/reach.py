"""Reach: which addresses connectors may connect to.

Rules name the targets, and who writes rules is not who runs the network: a rulebook must not be a way to this
machine's own ports, its neighbours, or a cloud's metadata service. So a connector connects to public addresses, and
to others only where the one who runs the process has said so in its environment, which no rulebook can change:

    JOURNEY_PRIVATE_TARGETS=127.0.0.1:8090,crm.internal,10.20.0.0/16

A name is resolved here, once for every new connection, and the connection goes to the very address that was judged:
a name that answers differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

#: Where the one who runs the process names what is permitted beside public addresses.
VARIABLE = "JOURNEY_PRIVATE_TARGETS"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Prefixes of IPv6 addresses that a gateway turns into IPv4 (RFC 6052, RFC 8215); the last 32 bits are the address.
#: The second is the first /96 of the /48 for local use. In its others the address may stand elsewhere: they stay local.
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/96"))

#: All of IPv6 that is assigned to the public internet so far (RFC 4291); Python counts much of the rest as global.
_GLOBAL_UNICAST = ip_network("2000::/3")

#: Where clouds keep credentials outside link-local addresses: IANA's protocol assignments (Oracle's 192.0.0.192),
#: Azure's platform, Alibaba's and Amazon's metadata. The first two count as global, which they are not.
_CLOUDS = tuple(map(ip_network, ("192.0.0.0/24", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128")))


class ForbiddenTarget(OSError):
    """A host has no address that connectors may connect to; permit it in ``JOURNEY_PRIVATE_TARGETS``."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be connected to besides public addresses: networks, and hosts (of one port when it is not None).

    A host that is named here may resolve to a private or loopback address, never to a link-local one or another where
    clouds keep credentials; such an address can only be permitted by itself.
    """

    networks: tuple[Network, ...] = ()
    hosts: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def parsed(cls, text: str) -> Reach:
        """Return what a list of networks, hosts and ``host:port``, with commas, permits; else raise ``ValueError``."""
        networks: list[Network] = []
        hosts: set[tuple[str, int | None]] = set()
        for entry in filter(None, (part.strip() for part in text.split(","))):
            if "/" in entry:
                networks.append(ip_network(entry, strict=False))
            else:
                hosts.add(_host_and_port(entry))
        return cls(tuple(networks), frozenset(hosts))

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] | None = None) -> Reach:
        """Return what the environment permits; the process's own when None."""
        return cls.parsed((os.environ if environ is None else environ).get(VARIABLE, ""))

    def and_url(self, url: str) -> Reach:
        """Return the same reach with the host and port of a URL; a URL that cannot be read adds nothing."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            return self
        return Reach(self.networks, self.hosts | {(parts.hostname, port)}) if parts.hostname else self

    def permits(self, host: str, port: int, address: Address) -> bool:
        """Return whether a connector that was given ``host`` and ``port`` may connect to ``address``."""
        address = _unwrapped(address)
        if _is_public(address):
            return True
        if address.is_multicast or address.is_unspecified:
            return False
        if _is_within(address, self.networks):
            return True
        if (str(address), None) in self.hosts or (str(address), port) in self.hosts:
            return True
        named = (host.lower().rstrip("."), None) in self.hosts or (host.lower().rstrip("."), port) in self.hosts
        return named and not address.is_link_local and not _is_within(address, _CLOUDS)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of ``host`` that may be connected to, in the resolver's order.

        Raises ``ForbiddenTarget`` when there are only others, another ``OSError`` when the name does not resolve.
        """
        if not 0 < port < 65536:
            raise OSError(f"{port} is no port")
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError(f"{host[:253]} is no name of a host: {error}") from None
        resolved = list(dict.fromkeys(str(answer[4][0]) for answer in found))
        permitted = [one for one in resolved if self.permits(host, port, ip_address(one.partition("%")[0]))]
        if not permitted:
            raise ForbiddenTarget(
                f"{host} is not a public address, and connectors connect to no other. Whoever runs the dispatcher may "
                f"permit it with {VARIABLE}={f'[{host}]' if ':' in host else host}:{port}"
            )
        return permitted


def _host_and_port(entry: str) -> tuple[str, int | None]:
    try:
        return str(ip_address(entry.strip("[]"))), None
    except ValueError:
        host, _, port = entry.rpartition(":")
    if not host:
        return entry.lower().rstrip("."), None
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f'"{entry}" is no network, host or host:port')
    return host.strip("[]").lower().rstrip("."), int(port)


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, where it stands for one."""
    if isinstance(address, IPv6Address):
        if embedded := address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1]):
            return embedded
        if _is_within(address, _NAT64):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not _is_within(address, _CLOUDS)


def _is_within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)
