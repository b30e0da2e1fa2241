"""The sms connector beyond the conformance suite: its request, and what Twilio reports of a message."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.callback import Outcome, OutcomeType
from connectors.opt_out import START_WORDS, STOP_WORDS, OptOutWords
from connectors.protocol import Finding, Receipt, Result
from connectors.sms import SMS, message_outcomes, validity_seconds
from connectors.twilio import TwilioReport
from load_tests.servers.providers.twilio import TwilioServer
from tests.contract.connectors.example_sms import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    CALLBACK_URL,
    CUSTOMER,
    EXAMPLE,
    SENDER,
    account,
)
from tests.contract.connectors.outcome_address import OutcomeAddress, reader_of
from tests.contract.connectors.servers import At, delivery_for, opened, served

SERVICE = "MG" + "0123456789abcdef" * 2
DELIVERED, READ = OutcomeType.MESSAGE_DELIVERED, OutcomeType.MESSAGE_READ
BOUNCED, FAILED = OutcomeType.MESSAGE_BOUNCED, OutcomeType.MESSAGE_FAILED
WORDS = OptOutWords(STOP_WORDS, START_WORDS)
STOPPED, STARTED, RECEIVED = OutcomeType.UNSUBSCRIBED, OutcomeType.RESUBSCRIBED, OutcomeType.MESSAGE_RECEIVED


async def form_of(server: TwilioServer | None = None, params: dict[str, Any] | None = None, **settings: Any) -> Any:
    twilio = server or account()
    async with served(twilio) as base, opened("sms", base, **settings) as connector:
        receipt = await connector.send(delivery_for("sms", **({"params": params} if params else {})))
    assert (receipt.result, receipt.detail) == (Result.DELIVERED, "")
    return twilio.created[receipt.reference]["pairs"]


async def test_a_messaging_service_chooses_the_sender() -> None:
    twilio = TwilioServer(
        account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN, senders=[SENDER], messaging_services=[SERVICE]
    )
    form = dict(await form_of(twilio, sender="", messaging_service_sid=SERVICE))
    assert form["MessagingServiceSid"] == SERVICE
    assert "From" not in form


async def test_pictures_go_with_the_text() -> None:
    urls = ["https://shop.example.com/a.png", "https://shop.example.com/b.png"]
    form = await form_of(params={"to": CUSTOMER, "text": "Look", "media_urls": urls})
    assert [value for name, value in form if name == "MediaUrl"] == urls


async def test_nobody_is_told_where_there_is_no_callback_url() -> None:
    assert "StatusCallback" not in dict(await form_of(callback_url=None))


@pytest.mark.parametrize(
    ("setting_s", "deadline_in_ms", "validity_s"),
    [
        (None, None, None),
        (900, None, 900),
        (None, 59_001, 60),
        (30, 59_001, 30),
        (None, 86_400_000, 36_000),
        (None, -5, 1),
    ],
)
def test_a_message_waits_no_longer_than_its_deadline(
    setting_s: int | None, deadline_in_ms: int | None, validity_s: int | None
) -> None:
    deadline = None if deadline_in_ms is None else 1_000_000 + deadline_in_ms
    delivery = delivery_for("sms", decided_at_ms=1_000_000, deadline_at_ms=deadline)
    assert validity_seconds(setting_s, delivery) == validity_s


@pytest.mark.parametrize(
    ("prepare", "detail", "finding"),
    [
        (
            "opted_out",
            "the recipient has opted out: Twilio error 21610: Attempt to send to unsubscribed recipient",
            Finding(type=OutcomeType.UNSUBSCRIBED, reason="opted_out", error_code=21610),
        ),
        (
            "landlines",
            "Twilio error 21614: 'To' number is not a valid mobile number: [number]",
            Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="not_a_mobile", error_code=21614),
        ),
    ],
)
async def test_a_recipient_that_twilio_refuses_is_refused_for_good(prepare: str, detail: str, finding: Finding) -> None:
    twilio = account()
    getattr(twilio, prepare).add(CUSTOMER)
    async with served(twilio) as base, opened("sms", base) as connector:
        receipt = await connector.send(delivery_for("sms"))
    assert receipt == Receipt(result=Result.REFUSED, status=400, detail=detail, finding=finding)


async def test_a_busy_account_takes_the_message_later() -> None:
    twilio = account()
    twilio.busy_times = 1
    async with served(twilio) as base, opened("sms", base) as connector:
        receipts = [await connector.send(delivery_for("sms", attempt=attempt)) for attempt in (1, 2)]
    assert [receipt.result for receipt in receipts] == [Result.RETRY, Result.DELIVERED]
    assert receipts[0].retry_after_s == 3
    assert len(twilio.created) == 1


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"kind": "call"}, 'kind "call" is not a text message'),
        (
            {"params": {"to": CUSTOMER, "text": "x" * 1601}},
            'param "text": string should have at most 1600 characters. It is: The message, up to 1600 characters.',
        ),
        ({"params": {"to": CUSTOMER, "text": "\ud800"}}, None),
    ],
)
async def test_what_no_message_can_be_is_refused_unsent(changes: dict[str, Any], detail: str | None) -> None:
    twilio = account()
    async with served(twilio) as base, opened("sms", base) as connector:
        receipt = await connector.send(delivery_for("sms", **changes))
    assert receipt.result is Result.REFUSED
    assert detail is None or receipt.detail == detail
    assert twilio.created == {}


# ----------------------------------------------------------------------------------------------- callbacks


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("queued", "", None),
        ("sending", "", None),
        ("sent", "", None),
        ("delivered", "", (DELIVERED, {})),
        ("read", "", (READ, {})),
        ("undelivered", "30003", (FAILED, {"reason": "unreachable", "error_code": 30003})),
        ("undelivered", "30005", (BOUNCED, {"reason": "unknown_number", "error_code": 30005})),
        ("undelivered", "30006", (BOUNCED, {"reason": "landline", "error_code": 30006})),
        ("undelivered", "30007", (FAILED, {"reason": "filtered", "error_code": 30007})),
        ("undelivered", "39999", (FAILED, {"reason": "other", "error_code": 39999})),
        ("failed", "21610", (STOPPED, {"reason": "opted_out", "error_code": 21610})),
        ("failed", "", (FAILED, {"reason": "failed"})),
        ("canceled", "", (FAILED, {"reason": "canceled"})),
        ("something_new", "", None),
    ],
)
def test_each_status_has_its_outcome(status: str, code: str, expected: tuple[OutcomeType, Any] | None) -> None:
    fields = {"MessageSid": "SM1", "MessageStatus": status, "To": CUSTOMER} | ({"ErrorCode": code} if code else {})
    outcomes = message_outcomes(TwilioReport(fields, "7d0c41", "c1"), WORDS)
    if expected is None:
        assert outcomes == ()
        return
    kind, properties = expected
    assert outcomes == (
        Outcome(
            id=f"SM1:{status}",
            type=kind,
            action_id="7d0c41",
            customer_id="c1",
            address=CUSTOMER,
            properties={"channel": "sms", "reference": "SM1", **properties},
        ),
    )


@pytest.mark.parametrize(
    ("text", "opt_out", "expected"),
    [
        ("STOP", "STOP", STOPPED),
        ("stop ", "", STOPPED),
        ("Unsubscribe", "", STOPPED),
        ("Stop.", "", STOPPED),
        ("STOP!", "", STOPPED),
        ("opt out", "", STOPPED),
        ("ARRET", "", STOPPED),
        ("Arrêt", "", STOPPED),
        ("cancel.", "", STOPPED),  # one of Twilio's own, which blocks the sender whatever we think of it
        ("Start!", "", STARTED),
        ("Please don't stop", "", RECEIVED),
        ("bas", "STOP", STOPPED),  # a word of the business's own, which Twilio knows from its settings
        ("START", "START", STARTED),
        ("unstop", "", STARTED),
        ("HELP", "HELP", RECEIVED),
        ("YES", "", RECEIVED),
        ("please stop by tomorrow", "", RECEIVED),
        ("", "", RECEIVED),
    ],
)
def test_each_answer_of_a_customer_has_its_outcome(text: str, opt_out: str, expected: OutcomeType) -> None:
    twilio = account()
    post = twilio.inbound(CALLBACK_URL, sender=CUSTOMER, text=text, **({"OptOutType": opt_out} if opt_out else {}))
    reader = reader_of(SMS, EXAMPLE.settings(At("http://127.0.0.1:9")), dict(EXAMPLE.environ(None)))
    [outcome] = reader.read(post.callback).outcomes
    assert (outcome.type, outcome.address, outcome.action_id) == (expected, CUSTOMER, "")
    assert outcome.id.endswith(":received")
    assert (outcome.properties["text"], outcome.properties["to"]) == (text, SENDER)


def test_a_picture_of_a_customer_is_told() -> None:
    fields = {"MessageSid": "MM1", "From": CUSTOMER, "To": SENDER, "Body": "", "MediaUrl0": "https://twilio/m0"}
    [outcome] = message_outcomes(TwilioReport(fields, "", ""), WORDS)
    assert outcome.properties["media_urls"] == ["https://twilio/m0"]


async def test_a_message_and_its_reports_make_the_whole_way() -> None:
    """Sent to the server, reported by it to an address, answered by the customer, told to stop."""
    twilio, address = account(), OutcomeAddress()
    async with served(twilio) as base, served(address) as engine:
        url = f"{engine}/v1/outcomes/desk"
        settings = EXAMPLE.settings(At(base)) | {"callback_url": url}
        address.reader = reader_of(SMS, settings, dict(EXAMPLE.environ(None)))
        async with opened("sms", base, callback_url=url) as connector:
            sid = (await connector.send(delivery_for("sms", customer_id="c 1"))).reference
        posts = [twilio.report(sid, status) for status in ("sent", "delivered", "delivered")]
        posts.append(twilio.inbound(url, sender=CUSTOMER, text="Stop"))
        answers = [await post.send() for post in posts]
        forged = await twilio.signed(f"{engine}/elsewhere", {"MessageSid": sid, "MessageStatus": "read"}).send()
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"<Response/>")] * 4
    assert forged.status_code == 403
    assert [(outcome.type, outcome.action_id, outcome.customer_id) for outcome in address.outcomes] == [
        (DELIVERED, "7d0c41", "c 1"),
        (DELIVERED, "7d0c41", "c 1"),
        (STOPPED, "", ""),
    ]
    assert address.outcomes[0].id == address.outcomes[1].id == f"{sid}:delivered"
