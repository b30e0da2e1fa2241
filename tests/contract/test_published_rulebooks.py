"""What every process relies on when it follows the published rulebook, over each log that holds the topic."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters import sqlite_log
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.kafka_log import KafkaEventLog
from orchestrator.adapters.memory_log import MemoryEventLog
from orchestrator.adapters.sqlite import SqliteDatabase
from orchestrator.adapters.sqlite_log import SqliteEventLog
from orchestrator.errors import RulebookRefused
from orchestrator.roles.distributed import KafkaRulebookTopic
from orchestrator.roles.embedded import SqliteRulebookTopic
from orchestrator.runtime.ports import RULEBOOKS, EventLog, Outgoing
from orchestrator.runtime.rulebooks import PublishedRulebooks, RulebookTopic

PLAN = b"events:\n  lead_submitted: {}\n  lead_won: {}\nconsents: {marketing: Offers}\n"
CONNECTORS = b'connectors:\n  sms: {type: webhook, kind: sms, settings: {url: "http://127.0.0.1:1"}}\n'
JOURNEY = """
journey: lead
title: Lead
stages:
  new: {on: {event: lead_submitted}}
  won: {on: {event: lead_won}, goal: true}
rules:
  - id: nudge
    title: Nudge
    on: {event: lead_submitted}
    do: [{wait: %s}, {send: {connector: sms, params: {text: hello}}}]
    limits: {consent: [marketing]}
"""
#: Every process switches within this long.
WITHIN_S = 1.0


def files(wait: str) -> dict[str, bytes]:
    return {"tracking_plan.yaml": PLAN, "connectors.yaml": CONNECTORS, "lead.yaml": (JOURNEY % wait).encode()}


def write(folder: Path, wait: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files(wait).items():
        (folder / name).write_bytes(content)
    return folder


class Process:
    """A process that follows the topic."""

    def __init__(self, rulebooks: PublishedRulebooks) -> None:
        self.rulebooks = rulebooks
        self._following = asyncio.create_task(rulebooks.follow())

    @property
    def version(self) -> str:
        return self.rulebooks.current.version

    async def end(self) -> None:
        self._following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._following


Start = Callable[[], Awaitable[Process]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "rules", "1h")


@pytest.fixture
async def memory_parts() -> tuple[EventLog, RulebookTopic]:
    log: Any = MemoryEventLog(SystemClock())
    return log, SqliteRulebookTopic(log)


@pytest.fixture
async def sqlite_parts(tmp_path: Path) -> AsyncIterator[tuple[EventLog, RulebookTopic]]:
    database = SqliteDatabase(tmp_path / "log.db", sqlite_log.SCHEMA)
    await database.open()
    log = SqliteEventLog(database, SystemClock())
    yield log, SqliteRulebookTopic(log)
    await database.close()


@pytest.fixture
async def kafka_parts(kafka_bootstrap: str, fresh_topics: Any) -> AsyncIterator[tuple[EventLog, RulebookTopic]]:
    await fresh_topics(1)
    log = KafkaEventLog(kafka_bootstrap)
    yield log, KafkaRulebookTopic(kafka_bootstrap)
    await log.close()


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.integration)])
def parts(request: pytest.FixtureRequest) -> tuple[EventLog, RulebookTopic]:
    found: tuple[EventLog, RulebookTopic] = request.getfixturevalue(f"{request.param}_parts")
    return found


@pytest.fixture
async def start(parts: tuple[EventLog, RulebookTopic], folder: Path) -> AsyncIterator[Start]:
    log, topic = parts
    running: list[Process] = []

    async def begin() -> Process:
        running.append(Process(await PublishedRulebooks.opened(topic, log, "default", folder)))
        return running[-1]

    yield begin
    for process in running:
        await process.end()


async def switched(processes: list[Process], version: str) -> float:
    """Return how long it took until all processes had the version in force."""
    began = time.monotonic()
    async with asyncio.timeout(10):
        while True:
            if all(process.version == version for process in processes):
                return time.monotonic() - began
            await asyncio.sleep(0.005)


async def test_before_anything_is_published_the_folder_is_in_force(start: Start) -> None:
    process = await start()
    assert process.rulebooks.published() == []
    assert process.rulebooks.current.rules["nudge"].program[0].for_ms == 3_600_000


async def test_every_process_switches_within_a_second_of_the_publication(start: Start) -> None:
    processes = [await start() for _ in range(3)]
    published = await processes[0].rulebooks.publish(files("2h"), author="ann", note="longer")
    assert processes[0].version == published.version
    assert await switched(processes, published.version) < WITHIN_S
    newest = processes[2].rulebooks.published()[0]
    assert (newest.version, newest.author, newest.note) == (published.version, "ann", "longer")


async def test_rolling_back_to_what_the_folder_had_needs_no_publication_of_it(start: Start) -> None:
    processes = [await start() for _ in range(2)]
    first = processes[0].version
    second = (await processes[0].rulebooks.publish(files("2h"))).version
    await switched(processes, second)

    began = time.monotonic()
    rolled_back = await processes[1].rulebooks.activate(first)
    assert rolled_back is not None
    await switched(processes, first)
    assert time.monotonic() - began < WITHIN_S


async def test_a_process_that_starts_later_has_the_active_version_and_not_its_folders(start: Start) -> None:
    publisher = await start()
    first = publisher.version
    second = (await publisher.rulebooks.publish(files("2h"))).version
    assert (await start()).version == second
    await publisher.rulebooks.activate(first)
    assert (await start()).version == first


async def test_a_version_may_be_published_without_coming_into_force(start: Start) -> None:
    processes = [await start() for _ in range(2)]
    first = processes[0].version
    kept = (await processes[0].rulebooks.publish(files("2h"), activate=False)).version
    assert (await start()).version == first == processes[0].version
    assert (await processes[1].rulebooks.activate(kept)) is not None
    await switched(processes, kept)


async def test_a_broken_rulebook_is_refused_with_line_and_reason_and_changes_nothing(start: Start) -> None:
    process = await start()
    second = (await process.rulebooks.publish(files("2h"))).version
    broken = files("2h") | {"lead.yaml": files("2h")["lead.yaml"].replace(b"wait: 2h", b"wait: 2x")}
    with pytest.raises(RulebookRefused) as refused:
        await process.rulebooks.publish(broken)
    assert str(refused.value) == (
        'lead.yaml:11  journey "lead" \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} rule "nudge"\n'
        '    wait: expected a span such as 2h, or {until: "09:00"}, got "2x"'
    )
    assert len(process.rulebooks.published()) == 2
    assert (await start()).version == second == process.version


async def test_a_version_that_was_never_published_cannot_be_activated(start: Start) -> None:
    process = await start()
    first = process.version
    assert await process.rulebooks.activate("0123456789ab") is None
    assert process.version == first


async def test_a_record_that_makes_no_sense_leaves_the_version_in_force(
    start: Start, parts: tuple[EventLog, RulebookTopic]
) -> None:
    process = await start()
    second = (await process.rulebooks.publish(files("2h"))).version
    await parts[0].append([Outgoing(RULEBOOKS, b"active", b"nonsense")])
    third = (await process.rulebooks.publish(files("3h"))).version
    late = await start()
    assert second != third == process.version == late.version


async def test_versions_that_plays_are_pinned_to_can_be_had_after_a_restart(start: Start) -> None:
    process = await start()
    first = process.version
    second = (await process.rulebooks.publish(files("2h"))).version
    third = (await process.rulebooks.publish(files("3h"))).version
    for one in (process, await start()):
        earlier = one.rulebooks.current.earlier
        waits = [earlier[version].rules["nudge"].program[0].for_ms for version in (first, second)]
        assert waits == [3_600_000, 7_200_000]
        assert set(earlier) == {first, second}
        assert third not in set(earlier)
        assert "0123456789ab" not in earlier


async def test_a_folder_that_changes_is_published_and_one_that_does_not_leaves_the_active_version(
    start: Start, folder: Path
) -> None:
    process = await start()
    assert await process.rulebooks.publish_folder(folder)
    first = process.version
    second = (await process.rulebooks.publish(files("2h"))).version
    assert not await process.rulebooks.publish_folder(folder)
    assert process.version == second
    assert not await (await start()).rulebooks.publish_folder(folder)

    write(folder, "5h")
    assert await process.rulebooks.publish_folder(folder)
    assert process.version not in {first, second}


async def test_those_who_listen_hear_of_a_switch_before_it_takes_effect(start: Start) -> None:
    process = await start()
    first = process.version
    heard: list[tuple[str, str]] = []
    process.rulebooks.listeners.append(lambda loaded: heard.append((loaded.version, process.version)))
    second = (await process.rulebooks.publish(files("2h"))).version
    assert heard == [(second, first)]


async def test_what_was_in_force_at_a_moment_is_known_after_a_restart(
    start: Start, parts: tuple[EventLog, RulebookTopic]
) -> None:
    """The folder's version is published and activated first, then the second one, then the first again."""
    process = await start()
    first = process.version
    second = (await process.rulebooks.publish(files("2h"))).version
    await SystemClock().sleep(0.002)  # The log's stamps are whole milliseconds.
    await process.rulebooks.activate(first)
    *_, second_ms, again_ms = await stamps(parts[1])
    for one in (process.rulebooks, (await start()).rulebooks):
        moments = (0, second_ms, again_ms - 1, again_ms, again_ms + 1)
        assert [one.in_force_at(at_ms).version for at_ms in moments] == [first, second, second, first, first]
        known = one.version(second)
        assert known is not None
        assert known.version == second
        assert one.version("0123456789ab") is None


async def stamps(topic: RulebookTopic) -> list[int]:
    """Return the stamps of the records of a topic."""
    _, end = await topic.bounds()
    found: list[int] = []
    async with contextlib.aclosing(topic.read(0)) as batches:
        async for records in batches:
            found += [record.stamp_ms for record in records]
            if len(found) >= end:
                break
    return found
