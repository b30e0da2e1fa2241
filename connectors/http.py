"""HTTP as connectors use it: one request under one deadline, and one table from its end to a ``Receipt``.

================================  =========  ==========================================================
what happened                     result     why
================================  =========  ==========================================================
2xx                               DELIVERED  the other side took it
408, 425, 429, 5xx                RETRY      it says "not now"; Retry-After is its wish
504                               UNKNOWN    a gateway had no answer from whoever may have taken it
3xx                               REFUSED    redirects are not followed: a redirected POST may lose its body
other 4xx                         REFUSED    the same request will never be taken
no connection, no free slot       RETRY      nothing was written
an address out of reach           REFUSED    who runs the process has not permitted it (``connectors.reach``)
no answer after writing began     UNKNOWN    it may have been taken
================================  =========  ==========================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

import yarl
from pydantic import AfterValidator, Field, PrivateAttr

from connectors.connector_type import Parameters
from connectors.protocol import Receipt, Result
from connectors.reach import Reach

if TYPE_CHECKING:
    from connectors.http_pool import Exchange, HttpPool

#: Headers that this library sets itself; settings may not.
RESERVED_HEADERS = frozenset(
    {"host", "content-type", "content-length", "transfer-encoding", "connection", "accept-encoding"}
    | {"idempotency-key", "webhook-id", "webhook-timestamp", "webhook-signature"}
)
DETAIL_CHARS_MAX = 500
#: A year. No delivery is tried for so long, so who asks for more asks not to be asked again.
RETRY_AFTER_S_MAX = 31_536_000.0

_RETRY_STATUSES = frozenset({408, 425, 429})
_GATEWAY_TIMEOUT = 504
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        usable = usable and not _ambiguous(str(parts.hostname))
        yarl.URL(url)
    except ValueError:
        usable = False
    if not usable or parts.fragment or re.search(r"\s", url):
        raise ValueError("must be an absolute http or https URL without a fragment")
    return url


def _ambiguous(host: str) -> bool:
    """Return whether a host is a number but no address as one writes it; resolvers differ on 0177.0.0.1."""
    if not re.fullmatch(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?", host, re.IGNORECASE):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


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
        self._pool: HttpPool | None = None

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
        exchange = await self._opened().exchange(
            method,
            url,
            body=body,
            headers={**self._parameters.headers, **headers},
            within_s=self._parameters.timeout_s if within_s is None else max(0.0, within_s),
        )
        if exchange.status is not None:
            # The status settles it, even when the rest of the answer was cut off.
            return HttpAnswer(exchange.status, exchange.headers, bytes(exchange.body))
        return self._unanswered(exchange, urlsplit(url).hostname or "")

    def _unanswered(self, exchange: Exchange, host: str) -> Receipt:
        if exchange.forbidden:
            return Receipt(result=Result.REFUSED, detail=exchange.trouble)
        trouble = exchange.trouble or f"no answer within {self._parameters.timeout_s:g} s"
        if exchange.writing:
            return Receipt(result=Result.UNKNOWN, detail=f"the request to {host} was written, then: {trouble}")
        return Receipt(result=Result.RETRY, detail=f"no connection to {host}: {trouble}")

    def _opened(self) -> HttpPool:
        """Return the pool of connections, opened on first use: it belongs to the loop that runs then."""
        if self._pool is None:
            from connectors.http_pool import HttpPool  # noqa: PLC0415 - whoever only checks settings needs no aiohttp.

            self._pool = HttpPool(self._parameters.reach, connections_max=self._parameters.connections_max)
        return self._pool

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
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


def answer_receipt(status: int, headers: Mapping[str, str], answer: bytes, now_s: float) -> Receipt:
    """Return what an HTTP answer means (the table above). ``headers`` are looked up in lower case."""
    text = answer.decode("utf-8", "replace")
    if 200 <= status < 300:
        return Receipt(result=Result.DELIVERED, status=status, reference=_reference(answer))
    if status in _RETRY_STATUSES or status >= 500:
        return Receipt(
            result=Result.UNKNOWN if status == _GATEWAY_TIMEOUT else Result.RETRY,
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
