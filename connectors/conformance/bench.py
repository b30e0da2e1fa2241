"""A bench: the system behind a connector, on loopback, that answers as it is told and keeps what it heard.

``Example`` is what the author of a connector type writes once; ``Case`` is it in use by one promise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from connectors.callback import Callback, OutcomeType
from connectors.connector_type import ConnectorType
from connectors.markup import Markup
from connectors.protocol import Connector, Delivery
from connectors.reach import Reach
from connectors.registry import build

#: The moment that a connector on the bench believes in: 2 March 2026, 09:00 UTC.
NOW_S = 1_772_442_000.0
#: The name that a connector on the bench is built under, and the id that its delivery has.
NAME, DELIVERY_ID = "desk", "7d0c41"
FACTS = {
    "rule": "lead-callback",
    "rulebook_version": "9f31",
    "journey": "enquiry",
    "stage": "new",
    "reason": "triggered",
}


#: A bench is on this machine, which connectors do not connect to unless they are permitted to.
LOOPBACK = Reach.parsed("127.0.0.0/8")


class How(Enum):
    """How a bench answers a delivery."""

    OK = "ok"  # as the system does when all is well
    REFUSE = "refuse"  # no, and never will: a 4xx in the provider's own words
    RETRY_LATER = "retry_later"  # not now: 429 with Retry-After, where the transport can say so
    BROKEN = "broken"  # its own fault: a 5xx
    BAD_CREDENTIALS = "bad_credentials"  # the secrets are wrong; holds for every request, not for deliveries alone
    HANG = "hang"  # takes the whole delivery and never answers
    GONE = "gone"  # nothing listens at its address


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request that a bench heard and its answer, both as JSON values; ``answer`` is None when it gave none.

    Over HTTP a request has ``method``, ``path`` (with its query), ``headers`` (names in lower case, only those that
    mean something) and ``body`` (JSON and forms as values, else text); an answer has ``status``, ``headers``, ``body``.
    """

    request: dict[str, Any]
    answer: dict[str, Any] | None
    attempt: bool = True  # a delivery was attempted, rather than a token fetched or a check made


class Bench(Protocol):
    """The system behind one connector."""

    #: What it heard, in order.
    heard: list[Exchange]
    #: Words of its refusal (``How.REFUSE``) that must reach the receipt's detail.
    refusal: str
    #: The wait that ``How.RETRY_LATER`` asks for; None where the transport cannot say one.
    retry_after_s: float | None

    @property
    def base(self) -> str:
        """Its address: a URL over HTTP. Under ``How.GONE``, one where nothing listens."""
        ...

    async def answers(self, how: How) -> None:
        """Answer in this way from now on; ``How.OK`` to begin with."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GenuineCallback:
    """A callback as the provider sends it, rightly signed at ``NOW_S``, and the types of what it reports."""

    callback: Callback
    outcomes: tuple[OutcomeType, ...]


def idempotency_key(request: Mapping[str, Any]) -> str:
    """Return the delivery's id as most HTTP providers take it."""
    return str(request["headers"].get("idempotency-key", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A working connector of one type: its system, its settings against that, and what one delivery brings.

    ``needs`` names pytest fixtures (a real broker) that ``bench`` is called with. ``id_of`` finds the delivery's id in
    a request; where a provider has no place for one it is None and ``no_id_because`` says so. ``cannot`` holds, for
    each answer that the transport has no form of, the reason. ``varies`` names headers and fields of bodies that
    differ from run to run and are masked in recorded conversations; ``varies_with_attempt`` those that tell the
    attempt. ``secrets`` are strings that must not leak, beside the values of ``environ``. ``markup`` names the fields
    of requests that the provider reads as markup; ``opened`` returns a request with what is sealed in it opened.
    """

    bench: Callable[..., AbstractAsyncContextManager[Bench]]
    settings: Callable[[Any], dict[str, Any]]
    kind: str
    params: dict[str, Any]
    environ: Callable[[Any], Mapping[str, str]] = lambda _bench: {}
    needs: tuple[str, ...] = ()
    id_of: Callable[[Mapping[str, Any]], str] | None = idempotency_key
    no_id_because: str = ""
    cannot: Mapping[How, str] = field(default_factory=dict)
    varies: frozenset[str] = frozenset()
    varies_with_attempt: frozenset[str] = frozenset()
    secrets: tuple[str, ...] = ()
    markup: Mapping[str, Markup] = field(default_factory=dict)
    opened: Callable[[dict[str, Any]], dict[str, Any]] = lambda request: request
    callbacks: Sequence[GenuineCallback] = ()

    @property
    def has_no_other_side(self) -> bool:
        """Whether nobody is there who could answer, or hear, anything: a log."""
        return self.cannot.keys() >= set(How) - {How.OK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One type on its bench. A bench serves one case; a connector is built anew each time ``opened`` is entered."""

    known: ConnectorType
    example: Example
    bench: Bench

    @property
    def settings(self) -> dict[str, Any]:
        """The settings against the bench as it answers now, with ``type``."""
        return {"type": self.known.type, **self.example.settings(self.bench)}

    @property
    def environ(self) -> dict[str, str]:
        """The variables that the settings name."""
        return dict(self.example.environ(self.bench))

    @property
    def attempts(self) -> list[Exchange]:
        """What the bench heard of deliveries."""
        return [exchange for exchange in self.bench.heard if exchange.attempt]

    def delivery(self, **changes: Any) -> Delivery:
        """Return the example's delivery, with ``changes``."""
        delivery = Delivery(
            id=DELIVERY_ID,
            customer_id="c1",
            kind=self.example.kind,
            params=self.example.params,
            decided_at_ms=int(NOW_S * 1000) - 312,
            deadline_at_ms=int(NOW_S * 1000) + 60_000,
            facts=FACTS,
        )
        return replace(delivery, **changes)

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[Connector]:
        """Build the connector, with ``settings`` over those of the example, and close it in the end."""
        connector = build(
            NAME,
            self.settings | settings,
            environ=self.environ,
            now_s=lambda: NOW_S,
            types=[self.known],
            reach=LOOPBACK,
        )
        try:
            yield connector
        finally:
            await connector.close()


@asynccontextmanager
async def on_bench(known: ConnectorType, example: Example, **given: Any) -> AsyncIterator[Case]:
    """Set up the example's bench, handing it what it ``needs``, and yield the case."""
    if missing := sorted(set(example.needs) - set(given)):
        raise LookupError(f'the example of "{known.type}" needs {", ".join(missing)}, which only pytest can give it')
    async with example.bench(**given) as bench:
        yield Case(known=known, example=example, bench=bench)
