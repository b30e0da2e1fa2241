"""The gateway, fuzzed from its own OpenAPI document: no 5xx, no answer that the document does not know.

A real engine answers over loopback, so that hostile requests pass the real parsers; what they leave behind is
decided by the real worker while the next ones come.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

WRITE_KEY = "fuzz-write-key"
Effort = Callable[[int], settings]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
PROBLEM_KEYS = {"type", "title", "status", "detail"}


@pytest.fixture(scope="module")
def client(engine: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.url, timeout=30) as connected:
        yield connected


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()  # type: ignore[no-any-return]


def assert_problem(answer: httpx.Response) -> None:
    """Whatever is refused is a problem document that says what and why, and nothing of our insides."""
    assert answer.status_code < 500, (answer.request.method, str(answer.request.url), answer.status_code, answer.text)
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem = answer.json()
        assert problem.keys() >= PROBLEM_KEYS
        assert problem["status"] == answer.status_code
        assert problem["detail"] and problem["type"].startswith("urn:journey:problem:")
        assert "Traceback" not in answer.text and "/site-packages/" not in answer.text


# ---------------------------------------------------------------------------------------- from the document


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: f"{mode.value} requests")
def test_every_operation_answers_as_its_own_document_says(
    engine: Any, client: httpx.Client, document: dict[str, Any], effort: Effort, mode: GenerationMode
) -> None:
    """Each operation gets requests that fit its description, and requests that do not."""
    schema = schemathesis.openapi.from_dict(document)
    tried: set[str] = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
            continue  # A request without any part cannot be wrong.

        @effort(5)
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers(case: Any) -> None:
            tried.add(operation.label)  # noqa: B023 - it runs before the next operation's turn.
            answer = case.call(base_url=engine.url)
            case.validate_response(answer, checks=CHECKS)

        with contextlib.suppress(Unsatisfiable):  # Nothing that is wrong for one of these can be put into a URL.
            answers()
    assert len(tried) >= 20 if mode is GenerationMode.POSITIVE else len(tried) >= 15
    assert client.get("/healthz").json() == {"status": "ok"}


# ------------------------------------------------------------------------------------------- beyond the document

PATHS = ["/v1/events", "/v1/track", "/v1/batch", "/v1/rulebooks", "/v1/rulebooks/plan", "/v1/dead-letters/redrive"]
TYPES = [
    *("application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "text/plain"),
    *(
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "",
        ";",
        "a/b/c",
        "\xff",
    ),
]
DEEP = 20_000
BODIES = [
    b"",
    b"\x00",
    b"\xff\xfe{}",
    b"[" * DEEP,
    b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    b"[" + b"{}," * 9_999 + b"{}]",
    b"[" + b"{}," * 10_001 + b"{}]",
    b'{"batch":[' + b"[" * DEEP,
    b'{"type":"lead_submitted","id":"d","id":"e","customer_id":"c","occurred_at":1e400}',
    b'{"files":{"a.yaml":"' + b"x: [" * 5_000 + b'"}}',
    b'{"files":{"../../etc/passwd":"a: 1","":"","a\\u0000b.yaml":"a: 1"}}',
    b'{"files":null}',
    b'{"ids":["' + b"x" * 100_000 + b'"]}',
    b"9" * 100_000,
    b'"\\ud800"',
    b"1" * 600_000,
]
BOMB = gzip.compress(b" " * 50_000_000)


@pytest.mark.parametrize("path", PATHS)
def test_deep_huge_and_broken_bodies_are_refused_with_a_reason(client: httpx.Client, path: str) -> None:
    for body in BODIES:
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert_problem(answer)
        assert answer.status_code >= 400 or path == "/v1/dead-letters/redrive", (path, body[:40], answer.text)
    bomb = client.post(path, content=BOMB, headers={"content-type": "application/json", "content-encoding": "gzip"})
    assert_problem(bomb)
    assert bomb.status_code in {400, 413, 415}


def test_any_body_under_any_content_type_is_taken_or_refused(client: httpx.Client, effort: Effort) -> None:
    text = st.text(max_size=200).map(lambda one: one.encode(errors="surrogatepass"))
    body = st.binary(max_size=300) | text | st.sampled_from(BODIES[:7])
    encoding = st.sampled_from(["", "gzip", "identity", "br", "gzip, gzip", "\x80"])

    @effort(100)
    @given(path=st.sampled_from(PATHS), body=body, media=st.sampled_from(TYPES), encoding=encoding)
    def answers(path: str, body: bytes, media: str, encoding: str) -> None:
        headers = {"content-type": media.encode("latin-1"), "content-encoding": encoding.encode("latin-1")}
        assert_problem(client.post(path, content=body, headers=headers))

    answers()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("sign", ["%0A", "%0D%0A"])
def test_no_id_in_a_path_has_a_line_break(client: httpx.Client, method: str, sign: str) -> None:
    answer = client.request(method, f"/v1/customers/c{sign}1")
    assert_problem(answer)
    assert (answer.status_code, answer.json()["detail"]) == (400, "The path has a line break in it.")


def test_any_path_query_and_header_is_answered(client: httpx.Client, effort: Effort) -> None:
    segment = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
        ["..", ".", "%00", "%2e%2e", "\x7f", "a" * 3_000]
    )
    value = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
    root = st.sampled_from(["/v1/customers/", "/v1/rulebooks/", "/v1/outcomes/", "/v1/", "/"])
    tail = st.sampled_from(["", "/timeline", "/explain", "/export", "/activate"])
    keys = st.sampled_from(["limit", "at", "rule", "customer_id", "x"])
    methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "X-Y"])
    names = st.sampled_from(
        ["accept", "origin", "host", "ce-id", "ce-type", "x-forwarded-for", "traceparent", "cookie"]
    )

    @effort(120)
    @given(
        method=methods,
        root=root,
        segment=segment,
        tail=tail,
        query=st.dictionaries(keys, value, max_size=3),
        headers=st.dictionaries(names, value, max_size=2),
    )
    def answers(
        method: str, root: str, segment: str, tail: str, query: dict[str, str], headers: dict[str, str]
    ) -> None:
        path = f"{root}{quote(segment, safe='')}{tail}"
        encoded = {name: one.encode() for name, one in headers.items()}
        try:
            answer = client.request(method, path, params=query, headers=encoded)
        except httpx.LocalProtocolError:
            return  # This client refuses to send what is no HTTP at all.
        if answer.headers.get("server") != "uvicorn" and answer.text == "Invalid HTTP request received.":
            return
        assert_problem(answer)

    answers()


def test_hostile_credentials_open_nothing_and_break_nothing(guarded: Any, effort: Effort) -> None:
    event = {"id": "e1", "type": "page_viewed", "customer_id": "c1", "occurred_at": 1_772_425_805_000}
    good = base64.b64encode(f"{WRITE_KEY}:".encode())
    credentials = st.one_of(
        st.binary(max_size=60).map(lambda raw: b"Basic " + base64.b64encode(raw)),
        st.binary(max_size=60).map(lambda raw: bytes(one for one in raw if one > 32 and one != 127)),
        st.text(max_size=20).map(lambda text: b"Bearer " + base64.urlsafe_b64encode(text.encode(errors="replace"))),
        st.sampled_from([b"Basic", b"Basic ", b"Basic \xff", b"Bearer", b"Basic " + good[:-1], b"Basic " + good * 2]),
        st.sampled_from([b"Digest x", b"Basic " + b"A" * 50_000, b"Bearer " + WRITE_KEY[:-1].encode()]),
    )
    with httpx.Client(base_url=guarded.url, timeout=30) as stranger:

        @effort(100)
        @given(value=credentials, path=st.sampled_from(["/v1/events", "/v1/customers/c1", "/v1/rulebooks"]))
        def answers(value: bytes, path: str) -> None:
            if WRITE_KEY.encode() in value:
                return
            try:
                answer = stranger.request("POST", path, json=event, headers={"authorization": value})
            except httpx.LocalProtocolError:
                return
            assert_problem(answer)
            assert answer.status_code in {400, 401, 403, 405, 431}, (value, answer.text)

        answers()
        taken = stranger.post("/v1/events", json=event, headers={"authorization": "Basic " + good.decode()})
        assert taken.status_code in {202, 400}, "the key itself opens the door"
        assert stranger.get("/v1/customers/c1", headers={"authorization": "Basic " + good.decode()}).status_code == 403
