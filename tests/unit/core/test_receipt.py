"""Receipts and withdrawals: what becomes of an emitted action and of what it had reserved."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.core.action import Action
from orchestrator.core.definition import Journey, OnEvent, Rule, Stage, StageOn
from orchestrator.core.event import Event
from orchestrator.core.interpret import interpreted
from orchestrator.core.propensity import BetaBernoulli
from orchestrator.core.reason import Reason
from orchestrator.core.receipt import PENDING_MS, expect, settle, withdraw, withdraw_refused
from orchestrator.core.rulebook import build_rulebook
from orchestrator.core.state import PENDING_MAX, CustomerState, Pending, Standby
from orchestrator.core.turn import Turn, forked

NOW = 1_000_000
RULE = Rule("r", "j", OnEvent("e"), (), lateness_ms=500)
RULEBOOK = build_rulebook(
    version="v",
    journeys=[Journey("j", "", (Stage("open", 0, StageOn("e")),), rules=(RULE,))],
    aggregates=[],
    conditions=interpreted,
)
SENT = CustomerState(
    sent={"cap": [NOW - 50, NOW - 10], "rest:r": [NOW - 10]},
    pending={"a": Pending("r", "j/", NOW - 10, NOW + 99, ["cap", "rest:r"], ["sms"])},
)


def turn_over(state: CustomerState, now_ms: int = NOW) -> Turn:
    return Turn(RULEBOOK, forked(state), "c", now_ms, now_ms, "cause", {}, {}, BetaBernoulli())


def receipt(event_type: str, action_id: object = "a", **properties: object) -> Event:
    return Event(
        id="x",
        type=event_type,
        customer_id="c",
        occurred_at_ms=NOW,
        received_at_ms=NOW,
        properties={"action_id": action_id, **properties},
    )


@pytest.mark.parametrize(
    ("event_type", "delivered", "sent", "records"),
    [
        ("action_delivered", True, SENT.sent, []),
        ("action_cancel_too_late", True, SENT.sent, [("noted", "too_late")]),
        ("action_failed", None, {"cap": [NOW - 50]}, [("noted", "execution_failed")]),
        ("action_expired", None, {"cap": [NOW - 50]}, [("noted", "execution_failed")]),
        ("action_cancelled", None, {"cap": [NOW - 50]}, []),
        ("something_else", False, SENT.sent, []),
    ],
)
def test_a_receipt_settles_its_action_and_releases_what_was_not_used(event_type, delivered, sent, records):
    turn = turn_over(SENT)
    settle(turn, receipt(event_type))
    entry = turn.state.pending.get("a")
    assert (None if entry is None else entry.delivered) == delivered
    assert turn.state.sent == sent
    assert [(one.outcome.value, one.reason.value) for one in turn.records] == records


def test_of_an_action_that_arrived_only_what_a_late_event_asks_for_is_kept():
    turn = turn_over(SENT)
    settle(turn, receipt("action_delivered"))
    kept = turn.state.pending["a"]
    assert (kept.rule, kept.run, kept.delivered) == (SENT.pending["a"].rule, SENT.pending["a"].run, True)
    assert (kept.counted, kept.consent, kept.standbys, kept.decided_at) == ([], [], [], 0)


def test_a_failure_that_follows_a_delivery_does_not_give_back_what_was_used():
    turn = turn_over(SENT)
    settle(turn, receipt("action_delivered"))
    settle(turn, receipt("action_failed"))
    assert turn.state.sent == SENT.sent


@pytest.mark.parametrize("action_id", ["unknown", None, 7, ["a"]])
def test_a_receipt_of_an_unknown_action_changes_nothing(action_id):
    turn = turn_over(SENT)
    settle(turn, receipt("action_failed", action_id))
    assert (turn.state, turn.records) == (SENT, [])


def test_a_second_failure_releases_nothing_more():
    turn = turn_over(SENT)
    settle(turn, receipt("action_failed"))
    settle(turn, receipt("action_failed"))
    assert turn.state.sent == {"cap": [NOW - 50]}


def test_a_withdrawal_cancels_once_and_keeps_the_reservation_until_its_receipt():
    turn = turn_over(SENT)
    for _ in range(2):
        withdraw(turn, lambda action_id, entry: True, Reason.EXITED)
    (cancellation,) = turn.actions
    assert (cancellation.id, cancellation.cancel, cancellation.reason) == ("a", True, "exited")
    assert turn.state.sent == SENT.sent
    assert turn.state.pending["a"].withdrawn
    assert [(one.outcome.value, one.reason.value) for one in turn.records] == [("withdrawn", "exited")]


@pytest.mark.parametrize(("reason", "noted"), [(Reason.LATE_EVENT, ["too_late"]), (Reason.EXITED, [])])
def test_what_was_delivered_is_not_cancelled_but_a_late_event_says_so(reason, noted):
    turn = turn_over(SENT)
    settle(turn, receipt("action_delivered"))
    withdraw(turn, lambda action_id, entry: True, reason)
    assert turn.actions == []
    assert [one.reason.value for one in turn.records] == noted


def test_a_withdrawal_takes_only_what_is_wanted():
    turn = turn_over(SENT)
    withdraw(turn, lambda action_id, entry: "call" in entry.consent, Reason.CONSENT_WITHDRAWN)
    assert (turn.actions, turn.state) == ([], SENT)


def emit(turn: Turn, action_id: str, deadline_at: int | None = None) -> None:
    expect(turn, Action(id=action_id, customer_id="c", decided_at=turn.now_ms, deadline_at=deadline_at), [], ())


def test_an_action_is_watched_for_a_week_after_its_deadline():
    turn = turn_over(CustomerState())
    emit(turn, "soon")
    emit(turn, "later", NOW + 5)
    assert [one.until - NOW for one in turn.state.pending.values()] == [PENDING_MS, PENDING_MS + 5]


def test_what_is_watched_no_longer_makes_room_and_the_oldest_above_the_ceiling():
    turn = turn_over(CustomerState())
    for number in range(PENDING_MAX + 3):
        emit(turn, f"a{number}")
    assert list(turn.state.pending) == [f"a{number}" for number in range(3, PENDING_MAX + 3)]
    later = turn_over(turn.state, NOW + PENDING_MS)
    emit(later, "new")
    assert list(later.state.pending) == ["new"]


# ------------------------------------------------------------------------------------------------ fallbacks

TWO = [Standby("b", "email", ["mails"], ["offers"]), Standby("c", "push", [], [])]
CALLED = CustomerState(
    sent={"calls": [NOW - 10]}, pending={"a": Pending("r", "j/", NOW - 10, NOW + 99, ["calls"], [], kind="call")}
)


def called(*standbys: Standby) -> Turn:
    turn = turn_over(CALLED)
    turn.state.pending["a"] = msgspec.structs.replace(CALLED.pending["a"], standbys=list(standbys))
    return turn


@pytest.mark.parametrize("event_type", ["action_expired", "action_failed"])
def test_a_fallback_takes_the_place_and_counts_for_its_own_kind(event_type):
    turn = called(*TWO)
    settle(turn, receipt(event_type, fallback="b"))
    assert turn.state.pending == {
        "b": Pending("r", "j/", NOW, NOW + 99, ["mails"], ["offers"], kind="email", standbys=TWO[1:], instead_of=["a"])
    }
    assert turn.state.sent == {"mails": [NOW]}
    assert [(one.reason.value, one.action_id) for one in turn.records] == [("execution_failed", "a")]


def test_of_two_fallbacks_that_fail_in_turn_nothing_stays():
    turn = called(*TWO)
    settle(turn, receipt("action_expired", fallback="b"))
    settle(turn, receipt("action_failed", "b", fallback="c"))
    settle(turn, receipt("action_failed", "c"))
    assert (turn.state.pending, turn.state.sent) == ({}, {})


def test_a_fallback_that_an_earlier_release_sent_along_keeps_what_the_action_had():
    turn = turn_over(SENT)
    settle(turn, receipt("action_expired", fallback="b"))
    expected = Pending("r", "j/", NOW, NOW + 99, ["cap", "rest:r"], ["sms"], instead_of=["a"])
    assert turn.state.pending == {"b": expected}
    assert turn.state.sent == {"cap": [NOW - 50, NOW], "rest:r": [NOW]}


def test_a_fallback_of_an_action_that_was_taken_back_is_taken_back_as_well():
    turn = called(*TWO)
    withdraw(turn, lambda action_id, entry: True, Reason.EXITED)
    settle(turn, receipt("action_expired", fallback="b"))
    assert turn.state.pending["b"].withdrawn
    assert [(one.id, one.cancel) for one in turn.actions] == [("a", True), ("b", True)]


def test_a_fallback_of_an_action_whose_withdrawal_came_too_late_is_taken_back_too():
    turn = called(*TWO)
    withdraw(turn, lambda action_id, entry: True, Reason.EXITED)
    settle(turn, receipt("action_cancel_too_late"))
    settle(turn, receipt("action_failed", fallback="b"))
    assert [(one.id, one.cancel) for one in turn.actions] == [("a", True), ("b", True)]
    settle(turn, receipt("action_cancelled", "b"))
    assert turn.state.pending == {}


def test_the_fallback_of_a_delivered_action_is_not_watched_any_more():
    turn = called(*TWO)
    settle(turn, receipt("action_delivered"))
    settle(turn, receipt("action_delivered", "b"))
    assert list(turn.state.pending) == ["a"]
    assert turn.state.pending["a"].standbys == []


@pytest.mark.parametrize(
    ("refused", "taken_back"),
    [
        ({"kind:call"}, ["a"]),
        ({"address:call"}, ["a"]),
        ({"kind:email"}, ["b"]),
        ({"offers"}, ["b"]),
        ({"kind:email", "kind:push"}, ["b", "c"]),
        ({"kind:call", "kind:email"}, ["a"]),  # The dispatcher takes a withdrawn action's fallbacks with it.
        ({"kind:sms", "other"}, []),
        (set(), []),
    ],
)
def test_what_needs_a_refused_consent_is_taken_back_once(refused, taken_back):
    turn = called(*TWO)
    for _ in range(2):
        withdraw_refused(turn, refused)
    assert [(one.id, one.cancel) for one in turn.actions] == [(action_id, True) for action_id in taken_back]
    assert [one.action_id for one in turn.records] == taken_back


def test_a_fallback_that_was_taken_back_does_not_take_the_place():
    turn = called(*TWO)
    withdraw_refused(turn, {"kind:email"})
    settle(turn, receipt("action_expired", fallback="b"))
    assert (turn.state.pending, turn.state.sent) == ({}, {})


# --------------------------------------------------------------------------------- outcomes that nobody knows

UNSURE = [Standby("b", "email", ["mails"], ["offers"], on_unknown=True), Standby("c", "push", [], [], on_unknown=True)]


@pytest.mark.parametrize("event_type", ["action_failed", "action_expired", "action_cancelled"])
@pytest.mark.parametrize(("certain", "sent"), [(True, {}), (False, CALLED.sent), ("no", {})])
def test_what_may_have_arrived_keeps_its_reservations(event_type, certain, sent):
    turn = called()
    settle(turn, receipt(event_type, certain=certain))
    assert (turn.state.pending, turn.state.sent) == ({}, sent)


def test_the_ledger_says_that_nobody_knows():
    turn = called()
    settle(turn, receipt("action_expired", certain=False))
    (noted,) = turn.records
    assert (noted.reason.value, noted.detail) == (
        "execution_failed",
        {"receipt": "action_expired", "certain": False},
    )


def test_an_action_and_the_fallback_that_its_author_wants_as_well_both_count():
    turn = called(*UNSURE)
    settle(turn, receipt("action_expired", fallback="b", certain=False))
    assert turn.state.sent == {"calls": [NOW - 10], "mails": [NOW]}


def test_an_action_that_may_have_arrived_counts_also_when_its_fallback_is_heard_of_first():
    turn = called(*UNSURE)
    settle(turn, receipt("action_delivered", "b"))
    settle(turn, receipt("action_expired", fallback="b", certain=False))
    assert turn.state.sent == {"calls": [NOW - 10], "mails": [NOW]}


ARRIVED = ["action_delivered", "message_delivered", "message_read", "call_answered", "call_ended", "link_clicked"]


@pytest.mark.parametrize("event_type", ARRIVED)
@pytest.mark.parametrize("arrived", ["a", "b"])
def test_what_took_the_place_of_an_action_that_has_arrived_is_taken_back_once(event_type, arrived):
    turn = called(*UNSURE)
    settle(turn, receipt("action_expired", fallback="b", certain=False))
    settle(turn, receipt("action_failed", "b", fallback="c", certain=False))
    for _ in range(2):
        settle(turn, receipt(event_type, arrived))
    assert [(one.id, one.cancel, one.reason) for one in turn.actions] == [("c", True, "arrived_late")]
    assert turn.state.pending["c"].withdrawn
    assert [(one.outcome.value, one.reason.value, one.action_id) for one in turn.records[2:]] == [
        ("withdrawn", "arrived_late", "c")
    ]


@pytest.mark.parametrize("event_type", ["call_missed", "message_failed", "message_bounced", "action_cancel_too_late"])
def test_a_report_that_nobody_was_reached_leaves_the_fallback(event_type):
    turn = called(*UNSURE)
    settle(turn, receipt("action_expired", fallback="b", certain=False))
    settle(turn, receipt(event_type))
    assert turn.actions == []


def test_a_fallback_that_has_arrived_itself_is_not_taken_back():
    turn = called(*UNSURE)
    settle(turn, receipt("action_expired", fallback="b", certain=False))
    settle(turn, receipt("action_delivered", "b"))
    settle(turn, receipt("call_answered"))
    assert turn.actions == []


def test_a_report_takes_back_the_repetition_and_the_fallback_that_the_dispatcher_is_about_to_send():
    turn = called(*UNSURE)
    for _ in range(2):
        settle(turn, receipt("call_answered"))
    settle(turn, receipt("action_expired", fallback="b", certain=False))
    assert [(one.id, one.cancel, one.reason) for one in turn.actions] == [
        ("a", True, "arrived_late"),
        ("b", True, "arrived_late"),
    ]
    assert turn.state.sent["calls"] == [NOW - 10]
    settle(turn, receipt("action_cancelled", "b"))
    assert (turn.state.pending, turn.state.sent) == ({}, {"calls": [NOW - 10]})


def test_a_report_that_overtakes_the_receipt_is_no_withdrawal_that_came_too_late():
    turn = called(*UNSURE)
    settle(turn, receipt("call_answered"))
    settle(turn, receipt("action_delivered"))
    settle(turn, receipt("action_cancel_too_late"))
    assert (turn.records, turn.state.sent) == ([], CALLED.sent)


def test_a_report_about_what_was_taken_back_takes_it_back_no_second_time():
    turn = called()
    withdraw(turn, lambda action_id, entry: True, Reason.EXITED)
    settle(turn, receipt("call_answered"))
    assert [one.id for one in turn.actions] == ["a"]


def test_states_that_an_earlier_release_wrote_are_read_as_they_were():
    old = msgspec.msgpack.encode(
        ["r", "j/", NOW, NOW + 99, ["calls"], [], False, False, "call", [["b", "email", [], [], False]]]
    )
    kept = msgspec.msgpack.decode(old, type=Pending)
    assert (kept.instead_of, kept.standbys) == ([], [Standby("b", "email", [], [])])
