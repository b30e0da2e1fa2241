"""Templates: types kept, constants untouched, what is missing named, nothing from outside."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.conformance.readers import Control, Letters, read_mrkdwn
from connectors.connector_type import ActionParams, AnyParams
from connectors.markup import Markup
from orchestrator.core.definition import MissingTemplateValue, Template
from orchestrator.rulebook import connector_entry
from orchestrator.rulebook import liquid_dialect as dialect
from orchestrator.rulebook.connector_entry import markup_params, types_by_name
from orchestrator.rulebook.filter_arguments import ARGUMENTS
from orchestrator.rulebook.template import TemplateFault, compiled_template

FILTERS = ", ".join(sorted(dialect.TEXT.filters))
TAGS = "assign, capture, case, comment, doc, else, elsif, for, if, ifchanged, raw, tablerow, unless, when"
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


@pytest.mark.parametrize(
    ("case", "profile", "event", "meant"),
    [
        ("the trait", {"timezone": "Asia/Kolkata"}, {}, "15:30"),
        ("the trait before the event's property", {"timezone": "Asia/Kolkata"}, {"timezone": "Asia/Tokyo"}, "15:30"),
        ("the event's property", {"timezone": None}, {"timezone": "Asia/Tokyo"}, "19:00"),
        ("the phone's prefix", {"phone": "+919812345678"}, {}, "15:30"),
        ("a zone that is none, and the phone", {"timezone": "Mars/Base", "phone": "+919812345678"}, {}, "15:30"),
        ("a prefix of several zones", {"phone": "+5511961234567", "timezone": ""}, {}, "07:00"),
        ("a prefix whose zones differ", {"phone": "+79161234567"}, {}, "10:00"),
        ("nothing", {}, {}, "10:00"),
    ],
)
def test_a_moment_is_shown_by_the_customers_clock(
    case: str, profile: dict[str, Any], event: dict[str, Any], meant: str
) -> None:
    template = compiled_template("t", {"p": "{{ event.at | date: '%H:%M' }}"})
    facts = {"profile": profile, "event": {**event, "at": "2026-03-10T10:00:00Z"}, "run": {}}
    assert template.render(facts)["p"] == meant, case


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
        (
            "{{ event.starts_at | date: '%d', profile.first_name }}",
            'template t, param p: date: no zone is called "Asha". Write an IANA name such as Asia/Kolkata, or'
            " as_written.",
        ),
        ("{{ event.starts_at | date: '%d', profile.zone }}", "template t, param p: profile.zone is undefined"),
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
        (
            "{{ event.at | date: '%99999999d' }}",
            'date: the format "%99999999d" has "%9", which means nothing. Write %% for a percent sign.',
        ),
        ("{{ 'today' | time }}", '"now" has no meaning here: the same decision must always render the same text'),
        ("{{ event.total | upcas }}", f'unknown filter "upcas". Known: {FILTERS}. Did you mean "upcase"?'),
        ("{% if event.total %}", "{% if %} is never closed: add {% endif %}"),
        (
            "{% if event.total %}{% for a in event.b %}{% endif %}",
            "{% for %} is still open here: add {% endfor %} before {% endif %}",
        ),
        ("{% include 'secrets' %}", f'unknown tag "include". Known: {TAGS}.'),
        ("{% if a %}b{% else if c %}d{% endif %}", "{% else if … %} is read as a mere else: write {% elsif … %}"),
    ],
)
def test_a_text_that_can_never_render_is_refused_when_it_is_loaded(written: str, message: str) -> None:
    with pytest.raises(TemplateFault) as fault:
        compiled_template("t", {"p": written})
    assert str(fault.value) == message


@pytest.mark.parametrize(
    ("written", "offset"),
    [
        ("a\n{{ event.total | upcas }}", 2),
        ("a\n{{ event.total }}\nb {{ event.total | }}", 22),
        ("{{ event.a }} {% if event.b %}\n{% endfor %}", 31),
        ("{{ event.a }} {% if event.b %}\n", 14),
        ("a {{{ event.b }}}", 2),
        ("a {%= event.b %}", 2),
        ("{{ event.a }} and {{ event.b }", 18),
        ("{{ event.a }} on {{ 'now' | date: '%d' }}", 17),
    ],
)
def test_a_fault_knows_its_place_in_the_text(written: str, offset: int) -> None:
    with pytest.raises(TemplateFault) as fault:
        compiled_template("t", {"p": written})
    assert fault.value.offset == offset


def test_what_is_read_and_gone_through_knows_its_place_in_the_text() -> None:
    text = "a {{ event.b }}\n{% for c in event.list %}{{ c }}{{ event.b }}{% endfor %}"
    reads = compiled_template("t", {"p": text}).reads
    assert reads.places == {("event", "b"): 2, ("event", "list"): 16}
    assert reads.loops == {("event", "list")}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("{{ event.list.size }}", 2),
        ("{{ event.list.first }}", {"name": "a"}),
        ("{{ event.list.last.name }}", "b"),
        ("{{ event.list[1].name }} of {{ event.list.size }}", "b of 2"),
        ("{{ event.word.size }}", 4),
        ("{{ event.sizes.size }}", "L"),
    ],
)
def test_of_a_list_its_size_its_ends_and_its_items_can_be_read(written: str, shown: object) -> None:
    facts = {"event": {"list": [{"name": "a"}, {"name": "b"}], "word": "four", "sizes": {"size": "L"}}}
    assert compiled_template("t", {"p": written}).render(facts) == {"p": shown}


def test_what_a_list_does_not_have_is_missing() -> None:
    with pytest.raises(MissingTemplateValue, match=r"event\.list\.first is undefined"):
        compiled_template("t", {"p": "{{ event.list.first }}"}).render({"event": {"list": []}})


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


# ------------------------------------------------------------------------------------------------------ HTML

SCRIPT = "<script>alert('x')</script> & \"co\""
ESCAPED = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;co&#34;"
HOSTILE_FACTS: dict[str, Any] = {
    "event": {"items": [SCRIPT, SCRIPT], "note": SCRIPT},
    "profile": {"name": SCRIPT},
    "context": {},
    "journey": "purchase",
    "run": {},
}


def html(text: Any, **arguments: Any) -> Any:
    template = compiled_template(
        "t", {"html": text, "text": "{{ profile.name }}"}, arguments, markup={"html": Markup.HTML}
    )
    shown = template.render(HOSTILE_FACTS)
    assert shown["text"] == SCRIPT, "a param that is no HTML stays as it is"
    return shown["html"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("<p>{{ profile.name }}</p>", f"<p>{ESCAPED}</p>"),
        ("{{ profile.name }}", ESCAPED),
        ("{{ profile.none | default: '<b>' }}", "<b>"),
        ("{{ profile.name | append: '<br>' }}", f"{ESCAPED}<br>"),
        ("{{ event.items | join: '<br>' }}", f"{ESCAPED}<br>{ESCAPED}"),
        ("{{ event.items }}", ESCAPED + ESCAPED),
        ("{% for one in event.items %}<li>{{ one }}{% endfor %}", f"<li>{ESCAPED}<li>{ESCAPED}"),
        ("{% capture x %}<b>{{ profile.name }}{% endcapture %}{{ x }}", f"<b>{ESCAPED}"),
        ("{% assign x = profile.name %}{% echo x %}{% cycle x %}", ESCAPED + ESCAPED),
        ("{{ profile.name | escape }}", ESCAPED),
        ("{{ params.code }}", ESCAPED),
        ({"inner": ["<p>{{ profile.name }}"]}, {"inner": [f"<p>{ESCAPED}"]}),
    ],
)
def test_every_value_in_html_is_escaped_and_the_authors_tags_stay(written: Any, meant: Any) -> None:
    assert html(written, code="{{ profile.name }}") == meant


def test_html_is_ordinary_text_for_whatever_encodes_it() -> None:
    assert type(html("<p>{{ profile.name }}</p>")) is str


#: Those of ours take no arbitrary arguments.
FILTERS = sorted(set(dialect.HTML.filters) - set(ARGUMENTS))


@pytest.mark.parametrize("name", FILTERS)
def test_no_filter_and_no_two_filters_let_a_value_through(name: str) -> None:
    for chain in (name, f"{name} | url_decode", f"escape | {name}", f"url_encode | {name}", f"{name} | escape_once"):
        for argument in ("", ": profile.name", ": profile.name, profile.name", ": '&lt;', profile.name"):
            for value in ("profile.name", "event.items"):
                template = compiled_template(
                    "t", {"html": f"{{{{ {value} | {chain}{argument} }}}}"}, markup={"html": Markup.HTML}
                )
                shown, _ = template.preview(HOSTILE_FACTS)
                assert "<script" not in shown.get("html", "").lower(), chain + argument


def test_one_text_is_compiled_for_html_and_for_text_apart() -> None:
    written = {"p": "<{{ profile.name }}>"}
    as_html = compiled_template("t", written, markup={"p": Markup.HTML})
    as_text = compiled_template("t", written)
    for _ in range(2):
        assert as_html.render(HOSTILE_FACTS)["p"] == f"<{ESCAPED}>"
        assert as_text.render(HOSTILE_FACTS)["p"] == f"<{SCRIPT}>"


def test_a_value_that_is_missing_stops_html_as_well() -> None:
    with pytest.raises(MissingTemplateValue, match=r"^template t, param html: profile\.last_name is undefined$"):
        html("<p>{{ profile.last_name }}</p>")


@pytest.mark.parametrize(
    ("kind", "connector_type", "params"),
    [
        ("email", "webhook", {"html": Markup.HTML}),
        ("email", "unheard-of", {"html": Markup.HTML}),
        ("webhook", "webhook", {}),
        ("sms", "log", {}),
        ("chat", "slack", {"text": Markup.MRKDWN, "blocks": Markup.MRKDWN}),
        ("call", "twilio_voice", {"twiml": Markup.XML}),
        ("crm", "crm", {"note": Markup.HTML, "task_body": Markup.HTML}),
    ],
)
def test_what_is_markup_is_known_by_kind_and_type(kind: str, connector_type: str, params: dict[str, Markup]) -> None:
    assert markup_params(kind, connector_type) == params


def test_a_connector_type_names_params_of_its_own_that_are_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    class Letter(AnyParams):
        markup: ClassVar[Mapping[str, Markup]] = {"body": Markup.HTML}

    paper = replace(types_by_name()["log"], type="paper", action_params=Letter)
    monkeypatch.setattr(connector_entry, "types_by_name", lambda: {"paper": paper})
    assert markup_params("chat", "paper") == {"body": Markup.HTML}
    assert markup_params("email", "paper") == {"body": Markup.HTML, "html": Markup.HTML}


@pytest.mark.parametrize(
    ("declared", "fault"),
    [
        ({"html_params": frozenset({"text"})}, "Letter.html_params is no declaration. Known: markup, one_of."),
        ({"markup": {"txt": Markup.HTML}}, 'Letter.markup names "txt", which is no param of it.'),
    ],
)
def test_a_declaration_that_would_let_every_value_through_is_refused(declared: dict[str, Any], fault: str) -> None:
    annotations = {"text": str, **dict.fromkeys(declared, ClassVar[Any])}
    with pytest.raises(TypeError, match=re.escape(fault)):
        type("Letter", (ActionParams,), {"__annotations__": annotations, "__module__": __name__, **declared})


# ---------------------------------------------------------------------------------------------------- mrkdwn, XML

TYPED = "<!channel> <@U123> <https://evil.example|click> & 'co' \"co\" &amp; &#39;"
AS_MRKDWN = "&lt;!channel&gt; &lt;@U123&gt; &lt;https://evil.example|click&gt; &amp; 'co' \"co\" &amp;amp; &amp;#39;"
TYPED_FACTS: dict[str, Any] = {
    "event": {
        "note": TYPED,
        "items": [TYPED],
        "at": [{"type": "mrkdwn", "text": TYPED}],
        "url": "https://a.example/?a&b",
    },
    "profile": {},
}


def mrkdwn(value: Any, **arguments: Any) -> Any:
    return compiled_template("t", {"p": value}, arguments, markup={"p": Markup.MRKDWN}).render(TYPED_FACTS)["p"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("<!here> *{{ event.note }}* 'it' & so", f"<!here> *{AS_MRKDWN}* 'it' & so"),
        ("{{ event.note }}", AS_MRKDWN),
        ("<https://shop.example|{{ event.note }}>", f"<https://shop.example|{AS_MRKDWN}>"),
        ("{% capture x %}<!here>{{ event.note }}{% endcapture %}{{ x }}", f"<!here>{AS_MRKDWN}"),
        ("{% for one in event.items %}{{ one }}{% endfor %}", AS_MRKDWN),
        ("{{ event.none | default: '<!here>' }}", "<!here>"),
        ("{{ event.items | join: '<!here>' }}{{ event.note | append: '<!here>' }}", f"{AS_MRKDWN}{AS_MRKDWN}<!here>"),
        ("{{ params.code }}", AS_MRKDWN),
        (
            [{"type": "section", "text": {"type": "mrkdwn", "text": "*{{ event.note }}*"}}],
            [{"type": "section", "text": {"type": "mrkdwn", "text": f"*{AS_MRKDWN}*"}}],
        ),
        (
            [{"type": "header", "text": {"type": "plain_text", "text": "{{ event.note }}", "emoji": True}}],
            [{"type": "header", "text": {"type": "plain_text", "text": AS_MRKDWN, "emoji": True}}],
        ),
        (
            {"type": "{{ event.none | default: 'text' }}", "text": "{{ event.note }}"},
            {"type": "text", "text": AS_MRKDWN},
        ),
        ([{"type": "text", "text": "{{ event.note }}"}], [{"type": "text", "text": TYPED}]),
        ({"url": "{{ event.url }}", "value": "{{ event.note }}"}, {"url": "https://a.example/?a&b", "value": TYPED}),
        ({"elements": "{{ event.at }}"}, {"elements": [{"type": "mrkdwn", "text": AS_MRKDWN}]}),
    ],
)
def test_in_mrkdwn_values_are_text_and_the_authors_links_and_mentions_stay(written: Any, meant: Any) -> None:
    assert mrkdwn(written, code="{{ event.note }}") == meant


@given(typed=st.text(max_size=60).filter(lambda text: "\r" not in text))
def test_whatever_is_typed_is_read_in_slack_as_it_was_typed(typed: str) -> None:
    written = compiled_template("t", {"p": "<!here> {{ event.note }}"}, markup={"p": Markup.MRKDWN})
    shown = written.render({"event": {"note": typed}})["p"]
    assert read_mrkdwn(shown) == [Control("!here"), Letters(" " + typed)] or not typed
    assert Markup.MRKDWN.escaped(typed) == shown.removeprefix("<!here> ")


@pytest.mark.parametrize("name", FILTERS)
def test_no_filter_makes_a_control_sequence_of_a_value(name: str) -> None:
    for chain in (name, f"{name} | url_decode", f"escape | {name}", f"url_encode | {name}", f"{name} | escape_once"):
        for argument in ("", ": event.note", ": event.note, event.note", ": '&lt;', event.note"):
            for value in ("event.note", "event.items"):
                written = {"p": f"{{{{ {value} | {chain}{argument} }}}}"}
                shown, _ = compiled_template("t", written, markup={"p": Markup.MRKDWN}).preview(TYPED_FACTS)
                controls = [one for one in read_mrkdwn(str(shown.get("p", ""))) if isinstance(one, Control)]
                assert [one for one in controls if one.text not in {"br /"}] == [], chain + argument


def test_a_markdown_block_takes_no_values() -> None:
    assert mrkdwn([{"type": "markdown", "text": "[read](https://shop.example)"}])
    with pytest.raises(TemplateFault, match=r'^a block of type "markdown" takes no values'):
        mrkdwn([{"type": "markdown", "text": "Hello {{ event.note }}"}])
    whole = compiled_template("t", {"p": "{{ event.blocks }}"}, markup={"p": Markup.MRKDWN})
    with pytest.raises(MissingTemplateValue, match=r'cannot be rendered: a block of type "markdown" takes no values'):
        whole.render({"event": {"blocks": [{"type": "markdown", "text": "[click](https://evil.example)"}]}})


@pytest.mark.parametrize(
    "written",
    ["<{{ event.url }}|open>", "< {{ event.url }}>", "<!{{ event.note }}>", "<{% if event.url %}x{% endif %}>"],
)
def test_a_value_is_never_the_beginning_of_what_slack_obeys(written: str) -> None:
    with pytest.raises(TemplateFault, match=r"^a value right after < or <! could be !channel"):
        mrkdwn(written)
    with pytest.raises(TemplateFault):
        mrkdwn([{"type": "section", "text": {"type": "mrkdwn", "text": written}}])


def test_a_value_in_twiml_is_text_in_xml() -> None:
    written = "<Response><Say>{{ event.note }}</Say></Response>"
    shown = compiled_template("t", {"p": written}, markup={"p": Markup.XML}).render(TYPED_FACTS)["p"]
    [say] = ElementTree.fromstring(shown)
    assert (say.text, len(say)) == (TYPED, 0)


# ----------------------------------------------------------------------------------------------- bounds of work

BOMBS = {
    "a loop in a loop": "{% for a in (1..9000) %}{% for b in (1..9000) %}{% endfor %}{% endfor %}x",
    "loops one after another": "{% for a in (1..9999) %}{% assign b = a %}{% endfor %}" * 1000,
    "a range": "{% for a in (1..1000000000) %}{{ a }}{% endfor %}",
    "a range backwards": "{% for a in (1..1000000000) reversed limit: 2 %}{{ a }}{% endfor %}",
    "a table of a range": "{% tablerow a in (1..1000000000) cols: 2 %}{{ a }}{% endtablerow %}",
    "a range that is joined": "{{ (1..1000000000) | join: ',' }}",
    "a range longer than len can say": "{{ (1..99999999999999999999) | reverse | first }}",
    "a text that replaces itself": "{% assign x = 'aaaaaaaaaa' %}" + "{% assign x = x | replace: 'a', x %}" * 6,
    "nothing replaced": "{% assign x = 'a' %}{{ x" + " | replace: '', 'aaaaaaaaaa'" * 12 + " }}",
    "a text that doubles": "{% assign x = 'a' %}{% for i in (1..60) %}{% assign x = x | append: x %}{% endfor %}",
    "a list that doubles": "{% assign x = 'a,b' | split: ',' %}"
    + "{% assign x = x | concat: x %}" * 40
    + "{{ x | join: '-' }}",
    "a list of one long text": "{% assign x = event.long | split: '|' %}"
    + "{% assign x = x | concat: x %}" * 16
    + "{{ x }}",
    "a number that squares": "{% assign x = 9 %}{% for i in (1..60) %}{% assign x = x | times: x %}{% endfor %}{{ x }}",
    "unlike ones sought": "{{ event.many | split: ',' | uniq | size }}",
    "output": "{% for i in (1..9000) %}{{ event.long }}{% endfor %}",
    "captures": "".join(f"{{% capture c{i} %}}{{{{ event.long }}}}{{% endcapture %}}" for i in range(1500)),
    "a moment that cannot be": "{{ event.huge | date }}",
    "a number out of range": "{{ event.huge | times: 1.5 }}",
    "a number too long for text": "{{ event.huge }} {{ event.huge }}",
    "comparisons of long texts": "{% for i in (1..9999) %}{% if event.long == event.same %}{% endif %}{% endfor %}",
    "a text sought in a text": "{% for i in (1..9999) %}{% if event.long contains 'yyyx' %}{% endif %}{% endfor %}",
    "a text sought in a list": "{% for i in (1..9999) %}{% if event.items contains 'b' %}{% endif %}{% endfor %}",
    "conditions": "{% for i in (1..9999) %}{% if " + " or ".join(["false"] * 200) + " %}{% endif %}{% endfor %}",
    "words of the author's": "{% for i in (1..9999) %}{% if '"
    + "y" * 1800
    + "' contains 'x' %}{% endif %}{% endfor %}",
    "a case whose every answer is right": ("{% case 1 %}{% when " + ",".join("1" * 900) + " %}") * 3
    + "{% endcase %}" * 3,
    "branches": "{% for i in (1..9999) %}{% if false %}" + "{% elsif false %}" * 200 + "{% endif %}{% endfor %}",
    "a cycle of long texts": "{% for i in (1..9999) %}{% cycle event.long, event.long %}{% endfor %}",
    "what has not changed": "{% for i in (1..9999) %}{% ifchanged %}{{ event.long }}{% endifchanged %}{% endfor %}",
    "a deep path": "{% for i in (1..9999) %}{% if event" + ".a" * 400 + " %}{% endif %}{% endfor %}",
    "what is not there": "{% for i in (1..9999) %}{% if a %}{% elsif b %}{% elsif c %}{% endif %}{% endfor %}",
    "a long number as text": "{% for i in (1..9999) %}{% cycle event.digits, 'b' %}{% endfor %}",
    "steps of one expression": "{% for i in (1..9999) %}{{ 1.5" + " | times: 1.1" * 100 + " }}{% endfor %}",
    "lists sorted": "{% for i in (1..9999) %}{% assign x = event.items | sort_natural %}{% endfor %}",
    "tags taken out": "{{ event.tags | strip_html }}",
    "one look at many items": "{% for i in (1..9999) %}{% if event.items == event.items %}{% endif %}{% endfor %}",
    "a plain text": "{{ event.long }}" * 5000,
    "a plain text of numbers": "{{ event.digits }}" * 5000,
    "a long format": "{{ event.at | date: event.long }}",
}
BOMB_FACTS = {
    **FACTS,
    "event": {
        "long": "y" * 50_000,
        "same": "y" * 49_999 + "y",
        "many": ",".join(map(str, range(20_000))),
        "huge": 10**5000,
        "digits": 10**4000,
        "items": [f"item {number}" for number in range(1000)],
        "tags": "<" * 50_000 + ">",
        "at": "2026-03-04T11:00:00+05:30",
    },
}


@pytest.mark.parametrize("written", BOMBS.values(), ids=BOMBS)
def test_a_text_that_would_never_end_is_stopped_with_a_reason(written: str) -> None:
    """The budget is work, not time: it is spent alike on every machine, and no rendering outlives it."""
    with pytest.raises(MissingTemplateValue, match=r"^template t, param p: ."):
        compiled_template("t", {"p": written}).render(BOMB_FACTS)


def test_the_texts_of_one_rendering_share_its_bound() -> None:
    text = "{% for i in (1..2000) %}{% assign x = i %}{% endfor %}done"
    assert compiled_template("t", {"p": text}).render(BOMB_FACTS) == {"p": "done"}
    with pytest.raises(MissingTemplateValue, match=r"^template t, param p[1-9]: takes too much work"):
        compiled_template("t", {f"p{number}": text for number in range(10)}).render(BOMB_FACTS)


VALUES = st.sampled_from(
    ["1", "'b'", "event.long", "event.items", "event.nope", "event.at", "event.digits", "i", "(1..9)"]
)
ARGUMENTS = st.lists(VALUES, max_size=2).map(lambda given: ": " + ", ".join(given) if given else "")
FILTERED = st.builds(
    lambda value, calls: " | ".join([value, *calls]),
    VALUES,
    st.lists(st.builds("{}{}".format, st.sampled_from(sorted(dialect.TEXT.filters)), ARGUMENTS), max_size=4),
)
CONDITIONS = st.lists(
    st.builds("{} {} {}".format, VALUES, st.sampled_from(["==", "!=", "<", ">=", "contains"]), VALUES), min_size=1
).map(" or ".join)


def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return what may stand around a text: every tag that has an inside."""
    return st.one_of(
        st.builds("{{% for i in (1..{}) %}}{}{{% endfor %}}".format, st.sampled_from([9, 99, 9999]), inner),
        st.builds("{{% for i in {} %}}{}{{% else %}}{}{{% endfor %}}".format, VALUES, inner, inner),
        st.builds("{{% tablerow i in (1..99) cols: 9 %}}{}{{% endtablerow %}}".format, inner),
        st.builds(
            "{{% if {} %}}{}{{% elsif {} %}}{}{{% else %}}{}{{% endif %}}".format,
            CONDITIONS,
            inner,
            CONDITIONS,
            inner,
            inner,
        ),
        st.builds("{{% unless {} %}}{}{{% endunless %}}".format, CONDITIONS, inner),
        st.builds(
            "{{% case 1 %}}{{% when {} %}}{}{{% endcase %}}".format,
            st.integers(1, 300).map(lambda n: ",".join("1" * n)),
            inner,
        ),
        st.builds("{{% capture x %}}{}{{% endcapture %}}".format, inner),
        st.builds("{{% ifchanged %}}{}{{% endifchanged %}}".format, inner),
        st.lists(inner, min_size=2, max_size=4).map("".join),
    )


TEXTS = st.recursive(
    st.one_of(
        st.builds("{{{{ {} }}}}".format, FILTERED),
        st.builds("{{% assign x = {} %}}".format, FILTERED),
        st.builds("{{% cycle {}, x %}}".format, VALUES),
        st.just("words"),
    ),
    blocks,
    max_leaves=12,
)


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions are called: the steps of an interpreter, alike on every machine."""
    counted = 0

    def count(frame: FrameType, event: str, given: object) -> None:
        nonlocal counted
        counted += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=TEXTS)
def test_whatever_an_author_writes_ends_after_so_many_steps(text: str) -> None:
    """A rendering makes some 600,000 calls of a function at most, whether it ends well or not: some 50 ms."""
    try:
        template = compiled_template("t", {"p": text})
    except TemplateFault:
        return
    assert calls_of(lambda: template.preview(BOMB_FACTS)) < 700_000, text


@pytest.mark.parametrize(
    "written",
    [
        "x" * 100_001,
        "{% if (1..99999999) contains 'a' %}{% endif %}",
        "{{ a" + "[a" * 5000 + "]" * 5000 + " }}",
        "{% if a %}" * 5000,
        "{{ '" * 20_000,
        "{{" * 40_000,
        "{%" * 40_000,
        "{% raw %}" * 11_000,
        "{{ a" + " " * 90_000,
        "{{ ((((" + "(" * 1900 + "}}",
        "".join(f"{{{{ a.b{i} }}}}" for i in range(5000)),
    ],
)
def test_a_text_that_is_too_long_or_too_deep_is_refused_when_it_is_loaded(written: str) -> None:
    with pytest.raises(TemplateFault):
        compiled_template("t", {"p": written})


def test_an_e_mail_of_ordinary_length_is_far_below_the_bounds() -> None:
    row = "<tr><td>{{ item.name | upcase }}</td><td>{{ item.price | times: 1.18 | round: 2 }}</td></tr>"
    text = f"<table>{{% for item in event.items %}}{row}{{% endfor %}}</table>" + "<p>words</p>" * 3000
    items = [{"name": f"item {number}", "price": number} for number in range(500)]
    shown = compiled_template("t", {"html": text}, markup={"html": Markup.HTML}).render({"event": {"items": items}})
    assert shown["html"].startswith("<table><tr><td>ITEM 0</td><td>0.0</td></tr>")


def test_a_preview_names_everything_that_is_missing_at_once() -> None:
    template = compiled_template("t", {"a": "{{ profile.x }}", "b": "Hi {{ profile.y }}", "c": "{{ event.total }}"})
    assert template.preview(FACTS) == (
        {"c": 80},
        ("template t, param a: profile.x is undefined", "template t, param b: profile.y is undefined"),
    )
