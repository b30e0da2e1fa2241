"""HTTP as connectors use it: one request under one deadline, and one table from its end to a ``Receipt``.

================================  =========  ==========================================================
what happened                     result     why
================================  =========  ==========================================================
2xx                               DELIVERED  the other side took it
408, 425, 429, 5xx                RETRY      it says "not now"; Retry-After is its wish
3xx                               REFUSED    redirects are not followed: a redirected POST may lose its body
other 4xx                         REFUSED    the same request will never be taken
no connection, no free slot       RETRY      nothing was written
an address out of reach           REFUSED    who runs the process has not permitted it (``connectors.reach``)
no answer after writing began     UNKNOWN    it may have been taken
================================  =========  ==========================================================
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

import httpx
from pydantic import AfterValidator, Field, PrivateAttr

from connectors.connector_type import Parameters
from connectors.protocol import Receipt, Result
from connectors.reach import GuardedTransport, Reach, forbidden

#: Headers that this library sets itself; settings may not.
RESERVED_HEADERS = frozenset(
    {"host", "content-type", "content-length", "transfer-encoding", "connection", "accept-encoding"}
    | {"idempotency-key", "webhook-id", "webhook-timestamp", "webhook-signature"}
)
DETAIL_CHARS_MAX = 500
ANSWER_BYTES_MAX = 64_000
#: A year. No delivery is tried for so long, so who asks for more asks not to be asked again.
RETRY_AFTER_S_MAX = 31_536_000.0
#: Shorter than the five seconds after which common servers close an idle connection, so that we close first.
IDLE_CONNECTION_S = 4.0

_RETRY_STATUSES = frozenset({408, 425, 429})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def _without_paths(record: logging.LogRecord) -> bool:
    """Keep the paths of URLs out of httpx's line about each request: that of an incoming webhook is its secret."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            f"{argument.scheme}://{argument.netloc.decode()}/..." if isinstance(argument, httpx.URL) else argument
            for argument in record.args
        )
    return True


logging.getLogger("httpx").addFilter(_without_paths)


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable or parts.fragment or re.search(r"\s", url):
        raise ValueError("must be an absolute http or https URL without a fragment")
    return url


def _plain_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f'header "{name}" is not printable ASCII')
        if name.lower() in RESERVED_HEADERS:
            raise ValueError(f'header "{name}" is set by the connector itself')
    return headers


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Headers = Annotated[dict[str, str], AfterValidator(_plain_headers)]


class HttpParameters(Parameters):
    """What every connector that speaks HTTP can be told."""

    headers: Headers = Field({}, repr=False, description="Headers added to each request, for instance an API key.")
    timeout_s: float = Field(10, gt=0, le=300, description="Deadline of one attempt, connecting included, in seconds.")
    connections_max: int = Field(100, ge=1, le=1_000, description="Most connections open to the other side at once.")

    _reach: Reach = PrivateAttr(default_factory=Reach.of_environment)

    @property
    def reach(self) -> Reach:
        """What may be connected to: never a setting of the rules, always the word of who runs the process."""
        return self._reach

    def within(self, reach: Reach) -> Self:
        """Return the same parameters with another reach."""
        other = self.model_copy()
        other._reach = reach
        return other


class HttpAnswer(NamedTuple):
    """What the other side answered: ``headers`` are looked up in lower case, ``body`` may be cut off at its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json_object(self) -> dict[str, Any]:
        """Return the body as a JSON object; empty when it is none."""
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


class HttpSender:
    """Sends requests over pooled connections. Never raises for what the network or the other side did.

    Proxy and netrc settings of the environment are not read: what a connector does is in its parameters alone.
    """

    def __init__(self, parameters: HttpParameters, now_s: Callable[[], float]) -> None:
        self._parameters = parameters
        self._now_s = now_s
        limits = httpx.Limits(
            max_connections=parameters.connections_max,
            max_keepalive_connections=parameters.connections_max,
            keepalive_expiry=IDLE_CONNECTION_S,
        )
        transport = GuardedTransport(parameters.reach, verify=_tls(), trust_env=False, limits=limits)
        self._client = httpx.AsyncClient(transport=transport, timeout=None, follow_redirects=False, trust_env=False)

    async def send(self, method: str, url: str, *, body: bytes, headers: Mapping[str, str]) -> Receipt:
        """Make one request within ``timeout_s`` and say what it came to. Safe to call concurrently."""
        answer = await self.ask(method, url, body=body, headers=headers)
        if isinstance(answer, Receipt):
            return answer
        return answer_receipt(answer.status, answer.headers, answer.body, self._now_s())

    async def ask(
        self, method: str, url: str, *, body: bytes, headers: Mapping[str, str], within_s: float | None = None
    ) -> HttpAnswer | Receipt:
        """Make one request as ``send`` does and return the answer itself, or the receipt of there being none.

        ``within_s`` is what is left of ``timeout_s`` where one attempt makes several requests.
        """
        timeout_s = self._parameters.timeout_s if within_s is None else max(0.0, within_s)
        exchange = _Exchange()
        request = self._client.build_request(
            method,
            url,
            content=body,
            headers={**self._parameters.headers, **headers, "Accept-Encoding": "identity"},
            extensions={"trace": exchange.trace},
        )
        try:
            async with asyncio.timeout(timeout_s):
                await exchange.run(self._client, request)
        except TimeoutError:
            exchange.trouble = f"no answer within {self._parameters.timeout_s:g} s"
        except httpx.HTTPError as error:
            exchange.trouble = str(error) or type(error).__name__
            exchange.forbidden = forbidden(error)
        return exchange.answer(request.url.host)

    async def reach(
        self, url: str, headers: Mapping[str, str], *, method: str = "HEAD", rejected: str = ""
    ) -> str | None:
        """Ask with ``method``, which must change nothing; None when ``url`` answers, else what to mend.

        A 404 or 405 counts as an answer, because many receivers know only POST, unless ``rejected`` says what a 4xx
        means there.
        """
        receipt = await self.send(method, url, body=b"", headers=headers)
        host = urlsplit(url).hostname
        match receipt.status:
            case None if receipt.result is Result.REFUSED:
                return f"{receipt.detail}."
            case None:
                return f"{receipt.detail}. Check the URL, the network and that {host} is running."
            case 401 | 403:
                return f"{host} answered {receipt.status}. Check the credentials of this connector."
            case status if status >= 500:
                return f"{host} answered {status}. It is reachable but not in order."
            case status if status >= 400 and rejected:
                return f"{host} answered {status}. {rejected}"
            case _:
                return None

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._client.aclose()


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificate authorities takes some 50 ms of the loop, so every connector shares them."""
    return httpx.create_ssl_context(trust_env=False)


class _Exchange:
    """One request on its way: how far it got decides what its failure means."""

    def __init__(self) -> None:
        self.writing = False
        self.forbidden = False
        self.trouble = ""
        self._response: httpx.Response | None = None
        self._answer = bytearray()

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """Follow the transport's own events: from this one on, bytes may have reached the other side."""
        if event.endswith("send_request_headers.started"):
            self.writing = True

    async def run(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        self._response = await client.send(request, stream=True)
        try:
            async for chunk in self._response.aiter_raw():
                self._answer += chunk
                if len(self._answer) >= ANSWER_BYTES_MAX:
                    break
        finally:
            await self._response.aclose()

    def answer(self, host: str) -> HttpAnswer | Receipt:
        if self._response is not None:
            # The status settles it, even when the rest of the answer was cut off.
            return HttpAnswer(self._response.status_code, self._response.headers, bytes(self._answer))
        if self.forbidden:
            return Receipt(result=Result.REFUSED, detail=self.trouble)
        if self.writing:
            return Receipt(result=Result.UNKNOWN, detail=f"the request to {host} was written, then: {self.trouble}")
        return Receipt(result=Result.RETRY, detail=f"no connection to {host}: {self.trouble}")


def answer_receipt(status: int, headers: Mapping[str, str], answer: bytes, now_s: float) -> Receipt:
    """Return what an HTTP answer means (the table above). ``headers`` are looked up in lower case."""
    text = answer.decode("utf-8", "replace")
    if 200 <= status < 300:
        return Receipt(result=Result.DELIVERED, status=status, reference=_reference(answer))
    if status in _RETRY_STATUSES or status >= 500:
        return Receipt(
            result=Result.RETRY,
            status=status,
            detail=text[:DETAIL_CHARS_MAX],
            retry_after_s=retry_after_s(headers.get("retry-after", ""), now_s),
        )
    if 300 <= status < 400:
        text = f"redirects are not followed; it points to {headers.get('location', 'nowhere')}"
    return Receipt(result=Result.REFUSED, status=status, detail=text[:DETAIL_CHARS_MAX])


def retry_after_s(value: str, now_s: float) -> float | None:
    """Return the wait that a Retry-After header asks for (RFC 9110, 10.2.3), or None when it cannot be read.

    Both forms are read, seconds and an HTTP date; a date that has passed means at once, and no wait is longer than
    ``RETRY_AFTER_S_MAX``.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_S_MAX)
    try:
        moment = parsedate_to_datetime(value)
        return min(max(0.0, moment.timestamp() - now_s), RETRY_AFTER_S_MAX)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class JsonRequest(NamedTuple):
    """A request that is ready to be sent, except for what the connector adds to its headers."""

    body: bytes
    headers: dict[str, str]


def json_request(delivery_id: str, content: Mapping[str, Any]) -> JsonRequest | Receipt:
    """Return ``content`` as a JSON request under the delivery's id, or the refusal of what cannot be written so."""
    if refusal := _id_refusal(delivery_id):
        return refusal
    try:
        body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return Receipt(result=Result.REFUSED, detail=f"the delivery cannot be written as JSON: {error}")
    return JsonRequest(body, {"Idempotency-Key": delivery_id, "Content-Type": "application/json"})


def form_request(delivery_id: str, pairs: Sequence[tuple[str, str]]) -> JsonRequest | Receipt:
    """Return ``pairs`` as a form under the delivery's id, or the refusal of what cannot be written so."""
    if refusal := _id_refusal(delivery_id):
        return refusal
    try:
        body = urlencode(pairs).encode()
    except UnicodeEncodeError as error:
        return Receipt(result=Result.REFUSED, detail=f"the delivery cannot be written as a form: {error.reason}")
    return JsonRequest(body, {"Idempotency-Key": delivery_id, "Content-Type": "application/x-www-form-urlencoded"})


def _id_refusal(delivery_id: str) -> Receipt | None:
    if delivery_id and _HEADER_VALUE.fullmatch(delivery_id):
        return None
    return Receipt(result=Result.REFUSED, detail="the delivery's id is empty or not printable ASCII")


def _reference(answer: bytes) -> str:
    """The other side's own name for what it took, when it answers with a JSON object that has one."""
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    reference = content.get("reference") if isinstance(content, dict) else None
    return reference[:DETAIL_CHARS_MAX] if isinstance(reference, str) else ""
