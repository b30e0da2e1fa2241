"""Loading: one version per content, files that travel, and everything wrong at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.rulebook.gather import role_of
from orchestrator.rulebook.load import folder_files, load_rulebook, load_rulebook_files
from orchestrator.rulebook.problem import rendered

BASE = folder_files(Path(__file__).parent / "broken" / "base")
JOURNEY = b"journey: a\nstages: {new: {on: {event: signed_up}}}\n"


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("tracking_plan.yaml", "tracking_plan"),
        ("pack/templates.yaml", "templates"),
        ("templates/mail.yaml", "templates"),
        ("pack/cart.yaml", "journey"),
        ("pack/cart.cases.yaml", "cases"),
        ("pack/cart.yml", "journey"),
        ("README.md", ""),
        ("schema/journey.schema.json", ""),
    ],
)
def test_a_file_is_told_apart_by_its_name(path: str, role: str) -> None:
    assert role_of(path) == role


def test_a_rulebook_loads_back_from_its_files_under_the_same_version() -> None:
    loaded = load_rulebook_files({**BASE, "a.yaml": JOURNEY})
    again = load_rulebook_files(loaded.files)
    assert loaded.ok
    assert len(loaded.version) == 32
    assert again.version == loaded.version
    assert again.journeys == loaded.journeys


def test_a_version_changes_with_what_decides_and_not_with_cases() -> None:
    event = b"{at: '2026-01-01T00:00:00Z', type: signed_up, properties: {account_id: a}}"
    cases = b"cases: [{case: x, events: [" + event + b"], expect: {}}]"
    plain = load_rulebook_files({**BASE, "a.yaml": JOURNEY})
    tested = load_rulebook_files({**BASE, "a.yaml": JOURNEY, "a.cases.yaml": cases})
    changed = load_rulebook_files({**BASE, "a.yaml": JOURNEY + b"title: A\n"})
    assert rendered(tested.problems) == ""
    assert [one.name for file in tested.cases for one in file.cases] == ["x"]
    assert tested.version == plain.version
    assert "a.cases.yaml" not in tested.files
    assert changed.version != plain.version


def test_a_missing_folder_is_a_problem_that_says_what_to_name(tmp_path: Path) -> None:
    loaded = load_rulebook(tmp_path / "nowhere")
    assert not loaded.ok
    assert [one.message for one in loaded.problems] == ["there is no such folder; name the one with your journeys"]


def test_a_rulebook_without_a_tracking_plan_is_refused() -> None:
    loaded = load_rulebook_files({"a.yaml": JOURNEY}, shown_as="rules")
    assert rendered(loaded.problems) == (
        "rules/tracking_plan.yaml:1\n    a rulebook needs this file: it declares events, traits and consents"
    )


def test_a_file_that_is_no_journey_says_how_companions_are_named() -> None:
    loaded = load_rulebook_files({**BASE, "notes.yaml": b"title: x\n"}, shown_as="rules")
    assert rendered(loaded.problems) == (
        "rules/notes.yaml:1\n    not a journey: the key `journey` is missing. Companion files are named "
        "tracking_plan, connectors, templates, segments, limits"
    )


def test_a_fault_of_one_rule_does_not_hide_those_of_another() -> None:
    rules = b"""rules:
  - {id: one, on: {event: signed_up}, do: [{send: {connector: sms, templte: welcome}}]}
  - {id: two, on: {event: signed_up}, do: [{send: {connector: smss, template: welcome}}]}
"""
    lines = [problem.line for problem in load_rulebook_files({**BASE, "a.yaml": JOURNEY + rules}).problems]
    assert lines == [4, 5]


def test_hidden_and_generated_folders_are_not_read(tmp_path: Path) -> None:
    for folder in (".git", "schema", "pack"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.yaml").write_bytes(JOURNEY)
    assert list(folder_files(tmp_path)) == ["pack/a.yaml"]


def test_connector_settings_keep_their_references_to_the_environment() -> None:
    connectors = b"""connectors:
  sms: {type: webhook, kind: sms, settings: {url: "${RECEIVER_URL:-http://127.0.0.1:1}/sms"},
        delivery: {rate: {max: 5, per: 1s}, breaker: {failures: 3, pause: 10s}, on_unknown: drop}}
"""
    loaded = load_rulebook_files({**BASE, "connectors.yaml": connectors, "a.yaml": JOURNEY})
    entry = loaded.connectors[0]
    assert entry.settings == {"url": "${RECEIVER_URL:-http://127.0.0.1:1}/sms"}
    assert entry.delivery.rate is not None
    assert (entry.delivery.rate.max, entry.delivery.rate.per_ms) == (5, 1_000)
    assert (entry.delivery.breaker_failures, entry.delivery.breaker_pause_ms) == (3, 10_000)
    assert entry.delivery.on_unknown == "drop"
    assert entry.delivery.concurrency == 10


def test_connector_settings_are_checked_against_their_type() -> None:
    connectors = (
        b"connectors:\n  sms: {type: webhok, kind: sms}\n  email: {type: webhook, kind: email, settings: {ulr: x}}\n"
    )
    loaded = load_rulebook_files({**BASE, "connectors.yaml": connectors}, shown_as="rules")
    shown = rendered(loaded.problems)
    assert 'unknown connector type "webhok"' in shown
    assert 'Did you mean "webhook"?' in shown
    assert 'Did you mean "url"?' in shown
