"""The whatsapp connector: messages through Meta's WhatsApp Cloud API.

A customer can be written to freely within 24 hours of what they last wrote; outside of that only a template that Meta
has approved is delivered (code 131047). What an answer comes to, beyond the table in http.py; Meta asks that its codes
count for more than the status:

=================================  =========  ==========================================================
what happened                      result     why
=================================  =========  ==========================================================
a rate or maintenance code         RETRY      not taken, whatever status it comes with (often 400)
500, 502, 504 and no code but 1    UNKNOWN    Meta does not say what became of it: it may have been taken
=================================  =========  ==========================================================

There is no idempotency key: ``Idempotency-Key`` is sent, for systems that speak this API and honour it, and Meta
ignores it. After UNKNOWN a repeat may be a second message: ``on_unknown: drop`` never doubles one,
``on_unknown: retry`` (the engine's default) never loses one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from pydantic import Field, model_validator

from connectors import clock
from connectors.connector_type import (
    ActionParams,
    ConnectorType,
    Surroundings,
    checked_params,
    environment_value,
)
from connectors.http import (
    DETAIL_CHARS_MAX,
    HttpAnswer,
    HttpParameters,
    HttpSender,
    HttpUrl,
    answer_receipt,
    json_request,
    retry_after_s,
)
from connectors.phone import E164, without_numbers
from connectors.protocol import Delivery, Finding, Receipt, Result
from connectors.whatsapp_callbacks import CLOSING, REASONS, WhatsAppCallbacks

#: Limits that pass and times of maintenance: of the app, the account, the number, or one pair of numbers.
_RETRY_CODES = frozenset({2, 4, 17, 32, 613, 80007, 130429, 131000, 131016, 131048, 131056, 131057})
#: "Invalid request or possible server error".
_UNEXPLAINED = 1
_PERHAPS_TAKEN = frozenset({500, 502, 504})
_OPAQUE_CHARS_MAX = 512
_INTERACTIVE_CHARS_MAX, _BUTTON_CHARS_MAX = 1_024, 20

#: Blanks as Meta takes them in a value of a template. Others (line ends, tabs, many on end) are error 132018.
_BLANKS, _GOOD_BLANKS = re.compile(r"\s+"), frozenset({" ", "  ", "   "})

Value = str | int | float


class WhatsAppParameters(HttpParameters):
    """Settings of a business phone number."""

    base_url: HttpUrl = Field("https://graph.facebook.com", description="Address of Meta's Graph API.")
    api_version: str = Field("v24.0", pattern=r"^v[0-9]+\.[0-9]+$", description="Version of the Graph API.")
    phone_number_id: str = Field(
        pattern=r"^[0-9]{5,25}$", description="Meta's id of the number that messages come from."
    )
    token_env: str = Field(min_length=1, description="Environment variable with the access token of a system user.")
    app_secret_env: str = Field(
        "", description="Environment variable with the app's secret; callbacks cannot be proved without it."
    )
    verify_token_env: str = Field(
        "", description="Environment variable with the verify token that the app's webhook was set up with."
    )
    language: str = Field("en", pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$", description="Language of templates, as en_US.")
    stop_words: tuple[str, ...] = Field(
        ("stop", "unsubscribe", "stop promotions"), description="Messages and buttons that withdraw consent."
    )
    start_words: tuple[str, ...] = Field(("start",), description="Messages and buttons that give consent again.")


class WhatsAppParams(ActionParams):
    """What a message needs: a number, and a template or a text."""

    one_of: ClassVar[tuple[tuple[str, ...], ...]] = (("template", "text"),)

    to: str = Field(pattern=E164, description="Number to write to, in E.164 form such as +919812345678.")
    template: str = Field("", pattern=r"^[a-z0-9_]{0,512}$", description="Name of an approved template.")
    language: str = Field("", pattern=r"^([a-z]{2,3}(_[A-Z]{2})?)?$", description="Language of the template, as en_US.")
    variables: list[Value] | dict[str, Value] = Field(
        [], description="Values of the template's body: a list for {{1}}, {{2}}, an object for named ones."
    )
    components: list[dict[str, Any]] = Field(
        [], description="Further components of the template (header, buttons), as the Cloud API has them."
    )
    text: str = Field("", max_length=4_096, description="Free text, within 24 hours of what the customer wrote.")
    buttons: dict[str, str] = Field(
        {}, max_length=3, description="Up to three reply buttons below the text: their ids and titles."
    )
    preview_url: bool = Field(False, description="Whether a link in the text shows a preview.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.template and self.text:
            raise ValueError('only one of param "template" and param "text" can be sent')
        if self.buttons and not self.text:
            raise ValueError('param "buttons" needs param "text"; buttons of a template are part of it')
        if self.buttons and len(self.text) > _INTERACTIVE_CHARS_MAX:
            raise ValueError(f'param "text" may have {_INTERACTIVE_CHARS_MAX} characters above buttons')
        if any(not 0 < len(title) <= _BUTTON_CHARS_MAX for title in self.buttons.values()):
            raise ValueError(f'param "buttons": a title must have 1 to {_BUTTON_CHARS_MAX} characters')
        return self


class WhatsAppConnector:
    """Sends one message a delivery. Whether it arrives and is read comes back later, as a callback."""

    def __init__(
        self,
        name: str,
        parameters: WhatsAppParameters,
        *,
        token: str,
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self.name = name
        self._language = parameters.language
        self._number_url = f"{parameters.base_url.rstrip('/')}/{parameters.api_version}/{parameters.phone_number_id}"
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._sender = HttpSender(parameters, now_s)
        self._now_s = now_s

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``. A delivery that lacks what a message needs is refused unsent."""
        if delivery.kind != "whatsapp":
            return Receipt(result=Result.REFUSED, detail=f'kind "{delivery.kind}" is not a WhatsApp message')
        params = checked_params(WhatsAppParams, delivery)
        if isinstance(params, Receipt):
            return params
        request = json_request(delivery.id, message_content(delivery, params, self._language))
        if isinstance(request, Receipt):
            return request
        headers = {**request.headers, **self._authorization}
        answer = await self._sender.ask("POST", f"{self._number_url}/messages", body=request.body, headers=headers)
        receipt = answer if isinstance(answer, Receipt) else sent_receipt(answer, self._now_s())
        # Who may have been written to is known even when Meta has not said so.
        known = receipt.result in {Result.DELIVERED, Result.UNKNOWN}
        return replace(receipt, recipient=params.to) if known else receipt

    async def check(self) -> str | None:
        """Return None when Meta answers for the number and takes the token, else what to mend."""
        remedy = "Check phone_number_id, api_version, and that the token's system user may use the number."
        url = f"{self._number_url}?fields=id"
        return await self._sender.reach(url, self._authorization, method="GET", rejected=remedy)

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()


def message_content(delivery: Delivery, params: WhatsAppParams, language: str) -> dict[str, Any]:
    """Return the body of a message request; it does not depend on the attempt."""
    common = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": params.to}
    return common | _message(params, language) | {"biz_opaque_callback_data": _opaque(delivery)}


def sent_receipt(answer: HttpAnswer, now_s: float) -> Receipt:
    """Return what Meta's answer to a message means (the table above)."""
    receipt = answer_receipt(answer.status, answer.headers, answer.body, now_s)
    content = answer.json_object()
    if receipt.result is Result.DELIVERED:
        return replace(receipt, reference=_message_id(content)[:DETAIL_CHARS_MAX])
    error = content.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(error, dict) or not isinstance(code, int):
        return replace(receipt, result=Result.UNKNOWN) if answer.status in _PERHAPS_TAKEN else receipt
    receipt = replace(receipt, detail=_detail(code, error))
    if code in _RETRY_CODES:
        wait_s = retry_after_s(answer.headers.get("retry-after", ""), now_s)
        return replace(receipt, result=Result.RETRY, retry_after_s=wait_s)
    if code == _UNEXPLAINED and answer.status in _PERHAPS_TAKEN:
        return replace(receipt, result=Result.UNKNOWN)
    if receipt.result is Result.REFUSED and code in CLOSING:
        return replace(receipt, finding=Finding(type=CLOSING[code], reason=REASONS[code], error_code=code))
    return receipt


def _message(params: WhatsAppParams, language: str) -> dict[str, Any]:
    if params.template:
        template: dict[str, Any] = {"name": params.template, "language": {"code": params.language or language}}
        if components := _body_component(params) + params.components:
            template["components"] = [_on_one_line(component) for component in components]
        return {"type": "template", "template": template}
    if params.buttons:
        replies = [{"type": "reply", "reply": {"id": id_, "title": title}} for id_, title in params.buttons.items()]
        interactive = {"type": "button", "body": {"text": params.text}, "action": {"buttons": replies}}
        return {"type": "interactive", "interactive": interactive}
    return {"type": "text", "text": {"body": params.text, "preview_url": params.preview_url}}


def _body_component(params: WhatsAppParams) -> list[dict[str, Any]]:
    if isinstance(params.variables, dict):
        named = params.variables.items()
        values = [{"type": "text", "parameter_name": name, "text": str(value)} for name, value in named]
    else:
        values = [{"type": "text", "text": str(value)} for value in params.variables]
    return [{"type": "body", "parameters": values}] if values else []


def _on_one_line(component: dict[str, Any]) -> dict[str, Any]:
    """Return a component whose values are each one line: what customers type has line ends, and Meta refuses them."""
    parameters = component.get("parameters")
    if not isinstance(parameters, list):
        return component
    texts = [
        one | {"text": _BLANKS.sub(lambda run: run[0] if run[0] in _GOOD_BLANKS else " ", one["text"])}
        if isinstance(one, dict) and isinstance(one.get("text"), str)
        else one
        for one in parameters
    ]
    return component | {"parameters": texts}


def _opaque(delivery: Delivery) -> str:
    """Return what Meta is to hand back: both ids, or the action's alone where both would be too long."""
    both = urlencode({"action": delivery.id, "customer": delivery.customer_id}, errors="replace")
    alone = urlencode({"action": delivery.id}, errors="replace")
    return both if len(both) <= _OPAQUE_CHARS_MAX else alone[:_OPAQUE_CHARS_MAX]


def _detail(code: int, error: dict[str, Any]) -> str:
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else None
    said = str(error.get("message") or "no message") + (f" ({details})" if details else "")
    return f"WhatsApp error {code}: {without_numbers(said)}"[:DETAIL_CHARS_MAX]


def _message_id(content: dict[str, Any]) -> str:
    match content.get("messages"):
        case [{"id": str(name)}, *_]:
            return name
        case _:
            return ""


def _secret(name: str, setting: str, variable: str, surroundings: Surroundings) -> str:
    return environment_value(name, setting, variable, surroundings) if variable else ""


def _create(name: str, parameters: WhatsAppParameters, surroundings: Surroundings) -> WhatsAppConnector:
    token = environment_value(name, "token_env", parameters.token_env, surroundings)
    return WhatsAppConnector(name, parameters, token=token, now_s=surroundings.now_s)


def _callbacks(name: str, parameters: WhatsAppParameters, surroundings: Surroundings) -> WhatsAppCallbacks:
    return WhatsAppCallbacks(
        app_secret=_secret(name, "app_secret_env", parameters.app_secret_env, surroundings),
        verify_token=_secret(name, "verify_token_env", parameters.verify_token_env, surroundings),
        stop_words=parameters.stop_words,
        start_words=parameters.start_words,
    )


WHATSAPP = ConnectorType(
    type="whatsapp",
    description="A WhatsApp message through Meta's Cloud API.",
    kinds=("whatsapp",),
    parameters=WhatsAppParameters,
    action_params=WhatsAppParams,
    create=_create,
    callbacks=_callbacks,
)
