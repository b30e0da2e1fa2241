"""The filters ``number``, ``money`` and ``percent``: numbers as people of the reader's country write them.

A number may come as a number or as text such as ``"79.90"``, with a point. Anything else, infinity and what is too
large to be meant is a fault, named where it is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import copy
from decimal import Decimal
from functools import lru_cache
from typing import Any

from babel import Locale
from babel.numbers import NumberPattern, get_currency_precision, list_currencies
from liquid import RenderContext
from liquid.exceptions import FilterArgumentError
from liquid.filter import with_context

from orchestrator.rulebook.reader_locale import locale_of

#: No amount is that large, and it keeps every rendering short.
NUMBER_BELOW = 10**18
DECIMALS_MAX = 6

_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?")
_TINY = -40


@with_context
def number(value: Any, decimals: Any = None, locale: Any = None, *, context: RenderContext) -> str:
    """Return a number with separators; up to three decimals, or as many as ``decimals`` says."""
    return _formatted("number", value, decimals, locale, context)


@with_context
def percent(value: Any, decimals: Any = None, locale: Any = None, *, context: RenderContext) -> str:
    """Return a share, 0.25, as a percentage."""
    return _formatted("percent", value, decimals, locale, context)


@with_context
def money(value: Any, currency: Any = None, decimals: Any = None, locale: Any = None, *, context: RenderContext) -> str:
    """Return an amount in a currency (ISO 4217), with the decimals that it has, or as many as ``decimals`` says."""
    if fault := currency_fault(currency):
        raise FilterArgumentError(f"money: {fault}", token=None)
    code = str(currency).upper()
    digits = get_currency_precision(code) if decimals is None else decimals
    return _formatted("money", value, digits, locale, context, code)


def currency_fault(code: Any) -> str:
    """Return why a code names no currency, or nothing. Case does not matter."""
    if code is None:
        return 'a currency is needed, such as money: "EUR"'
    if str(code).upper() not in _currencies():
        return f'no currency is called "{code}". Write a code of ISO 4217 such as EUR.'
    return ""


def decimals_fault(decimals: Any) -> str:
    """Return why a number of decimals is none, or nothing."""
    good = isinstance(decimals, int) and not isinstance(decimals, bool) and 0 <= decimals <= DECIMALS_MAX
    return "" if good else f"decimals are a whole number from 0 to {DECIMALS_MAX}, not {decimals}"


def _formatted(
    name: str, value: Any, decimals: Any, given: Any, context: RenderContext, code: str | None = None
) -> str:
    try:
        locale = locale_of(given, context.globals)
        amount = _decimal(value)
        if decimals is not None and (fault := decimals_fault(decimals)):
            raise ValueError(fault)
    except ValueError as fault:
        raise FilterArgumentError(f"{name}: {fault}", token=None) from None
    pattern = _PATTERNS[name](locale)
    if decimals is not None:
        pattern = copy(pattern)
        pattern.frac_prec = (decimals, decimals)
    return str(pattern.apply(amount, locale, currency=code, currency_digits=False))


_PATTERNS: Mapping[str, Callable[[Locale], NumberPattern]] = {
    "number": lambda locale: locale.decimal_formats[None],
    "percent": lambda locale: locale.percent_formats[None],
    "money": lambda locale: locale.currency_formats["standard"],
}


def _decimal(value: Any) -> Decimal:
    """Return the number; raise ``ValueError`` for what is none, or none that anybody could mean."""
    if isinstance(value, Decimal):
        found = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) >= NUMBER_BELOW:
            raise ValueError("the number is too large: it must be below 10^18")
        found = Decimal(repr(value))
    else:
        text = str(value).strip()
        if not _NUMBER.fullmatch(text):
            raise ValueError(f'"{text[:40]}" is not a number')
        found = Decimal(text)
    if not found.is_finite():
        raise ValueError(f"{found} is not a number that can be shown")
    if abs(found) >= NUMBER_BELOW:
        raise ValueError("the number is too large: it must be below 10^18")
    return Decimal(0) if found and found.adjusted() < _TINY else found


@lru_cache(maxsize=1)
def _currencies() -> frozenset[str]:
    return frozenset(list_currencies())
