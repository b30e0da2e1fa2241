"""Phone numbers: the form that they must have, and texts that must not tell one."""

from __future__ import annotations

import re

#: ITU-T E.164 with its plus: country code and subscriber number, 7 to 15 digits.
E164 = r"^\+[1-9][0-9]{6,14}$"

_NUMBER = re.compile(r"(?<![A-Za-z0-9])\+?[0-9]{7,15}(?![A-Za-z0-9])")


def without_numbers(text: str) -> str:
    """Return ``text`` with whatever may be a phone number replaced, for ledgers and logs.

    Names such as ``SM0123…`` are kept: a number is never part of a longer word.
    """
    return _NUMBER.sub("[number]", text)
