"""The dialect of Liquid that templates are written in: what it knows, and how much one rendering may do.

A rendering is a pure function of its facts: there is no "now" and no inclusion of other files. It is bounded by a
budget of *work* instead of a clock, so that a text is refused alike on every machine: each filter costs the size of
what it is given and of what it makes, each loop the length of its body for every turn. HTML is written with every
value escaped; there is no ``safe`` filter, so that no value can be let through by habit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from liquid import Environment, RenderContext
from liquid.builtin.tags.for_tag import ForNode, ForTag
from liquid.builtin.tags.tablerow_tag import TablerowNode, TablerowTag
from liquid.exceptions import FilterArgumentError, ResourceLimitError
from liquid.stream import TokenStream
from liquid.template import BoundTemplate
from liquid.undefined import FalsyStrictUndefined

#: A text is at most this long, and so is what it renders to, in bytes.
TEXT_CHARS_MAX = 100_000
OUTPUT_BYTES_MAX = 200_000
#: A tag or an output, from its opening to its closing; the library's parser is slow on what is never closed.
EXPRESSION_CHARS_MAX = 2_000
#: ``raw`` and ``doc`` of one text, whose end is sought through the whole of it.
RAW_MAX = 20
#: Different values that one text reads.
PATHS_MAX = 200
#: Turns of nested loops, multiplied, and numbers of a range.
TURNS_MAX = 10_000
#: Work of one rendering, about a character each: a second on a slow machine.
WORK_MAX = 1_000_000
#: Whole numbers grow no longer than this; money and moments are far below.
NUMBER_BITS_MAX = 256

_OPENING = re.compile(r"\{\{|\{%")
_RAW = re.compile(r"\{%-?\s*(?:raw|doc)\b")

_WORD = "takes too much work: its loops and filters go through more than a million characters"


def length_fault(text: str) -> str:
    """Return why a text must not even be parsed, or nothing. Takes time in proportion to the text."""
    if len(text) > TEXT_CHARS_MAX:
        return f"the text has {len(text)} characters; at most {TEXT_CHARS_MAX} are allowed"
    if (at := unclosed_at(text)) is not None:
        opening = text[at : at + 2]
        line, closing = text.count("\n", 0, at) + 1, "}}" if opening == "{{" else "%}"
        return f"{opening} in line {line} of the text has no {closing} within {EXPRESSION_CHARS_MAX} characters"
    if len(_RAW.findall(text)) > RAW_MAX:
        return f"at most {RAW_MAX} raw and doc tags are allowed"
    return ""


def unclosed_at(text: str) -> int | None:
    """Return where the first tag or output begins that is not closed, or None. Takes time in proportion to the text."""
    at = 0
    while opening := _OPENING.search(text, at):
        closing = "}}" if opening[0] == "{{" else "%}"
        at = text.find(closing, opening.end(), opening.start() + EXPRESSION_CHARS_MAX)
        if at < 0:
            return opening.start()
    return None


class Undefined(FalsyStrictUndefined):
    """A value that is not there: false in ``if``, replaced by ``default``, an error when it is printed."""

    __slots__ = ()
    force_liquid_default = True


class _Context(RenderContext):
    """A rendering, with the work it has done. ``weight`` is the length of the loop body that is about to turn."""

    __slots__ = ("weight", "work")

    def __init__(self, template: BoundTemplate, *, globals: Mapping[str, object] | None = None) -> None:
        super().__init__(template, globals=globals)
        self.weight = 1
        self.work = 0

    def charge(self, work: int) -> None:
        self.work += work
        if self.work > WORK_MAX:
            raise ResourceLimitError(_WORD, token=None)

    def assign(self, key: str, val: Any) -> None:
        self.charge(len(val) if isinstance(val, str) else 1)
        super().assign(key, val)

    def loop(self, namespace: Mapping[str, object], forloop: Any) -> Any:
        self.charge(forloop.length * self.weight)
        return super().loop(namespace, forloop)

    def filter(self, name: str, token: Any) -> Callable[..., object]:
        return partial(self._worked, name, super().filter(name, token))

    def _worked(self, name: str, filter_: Callable[..., object], value: Any, *given: Any, **named: Any) -> object:
        sizes = [size_of(one) for one in (value, *given, *named.values())]
        self.charge(sum(sizes) + 1)
        if name in _GROWING:
            # These make much of little: a piece for every character, or for every item.
            self.charge(sizes[0] * max(sizes[1:], default=1))
        if name == "uniq":
            self.charge(sizes[0] * sizes[0] // 16)
        result = filter_(value, *given, **named)
        if isinstance(result, int) and result.bit_length() > NUMBER_BITS_MAX:
            raise FilterArgumentError(f"{name}: the number is too large", token=None)
        self.charge(size_of(result))
        return result


#: Filters whose result can be as long as the product of what they are given.
_GROWING = frozenset({"join", "replace"})


def size_of(value: Any) -> int:
    """Return how many characters and items a value has inside, counted no further than ``WORK_MAX``."""
    size, waiting = 0, [value]
    while waiting and size <= WORK_MAX:
        one = waiting.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, range):
            # Such a range may be longer than len() can tell.
            size += max(one.stop - one.start, 0)
        elif isinstance(one, (list, tuple)):
            size += len(one)
            waiting += one
        elif isinstance(one, dict):
            size += len(one)
            waiting += [*one, *one.values()]
        else:
            size += 1
    return size


def _turns_checked(expression: Any, context: RenderContext) -> None:
    """Refuse a range before anybody makes a list of it."""
    items = expression.iterable.evaluate(context)
    if isinstance(items, range) and items.stop - items.start > TURNS_MAX:
        raise ResourceLimitError(f"a range has at most {TURNS_MAX} numbers", token=None)


class _ForNode(ForNode):
    __slots__ = ("weight",)

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        _turns_checked(self.expression, context)
        context.weight = self.weight  # type: ignore[attr-defined]  # every context here is a _Context
        return super().render_to_output(context, buffer)


class _TablerowNode(TablerowNode):
    __slots__ = ("weight",)

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        _turns_checked(self.expression, context)
        context.weight = self.weight  # type: ignore[attr-defined]  # every context here is a _Context
        return super().render_to_output(context, buffer)


class _ForTag(ForTag):
    node_class = _ForNode

    def parse(self, stream: TokenStream) -> Any:
        return _weighed(super().parse, stream)


class _TablerowTag(TablerowTag):
    node_class = _TablerowNode

    def parse(self, stream: TokenStream) -> Any:
        return _weighed(super().parse, stream)


def _weighed(parse: Callable[[TokenStream], Any], stream: TokenStream) -> Any:
    """Return the parsed loop with the length of its text, from its opening tag to its closing one."""
    start = stream.current.start_index
    node = parse(stream)
    node.weight = max(stream.current.start_index - start, 1)
    return node


class _Template(BoundTemplate):
    context_class = _Context


class _Liquid(Environment):
    template_class = _Template
    loop_iteration_limit = TURNS_MAX
    output_stream_limit = OUTPUT_BYTES_MAX


def _date(value: Any, form: Any = "%Y-%m-%d", zone: Any = None) -> str:
    """Format a moment: an RFC 3339 text keeps its own offset, epoch milliseconds are UTC, ``zone`` overrides."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000, UTC)
        else:
            moment = datetime.fromisoformat(str(value))
        if zone is not None:
            moment = moment.astimezone(ZoneInfo(str(zone)))
        return moment.strftime(str(form))
    except (ValueError, OverflowError, OSError, KeyError) as fault:
        raise FilterArgumentError(f"date: {fault}", token=None) from None


def _environment(*, html: bool) -> Environment:
    liquid = _Liquid(undefined=Undefined, strict_filters=True, autoescape=html)
    for tag in ("include", "render"):
        liquid.tags.pop(tag, None)
    for tag_type in (_ForTag, _TablerowTag):
        liquid.add_tag(tag_type)
    # Unescaped HTML has no way in, and scripts have no place in a message.
    for name in ("safe", "escapejs"):
        liquid.filters.pop(name, None)
    liquid.filters["date"] = _date
    return liquid


#: The two ways of writing: plain text, and HTML with every value escaped.
TEXT = _environment(html=False)
HTML = _environment(html=True)
