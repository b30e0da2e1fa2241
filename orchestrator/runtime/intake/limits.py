"""Limits on what one event may be, checked before anything believes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from orchestrator.runtime.intake import refusal

ID_CHARS_MAX = 200
TYPE_CHARS_MAX = 100
NAME_CHARS_MAX = 200
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_TYPE = re.compile(r"[a-z][a-z0-9_]{0,99}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large, how deep and how far ahead of the log an event may be.

    ``depth_max`` counts the event itself as 1, its properties as 2, an object in them as 3.
    """

    event_bytes_max: int = 32_000
    depth_max: int = 16
    future_tolerance_ms: int = 300_000


def check_value(field: str, value: Any, depth_max: int, depth: int) -> None:
    """Refuse integers beyond 64 bits and nesting beyond ``depth_max`` anywhere in ``value``, which is at ``depth``.

    ``field`` is the path of ``value``, "" for the event itself.
    """
    level: list[tuple[str, Any]] = [(field, value)]
    while level:
        if depth > depth_max and any(isinstance(each, dict | list) for _, each in level):
            raise refusal.too_deep(depth_max)
        for path, each in level:
            if type(each) is int and not INT_MIN <= each <= INT_MAX:
                raise refusal.invalid(
                    path,
                    f"{path} is an integer beyond 64 bits.",
                    "Send it as a string, or as a number with a fraction.",
                )
        level = [child for path, each in level for child in _children(path, each)]
        depth += 1


def _children(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{path}.{name}" if path else name, each) for name, each in value.items()]
    if isinstance(value, list):
        return [(f"{path}[{index}]", each) for index, each in enumerate(value)]
    return []


def check_id(field: str, value: Any) -> str:
    """Return ``value`` when it can name an event or a customer, else refuse it."""
    if value is None or value == "":
        raise refusal.missing(field, f"Send {field} as a string of 1 to {ID_CHARS_MAX} characters.")
    if not isinstance(value, str):
        raise refusal.wrong_type(field, "a string", value)
    if len(value) > ID_CHARS_MAX:
        raise refusal.invalid(
            field,
            f"{field} has {len(value)} characters; at most {ID_CHARS_MAX} are allowed.",
            "Send a shorter id, such as a UUID or a hash.",
        )
    if _CONTROL.search(value):
        # NUL ends strings in other systems, and the unit separator parts the members of an action's identity.
        raise refusal.invalid(field, f"{field} contains a control character.", "Remove control characters from the id.")
    return value


def is_type_name(value: str) -> bool:
    """Tell whether ``value`` is an event type: snake_case, ASCII, at most 100 characters."""
    return len(value) <= TYPE_CHARS_MAX and _matches_type(value)


@lru_cache(maxsize=4096)
def _matches_type(value: str) -> bool:
    return _TYPE.match(value) is not None


def check_type(field: str, value: Any) -> str:
    """Return ``value`` when it is an event type, else refuse it and offer its snake_case."""
    if value is None or value == "":
        raise refusal.missing(field, 'Send the event\'s type in snake_case, such as "lead_submitted".')
    if not isinstance(value, str):
        raise refusal.wrong_type(field, "a string", value)
    if not is_type_name(value):
        offer = snake_case(value)
        remedy = f'Send "{offer}".' if is_type_name(offer) else "Send letters a to z, digits and underscores."
        raise refusal.invalid(field, f"{field} {refusal.shown(value)} is not in snake_case.", remedy)
    return value


_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W_A-Za-z0-9]+")


def snake_case(name: str) -> str:
    """Return the words of ``name`` in lower case, joined by underscores: "OrderID Viewed" is order_id_viewed.

    A number stays with the word before it ("checkout2 done" is checkout2_done). Letters outside a to z are kept, so
    that ``is_type_name`` refuses them instead of two names becoming one. Of a name too long to be a type nothing is
    left.
    """
    return _snake_case(name) if len(name) <= NAME_CHARS_MAX else ""


@lru_cache(maxsize=4096)
def _snake_case(name: str) -> str:
    words: list[str] = []
    end = -1
    for match in _WORD.finditer(name):
        word = match.group()
        if word[0].isdigit() and words and match.start() == end:
            words[-1] += word
        else:
            words.append(word.lower())
        end = match.end()
    return "_".join(words)
