"""The watched folder: edits are published once they stand still, faults are told once, and nothing ends the watch."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.errors import LogUnavailable
from orchestrator.roles.embedded import SqliteRulebookTopic
from orchestrator.roles.rules_folder import RulesFolder
from orchestrator.runtime.rulebooks import PublishedRulebooks

PLAN = "events:\n  lead_submitted: {}\n"
JOURNEY = "journey: lead\ntitle: %s\nstages:\n  new: {on: {event: lead_submitted}}\n"


class Log(MemoryEventLog):
    """A log that can be out of order."""

    broken = False

    async def append(self, records: Any) -> None:
        if self.broken:
            raise LogUnavailable("the disk is full")
        await super().append(records)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "tracking_plan.yaml").write_text(PLAN)
    (folder / "lead.yaml").write_text(JOURNEY % "One")
    return folder


@pytest.fixture
def log() -> Log:
    return Log(SystemClock())


@pytest.fixture
async def watch(rules: Path, log: Log) -> RulesFolder:
    topic: Any = log
    watch = RulesFolder(await PublishedRulebooks.opened(SqliteRulebookTopic(topic), log, "default", rules), rules)
    await watch.begin()
    return watch


def moved(folder: Path, name: str) -> Path:
    return folder.rename(folder.with_name(name))


def title(watch: RulesFolder) -> str:
    return watch.rulebooks.loaded.journeys[0].title


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def test_an_edit_is_published_when_two_looks_find_it_the_same(watch: RulesFolder, rules: Path) -> None:
    (rules / "lead.yaml").write_text("journey: lead\n")  # An editor has emptied the file and begun to write.
    await watch.look()
    (rules / "lead.yaml").write_text(JOURNEY % "Two")
    await watch.look()
    assert title(watch) == "One"
    await watch.look()
    assert title(watch) == "Two"
    assert len(watch.rulebooks.published()) == 2


async def test_files_named_yml_are_watched_as_well(watch: RulesFolder, rules: Path) -> None:
    (rules / "other.yml").write_text("journey: other\nstages:\n  new: {on: {event: lead_submitted}}\n")
    await watch.look()
    await watch.look()
    assert sorted(one.id for one in watch.rulebooks.loaded.journeys) == ["lead", "other"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rules: os.mkfifo(rules / "x.yaml"),
        lambda rules: (rules / "x.yaml").symlink_to("/proc/self/mem"),
        lambda rules: (rules / "x\udcff.yaml").write_text(""),
        lambda rules: (rules / "pack").symlink_to("gone"),
        lambda rules: rules.rename(rules.with_name("renamed")),
    ],
    ids=["a pipe", "an unreadable file", "a name", "a subfolder", "no folder"],
)
async def test_a_folder_that_cannot_be_read_leaves_the_rulebook_in_force_and_is_told_once(
    watch: RulesFolder, rules: Path, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    version = watch.rulebooks.current.version
    spoil(rules)
    for _ in range(5):
        await watch.look()
    assert watch.rulebooks.current.version == version
    assert [line.splitlines()[0] for line in told(caplog)] == [f"the edit was refused, rulebook {version} stays:"]


async def test_the_folder_may_go_and_come_back(
    watch: RulesFolder, rules: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = moved(rules, "away")
    for _ in range(3):
        await watch.look()
    (away / "lead.yaml").write_text(JOURNEY % "Back")
    moved(away, "rules")
    for _ in range(3):
        await watch.look()
    assert title(watch) == "Back"
    assert len(told(caplog)) == 1


async def test_a_refused_edit_is_told_once_from_the_start_on(
    rules: Path, log: Log, watch: RulesFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (rules / "lead.yaml").write_text("journey: [\n")
    topic: Any = log
    rulebooks = await PublishedRulebooks.opened(SqliteRulebookTopic(topic), log, "default", rules)
    again = RulesFolder(rulebooks, rules)
    await again.begin()
    for _ in range(3):
        await again.look()
    assert len(told(caplog)) == 1


async def test_an_edit_that_the_log_cannot_take_is_published_when_it_can(
    watch: RulesFolder, rules: Path, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log.broken = True
    (rules / "lead.yaml").write_text(JOURNEY % "Two")
    for _ in range(4):
        await watch.look()
    assert (title(watch), told(caplog)) == ("One", ["the edit cannot be published yet: the disk is full"])
    log.broken = False
    await watch.look()
    assert title(watch) == "Two"
