"""The callback form of our own, for systems that have none: JSON reports, signed after Standard Webhooks.

One report or a list of them: ``{"id", "type", "action_id", "customer_id", "address", "at_ms", "properties"}``, where
``type`` is a value of ``OutcomeType``. It is read strictly: what is not understood is refused by name, so that a
misspelt key is mended on the first day and not missed for a year.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.callback import Callback, CallbackReader, CallbackRefused, Outcome, OutcomeType, Reading
from connectors.connector_type import Surroundings
from connectors.errors import ConnectorMisconfigured, Problem, model_problems, unknown_name
from connectors.opt_out import OptOutWords, Purpose, scoped
from connectors.signature import SignatureRefused, verify
from connectors.signing_secret import signing_keys

REPORTS_MAX = 1_000
CALLBACK_SECRET_DESCRIPTION = (
    "Environment variable that holds the secret, whsec_..., that reports from the other side are signed with; "
    "empty reads none."
)


M = TypeVar("M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OutcomeReport(_Strict):
    """One report. It must say whom it concerns: by ``action_id``, ``customer_id`` or ``address``."""

    id: str = Field(min_length=1, max_length=200, description="Id of the report, the same whenever it is repeated.")
    type: str = Field(description="What happened.")
    action_id: str = Field("", max_length=200, description="Id of the delivery that it is about.")
    customer_id: str = Field("", max_length=200, description="Customer that it concerns.")
    address: str = Field("", max_length=320, description="Number or e-mail address that it concerns.")
    at_ms: int | None = Field(None, ge=0, le=253_402_300_799_999, description="When it happened, epoch milliseconds.")
    properties: dict[str, Any] = Field({}, description="What else is known, as an object.")


class CallMissed(_Strict):
    """Properties of a call that nobody answered."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    reason: Literal["no_answer", "busy", "failed", "canceled"] = Field(
        description="no_answer, busy, failed or canceled."
    )


class CallEnded(_Strict):
    """Properties of a call that is over."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    result: str = Field(
        "", pattern=r"^([a-z][a-z0-9_]{0,63})?$", description="What came of it: qualified, booked, not_interested ..."
    )
    duration_s: float | None = Field(None, ge=0, allow_inf_nan=False, description="How long it lasted, in seconds.")


class OptOut(_Strict):
    """Properties of an opt-out, or of its end."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    purposes: list[Purpose] = Field(
        [], max_length=20, description="What it closes or opens, by purposes of consent; the channel when left out."
    )


#: Types whose properties have a form of their own; those of the others are free.
PROPERTIES: Mapping[OutcomeType, type[BaseModel]] = {
    OutcomeType.UNSUBSCRIBED: OptOut,
    OutcomeType.RESUBSCRIBED: OptOut,
    OutcomeType.CALL_MISSED: CallMissed,
    OutcomeType.CALL_ENDED: CallEnded,
}


class StandardCallbackReader:
    """Reads reports of ``types`` that a holder of one of ``keys`` signed.

    A message received whose ``text`` is one of ``words`` is an opt-out, or its end.
    ``purposes`` are what a report of unsubscribing closes that names none itself; without any it closes the channel.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        types: Iterable[OutcomeType],
        now_s: Callable[[], float],
        *,
        words: OptOutWords | None = None,
        purposes: Sequence[str] = (),
    ) -> None:
        self._words = words
        self._purposes = tuple(purposes)
        self._keys = tuple(keys)
        self._types = {known.value: known for known in types}
        self._now_s = now_s

    def read(self, callback: Callback) -> Reading:
        """Return the reports in their order. Raise ``CallbackRefused``: 401 unsigned, 400 not understood."""
        try:
            verify(self._keys, callback.headers, callback.body, self._now_s())
        except SignatureRefused as error:
            raise CallbackRefused(401, str(error)) from None
        written = _written(callback.body)
        if not isinstance(written, list):
            return Reading(outcomes=(self._outcome(written, ""),))
        if len(written) > REPORTS_MAX:
            raise CallbackRefused(400, f"the list has {len(written)} reports. Send at most {REPORTS_MAX} at once.")
        return Reading(outcomes=tuple(self._outcome(one, f"report {at}: ") for at, one in enumerate(written, 1)))

    def _outcome(self, written: Any, where: str) -> Outcome:
        report = _checked(OutcomeReport, written, "field", where)
        found = self._types.get(report.type)
        if found is None:
            raise CallbackRefused(400, where + str(unknown_name("type", report.type, self._types)))
        if not (report.action_id or report.customer_id or report.address):
            raise CallbackRefused(400, f"{where}it concerns nobody. Give action_id, customer_id or address.")
        if form := PROPERTIES.get(found):
            _checked(form, report.properties, "property", where)
        text = report.properties.get("text")
        if found is OutcomeType.MESSAGE_RECEIVED and self._words is not None and isinstance(text, str):
            found = self._words.type_of(text)
        return scoped(Outcome(**report.model_dump(exclude={"type"}), type=found), self._purposes)


class ReportsBack(Protocol):
    """Settings of a type whose system reports in this form."""

    callback_secret_env: str


def standard_callbacks(
    types: Iterable[OutcomeType],
) -> Callable[[str, ReportsBack, Surroundings], CallbackReader]:
    """Return what ``ConnectorType.callbacks`` needs to read reports of ``types``.

    It raises ``ConnectorMisconfigured`` when the secret is not named, not set or no secret.
    """
    allowed = tuple(types)

    def reader(name: str, parameters: ReportsBack, surroundings: Surroundings) -> CallbackReader:
        variable = parameters.callback_secret_env
        if not variable:
            message = 'setting "callback_secret_env" is missing, so no report of the other side can be believed'
            remedy = "Name the environment variable that holds the secret, whsec_..., which both sides know."
            raise ConnectorMisconfigured(name, [Problem("callback_secret_env", message, remedy)])
        keys = signing_keys(name, "callback_secret_env", variable, surroundings)
        purposes = getattr(parameters, "unsubscribes_from", ())
        words = OptOutWords(getattr(parameters, "stop_words", ()), getattr(parameters, "start_words", ()))
        return StandardCallbackReader(keys, allowed, surroundings.now_s, words=words, purposes=purposes)

    return reader


def _written(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CallbackRefused(400, f"the body is not JSON: {error}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _checked(model: type[M], written: Any, noun: str, where: str) -> M:
    if not isinstance(written, dict):
        raise CallbackRefused(400, f"{where}a report is a JSON object")
    try:
        return model.model_validate(written)
    except ValidationError as error:
        raise CallbackRefused(400, where + " ".join(map(str, model_problems(model, error, noun)))) from None
