"""Limits on what one event may be, checked before anything believes it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator.core.customer_id import NOBODY
from orchestrator.core.event_name import is_type_name, offered_type_name
from orchestrator.runtime.intake import refusal

ID_CHARS_MAX = 200
#: Events of one request, or of one record that is a batch.
EVENTS_MAX = 10_000
#: What a batch may lend to its calls, over all of them: each takes a copy of it into the log.
LENT_BYTES_MAX = 4_000_000
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large, how deep and how far ahead of the log an event may be.

    ``depth_max`` counts the event itself as 1, its properties as 2, an object in them as 3. ``nobody`` are ids, in
    lower case, that no customer has.
    """

    event_bytes_max: int = 32_000
    depth_max: int = 16
    future_tolerance_ms: int = 300_000
    nobody: frozenset[str] = frozenset(NOBODY)


def check_value(field: str, value: Any, depth_max: int, depth: int) -> None:
    """Refuse integers beyond 64 bits and nesting beyond ``depth_max`` anywhere in ``value``, which is at ``depth``.

    ``field`` is the path of ``value``, "" for the event itself.
    """
    level, deepest = [value], depth
    while level:
        if deepest > depth_max and any(isinstance(each, dict | list) for each in level):
            raise refusal.too_deep(depth_max)
        if any(type(each) is int and not INT_MIN <= each <= INT_MAX for each in level):
            path = _path_to_large_integer(field, value, deepest - depth)
            raise refusal.invalid(
                path,
                f"{path} is an integer beyond 64 bits.",
                "Send it as a string, or as a number with a fraction.",
            )
        level = [child for each in level for child in _members(each)]
        deepest += 1


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _path_to_large_integer(path: str, value: Any, levels: int) -> str:
    """Return the path of the first integer beyond 64 bits that lies ``levels`` below ``value``; '' without one.

    Only what is refused is given a path: paths of everything would grow with the square of an event.
    """
    if levels == 0:
        return path if type(value) is int and not INT_MIN <= value <= INT_MAX else ""
    steps: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        steps = (
            (f".{refusal.shortened(name)}" if path else refusal.shortened(name), each) for name, each in value.items()
        )
    elif isinstance(value, list):
        steps = ((f"[{index}]", each) for index, each in enumerate(value))
    return next((found for step, each in steps if (found := _path_to_large_integer(path + step, each, levels - 1))), "")


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


def refuse_nobody(field: str, value: str, nobody: Collection[str]) -> None:
    """Refuse an id that is blank or stands for nobody: all whose id is unknown would become one customer."""
    meant = value.strip().casefold()
    if not meant or meant in nobody:
        raise refusal.invalid(
            field,
            f"{field} {refusal.shown(value)} stands for nobody.",
            "Send the id that the person has, or leave the event out while there is none; JOURNEY_NOBODY_IDS lists "
            "the ids that are refused.",
        )


def check_type(field: str, value: Any) -> str:
    """Return ``value`` when it is an event type, else refuse it and offer its snake_case."""
    if value is None or value == "":
        raise refusal.missing(field, 'Send the event\'s type in snake_case, such as "lead_submitted".')
    if not isinstance(value, str):
        raise refusal.wrong_type(field, "a string", value)
    if not is_type_name(value):
        offer = offered_type_name(value)
        remedy = f'Send "{offer}".' if offer else "Send letters a to z, digits and underscores."
        raise refusal.invalid(field, f"{field} {refusal.shown(value)} is not in snake_case.", remedy)
    return value
