"""What the dispatcher reads from the log and what it writes to it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connectors.callback import OutcomeType
from connectors.protocol import Finding, Receipt, Result
from orchestrator.core.action import Action, QuietWindow
from orchestrator.runtime.dispatch.attempt import last_attempt, with_attempt
from orchestrator.runtime.dispatch.intake import action_of, queued_of, read_records
from orchestrator.runtime.dispatch.queue import LEASE_ENDED
from orchestrator.runtime.dispatch.receipt import (
    dead_letter,
    finding_event,
    ledger_entry,
    record_key,
    scheduled_event,
    settled_event,
)
from orchestrator.runtime.dispatch.settlement import successor
from orchestrator.runtime.dispatch.step import Cause, Outcome, Settle
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import DEAD_LETTERS, ENGINE, EVENTS, LedgerEntry, Record

NOW = 1_772_000_000_000


def record(value: Any, key: bytes | None = b"c") -> Record:
    encoded = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
    return Record(partition=2, offset=7, stamp_ms=NOW, key=key, value=encoded)


def action(**fields: Any) -> Action:
    ordinary: dict[str, Any] = {"id": "a", "customer_id": "c", "connector": "sms", "kind": "sms", "rule": "r"}
    return Action(**(ordinary | fields))


def test_records_are_sorted_into_actions_and_withdrawals() -> None:
    intake = read_records([record(action()), record(Action(id="b", customer_id="c", cancel=True))], NOW)

    assert intake.actions == [action()]
    assert intake.withdrawals == [Action(id="b", customer_id="c", cancel=True)]
    assert intake.dead_letters == []


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"{]", "JSON is malformed: object keys must be strings (byte 1)"),
        (b"\xff", "JSON is malformed: invalid character (byte 0)"),
        (None, "Input data was truncated"),
        ([], "Expected `object`, got `array`"),
        ({"customer_id": "c"}, "Object missing required field `id`"),
        ({"id": "a", "customer_id": 5}, "Expected `str`, got `int` - at `$.customer_id`"),
        ({"id": "", "customer_id": "c", "connector": "sms"}, "`id` is empty."),
        ({"id": "a", "customer_id": "", "cancel": True}, "`customer_id` is empty."),
        ({"id": "a", "customer_id": "c"}, "`connector` is empty."),
        (action(priority=101), "`priority` is 101; it must be 0 to 100."),
        (action(not_before=-1), "`not_before` is -1; it must be epoch milliseconds."),
        (action(deadline_at=10**13), "`deadline_at` is 10000000000000; it must be epoch milliseconds."),
        (action(fallback=(action(id="f", connector=""),)), "`fallback`: `connector` is empty."),
    ],
)
def test_a_record_that_cannot_be_queued_becomes_a_dead_letter_that_says_why(value: Any, detail: str) -> None:
    intake = read_records([record(value)], NOW)

    (letter,) = intake.dead_letters
    assert (intake.actions, intake.withdrawals) == ([], [])
    assert (letter.topic, letter.key) == (DEAD_LETTERS, b"c")
    assert msgspec.json.decode(letter.value) == {
        "origin": "dispatcher",
        "reason": "malformed",
        "detail": detail,
        "action": {"raw": (record(value).value or b"").decode(errors="replace")},
        "history": [],
        "at": NOW,
        "topic": "journey.actions",
        "partition": 2,
        "offset": 7,
    }


def test_a_record_nested_too_deep_becomes_a_dead_letter() -> None:
    deep = b'{"id":"a","customer_id":"c","connector":"sms","params":' + b'{"x":' * 50_000 + b"1" + b"}" * 50_001
    assert len(read_records([record(deep)], NOW).dead_letters) == 1


def test_a_dead_letter_of_a_record_without_key_is_keyed_by_its_place() -> None:
    (letter,) = read_records([record(b"?", key=None)], NOW).dead_letters
    assert letter.key == b"2:7"


def test_an_action_goes_through_the_queue_unchanged() -> None:
    whole = action(
        params={"text": "Grüße", "n": [1, None]},
        priority=9,
        not_before=NOW,
        deadline_at=NOW + 1,
        fallback=(action(id="f"),),
        quiet_hours=QuietWindow(1, 2, "UTC"),
    )
    queued = queued_of(whole)

    assert action_of(queued) == whole
    assert (queued.id, queued.connector, queued.priority) == ("a", "sms", 9)
    assert (queued.not_before, queued.deadline_at) == (NOW, NOW + 1)


# ----------------------------------------------------------------------------------------------- receipts


def test_what_a_refusal_says_of_the_recipient_is_told_as_a_callback_would_tell_it() -> None:
    finding = Finding(type=OutcomeType.UNSUBSCRIBED, reason="opted_out", error_code=21610)
    told = finding_event(action(workspace="w"), finding, NOW)

    assert (told.topic, told.key) == (EVENTS, b"w:c")
    assert msgspec.json.decode(told.value) == {
        "id": "a:unsubscribed",
        "type": "unsubscribed",
        "customer_id": "c",
        "occurred_at": NOW,
        "properties": {
            "action_id": "a",
            "connector": "sms",
            "kind": "sms",
            "reason": "opted_out",
            "error_code": 21610,
        },
        "source": "connector:sms",
    }


def test_what_a_refusal_closes_is_told_with_it() -> None:
    finding = Finding(type=OutcomeType.UNSUBSCRIBED, purposes=("marketing",))
    told = msgspec.json.decode(finding_event(action(), finding, NOW).value)
    assert told["properties"]["purposes"] == ["marketing"]


def test_a_finding_without_a_word_or_a_code_brings_no_property_for_it() -> None:
    told = msgspec.json.decode(finding_event(action(), Finding(type=OutcomeType.MESSAGE_BOUNCED), NOW).value)
    assert told["properties"] == {"action_id": "a", "connector": "sms", "kind": "sms"}


def test_a_finding_travels_with_the_history_of_its_action() -> None:
    finding = Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="unregistered")
    queued = with_attempt(queued_of(action()), Receipt(result=Result.REFUSED, finding=finding), NOW)
    last = last_attempt(queued.history)
    assert last is not None and last.finding == finding


@pytest.mark.parametrize(
    ("outcome", "event_type"),
    [
        (Outcome.DELIVERED, "action_delivered"),
        (Outcome.FAILED, "action_failed"),
        (Outcome.EXPIRED, "action_expired"),
        (Outcome.CANCELLED, "action_cancelled"),
        (Outcome.DROPPED, "action_failed"),
    ],
)
def test_every_outcome_has_a_receipt_in_the_normal_form_of_events(outcome: Outcome, event_type: str) -> None:
    sent = action(journey="j")
    queued = with_attempt(queued_of(sent), Receipt(result=Result.DELIVERED), NOW)
    receipt = settled_event(sent, queued, Settle(outcome, Cause.TAKEN, "201 Created", "SM1"), NOW)

    assert (receipt.topic, receipt.key, receipt.producer) == (EVENTS, b"c", ENGINE)
    assert msgspec.json.decode(receipt.value) == {
        "id": f"a:{event_type}",
        "type": event_type,
        "customer_id": "c",
        "occurred_at": NOW,
        "properties": {
            "action_id": "a",
            "connector": "sms",
            "kind": "sms",
            "rule": "r",
            "journey": "j",
            "detail": "taken: 201 Created",
            "reference": "SM1",
            "attempts": 1,
        }
        | ({} if outcome is Outcome.DELIVERED else {"certain": True}),
        "source": "dispatcher",
    }


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.EXPIRED, Outcome.CANCELLED, Outcome.DROPPED])
def test_a_receipt_and_the_ledger_tell_a_failure_that_is_not_certain(outcome: Outcome) -> None:
    sent = action(fallback=(action(id="f"),))
    queued = with_attempt(queued_of(sent), Receipt(result=Result.UNKNOWN), NOW)
    queued = with_attempt(queued, Receipt(result=Result.REFUSED), NOW + 1)
    word = Settle(outcome, Cause.REFUSED)

    told = msgspec.json.decode(settled_event(sent, queued, word, NOW).value)["properties"]
    assert (told["certain"], "fallback" in told) == (False, False)
    kept = ledger_entry(sent, queued, word, NOW).detail
    assert (kept["certain"], "fallback" in kept) == (False, False)


@pytest.mark.parametrize(
    ("outcome", "fallback"),
    [
        (Outcome.DELIVERED, None),
        (Outcome.FAILED, "f"),
        (Outcome.EXPIRED, "f"),
        (Outcome.CANCELLED, None),
    ],
)
def test_a_receipt_names_the_fallback_that_takes_over(outcome: Outcome, fallback: str | None) -> None:
    lost = action(fallback=(action(id="f"), action(id="g")))
    receipt = settled_event(lost, queued_of(lost), Settle(outcome, Cause.TAKEN), NOW)
    assert msgspec.json.decode(receipt.value)["properties"].get("fallback") == fallback


def test_the_event_of_a_booked_slot_is_named_by_action_and_slot() -> None:
    event = scheduled_event(action(journey="j"), slot_at_ms=NOW + 5, at_ms=NOW)
    assert (event.topic, event.key) == (EVENTS, b"c")
    assert msgspec.json.decode(event.value)["id"] == f"a:action_scheduled:{NOW + 5}"


def test_an_action_has_been_ready_since_it_was_queued_at_the_earliest() -> None:
    assert queued_of(action(not_before=5), since_ms=NOW).not_before == NOW
    assert queued_of(action(not_before=NOW + 5), since_ms=NOW).not_before == NOW + 5


def test_the_ledger_keeps_the_group_of_what_may_be_sent_again() -> None:
    failed = ledger_entry(action(), queued_of(action(), "sales"), Settle(Outcome.FAILED, Cause.REFUSED), NOW)
    assert failed.detail["group"] == "sales"


def test_records_are_keyed_by_customer_within_a_workspace() -> None:
    assert record_key("default", "çustomer") == "çustomer".encode()
    assert record_key("acme", "c") == b"acme:c"


def test_a_dead_letter_tells_the_whole_story() -> None:
    given_up = action(workspace="acme", params={"to": "+4930"})
    queued = with_attempt(queued_of(given_up), Receipt(result=Result.RETRY, detail="busy", status=503), NOW)
    queued = msgspec.structs.replace(queued, history=(*queued.history, LEASE_ENDED))
    letter = dead_letter(given_up, queued, Settle(Outcome.FAILED, Cause.ATTEMPTS_EXHAUSTED, "retry: busy"), NOW + 5)

    assert (letter.topic, letter.key) == (DEAD_LETTERS, b"acme:c")
    assert msgspec.json.decode(letter.value) == {
        "origin": "dispatcher",
        "reason": "attempts_exhausted",
        "detail": "retry: busy",
        "action": msgspec.to_builtins(given_up),
        "history": [{"at_ms": NOW, "result": "retry", "detail": "busy", "status": 503}, "lease_ended"],
        "at": NOW + 5,
    }


def test_the_ledger_keeps_what_a_redrive_or_a_withdrawal_will_need() -> None:
    sent = action(fallback=(action(id="f"),))
    failed = ledger_entry(sent, queued_of(sent), Settle(Outcome.FAILED, Cause.REFUSED, "400"), NOW)
    delivered = ledger_entry(sent, queued_of(sent), Settle(Outcome.DELIVERED, Cause.TAKEN, "", "SM1"), NOW)

    assert failed == LedgerEntry(
        id="a",
        connector="sms",
        outcome="failed",
        at_ms=NOW,
        detail={
            "cause": "refused",
            "attempts": 0,
            "detail": "400",
            "fallback": "f",
            "action": msgspec.to_builtins(sent),
        },
    )
    assert delivered.detail == {"cause": "taken", "attempts": 0, "reference": "SM1"}


def test_fallbacks_stand_behind_one_another() -> None:
    first, second, third, own = (action(id=name) for name in ("first", "second", "third", "own"))

    assert successor(action(fallback=(first, second, third))) == action(id="first", fallback=(second, third))
    with_its_own = action(id="first", fallback=(own,))
    assert successor(action(fallback=(with_its_own, second))) == with_its_own


class TakesAll:
    def check(self, event_type: str, properties: Any, /) -> None:
        return None


def test_whatever_the_other_side_said_makes_a_receipt_that_is_taken() -> None:
    word = Settle(Outcome.FAILED, Cause.REFUSED, detail="\ud800" + "x" * 100_000, reference="\U0001f600" * 50_000)
    customer = "\U0001f600" * 200
    receipt = settled_event(action(customer_id=customer), queued_of(action()), word, NOW)
    intake = Intake(TakesAll(), "default", Limits(event_bytes_max=16_000))
    event = intake.from_record(Record(0, 0, NOW, receipt.key, receipt.value))
    assert (event.customer_id, len(event.properties["reference"])) == (customer, 1_000)
