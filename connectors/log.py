"""The log connector: writes what would have been sent to the process's log, one JSON line a delivery."""

from __future__ import annotations

import json
import logging
from typing import Literal

from pydantic import Field

from connectors.connector_type import KINDS, AnyParams, ConnectorType, Parameters, Surroundings
from connectors.protocol import Delivery, Receipt, Result
from connectors.webhook import webhook_content

_log = logging.getLogger("connectors.log")


class LogParameters(Parameters):
    """Settings of the log connector."""

    level: Literal["debug", "info", "warning"] = Field("info", description="Level of the log lines.")
    redact: tuple[str, ...] = Field((), description="Params whose values are written as [redacted].")


class LogConnector:
    """Takes every delivery. Useful while rules are being written and as the last fallback."""

    def __init__(self, name: str, parameters: LogParameters) -> None:
        self.name = name
        self._level = logging.getLevelNamesMapping()[parameters.level.upper()]
        self._redact = frozenset(parameters.redact)

    async def send(self, delivery: Delivery) -> Receipt:
        """Write one line and return; values that JSON does not know are written as text."""
        content = webhook_content(delivery)
        content["params"] = {
            name: "[redacted]" if name in self._redact else value for name, value in delivery.params.items()
        }
        # ASCII alone keeps a line one line, whatever control characters a param brings.
        _log.log(self._level, "delivery to %s %s", self.name, json.dumps(content, default=str))
        return Receipt(result=Result.DELIVERED, reference=delivery.id)

    async def check(self) -> str | None:
        """Return None: a log is always there."""
        return None

    async def close(self) -> None:
        """Nothing is open."""


def _create(name: str, parameters: LogParameters, _surroundings: Surroundings) -> LogConnector:
    return LogConnector(name, parameters)


LOG = ConnectorType(
    type="log",
    description="A line in the log instead of a real delivery.",
    kinds=KINDS,
    parameters=LogParameters,
    action_params=AnyParams,
    create=_create,
)
