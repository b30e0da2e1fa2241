"""Names of event types: snake_case. What may be declared is what is taken in, and both offer the same instead."""

from __future__ import annotations

import re
from functools import lru_cache

TYPE_CHARS_MAX = 100
TYPE_PATTERN = rf"^[a-z][a-z0-9_]{{0,{TYPE_CHARS_MAX - 1}}}$"

#: Of a longer name nothing is left.
_NAME_CHARS_MAX = 200
_TYPE = re.compile(TYPE_PATTERN)
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W_A-Za-z0-9]+")


def is_type_name(value: str) -> bool:
    """Tell whether ``value`` is an event type: snake_case, ASCII, at most 100 characters."""
    return len(value) <= TYPE_CHARS_MAX and _matches_type(value)


@lru_cache(maxsize=4096)
def _matches_type(value: str) -> bool:
    return _TYPE.fullmatch(value) is not None


def offered_type_name(name: str) -> str:
    """Return the event type that was meant, "cart_updated" for "Cart Updated"; '' when none can be made of it."""
    offer = snake_case(name)
    return offer if is_type_name(offer) else ""


def snake_case(name: str) -> str:
    """Return the words of ``name`` in lower case, joined by underscores: "OrderID Viewed" is order_id_viewed.

    A number stays with the word before it ("checkout2 done" is checkout2_done). Letters outside a to z are kept, so
    that ``is_type_name`` refuses them instead of two names becoming one. Of a name too long to be a type nothing is
    left.
    """
    return _snake_case(name) if len(name) <= _NAME_CHARS_MAX else ""


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
