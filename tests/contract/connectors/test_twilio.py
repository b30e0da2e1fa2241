"""What sms and twilio_voice share: credentials, what Twilio's errors come to, and whose callbacks are believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from connectors.callback import Callback, CallbackReader, CallbackRefused, OutcomeType
from connectors.conformance.bench import DELIVERY_ID, LOOPBACK, NAME, NOW_S
from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector, Finding, Receipt, Result
from connectors.registry import build
from connectors.sms import SMS
from connectors.twilio import signature
from load_tests.servers.providers.twilio import TwilioServer
from tests.contract.connectors.example_sms import ACCOUNT_SID, AUTH_TOKEN, CALLBACK_URL, CUSTOMER, SENDER
from tests.contract.connectors.outcome_address import reader_of
from tests.contract.connectors.servers import Scripted, delivery_for, opened, raw_server, served

KEY_SID, KEY_SECRET = "SK" + "fedcba9876543210" * 2, "key-secret"
ENVIRON = {"TOKEN": AUTH_TOKEN, "KEY": KEY_SECRET}
SETTINGS: dict[str, Any] = {"account_sid": ACCOUNT_SID, "sender": SENDER}


def sms(base: str, **settings: Any) -> Connector:
    written = {"type": "sms", "base_url": base, **SETTINGS, **settings}
    return build(NAME, written, environ=ENVIRON, now_s=lambda: NOW_S, reach=LOOPBACK)


def reader(callback_url: str = CALLBACK_URL) -> CallbackReader:
    return reader_of(SMS, SETTINGS | {"auth_token_env": "TOKEN", "callback_url": callback_url}, ENVIRON)


def server() -> TwilioServer:
    keys = {KEY_SID: KEY_SECRET}
    return TwilioServer(account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN, senders=[SENDER], api_keys=keys)


# ---------------------------------------------------------------------------------------------- credentials


async def test_an_api_key_sends_and_checks_although_it_may_not_read_the_account() -> None:
    twilio = server()
    async with served(twilio) as base:
        connector = sms(base, api_key_sid=KEY_SID, api_key_secret_env="KEY")
        advice, receipt = await connector.check(), await connector.send(delivery_for("sms"))
        await connector.close()
    assert (advice, receipt.result) == (None, Result.DELIVERED)
    assert list(twilio.created) == [receipt.reference]
    assert receipt.recipient == CUSTOMER


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"auth_token_env": "KEY"}, "127.0.0.1 answered 401. Check the credentials of this connector."),
        (
            {"auth_token_env": "TOKEN", "account_sid": "AC" + "0" * 32},
            "127.0.0.1 answered 401. Check the credentials of this connector.",
        ),
        (
            {"api_key_sid": KEY_SID, "api_key_secret_env": "KEY", "account_sid": "AC" + "0" * 32},
            "127.0.0.1 answered 404. Check account_sid and base_url.",
        ),
    ],
)
async def test_the_check_tells_which_credential_is_wrong(settings: dict[str, str], advice: str) -> None:
    async with served(server()) as base:
        connector = sms(base, **settings)
        assert await connector.check() == advice
        await connector.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, 'setting "auth_token_env" is missing, and there is no "api_key_sid" in its place'),
        ({"api_key_sid": KEY_SID}, 'setting "api_key_sid" and setting "api_key_secret_env" need each other'),
        (
            {"api_key_sid": KEY_SID, "api_key_secret_env": "KEY", "callback_url": CALLBACK_URL},
            'setting "callback_url" needs "auth_token_env", which callbacks are signed with',
        ),
        (
            {"auth_token_env": "TOKEN", "messaging_service_sid": "MG" + "0" * 32},
            'exactly one of setting "sender" and setting "messaging_service_sid" is needed',
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConnectorMisconfigured) as refused:
        sms("http://127.0.0.1:9", **settings)
    assert str(refused.value) == f'connector "desk": {said}. See connectors/README.md.'


# -------------------------------------------------------------------------------------------------- errors


def error(code: int, message: str, status: int) -> bytes:
    return json.dumps({"code": code, "message": message, "more_info": "https://…", "status": status}).encode()


REFUSED, RETRY, UNKNOWN = Result.REFUSED, Result.RETRY, Result.UNKNOWN
FINDINGS = {
    21610: Finding(type=OutcomeType.UNSUBSCRIBED, reason="opted_out", error_code=21610),
    21211: Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="invalid_number", error_code=21211),
}


@pytest.mark.parametrize("type_name", ["sms", "twilio_voice"])
@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (400, 21610, "Attempt to send to unsubscribed recipient", (REFUSED, "the recipient has opted out: ")),
        (400, 21211, "Invalid 'To' Phone Number: +919812345678", (REFUSED, "")),
        (401, 20003, "Authenticate", (REFUSED, "")),
        (400, 14107, "Message rate limit exceeded", (RETRY, "")),
        (400, 21611, "This 'From' number has exceeded the maximum number of queued messages", (RETRY, "")),
        (429, 20429, "Too Many Requests", (RETRY, "")),
        (503, 20503, "Service unavailable", (RETRY, "")),
        (500, 20500, "Internal Server Error", (UNKNOWN, "")),
    ],
)
async def test_each_error_has_its_receipt(
    type_name: str, status: int, code: int, message: str, expected: tuple[Result, str]
) -> None:
    content, headers = error(code, message, status), {"Retry-After": "7"}
    async with served(Scripted(status, headers, content)) as base, opened(type_name, base) as connector:
        receipt = await connector.send(delivery_for(type_name))
    result, opening = expected
    assert receipt == Receipt(
        result=result,
        detail=f"{opening}Twilio error {code}: {message.replace(CUSTOMER, '[number]')}",
        status=status,
        retry_after_s=None if result is REFUSED else 7,
        # Whom it may have reached is told where it may have reached somebody.
        recipient=CUSTOMER if result is UNKNOWN else "",
        finding=FINDINGS.get(code),
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, Receipt(result=REFUSED, detail="<html>", status=404)),
        (429, Receipt(result=RETRY, detail="<html>", status=429)),
        (503, Receipt(result=RETRY, detail="<html>", status=503)),
        (500, Receipt(result=UNKNOWN, detail="<html>", status=500, recipient=CUSTOMER)),
        (502, Receipt(result=UNKNOWN, detail="<html>", status=502, recipient=CUSTOMER)),
        (504, Receipt(result=UNKNOWN, detail="<html>", status=504, recipient=CUSTOMER)),
    ],
)
async def test_an_answer_that_is_not_twilios_own_goes_by_its_status(status: int, expected: Receipt) -> None:
    async with served(Scripted(status, {}, b"<html>")) as base, opened("sms", base) as connector:
        assert await connector.send(delivery_for("sms")) == expected


@pytest.mark.parametrize("content", [b"", b"[]", b'{"sid": null}', b"not json"])
async def test_an_acceptance_counts_even_when_it_names_nothing(content: bytes) -> None:
    async with served(Scripted(201, {}, content)) as base, opened("sms", base) as connector:
        receipt = await connector.send(delivery_for("sms"))
    assert receipt == Receipt(result=Result.DELIVERED, status=201, recipient=CUSTOMER)


async def test_silence_is_unknown_and_names_who_may_have_been_written_to() -> None:
    async def stay_silent(reader: Any, _writer: Any) -> None:
        await reader.read()

    async with raw_server(stay_silent) as base, opened("sms", base, timeout_s=0.2) as connector:
        receipt = await connector.send(delivery_for("sms"))
    detail = "the request to 127.0.0.1 was written, then: no answer within 0.2 s"
    assert receipt == Receipt(result=Result.UNKNOWN, detail=detail, recipient=CUSTOMER)


async def test_a_customers_id_of_any_letters_comes_back_as_it_was() -> None:
    twilio = server()
    customer = "Zoë & söhne/100%?#+ 漢"
    async with served(twilio) as base, opened("sms", base) as connector:
        sid = (await connector.send(delivery_for("sms", customer_id=customer))).reference
    [outcome] = reader().read(twilio.report(sid, "delivered").callback).outcomes
    assert (outcome.action_id, outcome.customer_id) == (DELIVERY_ID, customer)


# ----------------------------------------------------------------------------------------------- callbacks


def test_the_signature_is_that_of_twilios_own_libraries() -> None:
    """The vector of their test suites."""
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
        "Caller": "+14158675309",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert signature("12345", url, list(fields.items())) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def delivered(url: str = f"{CALLBACK_URL}?action=a&customer=c") -> Callback:
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": CUSTOMER, "Empty": ""}
    return server().signed(url, fields).callback


@pytest.mark.parametrize(
    ("configured", "called"),
    [
        (CALLBACK_URL, CALLBACK_URL),
        (CALLBACK_URL, CALLBACK_URL.replace("example.com", "example.com:443")),
        ("https://engine.example.com:8443/in", "https://engine.example.com:8443/in"),
        ("https://engine.example.com:8443/in", "https://engine.example.com/in"),
        (f"{CALLBACK_URL}?tenant=a", f"{CALLBACK_URL}?tenant=a"),
    ],
)
def test_what_twilio_signs_is_believed_with_and_without_its_port(configured: str, called: str) -> None:
    url = f"{called}{'&' if '?' in called else '?'}action=a&customer=c"
    reading = reader(configured).read(delivered(url))
    assert [(outcome.id, outcome.action_id) for outcome in reading.outcomes] == [("SM1:delivered", "a")]
    assert (reading.status, reading.body, reading.media_type) == (200, b"<Response/>", "text/xml")


@pytest.mark.parametrize(
    ("altered", "status", "said"),
    [
        ({"headers": {}}, 401, "the X-Twilio-Signature header is missing"),
        ({"query": "action=a&customer=another"}, 403, "X-Twilio-Signature does not match: "),
        ({"body": b"MessageSid=SM1&MessageStatus=read"}, 403, "X-Twilio-Signature does not match: "),
        ({"headers": {"x-twilio-signature": "é"}}, 403, "X-Twilio-Signature does not match: "),
        ({"body": "é".encode()}, 400, "the body is not an URL-encoded form"),
        ({"body": b"a=1&" * 300}, 400, "the body is not an URL-encoded form"),
    ],
)
def test_what_is_altered_is_refused(altered: dict[str, Any], status: int, said: str) -> None:
    with pytest.raises(CallbackRefused) as refused:
        reader().read(replace(delivered(), **altered))
    assert refused.value.status == status
    assert str(refused.value).startswith(said)


def test_without_a_callback_url_nothing_can_be_proved() -> None:
    unset = reader_of(SMS, SETTINGS | {"auth_token_env": "TOKEN"}, ENVIRON)
    with pytest.raises(CallbackRefused, match='no "callback_url"') as refused:
        unset.read(delivered())
    assert refused.value.status == 403
