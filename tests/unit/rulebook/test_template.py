"""Templates: types kept, constants untouched, what is missing named, nothing from outside."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.definition import MissingTemplateValue, Template
from orchestrator.rulebook.template import TemplateFault, compiled_template

FACTS: dict[str, Any] = {
    "event": {"total": 80, "items": ["a", "b"], "gift": None, "starts_at": "2026-03-04T11:00:00+05:30"},
    "profile": {"first_name": "Asha", "timezone": "Asia/Kolkata", "nickname": None},
    "context": {},
    "journey": "purchase",
    "run": {"stage": "basket", "started_at": 1_772_433_000_000},
}


def rendered(value: Any, **arguments: Any) -> Any:
    template: Template = compiled_template("t", {"p": value}, arguments)
    return template.render(FACTS)["p"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{{ event.total }}", 80),
        ("{{event.items}}", ["a", "b"]),
        ("{{- event.total -}}", 80),
        ("total: {{ event.total }}", "total: 80"),
        ("{{ profile.first_name | default: 'there' }}", "Asha"),
        ("Hi {{ profile.last_name | default: 'there' }}", "Hi there"),
        ("Hi {{ profile.nickname | default: 'there' }}", "Hi there"),
        ("{% if profile.last_name %}{{ profile.last_name }}{% else %}none{% endif %}", "none"),
        ("{% for item in event.items %}{{ item }};{% endfor %}", "a;b;"),
        ({"a": ["{{ event.total }}", 1], "b": True}, {"a": [80, 1], "b": True}),
        (7, 7),
        ("<b> & {{ event.total }}", "<b> & 80"),
        ("{{ event.starts_at | date: '%d %b %H:%M' }}", "04 Mar 11:00"),
        ("{{ event.starts_at | date: '%H:%M', 'Europe/London' }}", "05:30"),
        ("{{ run.started_at | date: '%Y-%m-%d' }}", "2026-03-02"),
        ("{{ journey }}", "purchase"),
    ],
)
def test_a_text_renders(written: Any, meant: Any) -> None:
    assert rendered(written) == meant


def test_the_params_of_a_send_are_read_as_params() -> None:
    assert rendered("Use {{ params.code }}", code="BACK{{ event.total }}") == "Use BACK80"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{{ profile.last_name }}", "template t, param p: profile.last_name is undefined"),
        ("Hi {{ profile.last_name }}", "template t, param p: profile.last_name is undefined"),
        ("Hi {{ profile.nickname }}", "template t, param p: profile.nickname is undefined"),
        ("{{ event.gift }}", "template t, param p: event.gift is undefined"),
        ("on {{ profile.first_name | date: '%d' }}", "template t, param p: date: Invalid isoformat string: 'Asha'"),
    ],
)
def test_what_cannot_be_rendered_is_named(written: str, message: str) -> None:
    with pytest.raises(MissingTemplateValue) as missing:
        rendered(written)
    assert str(missing.value) == message


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{{ 'now' | date: '%Y' }}", '"now" has no meaning here: the same decision must always render the same text'),
        ("{{ event.total | upcas }}", 'unknown filter "upcas". Did you mean "upcase"?'),
        ("{% if event.total %}", "not valid Liquid: expected tag endif, found end of expression"),
        ("{% include 'secrets' %}", "not valid Liquid: unexpected tag 'include'"),
    ],
)
def test_a_text_that_can_never_render_is_refused_when_it_is_loaded(written: str, message: str) -> None:
    with pytest.raises(TemplateFault) as fault:
        compiled_template("t", {"p": written})
    assert str(fault.value) == message


def test_an_endless_loop_is_stopped() -> None:
    with pytest.raises(MissingTemplateValue, match="loop iteration limit reached"):
        rendered("{% for a in (1..9000) %}{% for b in (1..9000) %}{% endfor %}{% endfor %}x")


def test_what_a_template_reads_is_known_without_rendering() -> None:
    reads = compiled_template(
        "t", {"a": "{{ event.total }}", "b": "{{ profile.x | default: 1 }} {% if event.vip %}!{% endif %}"}
    ).reads
    assert reads.paths == {("event", "total"), ("profile", "x"), ("event", "vip")}
    assert reads.optional == {("profile", "x"), ("event", "vip")}
    assert not reads.dynamic


@pytest.mark.parametrize(
    "written", ["{{ event }}", "{% for p in event %}{{ p }}{% endfor %}", "{{ event[profile.x] }}"]
)
def test_reading_the_event_as_a_whole_is_noticed(written: str) -> None:
    assert "event" in compiled_template("t", {"p": written}).reads.dynamic


def test_rendering_leaves_the_facts_as_they_were() -> None:
    before = repr(FACTS)
    rendered("{% assign total = 1 %}{{ total }} {{ event.total }}")
    assert repr(FACTS) == before
