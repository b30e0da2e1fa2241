"""Hosts: to which names a server answers that lets in whoever reaches it.

A web page can have its own name lead to this machine or its network (DNS rebinding). To the browser, what the server
answers is then of the page's own origin, and the page may read it. Only the Host header tells: it carries the page's
name. So such a server answers to addresses, which nobody can bend, to localhost, and to the names that it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

#: A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
_HEADER = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^\s:/?#@\[\]]+))(?::[0-9]*)?")


class Hosts:
    """Tells whether a Host header is meant for this server. ``names`` are those it has besides localhost."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in ("localhost", *names))

    def include(self, header: str) -> bool:
        """Return whether the header has an address or one of the names, with any port; without a header: no."""
        found = _HEADER.fullmatch(header)
        if found is None:
            return False
        name = found["v6"] or found["name"].lower()
        return name in self._names or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
