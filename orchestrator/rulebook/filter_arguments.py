"""What can be said of the arguments of our own filters before anything is rendered: those that are literals.

The same words are the fault of a rendering whose argument comes from an event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from liquid import RenderContext
from liquid.ast import Node
from liquid.builtin.expressions import FilteredExpression, KeywordArgument, TernaryFilteredExpression
from liquid.builtin.expressions.filtered import Filter
from liquid.builtin.expressions.primitive import Literal
from liquid.expression import Expression
from liquid.template import BoundTemplate

from orchestrator.rulebook.moment_filters import format_fault, locale_unused, zone_fault
from orchestrator.rulebook.number_filters import currency_fault, decimals_fault
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.reader_locale import locale_fault

#: The arguments of each filter, in their order; each may be given by name as well.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "date": ("form", "zone", "locale"),
    "time": ("form", "zone", "locale"),
    "number": ("decimals", "locale"),
    "percent": ("decimals", "locale"),
    "money": ("currency", "decimals", "locale"),
}
_FAULTS: Mapping[str, Callable[[Any], str]] = {
    "form": lambda form: format_fault(str(form)),
    "zone": lambda zone: zone_fault(str(zone)),
    "locale": lambda locale: locale_fault(str(locale)),
    "currency": currency_fault,
    "decimals": decimals_fault,
}


def arguments_fault(compiled: BoundTemplate) -> tuple[str, str] | None:
    """Return the first fault among the arguments of a parsed text, behind the name of the filter, or None."""
    context = RenderContext(compiled)
    for node in compiled.nodes:
        for filter_ in _filters_of_node(node, context):
            if filter_.name in ARGUMENTS and (fault := _fault(filter_)):
                return filter_.name, fault
    return None


def _fault(filter_: Filter) -> str:
    names = ARGUMENTS[filter_.name]
    given: dict[str, Expression] = {}
    for at, argument in enumerate(filter_.args):
        if isinstance(argument, KeywordArgument):
            if argument.name not in names:
                return unknown("argument", argument.name, names)
            given[argument.name] = argument.value
        elif at >= len(names):
            return f"takes at most {len(names)} arguments: {', '.join(names)}"
        else:
            given[names[at]] = argument.value
    if "currency" in names and "currency" not in given:
        return currency_fault(None)
    form = given.get("form")
    if isinstance(form, Literal) and "locale" in given and (fault := locale_unused(str(form.value))):
        return format_fault(str(form.value)) or fault
    found = (_FAULTS[name](value.value) for name, value in given.items() if isinstance(value, Literal))
    return next(filter(None, found), "")


def _filters_of_node(node: Node, context: RenderContext) -> Iterator[Filter]:
    for expression in node.expressions():
        yield from _filters_of(expression)
    for child in node.children(context):
        yield from _filters_of_node(child, context)


def _filters_of(expression: Expression) -> Iterator[Filter]:
    if isinstance(expression, (FilteredExpression, TernaryFilteredExpression)):
        yield from expression.filters or ()
    if isinstance(expression, TernaryFilteredExpression):
        yield from expression.tail_filters or ()
    for child in expression.children():
        yield from _filters_of(child)
