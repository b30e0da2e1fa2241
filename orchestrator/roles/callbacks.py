"""Callbacks put together: who reads what providers report, for the rulebook in force."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping

from connectors.connector_type import ConnectorType
from connectors.errors import ConnectorMisconfigured
from connectors.registry import callback_reader, connector_types, expand_environment
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.outcomes import Reception
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.rulebook.load import Loaded
from orchestrator.runtime.contacts import ContactBook
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.outcomes import Desk, OutcomeIntake
from orchestrator.runtime.rulebooks import RulebookInForce

log = logging.getLogger(__name__)


def desks_of(entries: Iterable[ConnectorEntry], environ: Mapping[str, str] | None = None) -> dict[str, Desk]:
    """Return a desk for each connector whose type reports back; one that cannot be read carries its fault.

    ``environ`` holds the secrets; the process's own environment when None. As with sending, no connector gets what
    begins with ``JOURNEY_``.
    """
    environ = os.environ if environ is None else environ
    theirs = {name: value for name, value in environ.items() if not name.startswith("JOURNEY_")}
    try:
        types = connector_types()
    except ConnectorMisconfigured as error:
        log.error("no reports of providers can be read: %s", error)
        return {}
    desks = (_desk(entry, theirs, types) for entry in entries)
    return {desk.connector: desk for desk in desks if desk is not None}


def _desk(entry: ConnectorEntry, environ: Mapping[str, str], types: tuple[ConnectorType, ...]) -> Desk | None:
    if any(one.type == entry.type and one.callbacks is None for one in types):
        return None
    settings = dict(entry.settings)
    try:
        settings = {"type": entry.type, **expand_environment(entry.settings, environ, connector=entry.name)}
        reader = callback_reader(entry.name, settings, environ=environ, types=types)
    except ConnectorMisconfigured as error:
        # A setting that is left out, or empty here, means that nobody wants reports; a wrong one is to be mended.
        unconfigured = all(settings.get(problem.subject.partition(".")[0]) in (None, "") for problem in error.problems)
        return Desk(connector=entry.name, kind=entry.kind, reader=None, fault=str(error), unconfigured=unconfigured)
    return None if reader is None else Desk(connector=entry.name, kind=entry.kind, reader=reader)


def reporting(entries: Iterable[ConnectorEntry]) -> frozenset[str]:
    """Return the names of connectors whose other side may report back. Raises ``ConfigurationError``."""
    try:
        types = {one.type for one in connector_types() if one.callbacks is not None}
    except ConnectorMisconfigured as error:
        raise ConfigurationError(str(error)) from error
    return frozenset(entry.name for entry in entries if entry.type in types)


def reception_of(
    rulebooks: RulebookInForce,
    intake: Intake,
    contacts: ContactBook,
    release: Callable[[str], Awaitable[bool]],
    environ: Mapping[str, str] | None = None,
) -> Reception:
    """Return what the outcomes route needs; its desks follow the rulebook when that is switched.

    A connector whose reports cannot be read is logged with the remedy and stops nothing else.
    """
    current = desks_of(rulebooks.loaded.connectors, environ)
    _report(current.values())

    def follow(loaded: Loaded) -> None:
        nonlocal current
        current = desks_of(loaded.connectors, environ)
        _report(current.values())

    rulebooks.listeners.append(follow)
    return Reception(desks=lambda: current, intake=OutcomeIntake(intake, contacts), release=release)


def _report(desks: Iterable[Desk]) -> None:
    for desk in desks:
        if desk.fault:
            level = logging.INFO if desk.unconfigured else logging.WARNING
            log.log(level, "what %s reports cannot be read: %s", desk.connector, desk.fault)
