"""Templates: params with Liquid in their texts, compiled once, rendered without side effects.

A text that is exactly one ``{{ path }}`` keeps the type of the value; every other text becomes text; constants
pass through untouched. In a param that is markup every value is escaped for it, and what the author wrote stays as it
is; where the markup is that of an object or a list, a value that is one keeps its type, with its texts escaped.
A value that is not there (null counts as not there) is never rendered as nothing: give it a ``default`` or ask
for it with ``if``. What the texts may say, and how much work they may do, is ``liquid_dialect``'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from liquid.exceptions import LiquidError
from liquid.static_analysis import TemplateAnalysis, Variable

from connectors.markup import Markup
from orchestrator.core.definition import MissingTemplateValue
from orchestrator.rulebook import liquid_dialect as dialect
from orchestrator.rulebook.filter_arguments import arguments_fault
from orchestrator.rulebook.liquid_faults import filter_fault, liquid_fault, looped_paths, opening_of, silent_fault
from orchestrator.rulebook.moment_filters import MOMENT_FILTERS
from orchestrator.rulebook.plain_text import PlainText, pieces_of

_LONE_PATH = re.compile(r"\s*\{\{-?\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*-?\}\}\s*")
_NOW = re.compile(r"""["'](?:now|today)["']\s*\|\s*(?:date|time)\b""")
_ROOTS_WITH_NULLS = ("event", "profile")


class TemplateFault(Exception):
    """A text is not valid Liquid; the message says what is wrong, ``offset`` where in the text."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Reads:
    """What a template reads: paths such as ``("event", "total")``; ``optional`` are those with a default or an if.

    ``loops`` are those whose items it goes through. ``places`` has where in its text each path is read first.
    ``local_time`` says that it writes moments by the customer's clock, whose zone the event may tell.
    """

    paths: frozenset[tuple[str, ...]] = frozenset()
    optional: frozenset[tuple[str, ...]] = frozenset()
    dynamic: frozenset[str] = frozenset()  # roots that are read as a whole or by a computed key
    local_time: bool = False
    loops: frozenset[tuple[str, ...]] = frozenset()
    places: Mapping[tuple[str, ...], int] = field(default_factory=dict, compare=False)

    def __or__(self, other: Reads) -> Reads:
        required = (self.paths - self.optional) | (other.paths - other.optional)
        paths = self.paths | other.paths
        return Reads(
            paths,
            paths - required,
            self.dynamic | other.dynamic,
            self.local_time or other.local_time,
            self.loops | other.loops,
            {**other.places, **self.places},
        )


class _Constant:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def render(self, facts: dialect.Facts) -> Any:
        return self.value


class _Lone:
    """Exactly one path: the value goes through with its type."""

    __slots__ = ("parts",)

    def __init__(self, path: str) -> None:
        self.parts = tuple(path.split("."))

    def render(self, facts: dialect.Facts) -> Any:
        here: Any = facts
        for part in self.parts:
            here = here.get(part) if isinstance(here, Mapping) else _of_list(here, part)
        if here is None:
            raise MissingTemplateValue(".".join(self.parts))
        return here


def _of_list(value: Any, name: str) -> Any:
    """Return what Liquid says of a list, or of the size of a text; None where there is no such thing."""
    if name == "size" and isinstance(value, (list, str)):
        return len(value)
    if isinstance(value, list) and value and name in ("first", "last"):
        return value[0 if name == "first" else -1]
    return None


class _Text:
    __slots__ = ("compiled",)

    def __init__(self, compiled: dialect.Compiled) -> None:
        self.compiled = compiled

    def render(self, facts: dialect.Facts) -> Any:
        return self.compiled.rendered(facts)


class _Marked:
    """A text in a markup whose values are escaped otherwise than those of HTML."""

    __slots__ = ("markup", "text")

    def __init__(self, text: _Text, markup: Markup) -> None:
        self.text = text
        self.markup = markup

    def render(self, facts: dialect.Facts) -> Any:
        return self.markup.from_html(self.text.render(facts))


class _LoneMarked:
    """Exactly one path in such a markup: a list or an object keeps its type, anything else becomes text."""

    __slots__ = ("lone", "marked")

    def __init__(self, lone: _Lone, marked: _Marked) -> None:
        self.lone = lone
        self.marked = marked

    def render(self, facts: dialect.Facts) -> Any:
        value = self.lone.render(facts)
        return self.marked.markup.escaped_inside(value) if isinstance(value, list | dict) else self.marked.render(facts)


class _Mapping:
    __slots__ = ("items",)

    def __init__(self, items: dict[str, Any]) -> None:
        self.items = items

    def render(self, facts: dialect.Facts) -> Any:
        return {name: node.render(facts) for name, node in self.items.items()}


class _List:
    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def render(self, facts: dialect.Facts) -> Any:
        return [node.render(facts) for node in self.items]


_Node = _Constant | _Lone | PlainText | _Text | _Marked | _LoneMarked | _Mapping | _List


@dataclass(slots=True, eq=False)
class LiquidTemplate:
    """Implements ``orchestrator.core.definition.Template``. Make one with ``compiled_template``."""

    name: str
    reads: Reads
    markup: Mapping[str, Markup]
    _params: dict[str, _Node] = field(repr=False)
    _arguments: dict[str, _Node] = field(repr=False)

    def render(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the action's params. Raise ``MissingTemplateValue`` naming what is not there or cannot be shown."""
        seen = self._facts(facts)
        return {name: self._rendered(name, node, seen) for name, node in self._params.items()}

    def preview(self, facts: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the params that can be rendered, and what is wrong with each of the others."""
        try:
            seen = self._facts(facts)
        except MissingTemplateValue as fault:
            return {}, (str(fault),)
        rendered, faults = {}, []
        for name, node in self._params.items():
            try:
                rendered[name] = self._rendered(name, node, seen)
            except MissingTemplateValue as fault:
                faults.append(str(fault))
        return rendered, tuple(faults)

    @property
    def arguments(self) -> frozenset[str]:
        """The params that the send gives, or that the template reads as ``params.NAME``."""
        return frozenset(self._arguments).union(path[1] for path in self.reads.paths if path[:1] == ("params",) != path)

    @property
    def html(self) -> frozenset[str]:
        """The params that are HTML."""
        return frozenset(name for name, markup in self.markup.items() if markup is Markup.HTML)

    def with_arguments(self, values: Mapping[str, Any]) -> LiquidTemplate:
        """Return the template with other values for the params that the send gives; each stands as it is."""
        arguments = {**self._arguments, **{name: _Constant(value) for name, value in values.items()}}
        own = {name: arguments[name] if name in values else node for name, node in self._params.items()}
        return replace(self, _params=own, _arguments=arguments)

    def _facts(self, facts: Mapping[str, Any]) -> dialect.Facts:
        seen = _without_nulls(facts)
        if self._arguments:
            seen["params"] = {name: self._rendered(name, node, seen) for name, node in self._arguments.items()}
        return seen

    def _rendered(self, param: str, node: _Node, facts: dialect.Facts) -> Any:
        try:
            return node.render(facts)
        except LiquidError as fault:
            why = str(fault.message)
        except MissingTemplateValue as fault:
            why = f"{fault} is undefined"
        except Exception as fault:  # A text must not stop the worker, whatever its filters raise.
            why = f"cannot be rendered: {fault}"
        raise MissingTemplateValue(f"template {self.name}, param {param}: {why}")


def _without_nulls(facts: Mapping[str, Any]) -> dialect.Facts:
    seen = dialect.Facts(facts)
    for root in _ROOTS_WITH_NULLS:
        values = seen.get(root)
        if isinstance(values, Mapping) and None in values.values():
            seen[root] = {name: value for name, value in values.items() if value is not None}
    return seen


def compiled_template(
    name: str,
    params: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    markup: Mapping[str, Markup] | None = None,
) -> LiquidTemplate:
    """Return the template of ``params``, which may read ``arguments`` as ``params.NAME``. Raise ``TemplateFault``.

    ``markup`` names the params that are one. Arguments are plain text, so that it escapes them like any other value.
    """
    reads = Reads()
    nodes: list[dict[str, _Node]] = []
    own = {key: markup[key] for key in params if key in markup} if markup else {}
    for mapping, escaped in ((params, own), (arguments or {}, dict[str, Markup]())):
        compiled = {}
        for key, value in mapping.items():
            compiled[key], read = _compiled(value, escaped.get(key))
            reads = reads | read
        nodes.append(compiled)
    return LiquidTemplate(name, reads, own, nodes[0], nodes[1])


def is_template(text: str) -> bool:
    """Return whether a text has anything to render."""
    return "{{" in text or "{%" in text


def _compiled(value: Any, markup: Markup | None) -> tuple[_Node, Reads]:
    if isinstance(value, str):
        return _compiled_text(value, markup)
    if isinstance(value, dict):
        parts = {key: _compiled_item(key, value, markup) for key in value}
        return _folded(_Mapping({key: node for key, (node, _) in parts.items()}), value, list(parts.values()))
    if isinstance(value, list):
        items = [_compiled(item, markup) for item in value]
        return _folded(_List([node for node, _ in items]), value, items)
    return _Constant(value), Reads()


def _compiled_item(key: Any, holder: dict[Any, Any], markup: Markup | None) -> tuple[_Node, Reads]:
    if markup is None or markup.is_literal(str(key), holder):
        return _compiled(holder[key], None)
    node, reads = _compiled(holder[key], markup)
    if not isinstance(node, _Constant) and (fault := markup.value_fault(str(key), holder)):
        raise TemplateFault(fault)
    return node, reads


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
def _compiled_text(text: str, markup: Markup | None) -> tuple[_Node, Reads]:
    if fault := dialect.length_fault(text):
        raise TemplateFault(fault, dialect.unclosed_at(text) or 0)
    if not is_template(text):
        return _Constant(text), Reads()
    lone = _LONE_PATH.fullmatch(text)
    if lone and markup is None:
        node = _Lone(lone[1])
        whole = frozenset({node.parts[0]}) if len(node.parts) == 1 else frozenset()
        places = {node.parts: max(text.find("{{"), 0)}
        return node, Reads(frozenset({node.parts}), frozenset(), whole, places=places)
    if now := _NOW.search(text):
        message = '"now" has no meaning here: the same decision must always render the same text'
        raise TemplateFault(message, opening_of(text, now.start()))
    if silent := silent_fault(text):
        raise TemplateFault(*silent)
    if markup is not None and (fault := markup.text_fault(text)):
        raise TemplateFault(fault)
    compiled, analysis = _parsed(text, markup is not None)
    for name, spans in analysis.filters.items():
        if fault := filter_fault(name, dialect.TEXT.filters):
            raise TemplateFault(fault, opening_of(text, spans[0].index))
    if found := arguments_fault(compiled):
        name, fault = found
        raise TemplateFault(f"{name}: {fault}", opening_of(text, analysis.filters[name][0].index))
    reads = replace(
        _reads_of(analysis.globals, text),
        local_time=not MOMENT_FILTERS.isdisjoint(analysis.filters),
        loops=frozenset(looped_paths(compiled)),
    )
    if markup is not None:
        return _marked(_Text(compiled), markup, lone and _Lone(lone[1])), reads
    pieces = pieces_of(text)
    return (_Text(compiled) if pieces is None else PlainText(pieces, compiled)), reads


def _marked(text: _Text, markup: Markup, lone: _Lone | None) -> _Node:
    if markup is not Markup.MRKDWN:
        return text
    marked = _Marked(text, markup)
    return marked if lone is None else _LoneMarked(lone, marked)


def _parsed(text: str, escaped: bool) -> tuple[dialect.Compiled, TemplateAnalysis]:
    try:
        compiled = dialect.compiled(text, html=escaped)
        return compiled, compiled.analyze()
    except LiquidError as fault:
        message, offset = liquid_fault(text, fault)
        raise TemplateFault(message, offset) from None
    except RecursionError:
        raise TemplateFault("not valid Liquid: its brackets are nested too deep") from None
    except Exception as fault:  # Whatever the library raises for a text is that text's fault.
        raise TemplateFault(f"not valid Liquid: {fault}") from None


def _reads_of(variables_by_root: Mapping[str, list[Variable]], text: str) -> Reads:
    paths: dict[tuple[str, ...], int] = {}
    dynamic: set[str] = set()
    for root, variables in variables_by_root.items():
        for variable in variables:
            names = [segment for segment in variable.segments if isinstance(segment, str)]
            if len(names) < min(2, len(variable.segments)) or len(variable.segments) == 1:
                dynamic.add(root)
            paths.setdefault(tuple(names), opening_of(text, variable.span.index))
    if len(paths) > dialect.PATHS_MAX:
        raise TemplateFault(f"the text reads {len(paths)} different values; at most {dialect.PATHS_MAX} are allowed")
    guarded = frozenset(path for path in paths if _is_guarded(path, text))
    return Reads(frozenset(paths), guarded, frozenset(dynamic), places=paths)


def _is_guarded(path: tuple[str, ...], text: str) -> bool:
    name = re.escape(".".join(path))
    return re.search(rf"(?:if|unless|elsif|and|or)\s+{name}\b|\b{name}\s*\|\s*default", text) is not None
