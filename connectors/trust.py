"""Whom connectors believe: the certificate authorities that come with this library's dependencies."""

from __future__ import annotations

import ssl
from functools import cache

import certifi


@cache
def public_authorities() -> ssl.SSLContext:
    """Return what checks a server's certificate; shared, for reading the authorities takes some 50 ms of the loop."""
    return ssl.create_default_context(cafile=certifi.where())
