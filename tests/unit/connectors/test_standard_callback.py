"""What the standard callback form takes, and how it names what it does not."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from connectors.callback import CallbackRefused, Outcome, OutcomeType
from connectors.conformance.bench import NOW_S
from connectors.conformance.standard_report import standard_report
from connectors.connector_type import Surroundings
from connectors.errors import ConnectorMisconfigured
from connectors.signature import parse_secrets
from connectors.standard_callback import StandardCallbackReader, standard_callbacks
from connectors.voice import CALL_OUTCOMES, VoiceParameters
from connectors.webhook import WebhookParameters

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
ENDED = {
    "id": "r-3",
    "type": "call_ended",
    "action_id": "7d0c41",
    "customer_id": "c1",
    "address": "+919812345678",
    "at_ms": 1_772_441_999_000,
    "properties": {"result": "booked", "duration_s": 94.5, "slot": "tomorrow 10:00"},
}


def reader(now_s: float = NOW_S) -> StandardCallbackReader:
    return StandardCallbackReader(parse_secrets(SECRET), CALL_OUTCOMES, lambda: now_s)


def test_a_report_becomes_an_outcome_with_all_that_it_says() -> None:
    assert reader().read(standard_report(SECRET, ENDED)).outcomes == (
        Outcome(
            id="r-3",
            type=OutcomeType.CALL_ENDED,
            action_id="7d0c41",
            customer_id="c1",
            address="+919812345678",
            at_ms=1_772_441_999_000,
            properties={"result": "booked", "duration_s": 94.5, "slot": "tomorrow 10:00"},
        ),
    )


def test_a_list_keeps_its_order_and_an_empty_one_reports_nothing() -> None:
    answered = {"id": "r-2", "type": "call_answered", "action_id": "7d0c41"}
    assert [one.id for one in reader().read(standard_report(SECRET, [answered, ENDED])).outcomes] == ["r-2", "r-3"]
    assert reader().read(standard_report(SECRET, [])).outcomes == ()


@pytest.mark.parametrize(
    ("said", "closed"),
    [
        ({}, {"purposes": ["marketing"]}),
        ({"purposes": ["service"]}, {"purposes": ["service"]}),
        ({"purposes": []}, {"purposes": []}),
    ],
)
def test_a_report_says_what_opting_out_closes_and_else_the_settings_do(
    said: dict[str, Any], closed: dict[str, Any]
) -> None:
    report = {"id": "r-1", "type": "unsubscribed", "customer_id": "c1", "properties": said}
    known = StandardCallbackReader(parse_secrets(SECRET), CALL_OUTCOMES, lambda: NOW_S, purposes=("marketing",))
    assert known.read(standard_report(SECRET, report)).outcomes[0].properties == closed
    assert reader().read(standard_report(SECRET, report)).outcomes[0].properties == said


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Stop.", "unsubscribed"),
        ("start", "resubscribed"),
        ("Thanks", "message_received"),
        (7, "message_received"),
        (None, "message_received"),
    ],
)
def test_a_message_that_is_a_word_for_it_is_an_opt_out(text: Any, meant: str) -> None:
    entry = WebhookParameters(url="http://texts.example", callback_secret_env="BACK", unsubscribes_from=["marketing"])
    surroundings = Surroundings(environ={"BACK": SECRET}, now_s=lambda: NOW_S)
    known = standard_callbacks(OutcomeType)("texts", entry, surroundings)
    properties = {} if text is None else {"text": text}
    report = {"id": "r-1", "type": "message_received", "customer_id": "c1", "properties": properties}
    [outcome] = known.read(standard_report(SECRET, report)).outcomes
    assert outcome.type.value == meant
    assert ("purposes" in outcome.properties) == (meant != "message_received")


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (ENDED | changes).items() if value is not ...}


ALLOWED_TYPES = "Allowed: call_answered, call_ended, call_missed, resubscribed, unsubscribed."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            changed(type="call_end"),
            f'type "call_end" is unknown. {ALLOWED_TYPES} Did you mean "call_ended"?',
        ),
        (changed(type="message_read"), f'type "message_read" is unknown. {ALLOWED_TYPES}'),
        (
            changed(custmer_id="c1"),
            'field "custmer_id" is unknown. Allowed: action_id, address, at_ms, customer_id, id, properties, type. '
            'Did you mean "customer_id"?',
        ),
        (changed(id=...), 'field "id" is missing. It is: Id of the report, the same whenever it is repeated.'),
        (
            changed(at_ms="yesterday"),
            'field "at_ms": input should be a valid integer. It is: When it happened, epoch milliseconds.',
        ),
        (
            changed(action_id=..., customer_id="", address=...),
            "it concerns nobody. Give action_id, customer_id or address.",
        ),
        (
            changed(type="call_missed", properties={}),
            'property "reason" is missing. It is: no_answer, busy, failed or canceled.',
        ),
        (
            changed(type="call_missed", properties={"reason": "asleep"}),
            "property \"reason\": input should be 'no_answer', 'busy', 'failed' or 'canceled'. "
            "It is: no_answer, busy, failed or canceled.",
        ),
        (
            changed(properties={"result": "booked", "duration_s": -1}),
            'property "duration_s": input should be greater than or equal to 0. It is: How long it lasted, in seconds.',
        ),
        (
            [ENDED, changed(typ="x")],
            'report 2: field "typ" is unknown. Allowed: action_id, address, at_ms, customer_id, id, properties, type. '
            'Did you mean "type"?',
        ),
        ([ENDED, 7], "report 2: a report is a JSON object"),
        ([ENDED] * 1001, "the list has 1001 reports. Send at most 1000 at once."),
    ],
)
def test_what_is_not_understood_is_refused_by_name(content: Any, said: str) -> None:
    with pytest.raises(CallbackRefused) as refusal:
        reader().read(standard_report(SECRET, content))
    assert (refusal.value.status, str(refusal.value)) == (400, said)


def test_what_is_not_json_is_refused_although_it_is_signed() -> None:
    with pytest.raises(CallbackRefused) as refusal:
        reader().read(standard_report(SECRET, {"id": float("nan")}))
    assert (refusal.value.status, str(refusal.value)) == (400, "the body is not JSON: NaN is not a number in JSON")


@pytest.mark.parametrize(
    ("now_s", "header", "said"),
    [
        (NOW_S + 301, None, "webhook-timestamp is more than 300 s away from now"),
        (NOW_S, "webhook-signature", "webhook-id, webhook-timestamp and webhook-signature are all needed"),
    ],
)
def test_a_report_that_is_old_or_unsigned_is_not_believed(now_s: float, header: str | None, said: str) -> None:
    callback = standard_report(SECRET, ENDED)
    headers = {name: value for name, value in callback.headers.items() if name != header}
    with pytest.raises(CallbackRefused) as refusal:
        reader(now_s).read(replace(callback, headers=headers))
    assert (refusal.value.status, str(refusal.value)) == (401, said)


@pytest.mark.parametrize(
    ("variable", "environ", "said"),
    [
        (
            "",
            {},
            'connector "voice": setting "callback_secret_env" is missing, so no report of the other side can be '
            "believed. Name the environment variable that holds the secret, whsec_..., which both sides know.",
        ),
        (
            "BACK",
            {},
            'connector "voice": setting "callback_secret_env" names the environment variable "BACK", which is not set. '
            "Set BACK, or leave callback_secret_env out.",
        ),
        (
            "BACK",
            {"BACK": "s3cret"},
            'connector "voice": setting "callback_secret_env": a secret must be whsec_ followed by base64 '
            '(in the environment variable "BACK"). Make one with: echo "whsec_$(openssl rand -base64 32)"',
        ),
    ],
)
def test_without_a_secret_there_is_no_reader(variable: str, environ: dict[str, str], said: str) -> None:
    parameters = VoiceParameters(base_url="http://voice.example", callback_secret_env=variable)
    with pytest.raises(ConnectorMisconfigured) as misconfigured:
        standard_callbacks(CALL_OUTCOMES)("voice", parameters, Surroundings(environ=environ, now_s=lambda: NOW_S))
    assert str(misconfigured.value) == said
