"""Errors of building a connector. Sending raises none: what the other side did is a ``Receipt``.

ConnectorMisconfigured   settings are wrong; carries every problem with its remedy
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the setting or parameter (a dotted path), what about it, and what to do.

    ``variable`` is the environment variable that is not set, when that is all.
    """

    subject: str
    message: str
    remedy: str
    variable: str = ""

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}"


class ConnectorMisconfigured(Exception):
    """A connector cannot be built from its settings; correct the ones that the message names.

    ``connector`` is its name; ``problems`` holds all that was found. ``setting`` and ``remedy`` are the first one's.
    """

    def __init__(self, connector: str, problems: Sequence[Problem]) -> None:
        self.connector = connector
        self.problems = tuple(problems)
        self.setting = self.problems[0].subject
        self.remedy = self.problems[0].remedy
        super().__init__("\n".join(f'connector "{connector}": {problem}' for problem in self.problems))


def unknown_name(noun: str, name: str, allowed: Iterable[str]) -> Problem:
    """Return the problem of a name that is not one of ``allowed``, with the nearest one that is."""
    names = sorted(allowed)
    remedy = f"Allowed: {', '.join(names)}." if names else f"No {noun} is allowed here."
    if near := get_close_matches(name.rpartition(".")[2], names, n=1):
        remedy += f' Did you mean "{near[0]}"?'
    return Problem(name, f'{noun} "{name}" is unknown', remedy)


def model_problems(model: type[BaseModel], error: ValidationError, noun: str) -> list[Problem]:
    """Return what pydantic found against ``model``, each said with ``noun`` ("setting", "param") and a remedy."""
    return [_problem(model, details, noun) for details in error.errors(include_url=False, include_input=False)]


def _problem(model: type[BaseModel], details: ErrorDetails, noun: str) -> Problem:
    subject = ".".join(str(part) for part in details["loc"])
    field = model.model_fields.get(str(details["loc"][0])) if details["loc"] else None
    meaning = f"It is: {field.description}" if field and field.description else "See connectors/README.md."
    match details["type"]:
        case "extra_forbidden":
            return unknown_name(noun, subject, model.model_fields)
        case "missing":
            return Problem(subject, f'{noun} "{subject}" is missing', meaning)
        case _:
            said = _sentence(details)
            return Problem(subject, f'{noun} "{subject}": {said}' if subject else said, meaning)


def _sentence(details: ErrorDetails) -> str:
    """A validator's own words are kept as they are; pydantic's start with a capital that is out of place here."""
    context: dict[str, Any] = details.get("ctx", {})
    if details["type"] == "value_error" and "error" in context:
        return str(context["error"])
    return details["msg"][:1].lower() + details["msg"][1:]
