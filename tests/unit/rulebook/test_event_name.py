"""Names of event types: whatever may be declared is taken in, and what is offered instead is what the intake offers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rulebook.event_name import event_name_offered, is_event_name
from orchestrator.runtime.intake.limits import is_type_name, snake_case

NAMES = [
    *("cart_updated", "CartUpdated", "Cart Updated", "cartUpdated", "OrderID Viewed", "checkout2 done", "Odd name!"),
    *("", " ", "_", "9lives", "a", "A", "заказ", "Заказ done", "cart-updated", "cart_updated\n", "a|b", "$identify"),
    *("x" * 100, "x" * 101, "X" * 200, "x" * 201, "a " * 60),
]


def agrees(name: str) -> None:
    offer = snake_case(name)
    assert is_event_name(name) is is_type_name(name)
    assert event_name_offered(name) == (offer if is_type_name(offer) else "")


@pytest.mark.parametrize("name", NAMES)
def test_rulebook_and_intake_agree(name: str):
    agrees(name)


@given(st.text(st.sampled_from("aZé9_- .|"), max_size=12) | st.text(max_size=8))
def test_rulebook_and_intake_agree_about_any_text(name: str):
    agrees(name)
