"""The shipped rules: they lint, they pass their cases, every rule and branch has one, the schemas are current."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.rulebook.load import Loaded, load_rulebook
from orchestrator.rulebook.problem import rendered
from orchestrator.rulebook.schema import schemas
from orchestrator.runtime.casebook import coverage_of, run_cases
from orchestrator.runtime.rulebooks import compile_loaded

RULES = Path(__file__).parents[2] / "rules"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_rulebook(RULES)


def test_the_shipped_rules_have_no_problems_and_no_warnings(loaded: Loaded) -> None:
    assert rendered(loaded.problems) == ""


def test_every_shipped_journey_has_cases_beside_it() -> None:
    journeys = [path for path in RULES.rglob("*.yaml") if path.read_text(encoding="utf-8").startswith("journey:")]
    assert journeys
    assert [path for path in journeys if not path.with_suffix(".cases.yaml").is_file()] == []


def test_every_shipped_case_passes_and_every_rule_and_branch_is_reached(loaded: Loaded) -> None:
    rulebook = compile_loaded(loaded, "default")
    results = list(run_cases(rulebook, loaded.plan, loaded.cases))
    assert results
    failed = [
        f"{one.case.file}:{one.case.line} {one.case.name}: {one.differences}" for one in results if not one.passed
    ]
    assert failed == []
    assert coverage_of(rulebook, results).unreached == ()


def test_the_committed_schemas_are_current() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in (RULES / "schema").glob("*.json")}
    assert committed == schemas(), "run `journey schema`"
