"""Conversations: what a connector and its system say to each other, as JSON that a person can review.

Secrets are replaced by the names of their variables, the bench's address by ``<base>``, credentials in headers by
their scheme alone, and what differs from run to run by ``<varies>``.
"""

from __future__ import annotations

import json
import re
from difflib import unified_diff
from typing import Any

from connectors.conformance.bench import Case, Exchange, How

#: What is recorded, by the name of its section.
SECTIONS = {"check": How.OK, "delivered": How.OK, "refused": How.REFUSE}


async def conversation(case: Case) -> dict[str, list[dict[str, Any]]]:
    """Return what is said in a check, for a delivery that is taken and for one that is refused."""
    said: dict[str, list[dict[str, Any]]] = {}
    for section, how in SECTIONS.items():
        if how in case.example.cannot:
            continue
        await case.bench.answers(how)
        case.bench.heard.clear()
        async with case.opened() as connector:
            if section == "check":
                await connector.check()
            else:
                await connector.send(case.delivery())
        said[section] = [_told(case, exchange) for exchange in case.bench.heard]
    return said


def as_text(conversations: dict[str, list[dict[str, Any]]]) -> str:
    """Return them as they are kept in a file."""
    return json.dumps(conversations, indent=2, ensure_ascii=False) + "\n"


def difference(recorded: str, seen: str) -> str:
    """Return how ``seen`` differs from what was ``recorded``, line by line; empty when it does not."""
    return "\n".join(unified_diff(recorded.splitlines(), seen.splitlines(), "recorded", "seen", lineterm="", n=4))


def _told(case: Case, exchange: Exchange) -> dict[str, Any]:
    return {
        "request": _masked(exchange.request, case),
        "answer": None if exchange.answer is None else _masked(exchange.answer, case),
    }


def _masked(value: Any, case: Case, name: str = "") -> Any:
    if name in case.example.varies:
        return "<varies>"
    match value:
        case dict():
            return {key: _masked(item, case, key) for key, item in value.items()}
        case list():
            return [_masked(item, case) for item in value]
        case str() if name == "authorization":
            return f"{value.partition(' ')[0]} <credentials>"
        case str():
            return _masked_text(value, case)
        case _:
            return value


def _masked_text(text: str, case: Case) -> str:
    replaced = text.replace(case.bench.base, "<base>")
    replaced = re.sub(rf"\b{re.escape(case.bench.base.rpartition('/')[2])}\b", "<address>", replaced)
    for variable, secret in case.environ.items():
        replaced = replaced.replace(secret, f"<{variable}>")
    for secret in case.example.secrets:
        replaced = replaced.replace(secret, "<secret>")
    return replaced
