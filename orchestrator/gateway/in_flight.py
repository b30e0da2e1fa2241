"""What the gateway holds in memory at once: a bound on requests and on the bytes of their bodies."""

from __future__ import annotations

from types import TracebackType

from orchestrator.gateway.problem import Problem


class InFlight:
    """Counts the requests that were begun and not yet answered, and their bytes; beyond the bounds it says 429.

    ``remedy`` is what whoever is told so can do.
    """

    def __init__(
        self,
        requests_max: int,
        bytes_max: int,
        remedy: str = "Send again later, in larger batches and over fewer connections.",
    ) -> None:
        self.requests_max = requests_max
        self.bytes_max = bytes_max
        self._remedy = remedy
        self.requests = 0
        self.bytes = 0

    def too_busy(self) -> Problem:
        """Return the problem of a request beyond the bounds."""
        return Problem(
            429,
            "too_busy",
            "The gateway holds as many requests as it can.",
            remedy=self._remedy,
            headers={"Retry-After": "1"},
        )

    def hold(self) -> Held:
        """Return the place of one request; to be entered as a context."""
        return Held(self)


class Held:
    """The place of one request. Leaving the context gives back all that it took."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._bytes = 0

    def __enter__(self) -> Held:
        if self._in_flight.requests >= self._in_flight.requests_max:
            raise self._in_flight.too_busy()
        self._in_flight.requests += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_flight.requests -= 1
        self._in_flight.bytes -= self._bytes

    def add(self, number: int) -> None:
        """Take ``number`` bytes more; raise ``Problem`` 429 when they are beyond the bound."""
        if self._in_flight.bytes + number > self._in_flight.bytes_max:
            raise self._in_flight.too_busy()
        self._in_flight.bytes += number
        self._bytes += number
