"""Filters: every one has an example that works, and what cannot be written is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.definition import MissingTemplateValue
from orchestrator.rulebook import liquid_dialect as dialect
from orchestrator.rulebook.filter_arguments import ARGUMENTS
from orchestrator.rulebook.filters import EXAMPLE_FACTS, FILTERS, FilterRow
from orchestrator.rulebook.template import TemplateFault, compiled_template

NBSP, NARROW = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"


def rendered(text: str, profile: dict[str, Any] | None = None, /, **event: Any) -> Any:
    facts = {"event": event, "profile": profile or {}, "run": {}}
    return compiled_template("t", {"p": text}).render(facts)["p"]


@pytest.mark.parametrize("row", FILTERS, ids=lambda row: f"{row.name}: {row.example}")
def test_every_example_shows_what_the_reference_says(row: FilterRow) -> None:
    text = compiled_template("t", {"p": f"{{{{ {row.example} }}}}"}).render(dict(EXAMPLE_FACTS))["p"]
    assert text == row.shown
    assert f" | {row.name}" in row.example


def test_the_reference_knows_every_filter() -> None:
    assert {row.name for row in FILTERS} == set(dialect.TEXT.filters) == set(dialect.HTML.filters)
    assert set(ARGUMENTS) <= set(dialect.TEXT.filters)


@pytest.mark.parametrize(
    ("profile", "meant"),
    [
        ({}, "€1,234.50"),
        ({"locale": "de-DE"}, f"1.234,50{NBSP}€"),
        ({"locale": "de_DE.UTF-8"}, f"1.234,50{NBSP}€"),
        ({"locale": "de-AT"}, f"€{NBSP}1.234,50"),
        ({"language": "de", "country": "AT"}, f"€{NBSP}1.234,50"),
        ({"language": "en", "country": "IN"}, "€1,234.50"),
        ({"language": "fr"}, f"1{NARROW}234,50{NBSP}€"),
        ({"country": "DE"}, f"1.234,50{NBSP}€"),
        ({"country": "Germany"}, "€1,234.50"),
        ({"country": "ZZ"}, "€1,234.50"),
        ({"language": "German", "country": "DE"}, f"1.234,50{NBSP}€"),
        ({"locale": "de-US"}, f"1.234,50{NBSP}€"),
        ({"locale": "tlh", "language": "de"}, f"1.234,50{NBSP}€"),
        ({"locale": "../../etc/passwd", "country": None}, "€1,234.50"),
        ({"locale": 7, "language": ["de"], "country": {}}, "€1,234.50"),
    ],
)
def test_an_amount_is_written_as_in_the_customers_country(profile: dict[str, Any], meant: str) -> None:
    assert rendered("{{ event.total | money: 'EUR' }}", profile, total=1234.5) == meant


@pytest.mark.parametrize(
    ("text", "profile", "meant"),
    [
        ("{{ event.n | money: 'EUR' }}", {"country": "DE"}, f"79,90{NBSP}€"),
        ("{{ event.n | money: 'eur', locale: 'en' }}", {"country": "DE"}, "€79.90"),
        ("{{ event.n | money: event.currency }}", {"country": "JP"}, "￥80"),
        ("{{ event.n | times: 100000 | money: 'INR' }}", {"language": "en", "country": "IN"}, "₹79,90,000.00"),
        ("{{ event.text | number: 2 }}", {"country": "DE"}, "79,90"),
        ("{{ event.whole | number }}", {"language": "de"}, "1.000.000"),
        ("{{ event.tiny | number }}", {}, "0"),
        ("{{ event.day | date: 'long' }}", {"country": "DE"}, "14. März 2026"),
        ("{{ event.day | date: 'full', locale: 'es' }}", {"country": "DE"}, "sábado, 14 de marzo de 2026"),
        ("{{ event.day | date: '%d %B' }}", {"country": "DE"}, "14 March"),
        ("{{ event.at | date: 'short' }}", {"country": "DE", "timezone": "Asia/Tokyo"}, "15.03.26"),
        ("{{ event.at | time }}", {"country": "DE", "timezone": "Asia/Tokyo"}, "05:00"),
        ("{{ event.at | time: '%H:%M', 'UTC' }}", {"timezone": "Asia/Tokyo"}, "20:00"),
        ("{{ event.n | percent: 1 }}", {}, "7,990.0%"),
    ],
)
def test_a_value_is_written_for_its_reader(text: str, profile: dict[str, Any], meant: str) -> None:
    event = {"n": 79.9, "text": " 79.90", "whole": 1_000_000, "tiny": 1e-300, "currency": "JPY"}
    assert rendered(text, profile, **event, day="2026-03-14", at="2026-03-14T20:00:00Z") == meant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("money: 'EURO'", 'money: no currency is called "EURO". Write a code of ISO 4217 such as EUR.'),
        ("money", 'money: a currency is needed, such as money: "EUR"'),
        ("money: 'EUR', 7", "money: decimals are a whole number from 0 to 6, not 7"),
        ("money: 'EUR', decimals: 1.5", "money: decimals are a whole number from 0 to 6, not 1.5"),
        ("money: 'EUR', 2, 'de', 1", "money: takes at most 3 arguments: currency, decimals, locale"),
        (
            "money: 'EUR', lcale: 'de'",
            'money: unknown argument "lcale". Known: currency, decimals, locale. Did you mean "locale"?',
        ),
        (
            "number: locale: 'xx'",
            'number: no locale is called "xx". Write a language such as de, or a language and country such as de-AT.',
        ),
        (
            "date: 'lnog'",
            'date: unknown format "lnog". Known: full, long, medium, short. Did you mean "long"?'
            ' Or write one with %, such as "%d %b".',
        ),
        (
            "date: '%d %B', locale: 'de'",
            'date: "%d %B" is in English whatever the locale; name one of short, medium, long, full',
        ),
        ("date: '%d %Q'", 'date: the format "%d %Q" has "%Q", which means nothing. Write %% for a percent sign.'),
        ("time: '100%'", 'time: the format "100%" has "%", which means nothing. Write %% for a percent sign.'),
        (
            "date: 'long', 'Mars/Base'",
            'date: no zone is called "Mars/Base". Write an IANA name such as Asia/Kolkata, or as_written.',
        ),
    ],
)
@pytest.mark.parametrize(
    "around",
    [
        "{{{{ event.x | {} }}}}",
        "{{% if event.y %}}{{% for i in (1..2) %}}{{{{ event.x | default: 1 | {} }}}}{{% endfor %}}{{% endif %}}",
        "{{% assign a = event.x | {} %}}",
    ],
)
def test_a_literal_argument_that_can_never_be_right_is_refused_when_it_is_loaded(
    text: str, message: str, around: str
) -> None:
    with pytest.raises(TemplateFault) as fault:
        compiled_template("t", {"p": around.format(text)})
    assert str(fault.value) == message


@pytest.mark.parametrize(
    ("text", "x", "message"),
    [
        ("number", "abc", 'number: "abc" is not a number'),
        ("number", "1,234", 'number: "1,234" is not a number'),
        ("number", True, 'number: "True" is not a number'),
        ("number", "9" * 5000, f'number: "{"9" * 40}" is not a number'),
        ("number", 10**18, "number: the number is too large: it must be below 10^18"),
        ("number", 10**300, "number: the number is too large: it must be below 10^18"),
        ("percent", float("inf"), "percent: the number is too large: it must be below 10^18"),
        ("percent", float("nan"), "percent: NaN is not a number that can be shown"),
        ("money: event.x", "gold", 'money: no currency is called "gold". Write a code of ISO 4217 such as EUR.'),
        ("date: event.form, locale: 'de'", "2026-03-14", 'date: "%B" is in English whatever the locale; name one of'),
        ("time", "2026-03-14", "time: 2026-03-14 is a day and has no time"),
        ("number: 2, event.x", "xx", 'number: no locale is called "xx". Write a language such as de, or a language'),
        ("money: event.gone", 1, "event.gone is undefined"),
    ],
)
def test_a_value_that_cannot_be_written_is_named_when_it_is_rendered(text: str, x: Any, message: str) -> None:
    with pytest.raises(MissingTemplateValue) as missing:
        rendered(f"{{{{ event.x | {text} }}}}", x=x, form="%B")
    assert str(missing.value).startswith(f"template t, param p: {message}")
