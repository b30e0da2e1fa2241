"""The twilio_voice connector beyond the conformance suite: its request, and what Twilio reports of a call."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from connectors.callback import Outcome, OutcomeType
from connectors.protocol import Receipt, Result
from connectors.twilio import TwilioReport
from connectors.twilio_voice import TWILIO_VOICE, call_outcomes
from tests.contract.connectors.example_sms import CUSTOMER, account
from tests.contract.connectors.example_twilio_voice import EXAMPLE
from tests.contract.connectors.outcome_address import OutcomeAddress, reader_of
from tests.contract.connectors.servers import At, delivery_for, opened, served

ANSWERED, MISSED, ENDED = OutcomeType.CALL_ANSWERED, OutcomeType.CALL_MISSED, OutcomeType.CALL_ENDED


async def form_of(params: dict[str, Any], **settings: Any) -> list[tuple[str, str]]:
    twilio = account()
    async with served(twilio) as base, opened("twilio_voice", base, **settings) as connector:
        receipt = await connector.send(delivery_for("twilio_voice", params=params))
    assert (receipt.result, receipt.detail, receipt.recipient) == (Result.DELIVERED, "", CUSTOMER)
    pairs: list[tuple[str, str]] = twilio.created[receipt.reference]["pairs"]
    return pairs


async def test_what_is_said_is_spoken_as_it_stands_whatever_it_holds() -> None:
    said = 'Zoë & "friends" </Say><Dial>+1900</Dial> 漢字'
    form = dict(await form_of({"phone": CUSTOMER, "say": said}, say_voice="Polly.Raveena", say_language="en-IN"))
    response = ElementTree.fromstring(form["Twiml"])
    [say] = response
    assert (response.tag, say.tag, say.text) == ("Response", "Say", said)
    assert say.attrib == {"voice": "Polly.Raveena", "language": "en-IN"}


async def test_a_flow_of_ones_own_is_called_by_its_address() -> None:
    form = dict(await form_of({"phone": CUSTOMER, "url": "https://voice.example.com/agent?lead=7"}))
    assert form["Url"] == "https://voice.example.com/agent?lead=7"
    assert "Twiml" not in form


async def test_options_are_handed_on() -> None:
    settings = {"ring_timeout_s": 25, "time_limit_s": 600, "machine_detection": "detect_message_end"}
    form = await form_of({"phone": CUSTOMER, "twiml": "<Response><Hangup/></Response>"}, **settings)
    fields = dict(form)
    assert (fields["Timeout"], fields["TimeLimit"], fields["MachineDetection"]) == ("25", "600", "DetectMessageEnd")
    assert [value for name, value in form if name == "StatusCallbackEvent"] == ["answered", "completed"]


async def test_nobody_is_told_where_there_is_no_callback_url() -> None:
    form = dict(await form_of({"phone": CUSTOMER, "say": "Hello"}, callback_url=None))
    assert [name for name in form if name.startswith("StatusCallback")] == []


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({"phone": CUSTOMER}, 'param "say" or "url" or "twiml" is missing. See connectors/README.md.'),
        (
            {"phone": CUSTOMER, "say": "Hello", "twiml": "<Response/>"},
            'only one of param "say", "url" and "twiml" can be followed. See connectors/README.md.',
        ),
        (
            {"phone": CUSTOMER, "say": "bell\x07"},
            'param "say" has a control character, which cannot be spoken. See connectors/README.md.',
        ),
        (
            {"phone": CUSTOMER, "twiml": "<Response><Say>bell\x07</Say></Response>"},
            'param "twiml" has a control character, which cannot be spoken. See connectors/README.md.',
        ),
        (
            {"phone": CUSTOMER, "say": "&" * 1000},
            'param "say" makes 5032 characters of TwiML, and Twilio takes 4000',
        ),
    ],
)
async def test_what_no_call_can_be_is_refused_unsent(params: dict[str, Any], detail: str) -> None:
    twilio = account()
    async with served(twilio) as base, opened("twilio_voice", base) as connector:
        receipt = await connector.send(delivery_for("twilio_voice", params=params))
    assert receipt == Receipt(result=Result.REFUSED, detail=detail)
    assert twilio.created == {}


async def test_it_carries_calls_alone() -> None:
    async with opened("twilio_voice", "http://127.0.0.1:9") as connector:
        receipt = await connector.send(delivery_for("twilio_voice", kind="sms"))
    assert receipt == Receipt(result=Result.REFUSED, detail='kind "sms" is not a call')


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        ("queued", {}, None),
        ("ringing", {}, None),
        ("in-progress", {}, (ANSWERED, {})),
        ("in-progress", {"AnsweredBy": "human"}, (ANSWERED, {"answered_by": "human"})),
        ("busy", {"SipResponseCode": "486"}, (MISSED, {"reason": "busy", "sip_response_code": "486"})),
        ("no-answer", {}, (MISSED, {"reason": "no_answer"})),
        ("failed", {}, (MISSED, {"reason": "failed"})),
        ("canceled", {}, (MISSED, {"reason": "canceled"})),
        ("completed", {"CallDuration": "42"}, (ENDED, {"result": "completed", "duration_s": 42})),
        (
            "completed",
            {"CallDuration": "3", "AnsweredBy": "machine_start"},
            (ENDED, {"result": "completed", "duration_s": 3, "answered_by": "machine_start"}),
        ),
        ("completed", {}, (ENDED, {"result": "completed"})),
        ("completed", {"Direction": "inbound"}, None),
    ],
)
def test_each_status_has_its_outcome(
    status: str, fields: dict[str, str], expected: tuple[OutcomeType, dict[str, Any]] | None
) -> None:
    common = {"CallSid": "CA1", "CallStatus": status, "To": CUSTOMER, "Direction": "outbound-api"}
    at = {"Timestamp": "Mon, 02 Mar 2026 09:00:00 +0000"}
    outcomes = call_outcomes(TwilioReport(common | at | fields, "7d0c41", "c1"))
    if expected is None:
        assert outcomes == ()
        return
    kind, properties = expected
    assert outcomes == (
        Outcome(
            id=f"CA1:{status}",
            type=kind,
            action_id="7d0c41",
            customer_id="c1",
            address=CUSTOMER,
            at_ms=1_772_442_000_000,
            properties={"channel": "call", "reference": "CA1", **properties},
        ),
    )


@pytest.mark.parametrize("timestamp", ["", "yesterday", "2026-03-02T09:00:00Z"])
def test_a_moment_that_cannot_be_read_is_none(timestamp: str) -> None:
    fields = {"CallSid": "CA1", "CallStatus": "busy", "Timestamp": timestamp}
    [outcome] = call_outcomes(TwilioReport(fields, "", ""))
    assert outcome.at_ms is None


async def test_a_call_and_its_reports_make_the_whole_way() -> None:
    twilio, address = account(), OutcomeAddress()
    async with served(twilio) as base, served(address) as engine:
        url = f"{engine}/v1/outcomes/desk"
        settings = EXAMPLE.settings(At(base)) | {"callback_url": url}
        address.reader = reader_of(TWILIO_VOICE, settings, dict(EXAMPLE.environ(None)))
        async with opened("twilio_voice", base, callback_url=url) as connector:
            sid = (await connector.send(delivery_for("twilio_voice"))).reference
        for post in (twilio.report(sid, "in-progress"), twilio.report(sid, "completed", CallDuration="94")):
            assert (await post.send()).status_code == 200
    assert [(outcome.type, outcome.action_id, outcome.customer_id) for outcome in address.outcomes] == [
        (ANSWERED, "7d0c41", "c1"),
        (ENDED, "7d0c41", "c1"),
    ]
    assert address.outcomes[1].properties["duration_s"] == 94
