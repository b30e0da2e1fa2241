"""The shipped rules: they lint, they pass their cases, every rule, branch and word of the language has one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.reason import Reason
from orchestrator.core.rulebook import Rulebook
from orchestrator.rulebook.fmt import format_files
from orchestrator.rulebook.gather import role_of
from orchestrator.rulebook.grammar import OfPart, file_part, keys_of, parts_in
from orchestrator.rulebook.layout import composed
from orchestrator.rulebook.load import Loaded, folder_files, load_rulebook
from orchestrator.rulebook.models import condition, journey, limit, play, trigger
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.problem import rendered
from orchestrator.rulebook.schema import schemas
from orchestrator.rulebook.template import LiquidTemplate
from orchestrator.runtime.casebook import CaseResult, coverage_of, run_cases
from orchestrator.runtime.replay import replay
from orchestrator.runtime.rulebooks import compile_loaded

RULES = Path(__file__).parents[2] / "rules"
PACKS = ("bfsi", "ecommerce", "edtech", "healthcare", "real_estate", "saas", "support")
FILES = folder_files(RULES)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_rulebook(RULES)


@pytest.fixture(scope="module")
def rulebook(loaded: Loaded) -> Rulebook:
    return compile_loaded(loaded, "default")


@pytest.fixture(scope="module")
def results(loaded: Loaded, rulebook: Rulebook) -> list[CaseResult]:
    return list(run_cases(rulebook, loaded.plan, loaded.cases))


def test_the_shipped_rules_have_no_problems_and_no_warnings(loaded: Loaded) -> None:
    assert rendered(loaded.problems) == ""


def test_there_is_a_pack_for_every_industry_with_events_and_templates_of_its_own() -> None:
    assert tuple(sorted(path.name for path in RULES.iterdir() if path.is_dir() and path.name != "schema")) == PACKS
    for pack in PACKS:
        assert {f"{pack}/tracking_plan.yaml", f"{pack}/templates.yaml"} <= FILES.keys()


def test_every_shipped_journey_has_cases_beside_it() -> None:
    journeys = [name for name in FILES if role_of(name) == "journey"]
    assert len(journeys) >= len(PACKS)
    assert [name for name in journeys if name.replace(".yaml", ".cases.yaml") not in FILES] == []


def test_every_shipped_case_passes_and_every_rule_and_branch_is_reached(
    rulebook: Rulebook, results: list[CaseResult]
) -> None:
    assert len(results) >= 100
    failed = [
        f"{one.case.file}:{one.case.line} {one.case.name}: {one.differences}" for one in results if not one.passed
    ]
    assert failed == []
    assert coverage_of(rulebook, results).unreached == ()


def test_the_cases_meet_everything_that_can_hold_an_action_back(results: list[CaseResult]) -> None:
    met = {record.reason for result in results for record in result.records}
    # A case cannot tell of a connector that failed or answered late; hundreds of baskets or steps would be no example.
    told = set(Reason) - {
        Reason.STEP_CEILING,
        Reason.INSTANCE_CEILING,
        Reason.EXECUTION_FAILED,
        Reason.ARRIVED_LATE,
        # The next three stand for what leaves no line: a run that rests, a repeated event, an edit.
        Reason.REENTRY_WAIT,
        Reason.DUPLICATE_EVENT,
        Reason.STEP_GONE,
        # Where the missed event is the goal as well, the end of the run takes the action back.
        Reason.LATE_EVENT,
        # Merges and erasures concern a customer, not a rule.
        Reason.MERGED,
        Reason.MERGE_REFUSED,
        Reason.ERASED,
    }
    assert told - met == set()


def test_the_committed_schemas_are_current() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in (RULES / "schema").glob("*.json")}
    assert committed == schemas(), "run `journey schema`"


def test_every_shipped_file_tells_editors_its_schema() -> None:
    wrong = []
    for name, content in FILES.items():
        first = content.decode().split("\n", 1)[0]
        up = "../" * name.count("/")
        if first != f"# yaml-language-server: $schema={up}schema/{role_of(name)}.schema.json":
            wrong.append(f"{name}: {first}")
    assert wrong == []


def test_every_shipped_file_is_in_canonical_form() -> None:
    found = list(format_files(RULES))
    assert len(found) == len(FILES)
    assert [f"{one.path} {one.fault}" for one in found if one.changed or one.fault] == [], "run `journey fmt rules`"


# ------------------------------------------------------------------------------- the whole of the language


def written() -> Iterator[tuple[type[Part], dict[str, Any]]]:
    """Every part of every shipped file but cases, with its plain values as text."""
    for name, content in FILES.items():
        part = file_part(name)
        root = composed(content.decode())
        if part is None or root is None or role_of(name) == "cases":
            continue
        for found, node in parts_in(root, OfPart(part)):
            yield found, {key.value: value.value for key, value in node.value}


WRITTEN = list(written())


def values_of(part: type[Part], key: str) -> set[str]:
    """The plain values that shipped rules have at a key of a part."""
    return {values[key] for kind, values in WRITTEN if kind is part and isinstance(values.get(key), str)}


def keys_used(part: type[Part]) -> set[str]:
    """The keys of a part that shipped rules have."""
    return {key for kind, values in WRITTEN if kind is part for key in values}


def test_the_packs_use_every_trigger_but_friction() -> None:
    choices = dict(keys_of(journey.RulePart)["on"].choices)  # type: ignore[union-attr]
    kinds = {kind for kind, _ in WRITTEN}
    assert {key for key, part in choices.items() if part not in kinds} == {"friction"}
    assert values_of(trigger.Absence, "rearm") == {"latest", "first"}
    assert keys_used(trigger.Absence) >= {"after", "of", "for", "rearm", "same"}
    assert trigger.SequenceGap in kinds


def test_the_packs_use_every_condition_and_operator() -> None:
    choices = keys_of(journey.RulePart)["when"].choices  # type: ignore[union-attr]
    kinds = {kind for kind, _ in WRITTEN}
    assert {key for key, part in choices if part not in kinds} == set()
    assert condition.OtherField in kinds
    everywhere = {value for kind, values in WRITTEN if "op" in keys_of(kind) for value in [values["op"]]}
    assert everywhere == set(condition.FieldOp.__args__)  # type: ignore[attr-defined]


def test_the_packs_use_every_step_every_limit_and_arbitration() -> None:
    assert keys_used(play.StepPart) == set(keys_of(play.StepPart)) - {"do"}
    assert keys_used(play.WaitForPart) == {"event", "within", "where", "else"}
    waits = values_of(play.WaitUntil, "until")
    assert any(":" in one for one in waits)
    assert any(one.startswith("event.") for one in waits)
    assert keys_used(limit.LimitsPart) == set(keys_of(limit.LimitsPart))
    assert {one.partition(":")[0] for one in values_of(limit.CapPart, "of")} == {"rule", "kind", "connector", "group"}
    assert {"day", "week", "month", "7d"} <= values_of(limit.CapPart, "per")
    assert values_of(limit.QuietPart, "then") == {"defer", "drop", "fallback"}
    assert "kinds" in keys_used(limit.QuietPart)
    assert keys_used(limit.ArbitratePart) == set(keys_of(limit.ArbitratePart))
    assert keys_used(limit.ContextPart) == set(keys_of(limit.ContextPart))


# ------------------------------------------------------------------------------------------ what they promise


def test_the_lead_of_the_readme_is_called_at_once(loaded: Loaded, rulebook: Rulebook) -> None:
    from orchestrator.core.event import Event  # noqa: PLC0415 - used by this one story.

    properties = {"lead_id": "l1", "phone": "+919812345678", "timezone": "Asia/Kolkata"}
    assert loaded.plan.check("lead_submitted", properties) is None
    afternoon_ms = 1_772_443_800_000  # 2026-03-02T15:00:00+05:30
    event = Event(
        id="e1",
        type="lead_submitted",
        customer_id="c1",
        occurred_at_ms=afternoon_ms,
        received_at_ms=afternoon_ms,
        properties=properties,
        context={"consent": {"categoryPreferences": {"callback": True}}},
    )
    (action,) = replay(rulebook, [event]).actions
    assert (action.connector, action.rule, action.decided_at) == ("voice", "lead-callback", afternoon_ms)
    assert action.params["phone"] == "+919812345678"


def test_messages_about_appointments_read_a_time_a_place_and_how_to_reach_the_patient(rulebook: Rulebook) -> None:
    allowed = {
        ("event", "starts_at"),
        ("event", "site"),
        ("event", "appointment_id"),
        ("profile", "phone"),
        ("profile", "email"),
        ("profile", "push_token"),
    }
    templates = [
        template
        for rule in rulebook.rules.values()
        if rule.journey == "appointment"
        for step in rule.program
        for send in (step, *getattr(step, "fallback", ()))
        if isinstance(template := getattr(send, "template", None), LiquidTemplate)
    ]
    assert len(templates) >= 5
    assert {path for template in templates for path in template.reads.paths} <= allowed


def test_no_pack_asks_for_a_secret() -> None:
    for name, content in FILES.items():
        if role_of(name) == "templates":
            for sentence in re.findall(r"[^.\n]*\b(?:PIN|password)\b[^.\n]*", content.decode()):
                assert re.search(r"never ask|never_ask_for|wrong password|new password", sentence), (
                    f"{name}: {sentence}"
                )
