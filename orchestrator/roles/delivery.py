"""Delivery put together: connectors and policies from the rulebook's connector entries."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence

import connectors.http_pool  # noqa: F401 - loaded before the first action has to wait for it.
from connectors.errors import ConnectorMisconfigured
from connectors.protocol import Connector
from connectors.reach import Reach
from connectors.registry import build, expand_environment
from orchestrator import metrics
from orchestrator.errors import ConfigurationError, RulebookRefused
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.rulebook.load import Loaded
from orchestrator.runtime.dispatch import DeliveryPolicy
from orchestrator.runtime.rulebooks import PublishedRulebooks

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


async def refuse_unstartable(
    loaded: Loaded, environ: Mapping[str, str] | None = None, *, elsewhere: bool = False
) -> None:
    """Raise ``RulebookRefused`` with every fault of connectors that no process could start with.

    With ``elsewhere`` another process delivers: a variable that is not set here may be set there.
    """
    faults = []
    for entry in loaded.connectors:
        try:
            await _close(connectors_of([entry], environ))
        except ConfigurationError as error:
            if not (elsewhere and _only_unset(error.__cause__)):
                faults.append(str(error))
    if faults:
        raise RulebookRefused("\n".join([*faults, "No process could start with these connectors."]))


def _only_unset(cause: BaseException | None) -> bool:
    return isinstance(cause, ConnectorMisconfigured) and all(problem.variable for problem in cause.problems)


async def _close(connectors: Mapping[str, Connector]) -> None:
    for connector in connectors.values():
        await connector.close()


def built(
    rulebooks: PublishedRulebooks, environ: Mapping[str, str] | None = None, *, options: str = ""
) -> dict[str, Connector]:
    """Build the connectors of the rulebook in force; the ``ConfigurationError`` names the version to go back to.

    ``options`` is what ``journey rollback`` needs besides the version.
    """
    try:
        return connectors_of(rulebooks.loaded.connectors, environ)
    except ConfigurationError as error:
        version = rulebooks.current.version
        before = next((one.version for one in rulebooks.published() if one.version != version), None)
        if before is None:
            raise
        raise ConfigurationError(
            f"{error}\nThe rulebook in force, {version}, cannot start here. Mend what is named, or go back: "
            f"journey rollback {before}{options}"
        ) from error


class RunningConnectors:
    """The connectors that this process was started with, compared with those of the rulebook in force.

    Connections and policies belong to the process: they change when it is restarted, and not under way. ``notice`` is
    what an operator should know of that, '' for nothing.
    """

    def __init__(self, entries: Iterable[ConnectorEntry], environ: Mapping[str, str] | None = None) -> None:
        self._running = {entry.name: entry for entry in entries}
        self._environ = environ
        self.notice = ""

    def listen(self, loaded: Loaded) -> None:
        """Take note of a rulebook that comes into force."""
        wanted = {entry.name: entry for entry in loaded.connectors}
        changed = sorted(name for name in self._running | wanted if self._running.get(name) != wanted.get(name))
        faults = [fault for name in changed if name in wanted and (fault := self._fault(wanted[name]))]
        metrics.CONNECTORS_UNSTARTABLE.set(len(faults))
        self.notice = self._notice(loaded.version, changed, faults)
        if self.notice:
            log.log(logging.ERROR if faults else logging.WARNING, "%s", self.notice)

    def _fault(self, entry: ConnectorEntry) -> str:
        try:
            connectors_of([entry], self._environ)  # Building opens nothing that would have to be closed.
        except ConfigurationError as error:
            return str(error)
        return ""

    @staticmethod
    def _notice(version: str, changed: Sequence[str], faults: Sequence[str]) -> str:
        if not changed:
            return ""
        kept = "Until then those it was started with deliver, and actions of new ones fail; redrive these afterwards."
        head = f"rulebook {version} has other entries for the connectors {', '.join(changed)}"
        if not faults:
            return f"{head}: restart this process to use them. {kept}"
        listed = "\n".join(faults)
        return f"{head}, and this process could not start with them: mend this before it is restarted. {kept}\n{listed}"


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
