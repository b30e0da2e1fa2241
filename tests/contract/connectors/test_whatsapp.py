"""The whatsapp connector beyond the conformance suite: its requests, Meta's errors, and what Meta reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from connectors.callback import Callback, CallbackReader, CallbackRefused, Outcome, OutcomeType
from connectors.protocol import Finding, Receipt, Result
from connectors.whatsapp import WHATSAPP
from load_tests.servers.providers.whatsapp import WhatsAppServer
from tests.contract.connectors.example_whatsapp import (
    CALLBACK_URL,
    CUSTOMER,
    EXAMPLE,
    VERIFY_TOKEN,
    graph_error,
    number,
)
from tests.contract.connectors.outcome_address import OutcomeAddress, reader_of
from tests.contract.connectors.servers import At, Scripted, delivery_for, opened, served

DELIVERED, READ = OutcomeType.MESSAGE_DELIVERED, OutcomeType.MESSAGE_READ
BOUNCED, FAILED = OutcomeType.MESSAGE_BOUNCED, OutcomeType.MESSAGE_FAILED
STOPPED, STARTED, RECEIVED = OutcomeType.UNSUBSCRIBED, OutcomeType.RESUBSCRIBED, OutcomeType.MESSAGE_RECEIVED
NOW_MS = 1_772_442_000_000


def reader(environ: Mapping[str, str] | None = None, **settings: Any) -> CallbackReader:
    written = EXAMPLE.settings(At("http://127.0.0.1:9")) | settings
    return reader_of(WHATSAPP, written, dict(EXAMPLE.environ(None) if environ is None else environ))


async def sent(params: dict[str, Any], server: WhatsAppServer | None = None) -> tuple[Receipt, dict[str, Any]]:
    whatsapp = server or number()
    async with served(whatsapp) as base, opened("whatsapp", base) as connector:
        receipt = await connector.send(delivery_for("whatsapp", params={"to": CUSTOMER, **params}))
    return receipt, whatsapp.sent.get(receipt.reference, {})


# ------------------------------------------------------------------------------------------------- requests


async def test_a_template_in_another_language_with_more_than_a_body() -> None:
    header = {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://shop.example.com/a.png"}}]}
    params = {"template": "basket_waits", "language": "de", "variables": {"name": "Zoë", "count": 2}}
    receipt, content = await sent(params | {"components": [header]})
    assert (receipt.result, receipt.recipient) == (Result.DELIVERED, CUSTOMER)
    assert content["template"] == {
        "name": "basket_waits",
        "language": {"code": "de"},
        "components": [
            {
                "type": "body",
                "parameters": [
                    {"type": "text", "parameter_name": "name", "text": "Zoë"},
                    {"type": "text", "parameter_name": "count", "text": "2"},
                ],
            },
            header,
        ],
    }


async def test_what_a_customer_types_is_one_line_in_a_template_because_meta_takes_no_other() -> None:
    header = {"type": "header", "parameters": [{"type": "text", "text": "Ana\r\n\tX"}, {"type": "image", "image": {}}]}
    params = {"template": "basket_waits", "variables": ["Ana\nEve\u2028 *b*", "a    b   c\td"], "components": [header]}
    receipt, content = await sent(params)
    assert (receipt.result, receipt.detail) == (Result.DELIVERED, "")
    body, head = content["template"]["components"]
    assert [one["text"] for one in body["parameters"]] == ["Ana Eve *b*", "a b   c d"]
    assert head["parameters"] == [{"type": "text", "text": "Ana X"}, {"type": "image", "image": {}}]
    _, free = await sent({"text": "Two\nlines"})
    assert free["text"]["body"] == "Two\nlines"


async def test_a_text_is_sent_as_it_stands() -> None:
    _, content = await sent({"text": "See https://shop.example.com", "preview_url": True})
    assert (content["type"], content["text"]) == ("text", {"body": "See https://shop.example.com", "preview_url": True})


async def test_buttons_go_below_the_text() -> None:
    _, content = await sent({"text": "Is nine o'clock right?", "buttons": {"yes": "Yes", "change": "Another time"}})
    assert content["interactive"] == {
        "type": "button",
        "body": {"text": "Is nine o'clock right?"},
        "action": {
            "buttons": [
                {"type": "reply", "reply": {"id": "yes", "title": "Yes"}},
                {"type": "reply", "reply": {"id": "change", "title": "Another time"}},
            ]
        },
    }


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({}, 'param "template" or "text" is missing. See connectors/README.md.'),
        (
            {"text": "Hi", "template": "basket_waits"},
            'only one of param "template" and param "text" can be sent. See connectors/README.md.',
        ),
        (
            {"template": "basket_waits", "buttons": {"yes": "Yes"}},
            'param "buttons" needs param "text"; buttons of a template are part of it. See connectors/README.md.',
        ),
        (
            {"text": "x" * 1025, "buttons": {"yes": "Yes"}},
            'param "text" may have 1024 characters above buttons. See connectors/README.md.',
        ),
        (
            {"text": "Hi", "buttons": {"yes": "x" * 21}},
            'param "buttons": a title must have 1 to 20 characters. See connectors/README.md.',
        ),
    ],
)
async def test_what_no_message_can_be_is_refused_unsent(params: dict[str, Any], detail: str) -> None:
    receipt, content = await sent(params)
    assert receipt == Receipt(result=Result.REFUSED, detail=detail)
    assert content == {}


async def test_it_carries_whatsapp_messages_alone() -> None:
    async with opened("whatsapp", "http://127.0.0.1:9") as connector:
        receipt = await connector.send(delivery_for("whatsapp", kind="sms"))
    assert receipt == Receipt(result=Result.REFUSED, detail='kind "sms" is not a WhatsApp message')


async def test_ids_too_long_for_meta_leave_the_customer_out() -> None:
    whatsapp = number()
    async with served(whatsapp) as base, opened("whatsapp", base) as connector:
        await connector.send(delivery_for("whatsapp", customer_id="ü" * 200))
    [content] = whatsapp.sent.values()
    assert content["biz_opaque_callback_data"] == "action=7d0c41"


# --------------------------------------------------------------------------------------------------- errors


async def test_a_template_with_the_wrong_number_of_variables_is_refused() -> None:
    receipt, _ = await sent({"template": "basket_waits", "variables": ["Zoë"]})
    assert receipt == Receipt(
        result=Result.REFUSED,
        status=400,
        detail="WhatsApp error 132000: (#132000) Number of parameters does not match the expected number of params "
        "(body: number of localizable_params (1) does not match the expected (2))",
    )


@pytest.mark.parametrize(
    ("status", "code", "result"),
    [
        (400, 100, Result.REFUSED),
        (400, 131047, Result.REFUSED),
        (400, 131026, Result.REFUSED),
        (400, 131050, Result.REFUSED),
        (401, 190, Result.REFUSED),
        (403, 10, Result.REFUSED),
        (400, 4, Result.RETRY),
        (400, 80007, Result.RETRY),
        (400, 130429, Result.RETRY),
        (400, 131056, Result.RETRY),
        (400, 131048, Result.RETRY),
        (429, 130429, Result.RETRY),
        (500, 131000, Result.RETRY),
        (500, 131016, Result.RETRY),
        (503, 2, Result.RETRY),
        (500, 1, Result.UNKNOWN),
    ],
)
async def test_each_error_has_its_result(status: int, code: int, result: Result) -> None:
    answer = graph_error(status, code, f"(#{code}) Message to 919812345678")
    app = Scripted(status, {}, json.dumps(answer.body).encode())
    async with served(app) as base, opened("whatsapp", base) as connector:
        receipt = await connector.send(delivery_for("whatsapp"))
    assert (receipt.result, receipt.status) == (result, status)
    # The code is no number to hide, although it has as many digits as a short one.
    assert receipt.detail == f"WhatsApp error {code}: (#{code}) Message to [number]"
    assert receipt.recipient == (CUSTOMER if result is Result.UNKNOWN else "")
    assert receipt.finding == {
        131026: Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="undeliverable", error_code=131026),
        131050: Finding(type=OutcomeType.UNSUBSCRIBED, reason="opted_out", error_code=131050),
    }.get(code)


@pytest.mark.parametrize(
    ("status", "content", "result"),
    [
        (200, b"", Result.DELIVERED),
        (200, b'{"messages": []}', Result.DELIVERED),
        (400, b'{"error": "no"}', Result.REFUSED),
        (429, b"", Result.RETRY),
        (503, b"", Result.RETRY),
        (500, b"<html>", Result.UNKNOWN),
        (502, b'{"error": {"message": "no code"}}', Result.UNKNOWN),
        (504, b"", Result.UNKNOWN),
    ],
)
async def test_an_answer_without_a_code_goes_by_its_status(status: int, content: bytes, result: Result) -> None:
    async with served(Scripted(status, {}, content)) as base, opened("whatsapp", base) as connector:
        receipt = await connector.send(delivery_for("whatsapp"))
    assert (receipt.result, receipt.reference) == (result, "")


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"token_env": "WHATSAPP_APP_SECRET"}, "127.0.0.1 answered 401. Check the credentials of this connector."),
        (
            {"phone_number_id": "999999"},
            "127.0.0.1 answered 400. Check phone_number_id, api_version, and that the token's system user may use the "
            "number.",
        ),
    ],
)
async def test_the_check_tells_a_wrong_token_from_a_wrong_number(settings: dict[str, str], advice: str) -> None:
    async with served(number()) as base, opened("whatsapp", base, **settings) as connector:
        assert await connector.check() == advice


# ------------------------------------------------------------------------------------------------ callbacks


def read(*values: dict[str, Any], field: str = "messages") -> tuple[Outcome, ...]:
    return reader().read(number().webhook(CALLBACK_URL, *values, field=field).callback).outcomes


@pytest.mark.parametrize(
    ("word", "code", "expected"),
    [
        ("sent", None, None),
        ("delivered", None, (DELIVERED, {})),
        ("read", None, (READ, {})),
        ("failed", 131026, (BOUNCED, {"reason": "undeliverable", "error_code": 131026})),
        ("failed", 131047, (FAILED, {"reason": "outside_24_hours", "error_code": 131047})),
        ("failed", 131049, (FAILED, {"reason": "too_much_marketing", "error_code": 131049})),
        ("failed", 131050, (STOPPED, {"reason": "opted_out", "error_code": 131050})),
        ("failed", 199999, (FAILED, {"reason": "other", "error_code": 199999})),
        ("failed", None, (FAILED, {"reason": "failed"})),
        ("played", None, None),
    ],
)
def test_each_status_has_its_outcome(
    word: str, code: int | None, expected: tuple[OutcomeType, dict[str, Any]] | None
) -> None:
    status: dict[str, Any] = {"id": "wamid.1", "status": word, "timestamp": "1772442000", "recipient_id": CUSTOMER[1:]}
    status["biz_opaque_callback_data"] = "action=7d0c41&customer=Zo%C3%AB+1"
    outcomes = read({"statuses": [status | ({"errors": [{"code": code, "title": "…"}]} if code else {})]})
    if expected is None:
        assert outcomes == ()
        return
    kind, properties = expected
    assert outcomes == (
        Outcome(
            id=f"wamid.1:{word}",
            type=kind,
            action_id="7d0c41",
            customer_id="Zoë 1",
            address=CUSTOMER,
            at_ms=NOW_MS,
            properties={"channel": "whatsapp", "reference": "wamid.1", **properties},
        ),
    )


@pytest.mark.parametrize(
    ("kind", "part", "expected", "properties"),
    [
        ("text", {"body": "Is it in blue?"}, RECEIVED, {"text": "Is it in blue?"}),
        ("text", {"body": " STOP "}, STOPPED, {"text": " STOP "}),
        ("text", {"body": "Start"}, STARTED, {"text": "Start"}),
        ("text", {"body": "don't stop"}, RECEIVED, {"text": "don't stop"}),
        ("button", {"text": "Stop promotions", "payload": "x"}, STOPPED, {"text": "Stop promotions", "payload": "x"}),
        ("button", {"text": "Nein danke", "payload": "STOP"}, STOPPED, {"text": "Nein danke", "payload": "STOP"}),
        (
            "interactive",
            {"type": "button_reply", "button_reply": {"id": "yes", "title": "Yes"}},
            RECEIVED,
            {"text": "Yes", "payload": "yes"},
        ),
        (
            "interactive",
            {"type": "list_reply", "list_reply": {"id": "nine", "title": "Nine"}},
            RECEIVED,
            {"text": "Nine", "payload": "nine"},
        ),
        ("image", {"id": "1", "caption": "this one"}, RECEIVED, {"text": "this one"}),
        ("reaction", {"message_id": "wamid.1", "emoji": "👍"}, RECEIVED, {"text": "👍"}),
        ("audio", {"id": "1"}, RECEIVED, {}),
    ],
)
def test_each_message_of_a_customer_has_its_outcome(
    kind: str, part: dict[str, Any], expected: OutcomeType, properties: dict[str, str]
) -> None:
    message = number().inbound(CUSTOMER, kind, part, context="wamid.1")
    [outcome] = read({"messages": [message]})
    common = {"channel": "whatsapp", "reference": message["id"], "message_type": kind, "to": "+15550783881"}
    assert outcome == Outcome(
        id=f"{message['id']}:received",
        type=expected,
        address=CUSTOMER,
        at_ms=NOW_MS,
        properties={**common, "in_reply_to": "wamid.1", **properties},
    )


def test_words_of_ones_own_withdraw_consent() -> None:
    post = number().webhook(CALLBACK_URL, {"messages": [number().inbound(CUSTOMER, "text", {"body": "Bas"})]})
    [outcome] = reader(stop_words=["bas"]).read(post.callback).outcomes
    assert outcome.type is STOPPED


@pytest.mark.parametrize(("word", "expected"), [("stop", STOPPED), ("resume", STARTED)])
def test_a_preference_set_in_whatsapp_itself_is_consent(word: str, expected: OutcomeType) -> None:
    preference = {"wa_id": CUSTOMER[1:], "category": "marketing_messages", "value": word, "timestamp": 1772442000}
    [outcome] = read({"user_preferences": [preference]}, field="user_preferences")
    assert (outcome.type, outcome.address, outcome.at_ms) == (expected, CUSTOMER, NOW_MS)
    assert outcome.id == f"919812345678:preference:{word}:{NOW_MS}"


def test_several_entries_are_read_in_their_order() -> None:
    first = {"id": "wamid.1", "status": "delivered"}
    second = {"id": "wamid.2", "status": "read"}
    reply = number().inbound(CUSTOMER, "text", {"body": "Thanks"})
    outcomes = read({"statuses": [first, second]}, {"messages": [reply]}, {"statuses": [first | {"status": "read"}]})
    assert [outcome.type for outcome in outcomes] == [DELIVERED, READ, RECEIVED, READ]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"entry": None},
        {"entry": [None, {"changes": "x"}, {"changes": [{}, {"value": []}]}]},
        {"entry": [{"changes": [{"value": {"statuses": [1, {}], "messages": [{"id": 7}], "user_preferences": {}}}]}]},
        {"entry": [{"changes": [{"value": {"messages": [{"id": "a", "from": "1", "type": "system"}]}}]}]},
    ],
)
def test_what_is_signed_and_tells_nothing_has_no_outcomes(content: dict[str, Any]) -> None:
    post = number().signed(CALLBACK_URL, json.dumps(content).encode())
    assert reader().read(post.callback).outcomes == ()


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_signed_and_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(CallbackRefused, match=r"^the body is not a JSON object$") as refused:
        reader().read(number().signed(CALLBACK_URL, body).callback)
    assert refused.value.status == 400


def test_what_is_not_rightly_signed_is_refused() -> None:
    genuine = number().webhook(CALLBACK_URL, {"statuses": []}).callback
    without_secret = {"WHATSAPP_TOKEN": "t"}
    cases = (
        (reader(), replace(genuine, headers={}), 401, "the X-Hub-Signature-256 header is missing"),
        (reader(), replace(genuine, body=genuine.body + b" "), 403, "does not match: check app_secret_env"),
        (reader(), replace(genuine, headers={"x-hub-signature-256": "sha256=é"}), 403, "does not match"),
        (reader(without_secret, app_secret_env="", verify_token_env=""), genuine, 403, 'has no "app_secret_env"'),
    )
    for known, callback, status, said in cases:
        with pytest.raises(CallbackRefused, match=said) as refused:
            known.read(callback)
        assert refused.value.status == status


def asking(query: str) -> Callback:
    return Callback(method="GET", path="/v1/outcomes/desk", query=query, headers={}, body=b"")


def test_the_address_is_verified_by_its_token() -> None:
    query = f"hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={VERIFY_TOKEN}"
    reading = reader().read(asking(query))
    assert (reading.status, reading.body, reading.media_type, reading.outcomes) == (
        200,
        b"1158201444",
        "text/plain",
        (),
    )


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong", 403),
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=%C3%A9", 403),
        ("hub.mode=subscribe&hub.challenge=1", 403),
        (f"hub.mode=unsubscribe&hub.challenge=1&hub.verify_token={VERIFY_TOKEN}", 400),
        (f"hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}", 400),
        ("", 400),
    ],
)
def test_an_address_is_not_verified_otherwise(query: str, status: int) -> None:
    with pytest.raises(CallbackRefused) as refused:
        reader().read(asking(query))
    assert refused.value.status == status


def test_without_a_verify_token_no_address_is_verified() -> None:
    with pytest.raises(CallbackRefused, match='no "verify_token_env"') as refused:
        reader(verify_token_env="").read(asking("hub.mode=subscribe&hub.challenge=1&hub.verify_token="))
    assert refused.value.status == 403


async def test_messages_and_their_reports_make_the_whole_way() -> None:
    """Free text fails outside the 24 hours and arrives once the customer has written."""
    whatsapp, address = number(), OutcomeAddress()
    address.reader = reader()
    async with served(whatsapp) as base, served(address) as engine, opened("whatsapp", base) as connector:
        url = f"{engine}/v1/outcomes/desk"
        text = {"to": CUSTOMER, "text": "Still interested?"}
        early = (await connector.send(delivery_for("whatsapp", params=text))).reference
        posts = [whatsapp.webhook(url, {"statuses": [whatsapp.settled(early)]})]
        posts.append(whatsapp.webhook(url, {"messages": [whatsapp.inbound(CUSTOMER, "text", {"body": "Yes"})]}))
        late = (await connector.send(delivery_for("whatsapp", id="7d0c42", params=text))).reference
        posts.append(whatsapp.webhook(url, {"statuses": [whatsapp.settled(late)]}))
        assert [(await post.send()).status_code for post in posts] == [200] * 3
    assert [(outcome.type, outcome.action_id, outcome.customer_id) for outcome in address.outcomes] == [
        (FAILED, "7d0c41", "c1"),
        (RECEIVED, "", ""),
        (DELIVERED, "7d0c42", "c1"),
    ]
