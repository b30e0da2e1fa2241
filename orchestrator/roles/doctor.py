"""``journey doctor``: looks at every dependency and says the remedy for what is wrong."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from orchestrator.adapters.kafka_client import Brokers, client_tls
from orchestrator.adapters.probe import Way, probe
from orchestrator.errors import ConfigurationError, JourneyError
from orchestrator.roles.callbacks import desks_of
from orchestrator.roles.delivery import connectors_of
from orchestrator.roles.distributed import masked, redis_client, topics_of
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
    environ = dict(os.environ)
    if not distributed:
        environ.setdefault("RECEIVER_URL", f"http://127.0.0.1:{settings.receiver_port}")
    findings = [_python(), _data(settings.data), *await _rules(settings, environ)]
    if distributed:
        findings += [
            await _asked("Kafka", _kafka(settings), _kafka_remedy(settings)),
            await _asked("Redis", _redis(settings), _redis_remedy(settings)),
        ]
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", version, None if sys.version_info >= (3, 11) else "Install Python 3.11 or later.")


def _data(folder: Path) -> Finding:
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if os.access(existing, os.W_OK):
        return Finding("data folder", f"{folder} can be written")
    return Finding("data folder", f"{folder} cannot be written", "Name another with JOURNEY_DATA or --data.")


async def _rules(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    loaded = load_rulebook(settings.rules)
    if not loaded.ok:
        return [Finding("rules", f"{settings.rules} has problems", f"Run: journey lint {settings.rules}")]
    rules = sum(len(journey.rules) for journey in loaded.journeys)
    good = Finding("rules", f"{rules} rules in {settings.rules}, version {loaded.version}")
    connectors = [await _connector(entry, environ) for entry in loaded.connectors]
    return [good, *connectors, *_outcomes(loaded.connectors, environ)]


def _outcomes(entries: Iterable[ConnectorEntry], environ: Mapping[str, str]) -> list[Finding]:
    """Return whether the reports of connectors can be read; nothing of those that nobody has set up for reports."""
    desks = [desk for desk in desks_of(entries, environ).values() if not desk.unconfigured]
    return [
        Finding(f"outcomes of {desk.connector}", "can be read" if desk.reader else "cannot be read", desk.fault or None)
        for desk in desks
    ]


async def _connector(entry: ConnectorEntry, environ: Mapping[str, str]) -> Finding:
    what = f"connector {entry.name}"
    try:
        connector = connectors_of([entry], environ)[entry.name]
    except JourneyError as error:
        return Finding(what, "is misconfigured", str(error))
    try:
        remedy = await connector.check()
    finally:
        await connector.close()
    return Finding(what, "answers" if remedy is None else "does not answer", remedy)


async def _asked(
    what: str, question: Callable[[], Awaitable[Finding]], remedy: Callable[[], Awaitable[str]]
) -> Finding:
    try:
        return await question()
    except ConfigurationError as error:
        return Finding(what, str(error), "Correct the setting that is named.")
    except (JourneyError, RedisError, OSError) as error:
        return Finding(what, str(error), await remedy())


def _kafka_remedy(settings: Settings) -> Callable[[], Awaitable[str]]:
    async def remedy() -> str:
        host, _, port = settings.kafka_bootstrap.partition(",")[0].strip().rpartition(":")
        way, why = await _probed(host.strip("[]"), port, Brokers.of(settings).tls())
        return {
            Way.UNREACHABLE: "Start Kafka, or name it with JOURNEY_KAFKA_BOOTSTRAP.",
            Way.UNTRUSTED: f"Its certificate is not accepted ({why}): name its authority in JOURNEY_KAFKA_CA_FILE.",
            Way.PLAIN: "It answers, but not over TLS: correct JOURNEY_KAFKA_SECURITY, or name its TLS port.",
            Way.TLS_WANTED: "It answers over TLS only: set JOURNEY_KAFKA_SECURITY to SSL or SASL_SSL.",
            Way.OPEN: "It is reachable, but refuses: compare JOURNEY_KAFKA_SECURITY, _SASL_MECHANISM, _USER and "
            "_PASSWORD with its listener, and whether it asks for a client certificate.",
        }[way]

    return remedy


def _redis_remedy(settings: Settings) -> Callable[[], Awaitable[str]]:
    async def remedy() -> str:
        parts = urlsplit(settings.redis_url.get_secret_value())
        tls = None
        if parts.scheme == "rediss":
            tls = client_tls("REDIS", settings.redis_ca_file, settings.redis_certificate, settings.redis_key)
        way, why = await _probed(parts.hostname or "localhost", str(parts.port or 6379), tls)
        return {
            Way.UNREACHABLE: "Start Redis, or name it with JOURNEY_REDIS_URL.",
            Way.UNTRUSTED: f"Its certificate is not accepted ({why}): name its authority in JOURNEY_REDIS_CA_FILE.",
            Way.PLAIN: "It answers, but not over TLS: JOURNEY_REDIS_URL begins with redis:// there.",
            Way.TLS_WANTED: "It answers over TLS only: let JOURNEY_REDIS_URL begin with rediss://.",
            Way.OPEN: "It is reachable, but refuses: compare user and password in JOURNEY_REDIS_URL, and if it wants "
            "a client certificate.",
        }[way]

    return remedy


async def _probed(host: str, port: str, tls: ssl.SSLContext | None) -> tuple[Way, str]:
    if not host or not port.isdigit():
        return Way.UNREACHABLE, "no address"
    return await probe(host, int(port), tls)


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
        found = f"{facts['redis_version']} at {masked(settings.redis_url.get_secret_value())}"
        if not facts.get("aof_enabled"):
            return Finding("Redis", found, "Set `appendonly yes`: without it a restart of Redis loses every state.")
        return Finding("Redis", found)

    return ask
