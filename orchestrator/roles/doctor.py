"""``journey doctor``: looks at every dependency and says the remedy for what is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from orchestrator.errors import JourneyError
from orchestrator.roles.delivery import connectors_of
from orchestrator.roles.distributed import redis_client, topics_of
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.rulebook.load import load_rulebook
from orchestrator.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``remedy`` is None when it is good."""

    what: str
    found: str
    remedy: str | None = None


async def examine(settings: Settings, *, distributed: bool) -> list[Finding]:
    """Look at Python, rules, data folder and connectors; with ``distributed`` also at Kafka and Redis."""
    findings = [_python(), _data(settings.data), *await _rules(settings)]
    if distributed:
        findings += [await _asked("Kafka", _kafka(settings)), await _asked("Redis", _redis(settings))]
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", version, None if sys.version_info >= (3, 11) else "Install Python 3.11 or later.")


def _data(folder: Path) -> Finding:
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if os.access(existing, os.W_OK):
        return Finding("data folder", f"{folder} can be written")
    return Finding("data folder", f"{folder} cannot be written", "Name another with JOURNEY_DATA or --data.")


async def _rules(settings: Settings) -> list[Finding]:
    loaded = load_rulebook(settings.rules)
    if not loaded.ok:
        return [Finding("rules", f"{settings.rules} has problems", f"Run: journey lint {settings.rules}")]
    rules = sum(len(journey.rules) for journey in loaded.journeys)
    good = Finding("rules", f"{rules} rules in {settings.rules}, version {loaded.version}")
    return [good, *[await _connector(entry) for entry in loaded.connectors]]


async def _connector(entry: ConnectorEntry) -> Finding:
    what = f"connector {entry.name}"
    try:
        connector = connectors_of([entry])[entry.name]
    except JourneyError as error:
        return Finding(what, "is misconfigured", str(error))
    try:
        remedy = await connector.check()
    finally:
        await connector.close()
    return Finding(what, "answers" if remedy is None else "does not answer", remedy)


async def _asked(what: str, question: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await question()
    except (JourneyError, RedisError, OSError) as error:
        return Finding(what, str(error), f"Start {what}, or name it with JOURNEY_{_VARIABLES[what]}.")


_VARIABLES = {"Kafka": "KAFKA_BOOTSTRAP", "Redis": "REDIS_URL"}


def _kafka(settings: Settings) -> Callable[[], Awaitable[Finding]]:
    async def ask() -> Finding:
        problems = await topics_of(settings).problems()
        if problems:
            return Finding("Kafka", "; ".join(problems), "Run: journey topics create")
        return Finding("Kafka", f"{settings.kafka_bootstrap} has every topic")

    return ask


def _redis(settings: Settings) -> Callable[[], Awaitable[Finding]]:
    async def ask() -> Finding:
        client = redis_client(settings)
        try:
            facts = await client.info()
        finally:
            await client.aclose()
        found = f"{facts['redis_version']} at {settings.redis_url.rpartition('@')[2]}"
        if not facts.get("aof_enabled"):
            return Finding("Redis", found, "Set `appendonly yes`: without it a restart of Redis loses every state.")
        return Finding("Redis", found)

    return ask
