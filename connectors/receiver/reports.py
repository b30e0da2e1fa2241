"""What a person says became of a delivery, told to the engine as a real system would tell it.

A report is our own callback form (``connectors.standard_callback``), signed, about an action and nothing else: whose
action it is, the engine knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field

from connectors import clock
from connectors.callback import OutcomeType
from connectors.receiver.arrivals import Arrival
from connectors.signature import parse_secrets, signed_headers

TIMEOUT_S = 10.0
#: The connector that calls come through; what comes to ``/hooks/{name}`` comes through ``name``.
CALLS_CONNECTOR = "voice"


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that can be said of deliveries of some kinds: the word on its button, and what it is as a report."""

    label: str
    type: OutcomeType
    properties: Mapping[str, Any]
    kinds: frozenset[str]


_CALL, _EMAIL = frozenset({"call"}), frozenset({"email"})
_MESSAGE = frozenset({"sms", "whatsapp", "email", "push"})
SAID: Mapping[str, Said] = {
    "answered": Said("Answered", OutcomeType.CALL_ANSWERED, {}, _CALL),
    "missed": Said("Missed", OutcomeType.CALL_MISSED, {"reason": "no_answer"}, _CALL),
    "qualified": Said("Qualified", OutcomeType.CALL_ENDED, {"result": "qualified"}, _CALL),
    "booked": Said("Booked", OutcomeType.CALL_ENDED, {"result": "booked"}, _CALL),
    "opened": Said("Opened", OutcomeType.EMAIL_OPENED, {}, _EMAIL),
    "bounced": Said("Bounced", OutcomeType.MESSAGE_BOUNCED, {"reason": "unknown_address"}, _MESSAGE),
    "stop": Said("STOP", OutcomeType.UNSUBSCRIBED, {"text": "STOP"}, _CALL | _MESSAGE),
}


class ReportOrder(BaseModel):
    """Body of ``POST /v1/reports``: which arrival, and what is to be said of it."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="Path that the delivery came to.")
    id: str = Field(description="Id of the delivery.")
    outcome: str = Field(description="What became of it: answered, missed, qualified, booked, opened, bounced, stop.")


class ReportFailed(Exception):
    """The engine did not take the report; the message says what it answered."""


class Reports:
    """Tells one engine. Until ``connect`` there is nobody to tell."""

    def __init__(self, now_s: Callable[[], float] = clock.now_s) -> None:
        self._now_s = now_s
        self._url = ""
        self._keys: tuple[bytes, ...] = ()

    def connect(self, gateway_url: str, secret: str) -> None:
        """Tell the gateway at ``gateway_url`` from now on, signed with ``secret`` (whsec_...); "" tells nobody.

        Raises ``ValueError`` for what is no secret.
        """
        self._keys = parse_secrets(secret)
        self._url = gateway_url.rstrip("/") if self._keys else ""

    def offered(self, kind: str) -> dict[str, str]:
        """Return what can be said of a delivery of ``kind``, by name, with the words for its buttons."""
        if not self._url:
            return {}
        return {name: said.label for name, said in SAID.items() if kind in said.kinds}

    async def send(self, arrival: Arrival, outcome: str) -> None:
        """Return when the engine has taken the report; raise ``ReportFailed``. The same report is always one.

        ``outcome`` is one of those ``offered`` for the arrival's kind.
        """
        said = SAID[outcome]
        report_id = f"{arrival.id}:{outcome}"
        report = {
            "id": report_id,
            "type": said.type.value,
            "action_id": arrival.id,
            "at_ms": int(self._now_s() * 1000),
            "properties": dict(said.properties),
        }
        body = json.dumps(report).encode()
        headers = {"Content-Type": "application/json", **signed_headers(self._keys, report_id, self._now_s(), body)}
        url = f"{self._url}/v1/outcomes/{connector_of(arrival.path)}"
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
                answer = await client.post(url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise ReportFailed(f"{url} does not answer: {error or type(error).__name__}") from None
        if not answer.is_success:
            raise ReportFailed(f"{url} answered {answer.status_code}: {answer.text[:500]}")


def connector_of(path: str) -> str:
    """Return the connector that deliveries to ``path`` come through."""
    return path.removeprefix("/hooks/") if path.startswith("/hooks/") else CALLS_CONNECTOR
