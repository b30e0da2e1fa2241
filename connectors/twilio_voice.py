"""The twilio_voice connector: phone calls through Twilio's Calls API, and what Twilio reports of them.

Twilio places a call for each request and has no idempotency key, so after UNKNOWN a repeat may ring twice:
``on_unknown: drop`` never calls twice, ``on_unknown: retry`` (the engine's default) never leaves a call out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Literal, Self
from xml.sax.saxutils import escape, quoteattr

from pydantic import Field, model_validator

from connectors import clock
from connectors.callback import Outcome, OutcomeType
from connectors.connector_type import ActionParams, ConnectorType, Surroundings, checked_params
from connectors.http import HttpUrl
from connectors.markup import Markup
from connectors.phone import E164
from connectors.protocol import Delivery, Receipt, Result
from connectors.twilio import (
    TwilioAccount,
    TwilioCallbacks,
    TwilioCredentials,
    TwilioParameters,
    TwilioReport,
    auth_token,
)

TWIML_CHARS_MAX = 4_000
_DETECTION = {"enable": "Enable", "detect_message_end": "DetectMessageEnd"}
_MISSED = {"busy": "busy", "no-answer": "no_answer", "failed": "failed", "canceled": "canceled"}
_DURATION = re.compile(r"[0-9]{1,9}")
#: What XML 1.0 has no form for.
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class TwilioVoiceParameters(TwilioParameters):
    """Settings of a caller."""

    from_number: str = Field(pattern=E164, description="Number that the customer sees: one of Twilio's, or verified.")
    ring_timeout_s: int = Field(60, ge=5, le=600, description="Seconds to let it ring before it counts as no answer.")
    time_limit_s: int | None = Field(None, ge=1, le=86_400, description="Seconds after which a call is ended.")
    machine_detection: Literal["off", "enable", "detect_message_end"] = Field(
        "off", description="Whether Twilio listens for an answering machine before the call begins; reports name it."
    )
    say_voice: str = Field("", max_length=100, description="Twilio's name of the voice that param say is spoken with.")
    say_language: str = Field("", pattern=r"^([A-Za-z0-9-]{2,35})?$", description="Language of param say, as en-IN.")


class TwilioCallParams(ActionParams):
    """What a call needs: whom, and one of three ways to say what happens once somebody picks up."""

    one_of: ClassVar[tuple[tuple[str, ...], ...]] = (("say", "url", "twiml"),)
    markup: ClassVar[Mapping[str, Markup]] = {"twiml": Markup.XML}

    phone: str = Field(pattern=E164, description="Number to call, in E.164 form such as +919812345678.")
    say: str = Field("", max_length=3_000, description="Text to speak; then the call ends.")
    url: HttpUrl | None = Field(None, description="Address that Twilio asks for TwiML when somebody picks up.")
    twiml: str = Field("", max_length=TWIML_CHARS_MAX, description="TwiML of the call: XML, up to 4000 characters.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if len([way for way in (self.say, self.url, self.twiml) if way]) > 1:
            raise ValueError('only one of param "say", "url" and "twiml" can be followed')
        for name, text in (("say", self.say), ("twiml", self.twiml)):
            if _NOT_XML.search(text):
                raise ValueError(f'param "{name}" has a control character, which cannot be spoken')
        return self


class TwilioVoiceConnector:
    """Places one call a delivery. Whether somebody picks up comes back later, as a callback."""

    def __init__(
        self,
        name: str,
        parameters: TwilioVoiceParameters,
        credentials: TwilioCredentials,
        *,
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self.name = name
        self._parameters = parameters
        self._account = TwilioAccount(parameters, credentials, now_s)

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``. A delivery that lacks what a call needs is refused unsent."""
        if delivery.kind != "call":
            return Receipt(result=Result.REFUSED, detail=f'kind "{delivery.kind}" is not a call')
        params = checked_params(TwilioCallParams, delivery)
        if isinstance(params, Receipt):
            return params
        twiml = params.twiml or (spoken(params.say, self._parameters) if params.say else "")
        if len(twiml) > TWIML_CHARS_MAX:
            detail = f'param "say" makes {len(twiml)} characters of TwiML, and Twilio takes {TWIML_CHARS_MAX}'
            return Receipt(result=Result.REFUSED, detail=detail)
        way = ("Twiml", twiml) if twiml else ("Url", params.url or "")
        fields = [("To", params.phone), ("From", self._parameters.from_number), way, *self._options(delivery)]
        return await self._account.create("Calls", delivery, fields, params.phone)

    async def check(self) -> str | None:
        """Return None when Twilio answers and takes the credentials, else what to mend."""
        return await self._account.check("Calls")

    async def close(self) -> None:
        """Close the connections."""
        await self._account.close()

    def _options(self, delivery: Delivery) -> list[tuple[str, str]]:
        """Return what is the same for every attempt: how long it may ring and last, and who is told."""
        settings = self._parameters
        options = [("Timeout", str(settings.ring_timeout_s))]
        if settings.time_limit_s is not None:
            options.append(("TimeLimit", str(settings.time_limit_s)))
        if detection := _DETECTION.get(settings.machine_detection):
            options.append(("MachineDetection", detection))
        if address := self._account.status_callback(delivery):
            options += [("StatusCallback", address), ("StatusCallbackMethod", "POST")]
            options += [("StatusCallbackEvent", event) for event in ("answered", "completed")]
        return options


def spoken(text: str, settings: TwilioVoiceParameters) -> str:
    """Return the TwiML that speaks ``text`` and ends the call."""
    chosen = (("voice", settings.say_voice), ("language", settings.say_language))
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in chosen if value)
    return f"<Response><Say{attributes}>{escape(text)}</Say></Response>"


def call_outcomes(report: TwilioReport) -> tuple[Outcome, ...]:
    """Return what a callback of the Calls API reports. Calls from customers to us are nobody's outcome."""
    fields = report.fields
    sid, status = fields.get("CallSid", ""), fields.get("CallStatus", "")
    if not sid or fields.get("Direction", "") == "inbound":
        return ()
    properties: dict[str, Any] = {"channel": "call", "reference": sid}
    if who := fields.get("AnsweredBy"):
        properties["answered_by"] = who
    match status:
        case "in-progress":
            kind = OutcomeType.CALL_ANSWERED
        case "completed":
            kind = OutcomeType.CALL_ENDED
            duration = fields.get("CallDuration", "")
            properties["result"] = "completed"
            if _DURATION.fullmatch(duration):
                properties["duration_s"] = int(duration)
        case "busy" | "no-answer" | "failed" | "canceled":
            kind = OutcomeType.CALL_MISSED
            properties["reason"] = _MISSED[status]
            if sip := fields.get("SipResponseCode"):
                properties["sip_response_code"] = sip
        case _:  # queued, initiated, ringing: not answered yet
            return ()
    outcome = Outcome(
        id=f"{sid}:{status}",
        type=kind,
        action_id=report.action_id,
        customer_id=report.customer_id,
        address=fields.get("To", ""),
        at_ms=_moment_ms(fields.get("Timestamp", "")),
        properties=properties,
    )
    return (outcome,)


def _moment_ms(text: str) -> int | None:
    """Return the moment of an RFC 2822 date, or None when there is none."""
    try:
        return round(parsedate_to_datetime(text).timestamp() * 1000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _create(name: str, parameters: TwilioVoiceParameters, surroundings: Surroundings) -> TwilioVoiceConnector:
    credentials = TwilioCredentials.of(name, parameters, surroundings)
    return TwilioVoiceConnector(name, parameters, credentials, now_s=surroundings.now_s)


def _callbacks(name: str, parameters: TwilioVoiceParameters, surroundings: Surroundings) -> TwilioCallbacks:
    return TwilioCallbacks(parameters, auth_token(name, parameters, surroundings), call_outcomes)


TWILIO_VOICE = ConnectorType(
    type="twilio_voice",
    description="A phone call through Twilio.",
    kinds=("call",),
    parameters=TwilioVoiceParameters,
    action_params=TwilioCallParams,
    create=_create,
    callbacks=_callbacks,
)
