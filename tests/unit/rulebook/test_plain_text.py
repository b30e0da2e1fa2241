"""Plain texts are rendered as Liquid renders them."""

from __future__ import annotations

from typing import Any

import pytest
from liquid.exceptions import LiquidError

from orchestrator.rulebook import liquid_dialect as dialect
from orchestrator.rulebook.plain_text import PlainText, pieces_of

VALUES: tuple[Any, ...] = ("", "Zoë", "<b>", "{{ event.b }}", 0, -7, 2**63, 1.0, 2.50, True, False, [1, "x"], {"a": 1})


def rendered(render: Any, facts: dict[str, Any]) -> tuple[str, str]:
    try:
        return "text", render(facts)
    except LiquidError as fault:
        return "fault", str(fault.message)


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("text", ["Hi {{ event.a }}!", "{{event.a}}{{ profile.deep.b }}", "a\n{{ event.a }} }} b"])
def test_a_plain_text_says_what_liquid_says(text: str, value: Any) -> None:
    compiled = dialect.compiled(text, html=False)
    pieces = pieces_of(text)
    assert pieces is not None
    facts = {"event": {"a": value}, "profile": {"deep": {"b": value}}}
    expected = rendered(lambda seen: compiled.render(**seen), facts)
    assert rendered(PlainText(pieces, compiled).render, dialect.Facts(facts)) == expected


def test_what_is_missing_is_named_as_liquid_names_it() -> None:
    text = "Hi {{ event.name }}, {{ profile.city.zip }}"
    compiled = dialect.compiled(text, html=False)
    pieces = pieces_of(text)
    assert pieces == ("Hi ", ("event", "name"), ", ", ("profile", "city", "zip"))
    for facts in ({"event": {}}, {"event": {"name": "A"}, "profile": {"city": "B"}}):
        expected = rendered(lambda seen: compiled.render(**seen), facts)
        assert expected[0] == "fault"
        assert rendered(PlainText(pieces, compiled).render, dialect.Facts(facts)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ event.a | upcase }}",
        "{% if event.a %}x{% endif %}",
        "a {{- event.a }}",
        "{{ event.items.size }}",
        "{{ event['a'] }}",
        "{{ true }} {{ event.a }}",
    ],
)
def test_a_text_that_only_liquid_understands_has_no_pieces(text: str) -> None:
    assert pieces_of(text) is None
