"""The registry: every connector type there is, and how one is built from settings.

Our own types stand in a tuple, in this order. Others announce themselves under the entry-point group
``journey.connectors`` and follow, ordered by entry-point name; none may take a type name that is taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from connectors import clock
from connectors.callback import CallbackReader
from connectors.connector_type import ConnectorType, Parameters, Surroundings
from connectors.crm import CRM
from connectors.errors import ConnectorMisconfigured, Problem, model_problems, unknown_name
from connectors.http import HttpParameters
from connectors.kafka_parameters import KAFKA, KafkaParameters
from connectors.log import LOG
from connectors.mail_parameters import EMAIL, EmailParameters
from connectors.protocol import Connector
from connectors.push import PUSH
from connectors.reach import Reach
from connectors.slack import SLACK
from connectors.sms import SMS
from connectors.twilio_voice import TWILIO_VOICE
from connectors.voice import VOICE
from connectors.webhook import WEBHOOK
from connectors.whatsapp import WHATSAPP

BUILT_IN: tuple[ConnectorType, ...] = (
    VOICE,
    TWILIO_VOICE,
    SMS,
    WHATSAPP,
    EMAIL,
    PUSH,
    SLACK,
    WEBHOOK,
    KAFKA,
    CRM,
    LOG,
)
ENTRY_POINT_GROUP = "journey.connectors"

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{")


def connector_types() -> tuple[ConnectorType, ...]:
    """Return our own types, then those of installed packages. Raise ``ConnectorMisconfigured`` for a faulty one."""
    types = list(BUILT_IN)
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        found = _loaded(entry)
        if any(found.type == known.type for known in types):
            message = f'entry point "{entry.value}": the type name "{found.type}" is taken'
            raise ConnectorMisconfigured(entry.name, [Problem("type", message, "Give the type another name.")])
        types.append(found)
    return tuple(types)


def build(
    name: str,
    settings: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    now_s: Callable[[], float] = clock.now_s,
    types: Sequence[ConnectorType] | None = None,
    reach: Reach | None = None,
) -> Connector:
    """Return the connector ``name`` built from ``settings``: its ``type`` and that type's parameters.

    ``${...}`` references must have been expanded. Secrets are read from ``environ`` (the process's own when None).
    ``types`` takes the place of ``connector_types()``, ``reach`` of what ``JOURNEY_PRIVATE_TARGETS`` permits. Opens no
    connection. Raises ``ConnectorMisconfigured`` with every problem of the settings at once.
    """
    chosen, parameters = _validated(name, settings, connector_types() if types is None else types)
    if reach is not None and isinstance(parameters, HttpParameters | EmailParameters | KafkaParameters):
        parameters = parameters.within(reach)
    surroundings = Surroundings(environ=os.environ if environ is None else environ, now_s=now_s)
    return chosen.create(name, parameters, surroundings)


def callback_reader(
    name: str,
    settings: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    now_s: Callable[[], float] = clock.now_s,
    types: Sequence[ConnectorType] | None = None,
) -> CallbackReader | None:
    """Return what understands the reports that the other side of ``name`` sends; None for a type that gets none.

    Arguments and errors are those of ``build``.
    """
    chosen, parameters = _validated(name, settings, connector_types() if types is None else types)
    if chosen.callbacks is None:
        return None
    surroundings = Surroundings(environ=os.environ if environ is None else environ, now_s=now_s)
    return chosen.callbacks(name, parameters, surroundings)


def settings_problems(
    name: str, settings: Mapping[str, Any], types: Sequence[ConnectorType] | None = None
) -> tuple[Problem, ...]:
    """Return what is wrong with ``settings``, without building anything or reading a secret."""
    try:
        _validated(name, settings, connector_types() if types is None else types)
    except ConnectorMisconfigured as error:
        return error.problems
    return ()


def expand_environment(
    settings: Mapping[str, Any], environ: Mapping[str, str], *, connector: str = ""
) -> dict[str, Any]:
    """Return ``settings`` with ``${NAME}`` and ``${NAME:-default}`` replaced in every string, however deep.

    The default stands in for a variable that is unset or empty; ``$${`` is a literal ``${``. Keys are left alone.
    Raises ``ConnectorMisconfigured``, under the name ``connector``, with every reference that cannot be replaced.
    """
    problems: list[Problem] = []
    expanded = {key: _expanded(value, key, environ, problems) for key, value in settings.items()}
    if problems:
        raise ConnectorMisconfigured(connector, problems)
    return expanded


def _validated(
    name: str, settings: Mapping[str, Any], types: Sequence[ConnectorType]
) -> tuple[ConnectorType, Parameters]:
    by_type = {known.type: known for known in types}
    wanted = settings.get("type")
    if wanted is None:
        remedy = f"Allowed: {', '.join(sorted(by_type))}."
        raise ConnectorMisconfigured(name, [Problem("type", 'setting "type" is missing', remedy)])
    if not isinstance(wanted, str) or wanted not in by_type:
        problem = unknown_name("type", str(wanted), by_type)
        raise ConnectorMisconfigured(name, [Problem("type", problem.message, problem.remedy)])
    model = by_type[wanted].parameters
    try:
        parameters = model.model_validate({key: value for key, value in settings.items() if key != "type"})
    except ValidationError as error:
        raise ConnectorMisconfigured(name, model_problems(model, error, "setting")) from None
    return by_type[wanted], parameters


def _loaded(entry: EntryPoint) -> ConnectorType:
    try:
        found = entry.load()
    except Exception as error:
        # Foreign code runs here, so anything may be raised; it is reported under the name of its package.
        message = f'entry point "{entry.value}" cannot be loaded: {error}'
        raise ConnectorMisconfigured(
            entry.name, [Problem("type", message, "Mend or uninstall its package.")]
        ) from error
    if not isinstance(found, ConnectorType):
        message = f'entry point "{entry.value}" is a {type(found).__name__}, not a ConnectorType'
        raise ConnectorMisconfigured(entry.name, [Problem("type", message, "Point it at a ConnectorType.")])
    return found


def _expanded(value: Any, where: str, environ: Mapping[str, str], problems: list[Problem]) -> Any:
    match value:
        case str():
            return _REFERENCE.sub(lambda match: _replacement(match, where, environ, problems), value)
        case Mapping():
            return {key: _expanded(item, f"{where}.{key}", environ, problems) for key, item in value.items()}
        case list() | tuple():
            return [_expanded(item, f"{where}.{index}", environ, problems) for index, item in enumerate(value)]
        case _:
            return value


def _replacement(match: re.Match[str], where: str, environ: Mapping[str, str], problems: list[Problem]) -> str:
    if match[0] == "$${":
        return "${"
    name, default = match["name"], match["default"]
    if name is None:
        message = f'setting "{where}" has a "${{" that is not ${{NAME}} or ${{NAME:-default}}'
        problems.append(Problem(where, message, "Write $${ for a literal ${."))
    elif default is not None:
        return environ.get(name) or default
    elif name in environ:
        return environ[name]
    else:
        message = f'setting "{where}" needs the environment variable "{name}", which is not set'
        problems.append(Problem(where, message, f"Set {name}, or write ${{{name}:-default}}.", name))
    return ""
