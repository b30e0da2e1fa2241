"""The production example shows every type of connector, and each entry builds once its secrets are there."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.errors import ConnectorMisconfigured
from connectors.reach import Reach
from connectors.registry import BUILT_IN, build, callback_reader, expand_environment, settings_problems
from orchestrator.rulebook.load import load_rulebook
from orchestrator.rulebook.problem import rendered
from tests.contract.connectors.example_push import key_file

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "connectors.production.yaml"
ENTRIES: dict[str, dict[str, Any]] = yaml.safe_load(EXAMPLE.read_text())["connectors"]
SIGNING = "whsec_" + base64.b64encode(bytes(32)).decode()
PUBLIC = Reach()


def secrets_of(name: str) -> list[str]:
    """The variables that the settings of an entry name."""
    return [value for setting, value in ENTRIES[name]["settings"].items() if setting.endswith("_env")]


def environment() -> dict[str, str]:
    """Every variable that the example names, with a value of the right form."""
    values = dict.fromkeys((variable for name in ENTRIES for variable in secrets_of(name)), "s3cret")
    values |= {name: SIGNING for name in values if name.endswith("_SECRET")}
    values |= {"FIREBASE_CREDENTIALS": key_file("https://oauth2.googleapis.com")}
    referred = {
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_MESSAGING_SERVICE_SID": "MG" + "0" * 32,
        "FEED_KAFKA_BOOTSTRAP": "kafka-1.example.com:9093,kafka-2.example.com:9093",
    }
    assert set(re.findall(r"\$\{([A-Z_]+)\}", str(ENTRIES))) == set(referred)
    return values | referred


def settings_of(name: str) -> dict[str, Any]:
    expanded = expand_environment(ENTRIES[name]["settings"], environment(), connector=name)
    return {"type": ENTRIES[name]["type"], **expanded}


def test_every_type_of_ours_has_an_entry() -> None:
    assert {entry["type"] for entry in ENTRIES.values()} == {known.type for known in BUILT_IN}


@pytest.mark.parametrize("name", ENTRIES)
async def test_an_entry_has_no_problems_and_builds_with_its_secrets(name: str) -> None:
    settings = settings_of(name)
    assert settings_problems(name, settings) == ()
    connector = build(name, settings, environ=environment(), reach=PUBLIC)
    await connector.close()
    known = next(known for known in BUILT_IN if known.type == settings["type"])
    reader = callback_reader(name, settings, environ=environment())
    assert (reader is None) == (known.callbacks is None)


@pytest.mark.parametrize(
    ("name", "variable"),
    [(name, variable) for name in ENTRIES for variable in secrets_of(name)],
)
async def test_an_entry_whose_secret_is_missing_names_it(name: str, variable: str) -> None:
    rest = {key: value for key, value in environment().items() if key != variable}
    with pytest.raises(ConnectorMisconfigured) as error:
        connector = build(name, settings_of(name), environ=rest, reach=PUBLIC)
        await connector.close()
        callback_reader(name, settings_of(name), environ=rest)
    assert f'names the environment variable "{variable}", which is not set. Set {variable}' in str(error.value)


def test_the_shipped_packs_send_through_it_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every template has the params that the providers take, and none that only a webhook would."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "rules"
    shutil.copytree(ROOT / "rules", folder)
    (folder / "connectors.yaml").write_text(EXAMPLE.read_text())
    loaded = load_rulebook(folder)
    assert rendered(loaded.problems) == ""
    assert sorted(entry.name for entry in loaded.connectors) == sorted(ENTRIES)
