"""Building: names resolved, plays flattened, primitives shared under the hash of their canonical form."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.condition import AllOf, Compare, CountOf, InStage, Op, Root, Since
from orchestrator.core.condition import Path as Field
from orchestrator.core.definition import (
    AggregateKind,
    Branch,
    Case,
    Exit,
    Journey,
    Jump,
    OnAbsence,
    OnEvent,
    OnSchedule,
    OnSequence,
    Period,
    Rule,
    Send,
    SetTrait,
    Split,
    Wait,
    WaitFor,
)
from orchestrator.rulebook.load import Loaded, folder_files, load_rulebook_files
from orchestrator.rulebook.problem import rendered

BASE = folder_files(Path(__file__).parent / "broken" / "base")

HEAD = """
journey: trial
key: event.account_id
stages:
  started: {on: {event: signed_up}}
  invited: {on: {event: invited}}
  paid: {on: {event: subscribed}, goal: true, value: event.amount}
  stalled: {on: {dwell: 30d}}
rules:
"""


def load(rules: str, **companions: str) -> Loaded:
    files = {**BASE, "trial.yaml": (HEAD + rules).encode()}
    files |= {f"{name}.yaml": text.encode() for name, text in companions.items()}
    loaded = load_rulebook_files(files)
    assert loaded.ok, rendered(loaded.problems)
    return loaded


def rule(body: str, **companions: str) -> Rule:
    loaded = load("  - id: one\n" + "".join(f"    {line}\n" for line in body.strip().splitlines()), **companions)
    return journey(loaded).rules[0]


def journey(loaded: Loaded) -> Journey:
    return next(one for one in loaded.journeys if one.id == "trial")


CHAT = """
connectors:
  sms: {type: webhook, kind: sms, settings: {url: "https://gateway.example.com/sms"}}
  chat: {type: slack, kind: chat, settings: {token_env: SLACK_TOKEN, channel: C0123456789}}
  calls:
    type: twilio_voice
    kind: call
    settings: {account_sid: AC0123456789abcdef0123456789abcdef, auth_token_env: TOKEN, from_number: "+14155550100"}
"""
TYPED = "<!channel> & <https://evil.example|click>"


@pytest.mark.parametrize(
    ("send", "shown"),
    [
        (
            '{connector: chat, params: {text: "<!here> {{ event.plan }}, <https://crm.example/l|open>"}}',
            {"text": "<!here> &lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;, <https://crm.example/l|open>"},
        ),
        (
            '{connector: chat, params: {text: "{{ event.plan }}", channel: "{{ event.plan }}"}}',
            {"text": "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;", "channel": TYPED},
        ),
        (
            '{connector: calls, params: {phone: "+14155550134", twiml: "<Say>{{ event.plan }}</Say>"}}',
            {
                "phone": "+14155550134",
                "twiml": "<Say>&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;</Say>",
            },
        ),
        (
            '{connector: calls, params: {phone: "+14155550134", say: "{{ event.plan }}"}}',
            {"phone": "+14155550134", "say": TYPED},
        ),
    ],
)
def test_a_value_is_escaped_for_the_connector_that_carries_it(send: str, shown: dict[str, str]) -> None:
    [step] = rule(f"on: {{event: signed_up}}\ndo:\n  - send: {send}", connectors=CHAT).program
    assert isinstance(step, Send)
    assert step.template.render({"event": {"plan": TYPED}, "profile": {}, "journey": "trial", "run": {}}) == shown


def test_what_the_markup_of_a_connector_forbids_is_reported_at_the_send() -> None:
    block = '{type: markdown, text: "Hello {{ event.plan }}"}'
    shared = f"  told: {{kind: chat, params: {{text: Hello, blocks: [{block}]}}}}\n"
    companions = {"connectors.yaml": CHAT.encode(), "templates.yaml": BASE["templates.yaml"] + shared.encode()}
    for send, place in (
        ("{connector: chat, template: told}", 'template "told" cannot be sent by "chat"'),
        (f"{{connector: chat, params: {{text: Hello, blocks: [{block}]}}}}", 'cannot be sent by "chat"'),
    ):
        written = HEAD + f"  - id: one\n    on: {{event: signed_up}}\n    do: [{{send: {send}}}]\n"
        files = {**BASE, **companions, "trial.yaml": written.encode()}
        found = rendered(load_rulebook_files(files).problems)
        why = 'a block of type "markdown" takes no values, which cannot be escaped there: write a "section"'
        assert f"{place}: {why}" in found


SEND = "{send: {connector: sms, template: welcome}}"


def test_a_play_becomes_a_linear_program_with_stable_step_ids() -> None:
    program = rule(f"""
on: {{event: signed_up}}
do:
  - split: {{id: s1, holdout: 10, a: 40, b: 50}}
  - case: a
    send: {{connector: sms, template: welcome}}
    wait_for: {{event: invited, within: 1d, else: [{SEND}, {{exit: true}}]}}
  - if: {{field: event.seats, op: gte, value: 2}}
    then: [{{set_trait: {{first_name: Asha}}}}]
    else: [{{wait: 2h}}, {SEND}]
  - wait: {{until: "09:00"}}
""").program
    shape = [(type(step).__name__, step.step) for step in program]
    assert shape == [
        ("Split", "0"),
        ("Case", "1.case"),
        ("Send", "1"),
        ("WaitFor", "1.wait_for"),
        ("Jump", "1.wait_for.else"),
        ("Send", "1.else.0"),
        ("Exit", "1.else.1"),
        ("Branch", "2"),
        ("SetTrait", "2.then.0"),
        ("Jump", "2.else"),
        ("Wait", "2.else.0"),
        ("Send", "2.else.1"),
        ("Wait", "3"),
    ]
    assert isinstance(program[0], Split)
    assert program[0].arms == (("holdout", 10.0), ("a", 40.0), ("b", 50.0))
    assert isinstance(program[1], Case)
    assert program[1].else_pc == 7
    assert isinstance(program[3], WaitFor)
    assert program[3].else_pc == 5
    assert isinstance(program[4], Jump)
    assert program[4].pc == 7
    assert isinstance(program[6], Exit)
    assert isinstance(program[7], Branch)
    assert program[7].else_pc == 10
    assert program[8] == SetTrait("2.then.0", "first_name", "Asha")
    assert isinstance(program[9], Jump)
    assert program[9].pc == 12
    assert program[12] == Wait("3", until_min=540)


def test_a_step_id_does_not_move_when_a_step_is_put_into_another_branch() -> None:
    before = rule(f"on: {{event: signed_up}}\ndo: [{SEND}, {{case: a, do: []}}]".replace(", {case: a, do: []}", ""))
    after = rule(f"on: {{event: signed_up}}\ndo: [{SEND}, {{wait: 1h}}]")
    assert before.program[0].step == after.program[0].step == "0"


def test_equal_primitives_of_different_rules_share_one_state() -> None:
    counted = "{count: invited, within: 7d, op: gte, value: 2}"
    since = "{all: [{counted}, {since_last: invited, op: lt, value: 1d}]}".replace("{counted}", counted)
    loaded = load(f"""
  - {{id: one, on: {{event: signed_up}}, when: {counted}, do: [{SEND}]}}
  - {{id: two, on: {{event: invited}}, when: {since}, do: [{SEND}]}}
  - {{id: three, on: {{event: invited}}, when: {{since_first: invited, op: lt, value: 1d}}, do: [{SEND}]}}
  - {{id: four, on: {{event: invited}}, when: {{count: invited, within: 7d, op: gte, value: 3}}, do: [{SEND}]}}
""")
    one, two, three, four = (found.when for found in journey(loaded).rules)
    assert isinstance(one, CountOf)
    assert isinstance(two, AllOf)
    assert two.parts[0] == one
    assert isinstance(two.parts[1], Since)
    assert isinstance(three, Since)
    assert two.parts[1].aggregate == three.aggregate
    assert isinstance(four, CountOf)
    assert four.aggregate != one.aggregate
    by_name = {aggregate.name: aggregate for aggregate in loaded.aggregates}
    assert len(by_name) == 3
    assert all(len(name) == 12 for name in by_name)
    assert (by_name[one.aggregate].kind, by_name[one.aggregate].size) == (AggregateKind.COUNT, 3)
    assert by_name[four.aggregate].size == 4


def test_names_of_primitives_do_not_depend_on_the_rest_of_the_rulebook() -> None:
    body = "on: {event: signed_up}\nwhen: {count: invited, within: 7d, op: gte, value: 2}\ndo: [" + SEND + "]"
    alone, beside = rule(body), rule(body, other="journey: other\nstages: {new: {on: {event: invited}}}\n")
    assert alone.when == beside.when


def test_an_absence_is_named_by_its_canonical_form() -> None:
    first = rule(f"on: {{absence: {{after: signed_up, of: subscribed, for: 60m}}}}\ndo: [{SEND}]").trigger
    same = rule(f"on: {{absence: {{of: subscribed, after: signed_up, rearm: latest, for: 1h}}}}\ndo: [{SEND}]").trigger
    other = rule(f"on: {{absence: {{after: signed_up, of: subscribed, for: 61m}}}}\ndo: [{SEND}]").trigger
    assert isinstance(first, OnAbsence)
    assert isinstance(same, OnAbsence)
    assert isinstance(other, OnAbsence)
    assert first == same
    assert first.name != other.name


def test_a_gap_belongs_to_the_step_after_it() -> None:
    trigger = rule(
        "on: {sequence: {steps: [{event: signed_up}, {not: [subscribed]}, {event: invited}], within: 1h, "
        f"same: event.account_id}}}}\ndo: [{SEND}]"
    ).trigger
    assert isinstance(trigger, OnSequence)
    assert [(step.event, step.without) for step in trigger.steps] == [("signed_up", ()), ("invited", ("subscribed",))]
    assert trigger.same == Field(Root.EVENT, ("account_id",))


def test_a_schedule_has_sorted_weekdays() -> None:
    trigger = rule(f'on: {{schedule: {{at: "09:30", days: [fri, mon]}}}}\ndo: [{SEND}]').trigger
    assert trigger == OnSchedule(570, (0, 4))


def test_friction_is_the_crossing_of_the_score_that_the_engine_reports() -> None:
    trigger = rule(f"on: {{friction: {{stage: started, over: 60}}}}\ndo: [{SEND}]").trigger
    assert isinstance(trigger, OnEvent)
    assert trigger.event == "friction_scored"
    assert isinstance(trigger.where, AllOf)
    assert trigger.where.parts[2:] == (
        Compare(Field(Root.EVENT, ("score",)), Op.GTE, 60),
        Compare(Field(Root.EVENT, ("score_before",)), Op.LT, 60, default=0),
    )


def test_what_a_play_reads_of_its_event_is_captured() -> None:
    built = rule("""
on: {event: signed_up}
when: {field: event.seats, op: gte, value: 2}
do:
  - send: {connector: sms, params: {text: "{{ event.plan }} {{ profile.first_name }}"}}
  - wait_for: {event: invited, within: 1h, where: {field: event.email, op: exists}}
""")
    assert built.captures == ("account_id", "plan", "seats")


def test_a_rule_that_asks_for_local_time_captures_what_tells_the_zone() -> None:
    built = rule(f"on: {{event: signed_up}}\ndo: [{SEND}]\nlimits: {{use: polite}}")
    assert built.captures == ("account_id", "phone", "timezone")


@pytest.mark.parametrize("shown", ["{{ event.plan | date }}", "{% if event.plan %}{{ event.plan | time }}{% endif %}"])
def test_a_text_that_shows_a_moment_captures_what_tells_the_zone(shown: str) -> None:
    """After a wait the moment is shown by the same clock as before it."""
    send = f'{{connector: sms, params: {{text: "{shown}"}}}}'
    for do in (f"[{{send: {send}}}]", f"[{{send: {{connector: email, params: {{subject: Hi}}, fallback: [{send}]}}}}]"):
        built = rule(f"on: {{event: signed_up}}\ndo: {do}")
        assert built.captures == ("account_id", "phone", "plan", "timezone")


def test_shared_limits_are_merged_with_the_rules_own() -> None:
    limits = rule(
        f"on: {{event: signed_up}}\ndo: [{SEND}]\n"
        'limits: {use: polite, consent: [marketing], cap: [{max: 2, per: 7d, of: "kind:sms"}, {max: 1, per: month}]}'
    ).limits
    assert limits.cooldown_ms == 86_400_000
    assert limits.consent == ("marketing",)
    assert limits.quiet_hours is not None
    assert (limits.quiet_hours.start_min, limits.quiet_hours.end_min) == (1260, 480)
    assert [(cap.key, cap.of, cap.per_ms, cap.period) for cap in limits.caps] == [
        ("kind:sms/7d", "kind:sms", 604_800_000, None),
        ("rule:one/month", "rule", 0, Period.MONTH),
    ]


def test_levers_are_percentages() -> None:
    arbitrate = rule(
        f"on: {{event: signed_up}}\ndo: [{SEND}]\n"
        "arbitrate: {slot: contact, value: 12, weight: +20%, propensity: 0.5, "
        "context: {stage: {paid: +30, started: -50}}}"
    ).arbitrate
    assert arbitrate is not None
    assert (arbitrate.value, arbitrate.weight, arbitrate.propensity) == (12.0, 1.2, 0.5)
    assert arbitrate.context == ((InStage("trial", ("paid",)), 1.3), (InStage("trial", ("started",)), 0.5))


def test_a_fallback_has_the_kind_of_its_connector_and_a_step_of_its_own() -> None:
    send = rule(
        "on: {event: signed_up}\n"
        "do: [{send: {connector: sms, template: welcome, deadline: 5m, "
        "fallback: [{connector: email, template: welcome, consent: [marketing]}]}}]"
    ).program[0]
    assert isinstance(send, Send)
    assert (send.kind, send.deadline_ms) == ("sms", 300_000)
    assert [(one.step, one.kind, one.consent) for one in send.fallback] == [("0.fallback.0", "email", ("marketing",))]
    assert not send.fallback_on_unknown, "both may arrive only where an author says so"


def test_an_author_may_want_an_action_and_its_fallback_both() -> None:
    send = rule(
        "on: {event: signed_up}\n"
        "do: [{send: {connector: sms, template: welcome, fallback_on_unknown: true, "
        "fallback: [{connector: email, template: welcome}]}}]"
    ).program[0]
    assert isinstance(send, Send)
    assert (send.fallback_on_unknown, send.fallback[0].fallback_on_unknown) == (True, False)


@pytest.mark.parametrize(("stage", "final"), [("started", False), ("paid", True), ("stalled", True)])
def test_goals_and_dwelling_stages_are_final_unless_said_otherwise(stage: str, final: bool) -> None:
    stages = {one.name: one for one in journey(load(f"  - {{id: one, on: {{event: signed_up}}, do: [{SEND}]}}")).stages}
    assert stages[stage].final is final
