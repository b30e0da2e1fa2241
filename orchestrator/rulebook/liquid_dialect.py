"""The dialect of Liquid that templates are written in: what it knows, and how much one rendering may do.

A rendering is a pure function of its facts: there is no "now" and no inclusion of other files. It is bounded by a
budget of *work* instead of a clock, so that a text is refused alike on every machine. Nothing is free: a block costs
its tags and conditions each time that it is rendered, a value its size each time that it is looked up, a filter the
size of what it is given and of what it makes, and more where it goes over it more than once. All the texts of an
action share one budget. HTML is written with
every value escaped; there is no ``safe`` filter, so that no value can be let through by habit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TextIO

from liquid import BlockNode, Environment, Node, RenderContext, Token
from liquid.builtin.expressions import Path, StringLiteral
from liquid.builtin.expressions.logical import ContainsExpression
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.tags.for_tag import ForNode, ForTag
from liquid.builtin.tags.tablerow_tag import TablerowNode, TablerowTag
from liquid.exceptions import FilterArgumentError, LiquidSyntaxError, ResourceLimitError
from liquid.expression import Expression
from liquid.output import LimitedStringIO
from liquid.template import BoundTemplate
from liquid.undefined import UNDEFINED, FalsyStrictUndefined

from orchestrator.rulebook.moment_filters import date, time
from orchestrator.rulebook.number_filters import money, number, percent

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
#: Work of all the texts of one rendering, about a character each: some 50 ms.
WORK_MAX = 1_000_000
#: Whole numbers grow no longer than this; money and moments are far below.
NUMBER_BITS_MAX = 256

_OPENING = re.compile(r"\{\{|\{%")
_RAW = re.compile(r"\{%-?\s*(?:raw|doc)\b")

_WORD = "takes too much work: its loops, conditions and filters are more than a message may take"


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


class Facts(dict[str, Any]):
    """What the texts of one rendering may read, and the work that they have done together."""

    __slots__ = ("work",)

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(facts)
        self.work = 0

    def charge(self, work: int) -> None:
        """Add to the work that was done. Raises ``ResourceLimitError`` when it is too much."""
        self.work += work
        if self.work > WORK_MAX:
            raise ResourceLimitError(_WORD, token=None)


#: What something costs besides its characters: a tag, an operand, the look-up of a value, each name on its way, that
#: it is not there, the call of a filter, an item of a list.
_TAG, _OPERAND, _LOOKUP, _STEP, _MISSING, _CALL, _ITEM = 80, 30, 60, 8, 150, 200, 8


class _Context(RenderContext):
    """The rendering of a text, which charges what it does to its facts."""

    __slots__ = ("facts",)

    def __init__(self, template: BoundTemplate, facts: Facts) -> None:
        super().__init__(template, globals=facts)
        self.facts = facts

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        self.facts.charge(_LOOKUP + _STEP * (len(path) + self.scope.size()))
        value = super().get(path, token=token, default=default)
        self.facts.charge(_MISSING if isinstance(value, Undefined) else size_of(value))
        return value

    def assign(self, key: str, val: Any) -> None:
        self.facts.charge(len(val) if isinstance(val, str) else 1)
        super().assign(key, val)

    def filter(self, name: str, token: Any) -> Callable[..., object]:
        return partial(self._worked, name, super().filter(name, token))

    def _worked(self, name: str, filter_: Callable[..., object], value: Any, *given: Any, **named: Any) -> object:
        sizes = [size_of(one) for one in (value, *given, *named.values())]
        self.facts.charge(_CALL + _cost(name, sizes))
        result = filter_(value, *given, **named)
        if isinstance(result, int) and result.bit_length() > NUMBER_BITS_MAX:
            raise FilterArgumentError(f"{name}: the number is too large", token=None)
        self.facts.charge(size_of(result))
        return result


#: Filters whose result can be as long as the product of what they are given, or that go over it as often.
_GROWING = frozenset({"join", "map", "replace"})
#: Filters that take more than twice as long for a character, or an item, as others.
_SLOW = {"strip_html": 30} | dict.fromkeys(
    ("compact", "find", "find_index", "has", "join", "map", "reject", "sort", "sort_natural", "sum", "uniq", "where"), 6
)
#: Filters that may take the square of what they are given, and for how many pairs they take as long as for one.
_SQUARE = {"strip_html": 4_096, "uniq": 16}


def _cost(name: str, sizes: Sequence[int]) -> int:
    """Return the work of a filter that is given values of these sizes, the one before the ``|`` first."""
    cost = sum(sizes) * _SLOW.get(name, 2)
    if name in _GROWING:
        cost += sizes[0] * max(sizes[1:], default=1)
    if name in {"sort", "sort_natural"}:
        cost += sizes[0] * sizes[0].bit_length() // 4
    if name in _SQUARE:
        cost += sizes[0] ** 2 // _SQUARE[name]
    return cost


def size_of(value: Any) -> int:
    """Return the work of going once through all that is in a value, counted no further than ``WORK_MAX``."""
    size, waiting = 0, [value]
    while waiting and size <= WORK_MAX:
        one = waiting.pop()
        size += _ITEM
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, dict):
            waiting += one
            waiting += one.values()
        elif isinstance(one, (list, tuple)):
            waiting += one
        elif isinstance(one, int):
            # As text it takes the square of its length.
            size += (one.bit_length() >> 6) ** 2
        elif isinstance(one, range):
            # Such a range may be longer than len() can tell.
            size += _ITEM * max(one.stop - one.start, 0)
    return size


def _turns_checked(expression: Any, context: RenderContext) -> None:
    """Refuse a range before anybody makes a list of it."""
    items = expression.iterable.evaluate(context)
    if isinstance(items, range) and items.stop - items.start > TURNS_MAX:
        raise ResourceLimitError(f"a range has at most {TURNS_MAX} numbers", token=None)


class _ForNode(ForNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        _turns_checked(self.expression, context)
        return super().render_to_output(context, buffer)


class _TablerowNode(TablerowNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        _turns_checked(self.expression, context)
        return super().render_to_output(context, buffer)


class _ForTag(ForTag):
    node_class = _ForNode


class _TablerowTag(TablerowTag):
    node_class = _TablerowNode


class _Toll(Node):
    """The head of a block: charges, each time that the block is rendered, for its tags and their conditions."""

    __slots__ = ("work",)

    def __init__(self, token: Token, work: int) -> None:
        super().__init__(token)
        self.work = work

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, _Context)
        context.facts.charge(self.work)
        return 0


def _tolled(nodes: list[Node], context: RenderContext) -> list[Node]:
    """Return the nodes of a block behind its toll, with each block that is inside of it behind its own."""
    if not nodes:
        return nodes
    work, waiting = _TAG, list(nodes)
    while waiting:
        node = waiting.pop()
        work += _TAG + sum(_weight(one) for one in node.expressions())
        for part in node.children(context):
            if isinstance(part, BlockNode):
                part.nodes = _tolled(part.nodes, context)
            else:
                waiting.append(part)
    return [_Toll(nodes[0].token, work), *nodes]


def _weight(expression: Expression) -> int:
    """Return the work of evaluating an expression, without its look-ups and filters."""
    weight, waiting = 0, [expression]
    while waiting:
        one = waiting.pop()
        if isinstance(one, ContainsExpression) and isinstance(one.left, RangeLiteral):
            raise LiquidSyntaxError("a range is not searched: compare with its first and last number", token=one.token)
        weight += _OPERAND + (len(one.value) if isinstance(one, StringLiteral) else 0)
        weight += _STEP * len(one.path) if isinstance(one, Path) else 0
        waiting += one.children()
    return weight


class Compiled(BoundTemplate):
    """A text that was parsed: render it with ``rendered``."""

    def __init__(self, env: Environment, nodes: list[Node], *given: Any, **named: Any) -> None:
        super().__init__(env, nodes, *given, **named)
        self.nodes = _tolled(nodes, RenderContext(self))

    def render(self, *given: Any, **named: Any) -> str:
        """Return the text with values that have done no work yet."""
        return self.rendered(Facts(dict(*given, **named)))

    def rendered(self, facts: Facts) -> str:
        """Return the text with its values. Raises ``LiquidError``, and whatever a filter makes of a value."""
        buffer = LimitedStringIO(limit=OUTPUT_BYTES_MAX)
        self.render_with_context(_Context(self, facts), buffer)
        return buffer.getvalue()


class _Liquid(Environment):
    template_class = Compiled
    loop_iteration_limit = TURNS_MAX
    output_stream_limit = OUTPUT_BYTES_MAX


def _environment(*, html: bool) -> Environment:
    liquid = _Liquid(undefined=Undefined, strict_filters=True, autoescape=html)
    for tag in ("include", "render"):
        liquid.tags.pop(tag, None)
    for tag_type in (_ForTag, _TablerowTag):
        liquid.add_tag(tag_type)
    # Unescaped HTML has no way in, and scripts have no place in a message.
    for name in ("safe", "escapejs"):
        liquid.filters.pop(name, None)
    liquid.filters |= {"date": date, "time": time, "number": number, "money": money, "percent": percent}
    return liquid


#: The two ways of writing: plain text, and HTML with every value escaped.
TEXT = _environment(html=False)
HTML = _environment(html=True)


def compiled(text: str, *, html: bool) -> Compiled:
    """Return a text that was parsed. Raises ``LiquidError``, ``RecursionError``, and whatever the library does."""
    made = (HTML if html else TEXT).from_string(text)
    assert isinstance(made, Compiled)
    return made
