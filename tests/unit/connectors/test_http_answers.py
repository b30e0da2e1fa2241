"""What an HTTP answer means, row by row."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from connectors.http import RETRY_AFTER_S_MAX, HttpParameters, answer_receipt, json_request, retry_after_s
from connectors.protocol import Receipt, Result
from connectors.webhook import WebhookParameters

NOW_S = 1_772_442_000.0  # Mon, 02 Mar 2026 09:00:00 GMT


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, Result.DELIVERED),
        (201, Result.DELIVERED),
        (202, Result.DELIVERED),
        (204, Result.DELIVERED),
        (301, Result.REFUSED),
        (307, Result.REFUSED),
        (400, Result.REFUSED),
        (401, Result.REFUSED),
        (404, Result.REFUSED),
        (408, Result.RETRY),
        (409, Result.REFUSED),
        (410, Result.REFUSED),
        (422, Result.REFUSED),
        (425, Result.RETRY),
        (429, Result.RETRY),
        (500, Result.RETRY),
        (501, Result.RETRY),
        (502, Result.RETRY),
        (503, Result.RETRY),
        (504, Result.UNKNOWN),
    ],
)
def test_a_status_has_one_meaning(status: int, result: Result) -> None:
    receipt = answer_receipt(status, {}, b"", NOW_S)
    assert (receipt.result, receipt.status) == (result, status)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Mon, 02 Mar 2026 09:00:30 GMT", 30.0),
        ("Mon, 02 Mar 2026 08:00:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("\u0662", None),
        ("Mon, 99 Mar 2026 09:00:30 GMT", None),
        ("9" * 12, RETRY_AFTER_S_MAX),
        ("9" * 5_000, RETRY_AFTER_S_MAX),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_S_MAX),
        (f"Mon, 02 Mar {'9' * 5_000} 09:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, wait_s: float | None) -> None:
    assert retry_after_s(header, NOW_S) == wait_s


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_every_answer_to_retry_honours_retry_after(status: int) -> None:
    assert answer_receipt(status, {"retry-after": "9"}, b"", NOW_S).retry_after_s == 9.0


def test_a_refusal_keeps_the_first_500_characters_of_the_answer() -> None:
    assert answer_receipt(400, {}, "é".encode() * 900, NOW_S).detail == "é" * 500


def test_an_answer_that_is_not_utf_8_is_still_shown() -> None:
    assert answer_receipt(400, {}, b"caf\xe9", NOW_S).detail == "caf\N{REPLACEMENT CHARACTER}"


def test_a_redirect_says_where_it_points() -> None:
    receipt = answer_receipt(302, {"location": "https://example.com/new"}, b"moved", NOW_S)
    assert receipt.detail == "redirects are not followed; it points to https://example.com/new"


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (b'{"reference": "call-77"}', "call-77"),
        (b'{"reference": 77}', ""),
        (b'["reference"]', ""),
        (b"ok", ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_the_reference_is_the_answers_own_and_optional(answer: bytes, reference: str) -> None:
    assert answer_receipt(200, {}, answer, NOW_S).reference == reference


@pytest.mark.parametrize("delivery_id", ["", "a\r\nX: y", "id-é"])
def test_an_id_that_no_header_can_hold_is_refused(delivery_id: str) -> None:
    assert json_request(delivery_id, {}) == Receipt(
        result=Result.REFUSED, detail="the delivery's id is empty or not printable ASCII"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), "\ud800"])
def test_a_value_that_json_cannot_hold_is_refused(value: object) -> None:
    receipt = json_request("a1", {"value": value})
    assert isinstance(receipt, Receipt)
    assert receipt.result is Result.REFUSED
    assert receipt.detail.startswith("the delivery cannot be written as JSON: ")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "crm.example.com",
        "ftp://example.com",
        "http://",
        "http://a b/",
        "http://[::1",
        "http://h:99999/",
        "http://h/#x",
    ],
)
def test_only_an_absolute_http_url_is_an_address(url: str) -> None:
    with pytest.raises(ValidationError, match="must be an absolute http or https URL without a fragment"):
        WebhookParameters(url=url)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"X-Key": "a\nb"}, 'header "X-Key" is not printable ASCII'),
        ({"X Key": "a"}, 'header "X Key" is not printable ASCII'),
        ({"Idempotency-Key": "mine"}, 'header "Idempotency-Key" is set by the connector itself'),
        ({"webhook-ID": "mine"}, 'header "webhook-ID" is set by the connector itself'),
    ],
)
def test_headers_that_would_break_a_request_are_refused(headers: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HttpParameters(headers=headers)


def test_header_values_are_not_shown_when_parameters_are_printed() -> None:
    assert "s3cret" not in repr(HttpParameters(headers={"X-Api-Key": "s3cret"}))


def test_an_answer_that_is_nested_beyond_reading_has_no_reference() -> None:
    assert answer_receipt(200, {}, b"[" * 60_000, NOW_S) == Receipt(result=Result.DELIVERED, status=200)
