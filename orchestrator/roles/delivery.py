"""Delivery put together: connectors and policies from the rulebook's connector entries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector
from connectors.registry import build, expand_environment
from orchestrator.errors import ConfigurationError
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.runtime.dispatch import DeliveryPolicy


def connectors_of(entries: Iterable[ConnectorEntry], environ: Mapping[str, str] | None = None) -> dict[str, Connector]:
    """Build every connector; raise ``ConfigurationError`` naming connector, setting and remedy.

    ``environ`` fills in ``${NAME}`` references; the process's own environment when None.
    """
    environ = os.environ if environ is None else environ
    try:
        return {
            entry.name: build(
                entry.name, {"type": entry.type, **expand_environment(entry.settings, environ, connector=entry.name)}
            )
            for entry in entries
        }
    except ConnectorMisconfigured as error:
        raise ConfigurationError(str(error)) from error


def policies_of(entries: Iterable[ConnectorEntry]) -> dict[str, DeliveryPolicy]:
    """Return each connector's delivery policy."""
    return {entry.name: _policy(entry) for entry in entries}


def _policy(entry: ConnectorEntry) -> DeliveryPolicy:
    written = entry.delivery
    return DeliveryPolicy(
        concurrency=written.concurrency,
        rate_max=None if written.rate is None else written.rate.max,
        rate_per_s=1.0 if written.rate is None else written.rate.per_ms / 1000,
        attempts_max=written.attempts_max,
        budget_s=written.budget_ms / 1000,
        backoff_first_s=written.backoff_first_ms / 1000,
        backoff_max_s=written.backoff_max_ms / 1000,
        on_unknown="drop" if written.on_unknown == "drop" else "retry",
        breaker_after=written.breaker_failures,
        breaker_open_s=written.breaker_pause_ms / 1000,
        lease_s=written.lease_ms / 1000,
    )
