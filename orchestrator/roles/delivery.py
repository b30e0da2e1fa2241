"""Delivery put together: connectors and policies from the rulebook's connector entries."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping

import connectors.http_pool  # noqa: F401 - loaded before the first action has to wait for it.
from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector
from connectors.reach import Reach
from connectors.registry import build, expand_environment
from orchestrator.errors import ConfigurationError
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.rulebook.load import Loaded
from orchestrator.runtime.dispatch import DeliveryPolicy

log = logging.getLogger(__name__)


def connectors_of(entries: Iterable[ConnectorEntry], environ: Mapping[str, str] | None = None) -> dict[str, Connector]:
    """Build every connector; raise ``ConfigurationError`` naming connector, setting and remedy.

    ``environ`` fills in ``${NAME}`` references, holds the secrets and says what may be reached; the process's own
    environment when None. What begins with ``JOURNEY_`` is the engine's and no connector gets it: a rulebook
    could otherwise send the engine's own secrets to a target of its choice.
    """
    environ = os.environ if environ is None else environ
    reach = _reach(environ)
    theirs = {name: value for name, value in environ.items() if not name.startswith("JOURNEY_")}
    try:
        return {
            entry.name: build(
                entry.name,
                {"type": entry.type, **expand_environment(entry.settings, theirs, connector=entry.name)},
                environ=theirs,
                reach=reach,
            )
            for entry in entries
        }
    except ConnectorMisconfigured as error:
        raise ConfigurationError(str(error)) from error


def _reach(environ: Mapping[str, str]) -> Reach:
    """Return where connectors may connect: what JOURNEY_PRIVATE_TARGETS permits, and RECEIVER_URL."""
    try:
        permitted = Reach.of_environment(environ)
    except ValueError as error:
        raise ConfigurationError(f"JOURNEY_PRIVATE_TARGETS: {error}. Write 10.0.0.0/8, a host or host:port.") from None
    return permitted.and_url(environ.get("RECEIVER_URL", ""))


def restart_notice(entries: Iterable[ConnectorEntry]) -> Callable[[Loaded], None]:
    """Return a listener that says so when a rulebook brings other connectors than those that run, ``entries``.

    Connections and policies belong to the process: they change when it is restarted, and not under way.
    """
    running = {entry.name: entry for entry in entries}

    def listen(loaded: Loaded) -> None:
        wanted = {entry.name: entry for entry in loaded.connectors}
        changed = sorted(name for name in running | wanted if running.get(name) != wanted.get(name))
        if changed:
            log.warning(
                "rulebook %s has other entries for the connectors %s: restart this process to use them. Until then the "
                "ones it was started with deliver, and actions of new ones fail; redrive those after the restart.",
                loaded.version,
                ", ".join(changed),
            )

    return listen


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
        capacity=written.capacity,
    )
