"""Reading: located YAML into models, with every fault told in the author's own keys and lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.rulebook.meant import meant_word
from orchestrator.rulebook.meant_value import hint, meant_days, meant_number
from orchestrator.rulebook.models.part import TAG_MARK, Part, shown
from orchestrator.rulebook.problem import Report, did_you_mean
from orchestrator.rulebook.source import Map, Seq, SourceFault, read_source

P = TypeVar("P", bound=Part)

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOOLEAN_WORDS = dict.fromkeys(("yes", "y", "on", "true", "1"), "true") | dict.fromkeys(
    ("no", "n", "off", "false", "0"), "false"
)
#: What a priority is elsewhere.
_LEVELS = {"urgent": "100", "highest": "100", "high": "80", "medium": "50", "normal": "50", "low": "20", "lowest": "0"}


def parsed(file: str, content: bytes, report: Report) -> Map | None:
    """Return the mapping that a file holds, or None after reporting why it cannot be read."""
    try:
        root = read_source(file, content)
    except SourceFault as fault:
        report.error(Map(file, fault.line, None, 0), None, fault.message)
        return None
    if isinstance(root, Map):
        return root
    message = "the file is empty" if root is None else "a mapping is expected at the top, such as `journey: …`"
    report.error(Map(file, 1, None, 0), None, message)
    return None


def read_part(model: type[P], source: Map, report: Report) -> P | None:
    """Return the model of a mapping, or None after reporting everything that is wrong with it."""
    before = len(report.problems)
    try:
        part = model.model_validate(source, context=report)
    except ValidationError as fault:
        for error in fault.errors(include_url=False):
            _note(error, source, report)
        return None
    return part if len(report.problems) == before else None


#: With this, pydantic ends the place of an error that is of a key and not of its value.
_KEY_MARK = "[key]"


def _note(error: ErrorDetails, source: Map, report: Report) -> None:
    loc = error["loc"]
    of_key = len(loc) > 1 and loc[-1] == _KEY_MARK
    at, key, names = _place(loc[:-1] if of_key else loc, source)
    if error["type"] == "missing":
        report.error(at, key, f'the key "{names[-1]}" is missing')
        return
    wrong, inner = error.get("ctx", {}).get("at"), at.get(str(key)) if isinstance(at, Map) else None
    if isinstance(inner, Map) and wrong in inner:
        at, key = inner, wrong
    last = next((name for name in reversed(names[:-1] if of_key else names) if isinstance(name, str)), "")
    report.error(at, key, f"{last}: {_message(error)}" if last else _message(error))


def _place(loc: tuple[int | str, ...], source: Map) -> tuple[Map | Seq, int | str | None, list[int | str]]:
    """Return the innermost mapping or list of the source on the way, the key in it, and the way itself."""
    names = [step for step in loc if not (isinstance(step, str) and step.startswith(TAG_MARK))]
    here: Any = source
    at: Map | Seq = source
    key: int | str | None = None
    for name in names:
        if isinstance(here, (Map, Seq)):
            at, key = here, name
        inside = isinstance(here, Map) and name in here
        inside = inside or (isinstance(here, Seq) and isinstance(name, int) and name < len(here))
        if not inside:
            break
        here = here[name]
    if isinstance(at, Map) and key not in at:
        # The key is missing: point at the key that holds the mapping, which is where it would be added.
        return (at.parent, at.name, names) if at.parent is not None else (at, None, names)
    return at, key, names


def _message(error: ErrorDetails) -> str:
    kind, context, got = error["type"], error.get("ctx", {}), error["input"]
    if kind == "told":
        return error["msg"]
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {shown(got)}{hint(_meant(kind, got))}"
    if kind == "literal_error":
        return _literal(str(context["expected"]), got)
    return _bound(kind, context, got) or error["msg"]


def _meant(kind: str, got: Any) -> str:
    """Return how to write a value that is of the wrong kind, or nothing where nobody can tell."""
    match kind:
        case "bool_type":
            return _BOOLEAN_WORDS.get(str(got).lower(), "")
        case "int_type" | "int_from_float" | "float_type":
            return meant_number(got) or _LEVELS.get(got, "") if isinstance(got, str) else ""
        case "list_type" if isinstance(got, (str, int, float)):
            return meant if (meant := meant_days(got)).startswith("[") else f"[{meant or got}]"
        case "list_type" if isinstance(got, dict):
            return "a list, with a dash before each item"
        case "string_type" if isinstance(got, (int, float)):
            return f'"{shown(got)}"'
        case _:
            return ""


def _literal(expected: str, got: Any) -> str:
    words = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
    meant = meant_word(got, words) if isinstance(got, str) else ""
    remedy = f" Write {_ticked(meant)}." if meant else did_you_mean(got, words) if isinstance(got, str) else ""
    return f"expected one of {', '.join(words)}; got {shown(got)}.{remedy}"


def _ticked(words: str) -> str:
    return words if "`" in words else f"`{words}`"


def _bound(kind: str, context: Mapping[str, Any], got: Any) -> str:
    match kind:
        case "greater_than_equal":
            return f"must be at least {context['ge']}, got {shown(got)}"
        case "greater_than":
            return f"must be above {context['gt']}, got {shown(got)}"
        case "less_than_equal":
            return f"must be at most {context['le']}, got {shown(got)}"
        case "too_short":
            return f"needs at least {context['min_length']}, has {context['actual_length']}"
        case "too_long":
            return f"takes at most {context['max_length']}, has {context['actual_length']}"
        case _:
            return ""
