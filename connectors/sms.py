"""The sms connector: text messages through Twilio's Messages API, and what Twilio reports of them.

Twilio takes a message once for each request and has no idempotency key, so after UNKNOWN a repeat may be a second
message: ``on_unknown: drop`` never doubles one, ``on_unknown: retry`` (the engine's default) never loses one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self

from pydantic import Field, model_validator

from connectors import clock
from connectors.callback import Outcome, OutcomeType
from connectors.connector_type import ActionParams, ConnectorType, Surroundings, checked_params
from connectors.http import HttpUrl
from connectors.opt_out import START_DESCRIPTION, START_WORDS, STOP_DESCRIPTION, STOP_WORDS, OptOutWords, Words
from connectors.phone import E164
from connectors.protocol import Delivery, Receipt, Result
from connectors.twilio import (
    DEAD_NUMBERS,
    OPTED_OUT,
    TwilioAccount,
    TwilioCallbacks,
    TwilioCredentials,
    TwilioParameters,
    TwilioReport,
    auth_token,
)

TEXT_CHARS_MAX = 1_600
VALIDITY_S_MAX = 36_000
_SENDER = r"^(\+[1-9][0-9]{6,14}|[0-9]{3,8}|[0-9]?[A-Za-z][A-Za-z0-9 _&+-]{0,9}|[A-Za-z][A-Za-z0-9 _&+-]{10})?$"

#: Words that Twilio itself blocks and unblocks a sender for, whatever the settings say; "YES" also answers other
#: questions, so it is left out.
TWILIO_STOP_WORDS = ("stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout")
TWILIO_START_WORDS = ("start", "unstop")

#: Why a message did not arrive, by Twilio's error code, where it may pass.
_PASSING = {
    21612: "unroutable",
    30001: "queue_overflow",
    30002: "account_suspended",
    30003: "unreachable",
    30004: "blocked",
    30007: "filtered",
    30008: "unknown",
    30034: "sender_not_registered",
    30036: "expired",
}


class SmsParameters(TwilioParameters):
    """Settings of a sender of text messages."""

    sender: str = Field(
        "", pattern=_SENDER, description="Number, short code or name of up to 11 characters that messages come from."
    )
    messaging_service_sid: str = Field(
        "", pattern=r"^(MG[0-9a-fA-F]{32})?$", description="SID of a messaging service that chooses the sender instead."
    )
    validity_s: int | None = Field(
        None, ge=1, le=VALIDITY_S_MAX, description="Seconds that a message may wait at Twilio before it is given up."
    )
    stop_words: Words = Field(STOP_WORDS, description=STOP_DESCRIPTION)
    start_words: Words = Field(START_WORDS, description=START_DESCRIPTION)

    @model_validator(mode="after")
    def _one_sender(self) -> Self:
        if bool(self.sender) == bool(self.messaging_service_sid):
            raise ValueError('exactly one of setting "sender" and setting "messaging_service_sid" is needed')
        return self


class SmsParams(ActionParams):
    """What a text message needs."""

    to: str = Field(pattern=E164, description="Number to write to, in E.164 form such as +919812345678.")
    text: str = Field(max_length=TEXT_CHARS_MAX, description="The message, up to 1600 characters.")
    media_urls: tuple[HttpUrl, ...] = Field((), max_length=10, description="Addresses of pictures to send with it.")


class SmsConnector:
    """Sends one text message a delivery. Whether it arrives comes back later, as a callback."""

    def __init__(
        self,
        name: str,
        parameters: SmsParameters,
        credentials: TwilioCredentials,
        *,
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self.name = name
        self._parameters = parameters
        self._account = TwilioAccount(parameters, credentials, now_s)

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``. A delivery that lacks what a message needs is refused unsent."""
        if delivery.kind != "sms":
            return Receipt(result=Result.REFUSED, detail=f'kind "{delivery.kind}" is not a text message')
        params = checked_params(SmsParams, delivery)
        if isinstance(params, Receipt):
            return params
        return await self._account.create("Messages", delivery, self._fields(delivery, params), params.to)

    async def check(self) -> str | None:
        """Return None when Twilio answers and takes the credentials, else what to mend."""
        return await self._account.check("Messages")

    async def close(self) -> None:
        """Close the connections."""
        await self._account.close()

    def _fields(self, delivery: Delivery, params: SmsParams) -> list[tuple[str, str]]:
        """Return the form of the request; it does not depend on the attempt."""
        settings = self._parameters
        origin = (
            ("From", settings.sender) if settings.sender else ("MessagingServiceSid", settings.messaging_service_sid)
        )
        fields = [("To", params.to), origin, ("Body", params.text)]
        fields += [("MediaUrl", url) for url in params.media_urls]
        if validity_s := validity_seconds(settings.validity_s, delivery):
            fields.append(("ValidityPeriod", str(validity_s)))
        if address := self._account.status_callback(delivery):
            fields.append(("StatusCallback", address))
        return fields


def validity_seconds(setting_s: int | None, delivery: Delivery) -> int | None:
    """Return how long the message may wait at Twilio: the setting, and never longer than from decision to deadline."""
    if delivery.deadline_at_ms is None:
        return setting_s
    left_s = -(-(delivery.deadline_at_ms - delivery.decided_at_ms) // 1000)
    return max(1, min(left_s, setting_s or VALIDITY_S_MAX))


def message_outcomes(report: TwilioReport, words: OptOutWords) -> tuple[Outcome, ...]:
    """Return what a callback of the Messages API, or an inbound message, reports."""
    fields = report.fields
    sid = fields.get("MessageSid") or fields.get("SmsSid", "")
    if not sid:
        return ()
    if status := fields.get("MessageStatus"):
        return _status_outcomes(report, sid, status)
    return (_inbound_outcome(report, sid, words),) if "Body" in fields else ()


def _status_outcomes(report: TwilioReport, sid: str, status: str) -> tuple[Outcome, ...]:
    properties: dict[str, object] = {"channel": "sms", "reference": sid}
    match status:
        case "delivered":
            kind = OutcomeType.MESSAGE_DELIVERED
        case "read":
            kind = OutcomeType.MESSAGE_READ
        case "undelivered" | "failed" | "canceled":
            code = _code(report.fields.get("ErrorCode", ""))
            kind = _failure_type(code)
            reason = status if code is None else DEAD_NUMBERS.get(code) or _PASSING.get(code, "other")
            properties |= {"reason": "opted_out" if code == OPTED_OUT else reason}
            properties |= {} if code is None else {"error_code": code}
        case _:  # accepted, queued, sending, sent: not there yet
            return ()
    outcome = Outcome(
        id=f"{sid}:{status}",
        type=kind,
        action_id=report.action_id,
        customer_id=report.customer_id,
        address=report.fields.get("To", ""),
        properties=properties,
    )
    return (outcome,)


def _inbound_outcome(report: TwilioReport, sid: str, words: OptOutWords) -> Outcome:
    fields = report.fields
    text = fields["Body"]
    properties: dict[str, object] = {"channel": "sms", "reference": sid, "text": text, "to": fields.get("To", "")}
    media = [fields[name] for number in range(10) if (name := f"MediaUrl{number}") in fields]
    properties |= {"media_urls": media} if media else {}
    # Twilio's own word for what it understood counts first; it is there when the service has Advanced Opt-Out.
    kind = _OPT_OUT_TYPES.get(fields.get("OptOutType", "")) or words.type_of(text)
    return Outcome(id=f"{sid}:received", type=kind, address=fields.get("From", ""), properties=properties)


#: HELP is a message: somebody wants an answer.
_OPT_OUT_TYPES = {
    "STOP": OutcomeType.UNSUBSCRIBED,
    "START": OutcomeType.RESUBSCRIBED,
    "HELP": OutcomeType.MESSAGE_RECEIVED,
}


def _failure_type(code: int | None) -> OutcomeType:
    if code == OPTED_OUT:
        return OutcomeType.UNSUBSCRIBED
    return OutcomeType.MESSAGE_BOUNCED if code in DEAD_NUMBERS else OutcomeType.MESSAGE_FAILED


def _code(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) else None


def _create(name: str, parameters: SmsParameters, surroundings: Surroundings) -> SmsConnector:
    credentials = TwilioCredentials.of(name, parameters, surroundings)
    return SmsConnector(name, parameters, credentials, now_s=surroundings.now_s)


def _callbacks(name: str, parameters: SmsParameters, surroundings: Surroundings) -> TwilioCallbacks:
    words = OptOutWords((*parameters.stop_words, *TWILIO_STOP_WORDS), (*parameters.start_words, *TWILIO_START_WORDS))
    outcomes = partial(message_outcomes, words=words)
    return TwilioCallbacks(parameters, auth_token(name, parameters, surroundings), outcomes)


SMS = ConnectorType(
    type="sms",
    description="A text message through Twilio.",
    kinds=("sms",),
    parameters=SmsParameters,
    action_params=SmsParams,
    create=_create,
    callbacks=_callbacks,
)
