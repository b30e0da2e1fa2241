"""Previews: the production's own facts and templates, with values of one's own in their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.action import Action
from orchestrator.core.definition import Send, Step
from orchestrator.errors import ConfigurationError
from orchestrator.rulebook.load import Loaded, load_rulebook
from orchestrator.runtime import casebook
from orchestrator.runtime.preview import Given, Preview, Wanted, previews
from orchestrator.runtime.rulebooks import compile_loaded

RULES = Path(__file__).resolve().parents[3] / "rules"
OFFER = Wanted(template="basket-offer")
WAITING = Wanted(template="basket-waiting-push", connector="push")


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    found = load_rulebook(RULES)
    assert found.ok
    return found


def is_send(step: Step) -> bool:
    return isinstance(step, Send)


@pytest.fixture(scope="module")
def all_shown(loaded: Loaded) -> list[Preview]:
    senders = (rule for journey in loaded.journeys for rule in journey.rules if any(map(is_send, rule.program)))
    rules = sorted(rule.id for rule in senders)
    return [one for rule in rules for one in previews(loaded, Wanted(rule=rule), Given())]


def test_every_shipped_send_is_reached_by_a_case_and_lacks_nothing(all_shown: list[Preview]) -> None:
    assert len(all_shown) > 30
    assert [(one.rule, one.step, one.faults) for one in all_shown if one.faults] == []
    assert [(one.rule, one.step) for one in all_shown if one.values.startswith("none")] == []


def test_a_preview_says_what_production_says_to_the_same_customer(
    loaded: Loaded, all_shown: list[Preview], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every case is decided by the production core; each preview must be one of the actions that come of it."""
    actions: list[Action] = []

    def kept(*arguments: Any, **options: Any) -> Any:
        done = replay(*arguments, **options)
        actions.extend(done.actions)
        return done

    replay = casebook.replay
    monkeypatch.setattr(casebook, "replay", kept)
    assert all(
        result.passed for result in casebook.run_cases(compile_loaded(loaded, "default"), loaded.plan, loaded.cases)
    )
    actions += [fallback for action in actions for fallback in action.fallback]
    for shown in all_shown:
        same_send = [one.params for one in actions if (one.rule, one.step) == (shown.rule, shown.step)]
        assert shown.params in same_send, (shown.rule, shown.step)


def test_a_preview_names_its_send_its_values_and_its_html(loaded: Loaded) -> None:
    (offer,) = previews(loaded, OFFER, Given())
    assert (offer.rule, offer.step, offer.connector, offer.kind) == ("cart-recovery", "2", "email", "email")
    assert offer.values.startswith("the case “the offer goes by e-mail, and one that is opened needs no push” (")
    assert offer.html == ("html",)
    assert offer.params["html"] == (
        "<p>Hello Ben,</p> <p>your basket of <b>$120.50</b> is still here. "
        "Use the code <b>BACK10</b> until tomorrow.</p>"
    )


def test_what_is_given_takes_the_place_of_the_case(loaded: Loaded) -> None:
    given = Given(
        profile={"email": "eve@example.com", "first_name": "<b>Eve"},
        event={"cart_id": "k9", "total": 7},
        params={"code": "LUCKY & CO"},
        sources=("the profile of --customer", "the event of --event"),
    )
    (offer,) = previews(loaded, OFFER, given)
    assert offer.params["subject"] == "<b>Eve, LUCKY & CO is 10 percent off your basket"
    assert offer.params["html"] == (
        "<p>Hello &lt;b&gt;Eve,</p> <p>your basket of <b>₹7.00</b> is still here. "
        "Use the code <b>LUCKY &amp; CO</b> until tomorrow.</p>"
    )
    assert offer.values.startswith("the profile of --customer, then the event of --event, then the case “")


def test_everything_that_is_missing_is_named_and_the_rest_is_shown(loaded: Loaded) -> None:
    (offer,) = previews(loaded, OFFER, Given(profile={}, event={"cart_id": "k9"}))
    assert offer.faults == (
        "template basket-offer, param to: profile.email is undefined",
        "template basket-offer, param text: event.total is undefined",
        "template basket-offer, param html: event.total is undefined",
    )
    assert dict(offer.params) == {"subject": "Hello, BACK10 is 10 percent off your basket"}


def test_without_a_case_only_what_is_given_counts(loaded: Loaded) -> None:
    bare = replace(loaded, cases=())
    (waiting,) = previews(bare, WAITING, Given(profile={"push_token": "t1"}, event={"cart_id": "k", "total": 1}))
    assert waiting.params["to"] == "t1"
    assert waiting.values == "none: no case reaches this send"
    (waiting,) = previews(bare, WAITING, Given())
    assert waiting.faults[0] == "template basket-waiting-push, param to: profile.push_token is undefined"


@pytest.mark.parametrize(
    ("wanted", "given", "message"),
    [
        (
            Wanted(template="basket-ofer", rule="cart-recovery"),
            Given(),
            'No rule sends that: unknown template "basket-ofer". '
            "Known: basket-offer, basket-waiting, basket-waiting-push. "
            'Did you mean "basket-offer"?',
        ),
        (
            Wanted(template="basket-offer", connector="sms"),
            Given(),
            'No rule sends that: unknown connector "sms". Known: email.',
        ),
        (
            OFFER,
            Given(params={"cod": 1}),
            '--params: unknown param of the send "cod". Known: code. Did you mean "code"?',
        ),
    ],
)
def test_what_nobody_sends_is_refused_with_what_may_have_been_meant(
    loaded: Loaded, wanted: Wanted, given: Given, message: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        previews(loaded, wanted, given)
    assert str(refused.value) == message
