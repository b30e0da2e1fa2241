"""What Firebase is told, what its errors come to, and how access tokens are fetched, shared and renewed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.callback import OutcomeType
from connectors.conformance.bench import LOOPBACK, NAME, NOW_S
from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector, Finding, Receipt, Result
from connectors.registry import build
from load_tests.servers.providers.fcm import Fcm, fcm_error
from tests.contract.connectors.example_push import PROJECT, fcm, key_file
from tests.contract.connectors.servers import Scripted, delivery_for, opened, served

DEVICE = "d3v1ce:APA91b"


@asynccontextmanager
async def firebase(**settings: Any) -> AsyncIterator[tuple[Fcm, Connector]]:
    server = fcm()
    async with served(server.app()) as base, opened("push", base, **settings) as connector:
        yield server, connector


async def test_a_notification_says_everything_and_a_repeat_of_it_replaces_it_on_the_screen() -> None:
    async with firebase() as (server, connector):
        receipt = await connector.send(delivery_for("push"))
    assert receipt == Receipt(result=Result.DELIVERED, status=200, reference=f"projects/{PROJECT}/messages/0:1")
    link = "https://shop.example/basket"
    assert server.sent == [
        {
            "token": DEVICE,
            "notification": {"title": "Your basket waits", "body": "Zoë, it is still 漢字."},
            "data": {"basket": "b1", "items": "3", "gift": "true", "link": link, "action_id": "7d0c41"},
            "android": {"priority": "HIGH", "notification": {"tag": "7d0c41"}, "ttl": "60s"},
            "webpush": {"notification": {"tag": "7d0c41"}, "fcm_options": {"link": link}, "headers": {"TTL": "60"}},
            "apns": {"headers": {"apns-collapse-id": "7d0c41", "apns-expiration": str(int(NOW_S) + 60)}},
        }
    ]


async def test_facts_alone_go_to_a_topic_and_wake_the_app_without_a_notification() -> None:
    async with firebase() as (server, connector):
        await connector.send(
            delivery_for("push", params={"topic": "offers", "data": {"sale": "b2"}}, deadline_at_ms=None)
        )
    assert server.sent == [
        {
            "topic": "offers",
            "data": {"sale": "b2", "action_id": "7d0c41"},
            "android": {"priority": "HIGH"},
            "apns": {"headers": {"apns-collapse-id": "7d0c41"}},
        }
    ]


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({"to": "t", "topic": "o", "text": "x"}, 'params "to" and "topic" are both there. Give one of them.'),
        (
            {"to": "t", "data": {"from": "x"}},
            'param "data": the name "from" is taken; choose another. '
            "It is: Facts for the app, as an object of texts, numbers and booleans; they arrive as text.",
        ),
    ],
)
async def test_a_message_that_firebase_could_not_take_is_refused_unsent(params: dict[str, Any], detail: str) -> None:
    async with firebase() as (server, connector):
        receipt = await connector.send(delivery_for("push", params=params))
    assert receipt == Receipt(result=Result.REFUSED, detail=detail)
    assert (server.sent, server.grants) == ([], 0)


async def test_a_dead_token_is_told_by_the_first_word_of_the_detail_and_named_as_the_recipient() -> None:
    async with firebase() as (server, connector):
        server.unregistered.add(DEVICE)
        receipt = await connector.send(delivery_for("push"))
    assert receipt == Receipt(
        result=Result.REFUSED,
        status=404,
        detail="UNREGISTERED: Requested entity was not found.",
        recipient=DEVICE,
        finding=Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="unregistered"),
    )


SAID = "It is so."


@pytest.mark.parametrize(
    ("status", "code", "name", "result"),
    [
        (404, "UNREGISTERED", "", Result.REFUSED),
        (403, "SENDER_ID_MISMATCH", "", Result.REFUSED),
        (400, "INVALID_ARGUMENT", "", Result.REFUSED),
        (401, "THIRD_PARTY_AUTH_ERROR", "", Result.REFUSED),
        (429, "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED", Result.RETRY),
        (503, "UNAVAILABLE", "UNAVAILABLE", Result.RETRY),
        (500, "INTERNAL", "INTERNAL", Result.RETRY),
    ],
)
async def test_each_code_of_firebase_has_its_result(status: int, code: str, name: str, result: Result) -> None:
    server, answer = fcm(), Scripted(status, {}, json.dumps(fcm_error(status, SAID, code=code, name=name)).encode())
    async with (
        served(server.app()) as google,
        served(answer) as base,
        opened("push", google, base_url=base) as connector,
    ):
        receipt = await connector.send(delivery_for("push"))
    assert (receipt.result, receipt.status, receipt.detail) == (result, status, f"{code}: {SAID}")
    assert (receipt.finding is not None) == (code == "UNREGISTERED")
    assert (len(answer.requests), server.grants) == (1, 1)


async def test_one_access_token_serves_many_deliveries_that_begin_at_once() -> None:
    async with firebase() as (server, connector):
        receipts = await asyncio.gather(*(connector.send(delivery_for("push", id=f"id-{n}")) for n in range(20)))
        receipts.append(await connector.send(delivery_for("push")))
    assert {receipt.result for receipt in receipts} == {Result.DELIVERED}
    assert (len(server.sent), server.grants) == (21, 1)


async def test_an_access_token_is_renewed_before_it_ends() -> None:
    now_s = NOW_S
    server = fcm()
    server.now_s = lambda: now_s
    async with served(server.app()) as base:
        settings = {"type": "push", "base_url": base, "credentials_env": "FIREBASE"}
        connector = build(NAME, settings, environ={"FIREBASE": key_file(base)}, now_s=lambda: now_s, reach=LOOPBACK)
        grants = []
        for later_s in (0, 3_298, 3_300):
            now_s = NOW_S + later_s
            assert (await connector.send(delivery_for("push"))).result is Result.DELIVERED
            grants.append(server.grants)
        await connector.close()
    assert grants == [1, 1, 2]


async def test_an_access_token_that_is_refused_is_fetched_anew_within_the_attempt() -> None:
    async with firebase() as (server, connector):
        await connector.send(delivery_for("push"))
        server.revoke()
        receipt = await connector.send(delivery_for("push", id="second"))
    assert receipt.result is Result.DELIVERED
    assert ([message["data"]["action_id"] for message in server.sent], server.grants) == (["7d0c41", "second"], 2)


async def test_a_key_of_another_account_is_refused_in_googles_words() -> None:
    server = fcm()
    async with served(server.app()) as base:
        key = key_file(base, client_email="other@shop-1.iam.gserviceaccount.com")
        settings = {"type": "push", "base_url": base, "credentials_env": "FIREBASE"}
        connector = build(NAME, settings, environ={"FIREBASE": key}, now_s=lambda: NOW_S, reach=LOOPBACK)
        receipt, advice = await connector.send(delivery_for("push")), await connector.check()
        await connector.close()
    detail = 'no access token: {"error":"invalid_grant","error_description":"Invalid grant: account not found"}'
    assert receipt == Receipt(result=Result.REFUSED, status=400, detail=detail)
    assert advice == f"{detail} Check credentials_env, project and that the account may send messages."


async def test_a_token_endpoint_that_keeps_silent_sent_nothing() -> None:
    async def say_nothing(scope: Any, receive: Any, send: Any) -> None:
        while scope["type"] == "http" and (await receive())["type"] != "http.disconnect":
            continue

    async with served(say_nothing) as base, opened("push", base, timeout_s=0.2) as connector:
        receipt = await connector.send(delivery_for("push"))
    assert receipt.result is Result.RETRY
    assert receipt.detail.startswith("no access token")


async def test_the_check_tells_a_project_that_the_account_may_not_use() -> None:
    async with firebase(project="shop-2") as (server, connector):
        advice = await connector.check()
    assert advice == (
        "PERMISSION_DENIED: Permission 'cloudmessaging.messages.create' denied on resource "
        "'/v1/projects/shop-2/messages:send' Check credentials_env, project and that the account may send messages."
    )
    assert server.sent == []


REMEDY = "Make a key of the service account in the Google Cloud console and set the variable to it or to its path."


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/nowhere/key.json", "the key file cannot be read: No such file or directory"),
        ("{", "the key is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (
            '{"client_email": "a@b"}',
            'the key is not one of a service account: field "private_key" is missing',
        ),
        (
            '{"client_email": "a@b", "private_key": "-----BEGIN s3cret"}',
            'the key\'s "private_key" is not an RSA key in PEM form',
        ),
    ],
)
def test_a_key_that_is_none_is_told_without_being_shown(value: str, said: str) -> None:
    with pytest.raises(ConnectorMisconfigured) as error:
        build("push", {"type": "push", "credentials_env": "FIREBASE"}, environ={"FIREBASE": value})
    assert str(error.value) == (
        f'connector "push": setting "credentials_env": {said} (in the environment variable "FIREBASE"). {REMEDY}'
    )


def test_a_project_that_nobody_names_is_asked_for() -> None:
    environ = {"FIREBASE": key_file("http://127.0.0.1", project_id="")}
    with pytest.raises(ConnectorMisconfigured) as error:
        build("push", {"type": "push", "credentials_env": "FIREBASE"}, environ=environ)
    assert str(error.value) == (
        'connector "push": setting "project" is missing, and the service account names none. '
        "Give the id of the Firebase project."
    )
