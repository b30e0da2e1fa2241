"""A connector that is misconfigured: `journey doctor` names it with setting and remedy, and nothing starts with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from load_tests.processes import journey

pytestmark = pytest.mark.integration

TRACKING_PLAN = "events:\n  signed_up:\n    description: Somebody signed up.\n"
SAID = (
    'connector "texts": setting "token_env" names the environment variable "TEXTS_TOKEN", which is not set. '
    "Set TEXTS_TOKEN, or leave token_env out."
)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A rulebook that lints, whose connectors need a secret and a project that are not there."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "tracking_plan.yaml").write_text(TRACKING_PLAN)
    (folder / "connectors.yaml").write_text(
        "connectors:\n"
        "  texts: {type: voice, kind: call, settings: {base_url: http://127.0.0.1:9, token_env: TEXTS_TOKEN}}\n"
        "  notes: {type: push, kind: push, settings: {credentials_env: FIREBASE_KEY}}\n"
        "  spare: {type: log, kind: webhook}\n"
    )
    assert journey("lint", str(folder)).returncode == 0
    return folder


def test_doctor_names_each_misconfigured_connector_with_its_setting_and_remedy(rules: Path, tmp_path: Path) -> None:
    environment = {"JOURNEY_RULES": str(rules), "JOURNEY_DATA": str(tmp_path), "FIREBASE_KEY": '{"type": "user"}'}
    told = journey("doctor", environment=environment)
    findings = json.loads(journey("doctor", "--json", environment=environment).stdout)["findings"]
    found = {one["what"]: (one["found"], one["remedy"]) for one in findings}
    assert told.returncode == 1
    assert f"bad   connector texts: is misconfigured\n      {SAID}\n" in told.stdout
    assert found["connector texts"] == ("is misconfigured", SAID)
    assert found["connector notes"] == (
        "is misconfigured",
        'connector "notes": setting "credentials_env": the key is not one of a service account: '
        'field "client_email" is missing; field "private_key" is missing '
        '(in the environment variable "FIREBASE_KEY"). '
        "Make a key of the service account in the Google Cloud console and set the variable to it or to its path.",
    )
    assert found["connector spare"] == ("answers", None)


def test_the_dispatcher_does_not_start_with_it(
    rules: Path, kafka_bootstrap: str, redis_url: str, no_topics: None
) -> None:
    environment = {
        "JOURNEY_RULES": str(rules),
        "JOURNEY_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "JOURNEY_REDIS_URL": redis_url,
        "FIREBASE_KEY": "{}",
    }
    created = journey("topics", "create", environment=environment)
    assert created.returncode == 0, created.stderr
    done = journey("dispatcher", environment=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert SAID in " ".join(done.stderr.split())


def test_the_embedded_engine_does_not_start_with_it(rules: Path, tmp_path: Path) -> None:
    data, environment = str(tmp_path / "data"), {"JOURNEY_RECEIVER_PORT": "0"}
    done = journey("dev", "--rules", str(rules), "--data", data, "--port", "0", environment=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert SAID in " ".join(done.stderr.split())
