"""Signatures of webhooks."""

from __future__ import annotations

import base64

import pytest

from connectors.signature import SignatureRefused, parse_secrets, signed_headers, verify

# The example of the Standard Webhooks specification's reference libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT_S = 1614265330.0
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def headers_of(*secrets: str) -> dict[str, str]:
    return signed_headers(parse_secrets(" ".join(secrets)), MESSAGE_ID, AT_S, BODY)


def test_the_specifications_example_is_signed_as_it_says() -> None:
    assert headers_of(SECRET) == {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


def test_two_secrets_give_two_signatures_and_either_verifies() -> None:
    headers = headers_of(OTHER_SECRET, SECRET)
    assert headers["webhook-signature"].split()[1] == SIGNATURE
    verify(parse_secrets(SECRET), headers, BODY, AT_S)
    verify(parse_secrets(OTHER_SECRET), headers, BODY, AT_S)


@pytest.mark.parametrize(
    ("change", "now_s", "message"),
    [
        ({"webhook-id": ""}, AT_S, "webhook-id, webhook-timestamp and webhook-signature are all needed"),
        ({"webhook-signature": ""}, AT_S, "webhook-id, webhook-timestamp and webhook-signature are all needed"),
        ({"webhook-timestamp": "soon"}, AT_S, "webhook-timestamp is not a number of seconds"),
        ({"webhook-timestamp": "1" * 5_000}, AT_S, "webhook-timestamp is not a number of seconds"),
        ({"webhook-timestamp": "9" * 15}, AT_S, "webhook-timestamp is more than 300 s away from now"),
        ({"webhook-timestamp": "\u0661\u0662"}, AT_S, "webhook-timestamp is not a number of seconds"),
        ({}, AT_S + 301, "webhook-timestamp is more than 300 s away from now"),
        ({}, AT_S - 301, "webhook-timestamp is more than 300 s away from now"),
        ({"webhook-id": "another"}, AT_S, "webhook-signature matches no secret of this receiver"),
        ({"webhook-timestamp": "1614265331"}, AT_S, "webhook-signature matches no secret of this receiver"),
        ({"webhook-signature": "v1,é"}, AT_S, "webhook-signature matches no secret of this receiver"),
    ],
)
def test_what_is_not_signed_as_it_should_be_is_refused(change: dict[str, str], now_s: float, message: str) -> None:
    with pytest.raises(SignatureRefused) as refusal:
        verify(parse_secrets(SECRET), headers_of(SECRET) | change, BODY, now_s)
    assert str(refusal.value) == message


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(SignatureRefused):
        verify(parse_secrets(SECRET), headers_of(SECRET), BODY + b" ", AT_S)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("plain", "a secret must be whsec_ followed by base64"),
        ("whsec_!!!!", "a secret must be whsec_ followed by base64"),
        ("whsec_AAAA", "a secret must hold 24 to 64 bytes, this one has 3"),
    ],
)
def test_a_secret_that_is_not_one_is_refused(secret: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_secrets(secret)
