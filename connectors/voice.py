"""The voice connector: asks a telephony or voice-AI system to call a customer.

It speaks the call API that connectors/README.md documents: one ``POST {base_url}/v1/calls`` a call, whose body is
the same on every attempt, so that the other side can tell a repeat from another call by ``Idempotency-Key`` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field

from connectors import clock
from connectors.callback import OutcomeType
from connectors.connector_type import ActionParams, ConnectorType, Surroundings, checked_params, environment_value
from connectors.http import HttpParameters, HttpSender, HttpUrl, json_request
from connectors.phone import E164
from connectors.protocol import Delivery, Receipt, Result
from connectors.standard_callback import CALLBACK_SECRET_DESCRIPTION, standard_callbacks

#: What a voice system may report.
CALL_OUTCOMES = (
    OutcomeType.CALL_ANSWERED,
    OutcomeType.CALL_MISSED,
    OutcomeType.CALL_ENDED,
    OutcomeType.UNSUBSCRIBED,
    OutcomeType.RESUBSCRIBED,
)


class VoiceParameters(HttpParameters):
    """Settings of a voice system."""

    base_url: HttpUrl = Field(description="Address of the call API; /v1/calls is added to it.")
    token_env: str = Field(
        "", description="Environment variable that holds the bearer token; empty sends no Authorization header."
    )
    callback_secret_env: str = Field("", description=CALLBACK_SECRET_DESCRIPTION)


class CallParams(ActionParams):
    """What a call needs."""

    one_of: ClassVar[tuple[tuple[str, ...], ...]] = (("agent", "script"),)

    phone: str = Field(pattern=E164, description="Number to call, in E.164 form such as +919812345678.")
    agent: str = Field("", max_length=200, description="Agent or queue of the voice system that takes the call.")
    script: str = Field("", max_length=20_000, description="What to say, or the name of a script there.")
    context: dict[str, Any] = Field({}, description="Facts for the conversation, as an object.")
    metadata: dict[str, Any] = Field({}, description="Labels that the voice system hands back in its reports.")


class VoiceConnector:
    """Asks for one call a delivery. Whether the customer answers comes back later, as an event."""

    def __init__(
        self,
        name: str,
        parameters: VoiceParameters,
        *,
        token: str = "",
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self.name = name
        self._url = parameters.base_url.rstrip("/") + "/v1/calls"
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._sender = HttpSender(parameters, now_s)

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``. A delivery that lacks what a call needs is refused unsent."""
        if delivery.kind != "call":
            return Receipt(result=Result.REFUSED, detail=f'kind "{delivery.kind}" is not a call')
        params = checked_params(CallParams, delivery)
        if isinstance(params, Receipt):
            return params
        request = json_request(delivery.id, call_content(delivery, params))
        if isinstance(request, Receipt):
            return request
        headers = {**request.headers, "Delivery-Attempt": str(delivery.attempt), **self._authorization}
        return await self._sender.send("POST", self._url, body=request.body, headers=headers)

    async def check(self) -> str | None:
        """Return None when the call API answers and does not reject the token, else what to mend."""
        return await self._sender.reach(self._url, self._authorization)

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()


def call_content(delivery: Delivery, params: CallParams) -> dict[str, Any]:
    """Return the body of a call request; it does not depend on the attempt."""
    return {
        "call_id": delivery.id,
        "customer_id": delivery.customer_id,
        "to": params.phone,
        "agent": params.agent,
        "script": params.script,
        "context": params.context,
        "decided_at": delivery.decided_at_ms,
        "deadline_at": delivery.deadline_at_ms,
        "metadata": {**params.metadata, **delivery.facts},
    }


def _create(name: str, parameters: VoiceParameters, surroundings: Surroundings) -> VoiceConnector:
    variable = parameters.token_env
    token = environment_value(name, "token_env", variable, surroundings) if variable else ""
    return VoiceConnector(name, parameters, token=token, now_s=surroundings.now_s)


VOICE = ConnectorType(
    type="voice",
    description="A phone call by a telephony or voice-AI system.",
    kinds=("call",),
    parameters=VoiceParameters,
    action_params=CallParams,
    create=_create,
    callbacks=standard_callbacks(CALL_OUTCOMES),
)
