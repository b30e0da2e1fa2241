"""Phone numbers: their form, and texts that must not tell one."""

from __future__ import annotations

import re

import pytest

from connectors.phone import E164, without_numbers


@pytest.mark.parametrize(
    ("number", "is_one"),
    [
        ("+919812345678", True),
        ("+1415555", True),
        ("+123456789012345", True),
        ("+141555", False),
        ("+1234567890123456", False),
        ("919812345678", False),
        ("+0919812345678", False),
        ("+91 98123 45678", False),
    ],
)
def test_a_number_has_its_plus_and_7_to_15_digits(number: str, is_one: bool) -> None:
    assert bool(re.search(E164, number)) is is_one


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Invalid 'To' Phone Number: +919812345678", "Invalid 'To' Phone Number: [number]"),
        ("to 919812345678, from +14155550100.", "to [number], from [number]."),
        ("error 131047 after 30 s", "error 131047 after 30 s"),
        ("SM0123456789012 and wamid.1234567x stay", "SM0123456789012 and wamid.1234567x stay"),
        ("", ""),
    ],
)
def test_a_text_is_told_without_its_numbers(text: str, masked: str) -> None:
    assert without_numbers(text) == masked
