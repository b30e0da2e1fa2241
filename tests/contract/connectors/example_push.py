"""The push connector against Firebase and Google's token endpoint."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.conformance.bench import NOW_S, Example, How
from connectors.conformance.http_bench import Answer, HttpBench
from load_tests.servers.providers.fcm import Fcm, fcm_error

PROJECT, EMAIL = "shop-1", "push@shop-1.iam.gserviceaccount.com"
REFUSED = "The registration token is not a valid FCM registration token"


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def pem() -> str:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return private_key().private_bytes(*form).decode()


def key_file(base: str, **changes: Any) -> str:
    written = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "k1",
        "private_key": pem(),
        "client_email": EMAIL,
        "token_uri": f"{base}/token",
    }
    return json.dumps(written | changes)


def fcm() -> Fcm:
    return Fcm(project=PROJECT, email=EMAIL, public_key=private_key().public_key(), now_s=lambda: NOW_S)


def is_attempt(request: Mapping[str, Any]) -> bool:
    return request["path"].endswith("messages:send") and "validate_only" not in request["body"]


def wrong_credentials(request: Mapping[str, Any]) -> Answer:
    if request["path"] == "/token":
        return Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
    return Answer(401, fcm_error(401, "Request had invalid authentication credentials."))


@asynccontextmanager
async def bench() -> AsyncIterator[HttpBench]:
    busy = fcm_error(429, "Quota exceeded for quota metric.", code="QUOTA_EXCEEDED", name="RESOURCE_EXHAUSTED")
    broken = fcm_error(503, "The service is currently unavailable.", code="UNAVAILABLE", name="UNAVAILABLE")
    server = HttpBench(
        fcm().app(),
        refusal=Answer(400, fcm_error(400, REFUSED, code="INVALID_ARGUMENT")),
        refusal_words=f"INVALID_ARGUMENT: {REFUSED}",
        instead={
            How.RETRY_LATER: Answer(429, busy, {"Retry-After": "7"}),
            How.BROKEN: Answer(503, broken),
            How.BAD_CREDENTIALS: wrong_credentials,
        },
        is_attempt=is_attempt,
    )
    async with server.served() as served:
        yield served


EXAMPLE = Example(
    bench=bench,
    settings=lambda bench: {"base_url": bench.base, "credentials_env": "FIREBASE"},
    environ=lambda bench: {"FIREBASE": key_file(bench.base)},
    kind="push",
    params={
        "to": "d3v1ce:APA91b",
        "title": "Your basket waits",
        "text": "Zoë, it is still 漢字.",
        "link": "https://shop.example/basket",
        "data": {"basket": "b1", "items": 3, "gift": True},
    },
    id_of=lambda request: request["body"]["message"]["data"]["action_id"],
    varies=frozenset({"assertion"}),
    secrets=(pem().splitlines()[1], "ya29.granted-1"),
)
