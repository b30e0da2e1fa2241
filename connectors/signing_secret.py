"""Signing secrets of Standard Webhooks, as settings name them: an environment variable that holds one or several."""

from __future__ import annotations

from connectors.connector_type import Surroundings, environment_value
from connectors.errors import ConnectorMisconfigured, Problem
from connectors.signature import parse_secrets


def signing_keys(connector: str, setting: str, variable: str, surroundings: Surroundings) -> tuple[bytes, ...]:
    """Return the keys in the variable that ``setting`` names; raise ``ConnectorMisconfigured`` when it holds none."""
    try:
        return parse_secrets(environment_value(connector, setting, variable, surroundings))
    except ValueError as error:
        message = f'setting "{setting}": {error} (in the environment variable "{variable}")'
        remedy = 'Make one with: echo "whsec_$(openssl rand -base64 32)"'
        raise ConnectorMisconfigured(connector, [Problem(setting, message, remedy)]) from None
