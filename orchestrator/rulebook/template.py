"""Templates: params with Liquid in their texts, compiled once, rendered without side effects.

A text that is exactly one ``{{ path }}`` keeps the type of the value; every other text becomes text; constants
pass through untouched. A value that is not there (null counts as not there) is never rendered as nothing:
give it a ``default`` or ask for it with ``if``. Rendering is a pure function of the facts: there is no "now",
no inclusion of other files, and loops and output have ceilings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from liquid import Environment
from liquid.exceptions import FilterArgumentError, LiquidError
from liquid.static_analysis import Variable
from liquid.template import BoundTemplate
from liquid.undefined import FalsyStrictUndefined

from orchestrator.core.definition import MissingTemplateValue
from orchestrator.rulebook.problem import did_you_mean

_LONE_PATH = re.compile(r"\s*\{\{-?\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*-?\}\}\s*")
_NOW = re.compile(r"""["'](?:now|today)["']\s*\|\s*date""")
_ROOTS_WITH_NULLS = ("event", "profile", "context")


class _Undefined(FalsyStrictUndefined):
    """A value that is not there: false in ``if``, replaced by ``default``, an error when it is printed."""

    __slots__ = ()
    force_liquid_default = True


class _Liquid(Environment):
    loop_iteration_limit = 10_000
    output_stream_limit = 200_000
    local_namespace_limit = 200_000


def _date(value: Any, form: Any = "%Y-%m-%d", zone: Any = None) -> str:
    """Format a moment: an RFC 3339 text keeps its own offset, epoch milliseconds are UTC, ``zone`` overrides."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000, UTC)
        else:
            moment = datetime.fromisoformat(str(value))
        if zone is not None:
            moment = moment.astimezone(ZoneInfo(str(zone)))
    except (ValueError, OverflowError, KeyError) as fault:
        raise FilterArgumentError(f"date: {fault}", token=None) from None
    return moment.strftime(str(form))


def _environment() -> Environment:
    liquid = _Liquid(undefined=_Undefined, strict_filters=True, autoescape=False)
    for tag in ("include", "render"):
        liquid.tags.pop(tag, None)
    liquid.filters["date"] = _date
    return liquid


_LIQUID = _environment()


class TemplateFault(Exception):
    """A text is not valid Liquid; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What a template reads: paths such as ``("event", "total")``; ``optional`` are those with a default or an if."""

    paths: frozenset[tuple[str, ...]] = frozenset()
    optional: frozenset[tuple[str, ...]] = frozenset()
    dynamic: frozenset[str] = frozenset()  # roots that are read as a whole or by a computed key

    def __or__(self, other: Reads) -> Reads:
        required = (self.paths - self.optional) | (other.paths - other.optional)
        paths = self.paths | other.paths
        return Reads(paths, paths - required, self.dynamic | other.dynamic)


class _Constant:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def render(self, facts: Mapping[str, Any]) -> Any:
        return self.value


class _Lone:
    """Exactly one path: the value goes through with its type."""

    __slots__ = ("parts",)

    def __init__(self, path: str) -> None:
        self.parts = tuple(path.split("."))

    def render(self, facts: Mapping[str, Any]) -> Any:
        here: Any = facts
        for part in self.parts:
            here = here.get(part) if isinstance(here, Mapping) else None
        if here is None:
            raise MissingTemplateValue(".".join(self.parts))
        return here


class _Text:
    __slots__ = ("compiled",)

    def __init__(self, compiled: BoundTemplate) -> None:
        self.compiled = compiled

    def render(self, facts: Mapping[str, Any]) -> Any:
        return self.compiled.render(**facts)


class _Mapping:
    __slots__ = ("items",)

    def __init__(self, items: dict[str, Any]) -> None:
        self.items = items

    def render(self, facts: Mapping[str, Any]) -> Any:
        return {name: node.render(facts) for name, node in self.items.items()}


class _List:
    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def render(self, facts: Mapping[str, Any]) -> Any:
        return [node.render(facts) for node in self.items]


_Node = _Constant | _Lone | _Text | _Mapping | _List


@dataclass(slots=True, eq=False)
class LiquidTemplate:
    """Implements ``orchestrator.core.definition.Template``. Make one with ``compiled_template``."""

    name: str
    reads: Reads
    _params: dict[str, _Node] = field(repr=False)
    _arguments: dict[str, _Node] = field(repr=False)

    def render(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the action's params. Raise ``MissingTemplateValue`` naming what is not there or cannot be shown."""
        seen = _without_nulls(facts)
        name = ""
        try:
            if self._arguments:
                seen["params"] = {name: node.render(seen) for name, node in self._arguments.items()}
            rendered = {}
            for name, node in self._params.items():
                rendered[name] = node.render(seen)
        except LiquidError as fault:
            raise MissingTemplateValue(f"template {self.name}, param {name}: {fault.message}") from None
        except MissingTemplateValue as fault:
            raise MissingTemplateValue(f"template {self.name}, param {name}: {fault} is undefined") from None
        return rendered


def _without_nulls(facts: Mapping[str, Any]) -> dict[str, Any]:
    seen = dict(facts)
    for root in _ROOTS_WITH_NULLS:
        values = seen.get(root)
        if isinstance(values, Mapping) and None in values.values():
            seen[root] = {name: value for name, value in values.items() if value is not None}
    return seen


def compiled_template(
    name: str, params: Mapping[str, Any], arguments: Mapping[str, Any] | None = None
) -> LiquidTemplate:
    """Return the template of ``params``, which may read ``arguments`` as ``params.NAME``. Raise ``TemplateFault``."""
    reads = Reads()
    nodes: list[dict[str, _Node]] = []
    for mapping in (params, arguments or {}):
        compiled = {}
        for key, value in mapping.items():
            compiled[key], read = _compiled(value)
            reads = reads | read
        nodes.append(compiled)
    return LiquidTemplate(name, reads, nodes[0], nodes[1])


def _compiled(value: Any) -> tuple[_Node, Reads]:
    if isinstance(value, str):
        return _compiled_text(value)
    if isinstance(value, dict):
        parts = {key: _compiled(item) for key, item in value.items()}
        return _folded(_Mapping({key: node for key, (node, _) in parts.items()}), value, list(parts.values()))
    if isinstance(value, list):
        items = [_compiled(item) for item in value]
        return _folded(_List([node for node, _ in items]), value, items)
    return _Constant(value), Reads()


def _folded(node: _Node, value: Any, parts: list[tuple[_Node, Reads]]) -> tuple[_Node, Reads]:
    """Return a constant when nothing inside is rendered, so that constants cost nothing."""
    if all(isinstance(part, _Constant) for part, _ in parts):
        return _Constant(_plain(value)), Reads()
    reads = Reads()
    for _, read in parts:
        reads = reads | read
    return node, reads


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@lru_cache(maxsize=4096)
def _compiled_text(text: str) -> tuple[_Node, Reads]:
    if "{{" not in text and "{%" not in text:
        return _Constant(text), Reads()
    if lone := _LONE_PATH.fullmatch(text):
        node = _Lone(lone[1])
        whole = frozenset({node.parts[0]}) if len(node.parts) == 1 else frozenset()
        return node, Reads(frozenset({node.parts}), frozenset(), whole)
    if _NOW.search(text):
        raise TemplateFault('"now" has no meaning here: the same decision must always render the same text')
    try:
        compiled = _LIQUID.from_string(text)
    except LiquidError as fault:
        raise TemplateFault(f"not valid Liquid: {fault.message}") from None
    analysis = compiled.analyze()
    for name in analysis.filters:
        if name not in _LIQUID.filters:
            hint = did_you_mean(name, _LIQUID.filters)
            raise TemplateFault(f'unknown filter "{name}".{hint}')
    return _Text(compiled), _reads_of(analysis.globals, text)


def _reads_of(variables_by_root: Mapping[str, list[Variable]], text: str) -> Reads:
    paths: set[tuple[str, ...]] = set()
    dynamic: set[str] = set()
    for root, variables in variables_by_root.items():
        for variable in variables:
            names = [segment for segment in variable.segments if isinstance(segment, str)]
            if len(names) < min(2, len(variable.segments)) or len(variable.segments) == 1:
                dynamic.add(root)
            paths.add(tuple(names))
    return Reads(frozenset(paths), frozenset(path for path in paths if _is_guarded(path, text)), frozenset(dynamic))


def _is_guarded(path: tuple[str, ...], text: str) -> bool:
    name = re.escape(".".join(path))
    return re.search(rf"(?:if|unless|elsif|and|or)\s+{name}\b|\b{name}\s*\|\s*default", text) is not None
