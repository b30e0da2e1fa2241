"""Liquid faults: what the library says of a text that it cannot read, told in an author's words and at its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from liquid import Node, RenderContext
from liquid.builtin.expressions import Path
from liquid.builtin.tags.for_tag import ForNode
from liquid.builtin.tags.tablerow_tag import TablerowNode
from liquid.exceptions import LiquidError
from liquid.template import BoundTemplate

from orchestrator.rulebook.problem import did_you_mean

_TAG = re.compile(r"\{%-?\s*(end)?(\w+)")
_BLOCKS = frozenset({"if", "unless", "for", "case", "capture", "comment", "raw", "tablerow", "ifchanged", "doc"})

#: Filters of other systems, with what does the same here.
_FILTERS = {
    **dict.fromkeys(
        ("currency", "money_with_currency", "money_without_trailing_zeros", "format_currency"), "money: 'EUR'"
    ),
    **dict.fromkeys(
        ("number_format", "format_number", "number_with_delimiter", "floatformat", "decimal", "to_fixed"), "number: 2"
    ),
    **dict.fromkeys(
        (
            *("date_format", "format_date", "strftime", "datetime", "date_time", "format_datetime"),
            *("datetimeformat", "format_time", "time_zone", "timezone", "dateformat", "formatdate"),
        ),
        "date: '%d %b'",
    ),
    **dict.fromkeys(("upper", "uppercase", "touppercase", "to_upper", "toupper"), "upcase"),
    **dict.fromkeys(("lower", "lowercase", "tolowercase", "to_lower", "tolower"), "downcase"),
    **dict.fromkeys(("title", "titlecase", "title_case", "titleize", "capfirst", "proper"), "capitalize"),
    **dict.fromkeys(("length", "count", "len"), "size"),
    **dict.fromkeys(
        ("fallback", "ifnull", "default_if_none", "defaultifempty", "or", "d", "default_value", "ifempty"),
        "default: 'there'",
    ),
    **dict.fromkeys(("trim", "clean"), "strip"),
    **dict.fromkeys(("truncatechars", "ellipsis", "shorten"), "truncate: 40"),
    **dict.fromkeys(("truncate_words", "truncatechars_words"), "truncatewords: 10"),
    **dict.fromkeys(("int", "to_int", "integer", "toint"), "round"),
    **dict.fromkeys(("add", "sum_with"), "plus: 1"),
    **dict.fromkeys(("sub", "subtract"), "minus: 1"),
    **dict.fromkeys(("mul", "multiply", "multiplied_by"), "times: 2"),
    **dict.fromkeys(("div", "divide", "divideby"), "divided_by: 2"),
    **dict.fromkeys(("mod",), "modulo: 2"),
    **dict.fromkeys(("nl2br", "linebreaks", "linebreaksbr"), "newline_to_br"),
    **dict.fromkeys(("striptags", "strip_tags", "plain_text"), "strip_html"),
    **dict.fromkeys(("urlencode", "url_param_escape", "url_escape", "encodeuri", "uri_encode"), "url_encode"),
    **dict.fromkeys(("e", "escape_html", "html_escape", "h", "force_escape"), "escape"),
    **dict.fromkeys(("concatenate", "suffix"), "append: '…'"),
    **dict.fromkeys(("prefix",), "prepend: '…'"),
    **dict.fromkeys(("substring", "substr", "slice_string"), "slice: 0, 3"),
    **dict.fromkeys(("unique",), "uniq"),
    **dict.fromkeys(("sort_by", "sortby", "dictsort"), "sort: 'NAME'"),
    **dict.fromkeys(("filter", "select", "selectattr"), "where: 'NAME', 'value'"),
    **dict.fromkeys(("pluck",), "map: 'NAME'"),
}


#: Filters that read a field of the value before them.
_READERS = frozenset({"lookup", "get", "property", "attr", "attribute", "property_accessor"})
_ELSE_IF = re.compile(r"\{%-?\s*else\s+if\b")


def silent_fault(text: str) -> tuple[str, int] | None:
    """Return what the library reads without a word and hardly as it was meant, and where."""
    found = _ELSE_IF.search(text)
    return None if found is None else ("{% else if … %} is read as a mere else: write {% elsif … %}", found.start())


def filter_fault(name: str, known: Collection[str]) -> str:
    """Return what is wrong with a filter, with the one that was meant and all that there are; or nothing."""
    if name == "safe":
        return 'there is no filter "safe": in markup every value is escaped, in other texts none is'
    if name in known:
        return ""
    meant = _FILTERS.get(name.lower(), "")
    remedy = f" Write `| {meant}`." if meant else did_you_mean(name, known)
    if name in _READERS:
        remedy = " Write the field itself, {{ profile.TRAIT }} or {{ event.PROPERTY }}."
    return f'unknown filter "{name}". Known: {", ".join(sorted(known))}.{remedy}'


def liquid_fault(text: str, fault: LiquidError) -> tuple[str, int]:
    """Return what is wrong with a text, and where in it."""
    token = fault.token
    offset = token.start_index if token is not None else -1
    said = str(fault.message)
    if said.startswith("unexpected tag") and token is not None:
        return _tag_fault(str(token.value), text, offset)
    if "expected tag end" in said:
        return _open_block(text, said)
    if offset < 0:
        return f"not valid Liquid: {said}", _empty_output(text)
    return f"not valid Liquid: {said}", opening_of(text, offset)


def opening_of(text: str, offset: int) -> int:
    """Return where the tag or output begins that a place is in."""
    place = max(text.rfind("{{", 0, offset + 2), text.rfind("{%", 0, offset + 2), 0)
    return place - 1 if text[max(place - 1, 0) : place + 2] == "{{{" else place


def _tag_fault(tag: str, text: str, offset: int) -> tuple[str, int]:
    place = opening_of(text, offset)
    if tag.startswith("end") and tag[3:] in _BLOCKS:
        if inner := _open_blocks(text[:place]):
            return (
                f"{{% {inner[-1][0]} %}} is still open here: add {{% end{inner[-1][0]} %}} before {{% {tag} %}}",
                place,
            )
        return f"{{% {tag} %}} closes nothing: no {{% {tag[3:]} %}} is open before it", place
    if tag in ("else", "elsif", "when"):
        return f"{{% {tag} %}} stands in no {{% if %}} or {{% case %}}", place
    known = sorted({*_BLOCKS, "assign", "elsif", "else", "when"})
    return f'unknown tag "{tag}". Known: {", ".join(known)}.{did_you_mean(tag, known)}', place


def _open_block(text: str, said: str) -> tuple[str, int]:
    """Return the block that is never closed: the innermost that is still open at the end."""
    open_blocks = _open_blocks(text)
    if not open_blocks:
        return f"not valid Liquid: {said}", 0
    name, place = open_blocks[-1]
    return f"{{% {name} %}} is never closed: add {{% end{name} %}}", place


def _open_blocks(text: str) -> list[tuple[str, int]]:
    """Return the blocks that are open at the end of a text, outermost first, each with its place."""
    found: list[tuple[str, int]] = []
    for tag in _TAG.finditer(text):
        ending, name = tag[1], tag[2]
        if ending and found and found[-1][0] == name:
            found.pop()
        elif not ending and name in _BLOCKS:
            found.append((name, tag.start()))
    return found


def _empty_output(text: str) -> int:
    """Return the place of the first output that lacks something at its end, such as a filter."""
    found = re.search(r"\{\{-?\s*-?\}\}|\{\{[^}]*[|,:]\s*-?\}\}|\{%[^%]*[|,:=<>]\s*-?%\}|\{%-?\s*[^\w\s#%-]", text)
    return 0 if found is None else found.start()


def looped_paths(compiled: BoundTemplate) -> Iterator[tuple[str, ...]]:
    """Yield the paths whose items a template goes through, such as ``("event", "products")``."""
    context = RenderContext(compiled)
    waiting: list[Node] = list(compiled.nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ForNode, TablerowNode)) and isinstance(node.expression.iterable, Path):
            segments = node.expression.iterable.path
            if all(isinstance(one, str) for one in segments):
                yield tuple(str(one) for one in segments)
        waiting += _children(node, context)


def _children(node: Node, context: RenderContext) -> Iterable[Node]:
    return node.children(context, include_partials=False)
