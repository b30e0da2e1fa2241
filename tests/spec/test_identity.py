"""Identity: an anonymous customer becomes a known one; stage, caps and consent survive (scenario 15)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from orchestrator.core.event import Event
from orchestrator.core.reason import Reason
from orchestrator.core.state import CustomerState
from orchestrator.runtime.replay import replay
from orchestrator.runtime.sequencer import Sequencer

RULES = """
    journey: cart
    title: From cart to order
    key: event.cart_id
    stages:
      filled:   {on: {event: cart_updated}}
      checkout: {on: {event: checkout_started}}
      ordered:  {on: {event: order_completed}, goal: true}
    rules:
      - id: offer
        title: At most one offer a week
        on: {event: product_viewed}
        acts: anytime
        do:
          - send: {connector: email, template: mail}
        limits:
          consent: [marketing]
          cap: {max: 1, per: 7d, of: "kind:email"}
      - id: failures
        title: Help after three failures
        on: {event: payment_failed}
        acts: anytime
        when:
          {count: payment_failed, within: 1h, op: gte, value: 3}
        do:
          - send: {connector: push, template: note}
        limits: {consent: [service]}
      - id: forgotten
        title: Remind of a basket that was left
        on: {absence: {after: cart_updated, of: order_completed, for: 30m, rearm: latest}}
        do:
          - send: {connector: sms, template: text}
        limits: {consent: [service]}
"""
START_MS = 1_772_425_800_000
GIVEN = {"consent": {"categoryPreferences": {"marketing": True, "service": True}}}


@dataclass
class Log:
    """A log of several customers, told in seconds after its start."""

    rulebook: object
    events: list[Event]

    def add(self, at_s, customer, event_type, *, id="", occurred_s=None, context=None, granted="", **properties):
        self.events.append(
            Event(
                id=id or f"e{len(self.events)}",
                type=event_type,
                customer_id=customer,
                occurred_at_ms=START_MS + 1000 * (at_s if occurred_s is None else occurred_s),
                received_at_ms=START_MS + 1000 * at_s,
                properties=properties,
                context=context or {},
                granted=granted,
            )
        )

    def visits(self, at_s, *, customer="anon", context=None, **traits):
        """Traits of who is only known as a visitor, as Segment's ``identify`` without a ``userId`` gives them."""
        self.add(at_s, customer, "identify", context={**(context or {}), "anonymous_id": customer}, **traits)

    def joins(self, at_s, known="known", previous="anon", **event):
        self.add(at_s, known, "alias", previous_id=previous, **event)

    def done(self, until_s=10):
        done = replay(self.rulebook, self.events, until_ms=START_MS + 1000 * until_s)
        assert not done.failures, done.failures
        return done

    def known(self, until_s=10, customer="known"):
        return self.done(until_s).states[customer]


@pytest.fixture
def log(tell):
    return Log(tell(RULES).rulebook, [])


def sent(done):
    return [(one.connector, one.customer_id) for one in done.actions]


def test_the_known_customer_takes_over_all_and_the_anonymous_one_is_a_tombstone(log):
    log.visits(0, context=GIVEN, country="IN")
    log.add(1, "anon", "cart_updated", cart_id="k1", total=80)
    log.joins(2)
    done = log.done(3)
    known, anonymous = done.states["known"], done.states["anon"]
    assert known.traits == {"country": ("IN", START_MS)}
    assert known.consents == {"marketing": (True, START_MS), "service": (True, START_MS)}
    assert known.runs["cart/k1"].stage == "filled"
    assert (known.first_seen_ms, known.aliases) == (START_MS, ["anon"])
    assert (anonymous.merged_into, anonymous.traits, anonymous.runs, anonymous.timers) == ("known", {}, {}, {})
    assert [(one.customer_id, one.reason) for one in done.records] == [
        ("anon", Reason.MERGED),
        ("known", Reason.MERGED),
    ]


def test_an_identify_that_names_an_anonymous_id_merges_it(log):
    log.visits(0, country="IN")
    log.add(1, "known", "identify", context={"anonymous_id": "anon"}, plan="pro")
    log.add(2, "known", "identify", context={"anonymous_id": "anon"}, plan="pro")
    done = log.done()
    assert {name: value for name, (value, _) in done.states["known"].traits.items()} == {"country": "IN", "plan": "pro"}
    assert done.events == 5  # The second identify asks for nothing.


@pytest.mark.parametrize("order", list(itertools.permutations(["anonymous", "known", "alias"])))
def test_the_order_of_arrival_does_not_matter_for_who_they_are(log, order):
    """What happens to the anonymous id after the merge is about the known customer all the same."""
    for at_s, what in enumerate(order):
        match what:
            case "anonymous":
                log.add(at_s, "anon", "checkout_started", occurred_s=0, context=GIVEN, cart_id="k1")
            case "known":
                log.add(at_s, "known", "cart_updated", occurred_s=0, cart_id="k1", total=80)
            case "alias":
                log.joins(at_s)
    known = log.known()
    assert known.runs["cart/k1"].stage == "checkout"
    assert known.consents["marketing"] == (True, START_MS)


@pytest.mark.parametrize(
    ("anonymous", "known", "stage"),
    [
        (["cart_updated", "checkout_started"], ["cart_updated"], "checkout"),
        (["cart_updated"], ["cart_updated", "checkout_started"], "checkout"),
        (["cart_updated"], ["cart_updated", "order_completed"], "ordered"),
        (["cart_updated"], [], "filled"),
    ],
)
def test_the_further_stage_wins(log, anonymous, known, stage):
    for at_s, event_type in enumerate(anonymous):
        log.add(at_s, "anon", event_type, cart_id="k1", total=1)
    for at_s, event_type in enumerate(known, start=10):
        log.add(at_s, "known", event_type, cart_id="k1", total=1)
    log.joins(20)
    assert log.known(21).runs["cart/k1"].stage == stage


@pytest.mark.parametrize(
    ("anonymous", "known", "united"),
    [
        (True, True, True),
        (True, False, False),
        (False, True, False),
        (False, False, False),
        (True, None, True),
        (False, None, False),
        (None, True, True),
    ],
)
def test_the_most_restrictive_consent_wins_whichever_is_newer(log, anonymous, known, united):
    if anonymous is not None:
        log.add(0, "anon", "consent_changed", marketing=anonymous)
    if known is not None:
        log.add(1, "known", "consent_changed", marketing=known)
    log.joins(2)
    assert log.known().consents["marketing"][0] is united


def test_what_was_sent_on_a_consent_that_the_union_refuses_is_withdrawn(log):
    log.add(0, "anon", "product_viewed", context=GIVEN, sku="s")
    log.add(1, "known", "consent_changed", marketing=False)
    log.joins(2)
    offer, withdrawal = log.done().actions
    assert (withdrawal.id, withdrawal.cancel, withdrawal.reason) == (offer.id, True, "consent_withdrawn")


def test_caps_survive(log):
    log.add(0, "anon", "product_viewed", context=GIVEN, sku="s")
    log.joins(1)
    log.add(2, "known", "product_viewed", sku="s")
    done = log.done()
    assert sent(done) == [("email", "anon")]
    assert done.records[-1].reason is Reason.CAP_REACHED


def test_counts_go_on_where_the_anonymous_customer_left_off(log):
    log.add(0, "known", "consent_changed", service=True)
    log.add(1, "anon", "payment_failed", amount=1)
    log.add(2, "known", "payment_failed", amount=1)
    log.joins(3)
    log.add(4, "known", "payment_failed", amount=1)
    assert sent(log.done()) == [("push", "known")]


def test_a_clock_that_was_set_for_the_anonymous_id_goes_on_for_the_known_one(log):
    log.add(0, "anon", "cart_updated", context=GIVEN, cart_id="k1", total=80)
    log.joins(60)
    done = log.done(1_800)
    assert [(one.connector, one.customer_id, one.decided_at - START_MS) for one in done.actions] == [
        ("sms", "known", 1_800_000)
    ]


def test_what_prevents_it_may_come_from_either_id(log):
    log.add(0, "anon", "cart_updated", context=GIVEN, cart_id="k1", total=80)
    log.joins(60)
    log.add(61, "anon", "order_completed", cart_id="k1", total=80)
    done = log.done(3_600)
    assert sent(done) == []
    assert done.states["known"].runs["cart/k1"].stage == "ordered"


def test_a_merge_that_is_asked_for_again_changes_nothing(log):
    log.add(0, "anon", "payment_failed", amount=1)
    log.joins(1, id="alias")
    once = log.known()
    log.joins(2, id="alias")
    log.joins(3, id="another")
    twice = log.known()
    assert (twice.aggregates, twice.aliases, twice.runs) == (once.aggregates, once.aliases, once.runs)


def test_events_of_the_merge_that_are_delivered_again_change_nothing(log):
    log.add(0, "anon", "payment_failed", amount=1)
    log.joins(1)
    once = log.done()
    written = log.events.copy()
    for customer, event_type in (("anon", "merge_requested"), ("known", "profile_merged")):
        (found,) = [one for one in emitted(log) if (one.customer_id, one.type) == (customer, event_type)]
        written += [found, found]
    again = replay(log.rulebook, written)
    assert again.states == once.states
    assert again.duplicates == 4


def emitted(log):
    """Return what the decisions of a log emit, by deciding it step by step."""
    sequencer = Sequencer(log.rulebook, {"anon": CustomerState(), "known": CustomerState()})
    found = []
    for event in log.events:
        sequencer.apply(event, event.received_at_ms)
        while sequencer.outcome.events:
            follow_up = sequencer.outcome.events.pop(0)
            found.append(follow_up)
            sequencer.apply(follow_up, event.received_at_ms)
    return found


def test_a_log_that_holds_what_was_emitted_is_replayed_to_the_same_end(log):
    log.add(0, "anon", "cart_updated", context=GIVEN, cart_id="k1", total=80)
    log.joins(1)
    log.add(2, "anon", "payment_failed", amount=1)
    live = log.done()
    (asked, merged, forwarded) = emitted(log)
    written = [*log.events[:2], asked, merged, log.events[2], forwarded]
    again = replay(log.rulebook, written, until_ms=START_MS + 10_000, emits=False)
    assert (again.states, again.actions, again.records) == (live.states, live.actions, live.records)


def test_an_event_of_the_old_id_counts_once_under_the_new_one(log):
    log.joins(0)
    log.add(1, "anon", "payment_failed", id="failed", amount=1)
    log.add(2, "anon", "payment_failed", id="failed", amount=1)
    log.add(3, "known", "payment_failed", id="failed", amount=1)
    (stamps,) = log.known().aggregates.values()
    assert len(stamps) == 1


def test_a_receipt_for_the_old_id_finds_its_action(log):
    log.add(0, "anon", "product_viewed", context=GIVEN, sku="s")
    log.joins(1)
    (offer,) = log.done().actions
    log.add(2, "anon", "action_delivered", action_id=offer.id)
    assert log.known().pending[offer.id].delivered


def test_a_chain_of_ids_ends_in_the_last_one(log):
    log.add(0, "anon", "payment_failed", amount=1)
    log.joins(1, known="a", previous="anon")
    log.joins(2, known="b", previous="a", granted="ops")
    log.add(3, "anon", "payment_failed", amount=1)
    known = log.known(customer="b")
    (stamps,) = known.aggregates.values()
    assert (len(stamps), set(known.aliases)) == (2, {"a", "anon"})


def test_an_id_is_taken_once_by_whoever_asked_first(log):
    log.visits(0, country="IN")
    log.joins(1, known="a")
    log.joins(2, known="b")
    done = log.done()
    assert (done.states["a"].traits["country"][0], done.states["b"].traits) == ("IN", {})
    assert refusals(done) == [("a", {"into": "b", "why": "known"}), ("b", {"previous_id": "anon", "why": "known"})]
    assert (done.states["a"].merged_into, done.states["b"].asked, done.states["b"].aliases) == ("", [], [])


def refusals(done):
    return [(one.customer_id, one.detail) for one in done.records if one.reason is Reason.MERGE_REFUSED]


@pytest.mark.parametrize("first", ["a", "b"])
def test_two_that_name_each_other_become_one(log, first):
    second = "b" if first == "a" else "a"
    log.add(0, "a", "identify", country="IN")
    log.add(0, "b", "identify", plan="pro")
    log.joins(1, known=first, previous=second, granted="ops")
    log.joins(2, known=second, previous=first, granted="ops")
    states = log.done().states
    assert (states[first].merged_into, states[second].merged_into) == ("", first)
    assert states[first].traits.keys() == {"country", "plan"}


# ------------------------------------------------------------------------------------- who is known by themselves

#: What makes an id known by itself, as (type, context, properties) of an event of "other".
STANDINGS = {
    "a visitor's page": (("payment_failed", {}, {"amount": 1}), False),
    "a visitor's traits": (("identify", {"anonymous_id": "other"}, {"country": "IN"}), False),
    "a visitor's page beside their id": (("payment_failed", {"anonymous_id": "other"}, {"amount": 1}), False),
    "traits of somebody": (("identify", {}, {"country": "IN"}), True),
    "an alias to them": (("alias", {}, {"previous_id": "old"}), True),
    "a page of theirs, beside an anonymous id": (("payment_failed", {"anonymous_id": "x"}, {"amount": 1}), True),
    "a page of a userId": (("payment_failed", {"user_id": "other"}, {"amount": 1}), True),
    "a page beside another's userId": (("payment_failed", {"user_id": "x"}, {"amount": 1}), False),
}


@pytest.mark.parametrize(("event", "known"), STANDINGS.values(), ids=STANDINGS)
@pytest.mark.parametrize("naming", ["alias", "identify"])
@pytest.mark.parametrize("granted", ["", "ops"])
def test_who_is_known_by_themselves_joins_nobody_unless_somebody_vouches(log, event, known, naming, granted):
    event_type, context, properties = event
    log.add(0, "other", event_type, context=context, **properties)
    if naming == "alias":
        log.joins(1, previous="other", granted=granted)
    else:
        log.add(1, "known", "identify", context={"anonymous_id": "other"}, granted=granted)
    done = log.done()
    joined = not known or (naming == "alias" and granted)
    assert done.states["other"].merged_into == ("known" if joined else "")
    assert ("known", {"previous_id": "other", "why": "known"}) in refusals(done) or joined
    assert ("other" in done.states["known"].aliases) is bool(joined)
    said = {one.detail.get("granted") for one in done.records if one.detail.get("into") == "known"}
    assert said == ({None} if not known or not joined else {"ops"}), "who vouched stands in the ledger"


def test_who_was_identified_before_this_was_noted_is_known(log):
    """A state that an older release has stored says nothing of it; whoever has traits or other ids counts as known."""
    for state in (
        CustomerState(first_seen_ms=1, traits={"plan": ("pro", 1)}),
        CustomerState(first_seen_ms=1, aliases=["x"]),
    ):
        log.events.clear()
        log.joins(1, previous="other")
        done = replay(log.rulebook, log.events, states={"other": state})
        assert (done.states["other"].merged_into, done.states["other"].known) == ("", True)


def test_an_identify_never_takes_somebody_over_through_their_visitor(log):
    """``anon`` is one with ``alice``, so whoever names it names her."""
    log.add(0, "alice", "identify", context={"anonymous_id": "anon"}, country="IN")
    log.add(1, "mallory", "identify", context={"anonymous_id": "anon"})
    log.joins(2, known="mallory", previous="alice")
    log.add(3, "mallory", "customer_erased")
    done = log.done()
    assert (done.states["alice"].merged_into, done.states["alice"].traits.keys()) == ("", {"country"})
    assert [one.detail["why"] for one in done.records if one.reason is Reason.MERGE_REFUSED] == ["known"] * 4


def test_a_request_that_was_refused_may_be_made_again_by_who_may(log):
    log.add(0, "alice", "identify", country="IN")
    log.joins(1, known="alicia", previous="alice")
    log.joins(2, known="alicia", previous="alice", granted="ops")
    states = log.done().states
    assert (states["alice"].merged_into, states["alicia"].traits.keys()) == ("alicia", {"country"})


def test_who_is_erased_while_asked_can_be_asked_again(log):
    log.visits(0, country="IN")
    asked = Event(
        id="asked",
        type="merge_requested",
        customer_id="anon",
        occurred_at_ms=START_MS + 1_000,
        received_at_ms=START_MS + 3_000,
        properties={"into": "known", "asked": "anon", "known": True, "named_at": START_MS + 1_000},
    )
    log.add(1, "known", "identify")
    log.add(2, "anon", "customer_erased")
    log.events.append(asked)
    log.add(4, "known", "identify", context={"anonymous_id": "anon"})
    done = log.done()
    assert refusals(done)[0] == ("anon", {"into": "known", "why": "erased"})
    assert done.states["anon"].merged_into == "known"


def test_a_state_that_is_too_large_to_travel_stays_where_it_is(log):
    log.add(0, "anon", "payment_failed", amount=1)
    large = CustomerState(first_seen_ms=START_MS, traits={f"t{n}": ("x" * 7_000, 1) for n in range(100)}, known=False)
    log.joins(1)
    done = replay(log.rulebook, log.events, states={"anon": large})
    assert done.states["anon"].traits.keys() == large.traits.keys()
    assert refusals(done) == [
        ("anon", {"into": "known", "why": "too_large"}),
        ("known", {"previous_id": "anon", "why": "too_large"}),
    ]


def test_of_too_many_ids_the_next_is_refused_and_none_is_forgotten(log, monkeypatch):
    monkeypatch.setattr("orchestrator.core.identity.ALIASES_MAX", 2)
    for number in range(4):
        log.joins(number, previous=f"anon-{number}")
    done = log.done()
    assert done.states["known"].aliases == ["anon-0", "anon-1"]
    assert refusals(done) == [
        ("known", {"previous_id": "anon-2", "why": "too_many"}),
        ("known", {"previous_id": "anon-3", "why": "too_many"}),
    ]


def test_an_id_cannot_be_merged_into_itself(log):
    log.add(0, "known", "identify", country="IN")
    log.joins(1, previous="known")
    assert (log.known().merged_into, log.known().aliases) == ("", [])


def test_a_request_that_names_nobody_changes_nothing(log):
    log.add(1, "anon", "merge_requested", into="")
    assert log.done().states["anon"].merged_into == ""


# ------------------------------------------------------------------------------------------------- erasure


@pytest.mark.parametrize("forgotten", ["known", "anon"])
def test_whichever_id_is_erased_the_whole_customer_is(log, forgotten):
    log.visits(0, country="IN")
    log.joins(1)
    log.add(2, forgotten, "customer_erased")
    states = log.done().states
    for one in (states["known"], states["anon"]):
        assert (one.first_seen_ms, one.traits, one.merged_into, one.aliases) == (0, {}, "", [])
        assert one.erased_at_ms == START_MS + 2_000


def test_every_id_of_a_chain_is_erased_once(log):
    log.add(0, "anon", "payment_failed", amount=1)
    log.joins(1, known="a", previous="anon")
    log.joins(2, known="b", previous="a", granted="ops")
    log.add(3, "b", "customer_erased")
    done = log.done()
    erased = [one.customer_id for one in done.records if one.reason is Reason.ERASED]
    assert sorted(erased) == ["a", "anon", "b"]


def test_a_profile_that_was_under_way_during_the_erasure_does_not_come_back(log):
    log.visits(0, country="IN")
    log.joins(1)
    asked, merged = emitted(log)
    erasure = Event(
        id="x",
        type="customer_erased",
        customer_id="known",
        occurred_at_ms=START_MS + 2_000,
        received_at_ms=START_MS + 2_000,
    )
    done = replay(log.rulebook, [*log.events, asked, erasure, merged], emits=False)
    assert (done.states["known"].traits, done.states["known"].first_seen_ms) == ({}, 0)


def test_after_an_erasure_the_old_id_is_a_customer_of_its_own_until_it_is_named_again(log):
    log.visits(0, country="IN")
    log.joins(1)
    log.add(2, "known", "customer_erased")
    log.visits(3, plan="pro")
    states = log.done().states
    assert (states["known"].traits, states["anon"].traits.keys()) == ({}, {"plan"})
    log.joins(4)
    assert log.known().traits.keys() == {"plan"}
