"""Lint of connectors: their settings, and the params that templates give them."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.errors import ConnectorMisconfigured
from connectors.registry import expand_environment, settings_problems
from orchestrator.rulebook.connector_entry import types_by_name
from orchestrator.rulebook.meant import meant_param
from orchestrator.rulebook.models.play import SendPart, StepPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import unknown


def lint_connectors(names: Names) -> None:
    """Check every connector's settings and every send's params against its type."""
    for name, entry in names.connectors.items():
        at = names.connector_origins[name]
        known = types_by_name().get(entry.type)
        if known is None:
            names.report.error(at, "type", unknown("connector type", entry.type, types_by_name()))
            continue
        if entry.kind not in known.kinds:
            message = f'type "{entry.type}" carries {", ".join(known.kinds)}, not {entry.kind}'
            names.report.error(at, "kind", message)
        _settings(names, name)
        _opt_out(names, name)
    for source in names.journeys.values():
        for rule in source.rules:
            for send in sends_of(rule.do):
                _params(names, send)


def _settings(names: Names, name: str) -> None:
    entry, at = names.connectors[name], names.connector_origins[name]
    try:
        settings = expand_environment(entry.settings, {}, connector=name)
    except ConnectorMisconfigured:
        # A variable without a default is known only where the dispatcher runs; `journey doctor` checks there.
        return
    for problem in settings_problems(name, {"type": entry.type, **settings}, tuple(types_by_name().values())):
        inner = at.get("settings")
        names.report.error(inner if isinstance(inner, type(at)) else at, problem.subject, str(problem))


#: The settings of a type whose links unsubscribe, and what that closes.
_LINKS, _SCOPE = "unsubscribe_secret_env", "unsubscribes_from"


def _opt_out(names: Names, name: str) -> None:
    """Check what unsubscribing through a connector closes: purposes that there are, and something that was chosen."""
    entry, at = names.connectors[name], names.connector_origins[name]
    inner = at.get("settings")
    place = inner if isinstance(inner, type(at)) else at
    scope = entry.settings.get(_SCOPE)
    if entry.settings.get(_LINKS) and scope is None:
        message = (
            f"who unsubscribes from a message of {name} gets no {entry.kind} at all any more, receipts included. Name "
            f"what ends, such as {_SCOPE}: [marketing], or write {_SCOPE}: channel."
        )
        names.report.warning(place, _LINKS, message)
    for purpose in scope if isinstance(scope, list) else ():
        if isinstance(purpose, str):
            names.known("consent", purpose, place, _SCOPE)


def _params(names: Names, send: SendPart) -> None:
    entry = names.connectors.get(send.connector)
    known = None if entry is None else types_by_name().get(entry.type)
    if known is None or (send.template is not None and send.template not in names.templates):
        return
    own = names.templates[send.template].params if send.template else {}
    given = set(own) if send.template else set(send.params)
    shared = names.templates[send.template].origin if send.template else send.origin
    for problem in known.param_name_problems(given):
        # What is there is wrong in its own line, what is missing in that of the params.
        at, key = (shared["params"], problem.subject) if problem.subject in given else (shared, "params")
        meant = meant_param(problem.subject, known.action_params.model_fields.keys() - given)
        remedy = f' Did you mean "{meant}"?' if meant and problem.subject in given and "?" not in str(problem) else ""
        names.report.error(at, key, f'connector "{send.connector}": {problem}{remedy}')


def sends_of(steps: list[StepPart]) -> Iterator[SendPart]:
    """Yield every send of a play, fallbacks included, in order."""
    for step in steps:
        if step.send is not None:
            yield step.send
            yield from step.send.fallback
        inner = [] if step.wait_for is None else step.wait_for.else_
        for block in (step.do, step.then, step.else_, inner):
            yield from sends_of(block)
