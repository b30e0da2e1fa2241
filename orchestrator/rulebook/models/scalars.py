"""Scalars: the kinds of plain values that rule files hold, each with its own words for what is wrong."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

from orchestrator.core.action import Kind
from orchestrator.core.condition import Path, Root
from orchestrator.core.event_name import TYPE_PATTERN, is_type_name, offered_type_name
from orchestrator.rulebook.meant import meant_root
from orchestrator.rulebook.meant_value import hint, meant_clock, meant_number, meant_span
from orchestrator.rulebook.models.part import expected, shown, told
from orchestrator.rulebook.problem import did_you_mean
from orchestrator.rulebook.span import (
    CLOCK_PATTERN,
    SIGNED_SPAN_PATTERN,
    SPAN_PATTERN,
    parsed_clock_min,
    parsed_signed_span_ms,
    parsed_span_ms,
)

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
#: Purposes, and the consents that open and close a channel: ``kind:sms``, ``address:email``.
CONSENT_PATTERN = rf"^([A-Za-z][A-Za-z0-9_-]{{0,63}}|(kind|address):({'|'.join(kind.value for kind in Kind)}))$"
PATH_PATTERN = r"^(event|profile|context|run)(\.[A-Za-z_$][A-Za-z0-9_$-]{0,63}){1,8}$"
PERCENT_PATTERN = r"^[+-]?\d{1,4}(\.\d+)?%$"

_NAME = re.compile(NAME_PATTERN)
_CONSENT = re.compile(CONSENT_PATTERN)
_PATH = re.compile(PATH_PATTERN)
_PERCENT = re.compile(PERCENT_PATTERN)
_BRACED = re.compile(r"\s*\{\{-?\s*([\w.$-]+)\s*-?\}\}\s*")
_ROOTS = tuple(root.value for root in Root)


def _span(value: Any) -> int:
    span_ms = parsed_span_ms(value)
    if span_ms is None:
        raise expected("a span such as 30m, 7d or 1d12h", value, meant_span(value))
    return span_ms


def _positive_span(value: Any) -> int:
    span_ms = _span(value)
    if span_ms == 0:
        raise told("a span of zero is not allowed here")
    return span_ms


def _signed_span(value: Any) -> int:
    span_ms = parsed_signed_span_ms(value)
    if span_ms is None:
        raise expected("a span such as 30m or -2h", value, _meant_signed_span(value))
    return span_ms


def _meant_signed_span(value: Any) -> str:
    """Return how to write a span before or after a moment: "2 hours before" is ``-2h``."""
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        return f"{value}d, {value}h or {value}m"
    if not isinstance(value, str):
        return meant_span(value)
    text = value.strip().lower()
    span = meant_span(re.sub(r"^[+-]\s*|\s+(?:before|earlier|after|later)$", "", text))
    return f"-{span}" if span and (text.startswith("-") or text.endswith(("before", "earlier"))) else span


def _clock(value: Any) -> int:
    minute = parsed_clock_min(value)
    if minute is None:
        raise expected('a time of day such as "21:00"', value, meant_clock(value))
    return minute


def is_name(text: str) -> bool:
    """Return whether a text may be the name of a thing."""
    return _NAME.fullmatch(text) is not None


def checked_name(value: Any) -> str:
    """Return a name, or raise what pydantic reports."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise expected("a name of letters, digits, - and _ that begins with a letter", value)
    return value


def _consent(value: Any) -> str:
    return value if isinstance(value, str) and _CONSENT.fullmatch(value) else checked_name(value)


def _event_name(value: Any) -> str:
    if isinstance(value, str) and is_type_name(value):
        return value
    offer = offered_type_name(value) if isinstance(value, str) else ""
    remedy = f'Send "{offer}", and declare that' if offer else "Send up to 100 letters a to z, digits and underscores"
    raise told(f"{shown(value)} is not in snake_case, so that every such event would be refused. {remedy}")


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise expected("a number", value, meant_number(value))
    return value


def _scalar(value: Any) -> str | int | float | bool:
    if isinstance(value, (str, bool, int, float)):
        return value
    raise expected("text, a number, true or false", value)


def _factor(value: Any) -> float:
    if isinstance(value, str) and _PERCENT.fullmatch(value):
        value = 1 + float(value[:-1]) / 100
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise expected("a factor such as 1.5 (or a percentage such as +50%), not below 0", value)
    return float(value)


def _lever(value: Any) -> float:
    if isinstance(value, str) and _PERCENT.fullmatch(value):
        value = float(value[:-1])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < -100:
        raise expected("a percentage such as +30 or -50, not below -100", value)
    return 1 + value / 100


def is_path(text: str) -> bool:
    """Return whether a text is written as a field: ``event.total``, ``profile.country``."""
    return _PATH.fullmatch(text) is not None


@lru_cache(maxsize=8192)
def parsed_path(value: str) -> Path:
    """Return a checked field as a path."""
    root, *parts = value.split(".")
    return Path(Root(root), tuple(parts))


def _path(value: Any) -> str:
    if isinstance(value, str) and _PATH.fullmatch(value):
        return value
    if not isinstance(value, str):
        raise expected("a field such as event.total or profile.country", value)
    if (braced := _BRACED.fullmatch(value)) and _PATH.fullmatch(braced[1]):
        raise told(f"{shown(value)} is not a field: braces belong into templates{hint(braced[1])}")
    return _refused_path(value)


def _refused_path(value: str) -> str:
    root, dot, rest = value.partition(".")
    likely = f"{meant_root(root)}.{rest}" if meant_root(root) else ""
    if _PATH.fullmatch(likely):
        remedy = f' Did you mean "{likely}"?'
    elif dot:
        remedy = did_you_mean(root, _ROOTS)
    else:
        remedy = f' Did you mean "event.{value}" or "profile.{value}"?'
    raise told(f"{shown(value)} is not a field; a field begins with event., profile., context. or run..{remedy}")


def _property(value: Any) -> str:
    if isinstance(value, str) and _PATH.fullmatch(value) and value.startswith("event."):
        return value
    if isinstance(value, str) and _PATH.fullmatch(f"event.{value}"):
        raise told(f'{shown(value)} is not a property of the event. Did you mean "event.{value.rpartition(".")[2]}"?')
    raise expected("a property of the event such as event.cart_id", value)


Span = Annotated[
    int,
    BeforeValidator(_positive_span),
    WithJsonSchema({"type": "string", "pattern": SPAN_PATTERN, "examples": ["30m", "7d", "1d12h"]}),
]
SpanOrZero = Annotated[
    int,
    BeforeValidator(_span),
    WithJsonSchema({"type": "string", "pattern": SPAN_PATTERN, "examples": ["0s", "30m", "7d"]}),
]
SignedSpan = Annotated[
    int,
    BeforeValidator(_signed_span),
    WithJsonSchema({"type": "string", "pattern": SIGNED_SPAN_PATTERN, "examples": ["-2h", "30m"]}),
]
ClockTime = Annotated[
    int, BeforeValidator(_clock), WithJsonSchema({"type": "string", "pattern": CLOCK_PATTERN, "examples": ["21:00"]})
]
Name = Annotated[str, PlainValidator(checked_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
ConsentName = Annotated[str, PlainValidator(_consent), WithJsonSchema({"type": "string", "pattern": CONSENT_PATTERN})]
EventName = Annotated[str, PlainValidator(_event_name), WithJsonSchema({"type": "string", "pattern": TYPE_PATTERN})]
FieldPath = Annotated[
    str,
    PlainValidator(_path),
    WithJsonSchema({"type": "string", "pattern": PATH_PATTERN, "examples": ["event.total", "profile.country"]}),
]
PropertyPath = Annotated[
    str,
    PlainValidator(_property),
    WithJsonSchema({"type": "string", "pattern": r"^event\.", "examples": ["event.cart_id"]}),
]
Number = Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
Scalar = Annotated[
    str | int | float | bool, PlainValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})
]
Factor = Annotated[
    float,
    PlainValidator(_factor),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": PERCENT_PATTERN}]}),
]
Lever = Annotated[
    float,
    PlainValidator(_lever),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": -100}, {"type": "string", "pattern": PERCENT_PATTERN}]}),
]
