"""The webhook connector: any action, as JSON, to a URL of yours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from connectors import clock
from connectors.callback import OutcomeType
from connectors.connector_type import KINDS, AnyParams, ConnectorType, Surroundings
from connectors.http import HttpParameters, HttpSender, HttpUrl, json_request
from connectors.opt_out import (
    SCOPE_DESCRIPTION,
    START_DESCRIPTION,
    START_WORDS,
    STOP_DESCRIPTION,
    STOP_WORDS,
    Scope,
    Words,
)
from connectors.protocol import Delivery, Receipt
from connectors.signature import signed_headers
from connectors.signing_secret import signing_keys
from connectors.standard_callback import CALLBACK_SECRET_DESCRIPTION, standard_callbacks


class WebhookParameters(HttpParameters):
    """Settings of a webhook."""

    url: HttpUrl = Field(description="Address that deliveries are sent to.")
    method: Literal["POST", "PUT", "PATCH"] = Field("POST", description="HTTP method.")
    secret_env: str = Field(
        "", description="Environment variable that holds the signing secret, whsec_...; empty sends unsigned."
    )
    callback_secret_env: str = Field("", description=CALLBACK_SECRET_DESCRIPTION)
    stop_words: Words = Field(STOP_WORDS, description=STOP_DESCRIPTION)
    start_words: Words = Field(START_WORDS, description=START_DESCRIPTION)
    unsubscribes_from: Scope = Field((), description=SCOPE_DESCRIPTION)


class WebhookConnector:
    """Sends each delivery as one JSON request, signed when there is a secret.

    ``Idempotency-Key`` (and ``webhook-id``) is the delivery's id on every attempt; the timestamp of the signature
    is the attempt's own.
    """

    def __init__(
        self,
        name: str,
        parameters: WebhookParameters,
        *,
        keys: tuple[bytes, ...] = (),
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        self.name = name
        self._parameters = parameters
        self._keys = keys
        self._now_s = now_s
        self._sender = HttpSender(parameters, now_s)

    async def send(self, delivery: Delivery) -> Receipt:
        """Make one attempt within ``timeout_s``."""
        request = json_request(delivery.id, webhook_content(delivery))
        if isinstance(request, Receipt):
            return request
        body, headers = request
        if self._keys:
            headers |= signed_headers(self._keys, delivery.id, self._now_s(), body)
        return await self._sender.send(self._parameters.method, self._parameters.url, body=body, headers=headers)

    async def check(self) -> str | None:
        """Return None when the URL answers, else what to mend."""
        return await self._sender.reach(self._parameters.url, {})

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()


def webhook_content(delivery: Delivery) -> dict[str, Any]:
    """Return the body of a webhook. No fact can take the place of a field of the delivery itself."""
    return {
        "rule": "",
        **delivery.facts,
        "id": delivery.id,
        "customer_id": delivery.customer_id,
        "kind": delivery.kind,
        "params": delivery.params,
        "decided_at": delivery.decided_at_ms,
        "deadline_at": delivery.deadline_at_ms,
        "attempt": delivery.attempt,
    }


def _create(name: str, parameters: WebhookParameters, surroundings: Surroundings) -> WebhookConnector:
    variable = parameters.secret_env
    keys = signing_keys(name, "secret_env", variable, surroundings) if variable else ()
    return WebhookConnector(name, parameters, keys=keys, now_s=surroundings.now_s)


WEBHOOK = ConnectorType(
    type="webhook",
    description="Any action as a signed JSON request to a URL.",
    kinds=KINDS,
    parameters=WebhookParameters,
    action_params=AnyParams,
    create=_create,
    callbacks=standard_callbacks(OutcomeType),
)
