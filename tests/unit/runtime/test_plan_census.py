"""The plan's census: what of a customer is under way, and what an edit does to it, without any store."""

from __future__ import annotations

from orchestrator.core.rulebook import Rulebook, with_earlier
from orchestrator.core.state import Arm, CustomerState, Play, Run
from orchestrator.roles.plan_text import warm_up_lines
from orchestrator.rulebook.load import load_rulebook_files
from orchestrator.runtime.plan import Impact, _Census
from orchestrator.runtime.rulebooks import compile_loaded
from orchestrator.runtime.warm_up import WarmUp, warm_ups

PLAN = b"""
events:
  lead_submitted: {properties: {lead_id: string}}
  lead_met: {}
  lead_won: {}
consents: {marketing: Offers}
"""
CONNECTORS = b'connectors:\n  sms: {type: webhook, kind: sms, settings: {url: "http://127.0.0.1:1"}}\n'
BEFORE = """
journey: lead
title: Lead
stages:
  new:  {on: {event: lead_submitted}}
  met:  {on: {event: lead_met}}
  won:  {on: {event: lead_won}, goal: true}
  cold: {on: {dwell: 9d}}
rules:
  - id: nudge
    title: Nudge
    on: {enter: new}
    do: [{wait: 1h}, {send: {connector: sms, params: {text: hello}}}]
    limits: {consent: [marketing]}
  - id: absent
    title: Absent
    on: {absence: {after: lead_submitted, of: lead_won, for: 2h}}
    do: [{send: {connector: sms, params: {text: hello}}}]
    limits: {consent: [marketing]}
  - id: stuck
    title: Stuck
    on: {dwell: {stage: met, for: 2h}}
    do: [{send: {connector: sms, params: {text: hello}}}]
    limits: {consent: [marketing]}
"""


def book(text: str) -> Rulebook:
    files = {"tracking_plan.yaml": PLAN, "connectors.yaml": CONNECTORS, "lead.yaml": text.encode()}
    loaded = load_rulebook_files(files)
    assert loaded.ok, loaded.problems
    return compile_loaded(loaded, "default")


CURRENT = book(BEFORE)
[WATCH] = CURRENT.watches


def customer() -> CustomerState:
    """A customer who stands in ``met`` and whose nudge waits; an earlier run has ended."""
    return CustomerState(
        runs={"lead/": Run("met", 1, 2), "lead/old": Run("won", 1, 2, ended_at=3)},
        plays={"nudge|lead/": Play("nudge", CURRENT.version, "lead/", 0, "e1", 1, step="0")},
        arms={f"{WATCH}|": Arm(1, "e1", run="lead/")},
        timers={
            "play||nudge|lead/": 10,
            "stage|cold|lead/": 20,
            "dwell|stuck|lead/": 30,
            f"absence|{WATCH}|": 40,
            "trial|nudge|lead/": 50,
        },
    )


def impact(after: str) -> Impact:
    census = _Census(CURRENT, with_earlier(book(after), [CURRENT]))
    census.count(customer())
    [found] = census.impacts.values()
    return found


def on_edit(mode: str) -> str:
    return BEFORE.replace("stages:", f"on_edit: {mode}\nstages:")


def test_nothing_that_is_under_way_is_touched_when_nothing_changes() -> None:
    assert impact(BEFORE) == Impact("lead", "pin", runs=1, plays=1, timers=4)


def test_pinned_plays_keep_their_version() -> None:
    assert impact(BEFORE.replace("wait: 1h", "wait: 2h")) == Impact(
        "lead", "pin", runs=1, plays=1, plays_pinned=1, timers=4
    )


def test_plays_follow_or_end_with_their_step() -> None:
    assert impact(on_edit("follow")) == Impact("lead", "follow", runs=1, plays=1, plays_following=1, timers=4)
    gone = on_edit("follow").replace("{wait: 1h}, ", "")
    assert impact(gone) == Impact("lead", "follow", runs=1, plays=1, plays_ending=1, timers=4)


def test_runs_move_with_a_migration_and_are_stranded_without_one() -> None:
    renamed = BEFORE.replace("  met:  ", "  seen: ").replace("stage: met", "stage: seen")
    assert impact(renamed) == Impact("lead", "pin", runs=1, runs_stranded=1, plays=1, plays_pinned=1, timers=4)
    migrated = renamed.replace("stages:", "on_edit: {migrate: {met: seen}}\nstages:")
    assert impact(migrated) == Impact("lead", "migrate", runs=1, runs_moved=1, plays=1, plays_following=1, timers=4)


def test_timers_of_things_that_are_gone_will_do_nothing() -> None:
    edits = {
        "the rule that watches the clock": BEFORE.replace("id: stuck", "id: other"),
        "the absence": BEFORE.replace("of: lead_won, for: 2h", "of: lead_won, for: 3h"),
        "the stage": BEFORE.replace("  cold: ", "  lost: "),
    }
    idle = {what: impact(text).timers_idle for what, text in edits.items()}
    assert idle == {"the rule that watches the clock": 1, "the absence": 1, "the stage": 1}


COUNTED = BEFORE.replace(
    "    on: {enter: new}\n",
    "    on: {enter: new}\n"
    "    when: {all: [{count: lead_met, within: 7d, op: lt, value: 2}, {first: lead_submitted}]}\n",
)


def test_what_a_publication_begins_to_count_is_told_by_rule_and_until_when_it_is_unknown() -> None:
    begun = [
        WarmUp("nudge", "count of lead_met within 7d < 2", 7 * 86_400_000),
        WarmUp("nudge", "the first lead_submitted ever", None),
    ]
    assert warm_ups(book(COUNTED), CURRENT.kept_aggregates()) == begun
    assert warm_ups(book(COUNTED), book(COUNTED).kept_aggregates()) == []


def test_the_plan_says_for_whom_rules_will_be_silent() -> None:
    found = [as_json(one) for one in warm_ups(book(COUNTED), ())]
    assert list(warm_up_lines({"customers": 12, "warm_ups": found})) == [
        "counting begins with the publication, and is unknown of the 12 customers of today: a rule is silent for them "
        "as long as it hangs on it",
        "  nudge: count of lead_met within 7d < 2, known after 7d",
        "  nudge: the first lead_submitted ever, never known of them",
    ]
    assert list(warm_up_lines({"customers": 0, "warm_ups": found})) == []


def as_json(one: WarmUp) -> dict[str, object]:
    return {"rule": one.rule, "condition": one.condition, "known_after_ms": one.known_after_ms}
