"""Value faults: why a field can never have the value that it is compared with or set to, and what to write instead."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.core.compare import is_number
from orchestrator.core.condition import Op
from orchestrator.rulebook.meant_value import hint, meant_number, meant_span
from orchestrator.rulebook.models.part import shown
from orchestrator.rulebook.models.scalars import is_path
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.span import parsed_span_ms
from orchestrator.rulebook.tracking_plan import Property

#: Declared types in words.
TYPE_WORDS = {"string": "text", "number": "a number", "integer": "a whole number", "boolean": "true or false"}

ORDERINGS = frozenset({Op.LT, Op.LTE, Op.GT, Op.GTE, Op.BETWEEN})

_BRACED = re.compile(r"\s*\{\{-?\s*([\w.]+)\s*-?\}\}\s*")
_SPANS = "a span compares with since_last and since_first of an event"


def value_fault(declared: Property, field: str, value: Any, *, enum: bool = True) -> str:
    """Return why a field can never have a value, or nothing. ``enum`` says whether only enumerated values count."""
    fits = {
        "string": isinstance(value, str),
        "number": is_number(value),
        "integer": is_number(value),
        "boolean": isinstance(value, bool),
    }.get(declared.type, True)
    if not fits:
        return f"{field} is {TYPE_WORDS[declared.type]}, never {shown(value)}{_remedy(declared.type, value)}"
    if enum and declared.enum and value not in declared.enum:
        return f"{field} is never {shown(value)}: {unknown('value', str(value), [str(one) for one in declared.enum])}"
    return ""


def _remedy(wanted: str, value: Any) -> str:
    if wanted == "string":
        return hint(f'"{shown(value)}"')
    if (path := path_in(value)) is not None:
        return hint(f"{{field: {path}}}")
    if wanted == "boolean":
        word = str(value).strip().lower()
        return hint("true" if word in ("yes", "true", "1", "on", "y") else "false" if word in _NO else "")
    return hint(meant_number(value)) or (f"; {_SPANS}" if is_span(value) else "")


_NO = ("no", "false", "0", "off", "n")


def path_in(value: Any) -> str | None:
    """Return the field that a text names, in braces or without; None for any other value."""
    if not isinstance(value, str):
        return None
    braced = _BRACED.fullmatch(value)
    path = braced[1] if braced else value
    return path if is_path(path) else None


def is_span(value: Any) -> bool:
    """Return whether a text is a span, as it is written here or elsewhere."""
    return (
        isinstance(value, str)
        and (parsed_span_ms(value) is not None or bool(meant_span(value)))
        and not value.isdigit()
    )


def order_fault(field: str, op: str, value: Any) -> tuple[str, bool]:
    """Return what is wrong with asking for the order of a text, and whether it can never work."""
    if is_span(value):
        return f"{field} is text, and {shown(value)} is a span: {_SPANS}", True
    if meant_number(value):
        return (
            f'{field} is text, which {op} orders letter by letter, so that "9" comes after "10":'
            " declare it as a number in the tracking plan"
        ), False
    return (
        f"{field} is text, which {op} orders letter by letter: right only where all values are written alike,"
        " as days such as 2026-03-02 are"
    ), False
