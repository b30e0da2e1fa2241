"""The README is run: its commands, its event, its settings and its table of commands are true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from load_tests.processes import EmbeddedEngine, until
from orchestrator.cli import app
from orchestrator.rulebook.load import load_rulebook
from orchestrator.runtime.intake import Intake, Limits
from orchestrator.runtime.ports import Record
from orchestrator.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no {language} block"
    return found


def test_every_command_of_the_table_exists():
    named = re.findall(r"^\| `journey ([^`]*)`([^|]*)", README, re.MULTILINE)
    commands = {first.split()[0] for first, _ in named} | {
        word for _, rest in named for word in re.findall(r"`(\w+)`", rest)
    }
    assert len(commands) > 10
    for command in sorted(commands):
        answer = CliRunner().invoke(app, [command, "--help"])
        assert answer.exit_code == 0, f"journey {command}: {answer.output}"


def test_every_setting_that_is_named_exists():
    named = set(re.findall(r"JOURNEY_([A-Z_]+)", README)) - {""}
    assert {one.lower() for one in named} <= set(Settings.model_fields)


def test_the_event_of_the_readme_is_accepted():
    loaded = load_rulebook(ROOT / "rules")
    intake = Intake(loaded.plan, "default", Limits(event_bytes_max=32_000, depth_max=16, future_tolerance_ms=0))
    for block in blocks("json"):
        event = json.loads(block)
        record = Record(0, 0, 2_000_000_000_000, event["customer_id"].encode(), block.encode())
        assert intake.from_record(record).type == event["type"]


def test_links_to_files_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.integration
def test_the_first_steps_work_as_written(tmp_path):
    """The lead is called within a second; the nudge survives kill -9 and leaves once, decided when it was due."""
    lead, why, basket = (block for block in blocks("sh") if block.startswith(".venv/bin/journey"))
    with EmbeddedEngine(tmp_path) as engine:
        assert run(lead, engine).endswith(f"2 events accepted by {engine.url}\n")
        (call,) = until(engine.arrivals, within_s=10, because="the call arrives")
        assert (call["kind"], call["customer_id"], call["rule"]) == ("call", "asha", "lead-callback")
        assert call["latency_ms"] < 1_000
        (answer,) = re.findall(r"```\n(lead-callback fired.*?)```", README, re.DOTALL)
        assert unspecific(run(why, engine)) == unspecific(answer)
        run(basket, engine)
        engine.kill()
        engine.start()
        nudge = until(lambda: engine.arrivals()[1:], within_s=60, because="the nudge arrives")[0]
        assert (nudge["customer_id"], nudge["rule"]) == ("ravi", "cart-recovery")
        armed = json.loads(
            subprocess.check_output(["curl", "-s", f"{engine.url}/v1/actions?customer_id=ravi"], text=True)
        )
        assert [one["rule"] for one in armed] == ["cart-recovery"]
        assert nudge["decided_at"] % 1_000 == 0, (
            "decided at the due time, which has whole seconds, not when it restarted"
        )
        assert len(engine.arrivals()) == 2


def unspecific(answer: str) -> str:
    """Return an answer without moments, ids and versions."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{3})? UTC|\b[0-9a-f]{32}\b", "…", answer).strip()


def run(block: str, engine: EmbeddedEngine) -> str:
    """Carry a command of the README out, with this engine in place of the reader's."""
    command = str(Path(sys.executable).with_name("journey"))
    script = f"{block.strip().replace('.venv/bin/journey', command)} --url {engine.url}"
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env=os.environ).stdout
