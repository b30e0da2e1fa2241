"""Traits that plays set: a text is rendered like that of any message, and the trait keeps its declared type."""

from __future__ import annotations

import pytest

RULES = """
    journey: viewing
    stages: {seen: {on: {event: cart_updated}}}
    rules:
      - id: remember
        on: {event: cart_updated}
        do:
          - wait: 1h
          - set_trait: {TRAIT: VALUE}
          - send: {connector: push, template: note}
        limits: {consent: [service]}
"""
SERVICE = {"service": True}


def remembered(tell, trait: str, value: str, **properties):
    story = tell(RULES.replace("TRAIT", trait).replace("VALUE", value), consents=SERVICE, traits={"country": "SG"})
    story.happens("0s", "cart_updated", **properties)
    return story.told("2h")


@pytest.mark.parametrize(
    ("trait", "value", "becomes"),
    [
        ("plan", "pro", "pro"),
        ("plan", '"{{ event.cart_id }}"', "k7"),
        ("plan", "'{{ event.cart_id | upcase }} of {{ profile.country | default: \"nowhere\" }}'", "K7 of SG"),
        ("plan", '"{{ event.total }}"', "80"),
        ("limit", '"{{ event.total }}"', 80),
        ("limit", '"{{ event.total | times: 2 }}"', 160),
        ("limit", '"{{ event.total | divided_by: 3.0 | round: 2 }}"', 26.67),
        ("plan", '"{{ journey }}"', "viewing"),
    ],
)
def test_a_trait_is_set_to_what_its_text_renders_in_its_declared_type(tell, trait, value, becomes):
    told = remembered(tell, trait, value, cart_id="k7", total=80)
    found, _ = told.state.traits[trait]
    assert (found, type(found)) == (becomes, type(becomes))
    assert told.sent() == [("+3600s", "push")]


@pytest.mark.parametrize(
    ("trait", "value", "wanted"),
    [
        ("plan", '"{{ event.cart_id }}"', "template set_trait, param plan: event.cart_id is undefined"),
        ("limit", '"about {{ event.total }}"', "a value for the trait limit: a number"),
    ],
)
def test_a_trait_whose_text_cannot_be_rendered_stays_as_it_is_and_the_play_goes_on(tell, trait, value, wanted):
    told = remembered(tell, trait, value, total=80)
    assert trait not in told.state.traits
    blocked = next(one for one in told.records if one.reason.value == "template_value_missing")
    assert (blocked.step, blocked.detail) == ("1", {"template": f"set_trait {trait}", "variable": wanted})
    assert told.sent() == [("+3600s", "push")]
