"""Text that says the same as a number or a truth value: ``"80.00"`` where the tracking plan declares a number."""

from __future__ import annotations

import re
from typing import Any

# More digits than these a float does not hold apart.
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_TRUTH = {"true": True, "false": False}


def lossless(value: Any, declared: str) -> Any:
    """Return what a value says in the declared type, or None where it is no such value. Blanks around it do not count.

    A number without a fraction is an integer as well; of text only plain digits count, so that nothing is guessed of
    separators, units or exponents.
    """
    match declared:
        case "integer" if isinstance(value, float) and value.is_integer():
            return int(value)
        case "integer" if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            return int(value)
        case "number" if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            return float(value) if "." in value else int(value)
        case "boolean" if isinstance(value, str):
            return _TRUTH.get(value.strip().lower())
        case _:
            return None
