"""Names of event types: snake_case, as the intake takes them. What it would refuse cannot be declared either.

The intake speaks of the same pattern (``orchestrator.runtime.intake.limits``); a test holds the two together.
"""

from __future__ import annotations

import re

EVENT_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,99}$"

_EVENT_NAME = re.compile(EVENT_NAME_PATTERN)
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W_A-Za-z0-9]+")
#: Of a longer name nothing is left.
_OFFERED_CHARS_MAX = 200


def is_event_name(text: str) -> bool:
    """Return whether an event of this type is taken in."""
    return _EVENT_NAME.fullmatch(text) is not None


def event_name_offered(text: str) -> str:
    """Return the event type that was meant, "cart_updated" for "Cart Updated"; '' when none can be made of it."""
    words: list[str] = []
    end = -1
    for match in _WORD.finditer(text if len(text) <= _OFFERED_CHARS_MAX else ""):
        word = match.group()
        if word[0].isdigit() and words and match.start() == end:
            words[-1] += word
        else:
            words.append(word.lower())
        end = match.end()
    offer = "_".join(words)
    return offer if is_event_name(offer) else ""
