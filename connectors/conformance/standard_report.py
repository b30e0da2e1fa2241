"""Genuine callbacks in the standard form (connectors/standard_callback.py), for examples of types that read it."""

from __future__ import annotations

import json
from typing import Any

from connectors.callback import Callback
from connectors.conformance.bench import NAME, NOW_S
from connectors.signature import parse_secrets, signed_headers


def standard_report(secret: str, content: Any, *, at_s: float = NOW_S) -> Callback:
    """Return ``content``, one report or a list of them, as its sender signs it with ``secret``."""
    body = json.dumps(content).encode()
    headers = {"content-type": "application/json", **signed_headers(parse_secrets(secret), "msg-1", at_s, body)}
    return Callback(method="POST", path=f"/v1/outcomes/{NAME}", query="", headers=headers, body=body)
