"""Names of event types: whatever may be declared is taken in, and what is offered instead is what the intake offers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import EventRefused
from orchestrator.rulebook.models.scalars import EventName
from orchestrator.runtime.intake.limits import check_type

NAMES = [
    *("cart_updated", "CartUpdated", "Cart Updated", "cartUpdated", "OrderID Viewed", "checkout2 done", "Odd name!"),
    *("", " ", "_", "9lives", "a", "A", "заказ", "Заказ done", "cart-updated", "cart_updated\n", "a|b", "$identify"),
    *("x" * 100, "x" * 101, "X" * 200, "x" * 201, "a " * 60),
]
_OFFER = re.compile(r'Send "([a-z0-9_]+)"')
_declared = TypeAdapter(EventName)


def declared(name: str) -> str:
    """The name that may be declared: this one, the one that is offered, or none."""
    try:
        return str(_declared.validate_python(name))
    except ValidationError as error:
        return offered(str(error))


def taken_in(name: str) -> str:
    """The name that is taken in, likewise."""
    try:
        return check_type("type", name)
    except EventRefused as refused:
        return "" if refused.code == "missing_field" else offered(refused.remedy)


def offered(said: str) -> str:
    found = _OFFER.search(said)
    return "" if found is None else f"instead {found.group(1)}"


@pytest.mark.parametrize("name", NAMES)
def test_rulebook_and_intake_agree(name: str):
    assert declared(name) == taken_in(name)


@given(st.text(st.sampled_from("aZé9_- .|"), max_size=12) | st.text(max_size=8))
def test_rulebook_and_intake_agree_about_any_text(name: str):
    assert declared(name) == taken_in(name)
