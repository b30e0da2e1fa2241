"""The real servers that integration tests run against: given by the environment, in containers, or local processes.

``kafka_bootstrap`` and ``redis_url`` say where they are; the terminal summary says what they were.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from load_tests.servers import LocalKafka, LocalRedis
from orchestrator.adapters.kafka_topics import KafkaTopics
from orchestrator.runtime.ports import ACTIONS, DEAD_LETTERS, DECISIONS, EVENTS, RULEBOOKS

_CONTAINER_KAFKA = "confluentinc/cp-kafka:8.1.1"
_CONTAINER_REDIS = "redis:7.4"

_SERVERS = pytest.StashKey[list[str]]()

# Connectors that tests build connect to servers of this machine. What is refused without it: test_reach.py.
os.environ["JOURNEY_PRIVATE_TARGETS"] = "127.0.0.0/8,::1/128"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record", action="store_true", help="write the conversations of tests/contract/conversations anew"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_SERVERS, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tells whoever watches the terminal what a long start is doing, captured output or not."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def tell(message: str) -> None:
        if reporter is not None:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(message)

    return tell


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest, say: Callable[[str], None]) -> Iterator[str]:
    """Bootstrap servers of a real Kafka: KAFKA_BOOTSTRAP, else a container, else a local process."""
    if given := os.environ.get("KAFKA_BOOTSTRAP"):
        _note(request, f"Kafka at {given} (KAFKA_BOOTSTRAP)")
        yield given
    elif container_engine_answers():
        from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 - needs a Docker client.

        say(f"Starting Kafka ({_CONTAINER_KAFKA}) in a container ...")
        with KafkaContainer(_CONTAINER_KAFKA).with_kraft() as container:
            _note(request, f"Kafka {_CONTAINER_KAFKA} at {container.get_bootstrap_server()}")
            yield container.get_bootstrap_server()
    else:
        say("Starting Kafka ...")
        with LocalKafka(say=say) as kafka:
            _note(request, f"Kafka {kafka.version} at {kafka.bootstrap}")
            yield kafka.bootstrap


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest, say: Callable[[str], None]) -> Iterator[str]:
    """URL of a real Redis: REDIS_URL, else a container, else a local process."""
    if given := os.environ.get("REDIS_URL"):
        _note(request, f"Redis at {given} (REDIS_URL)")
        yield given
    elif container_engine_answers():
        from testcontainers.community.redis import RedisContainer  # noqa: PLC0415 - needs a Docker client.

        say(f"Starting Redis ({_CONTAINER_REDIS}) in a container ...")
        with RedisContainer(_CONTAINER_REDIS).with_command("redis-server --appendonly yes") as container:
            url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
            _note(request, f"Redis {_CONTAINER_REDIS} at {url}")
            yield url
    else:
        say("Starting Redis ...")
        with LocalRedis(say=say) as redis:
            _note(request, f"Redis {redis.version} at {redis.url}")
            yield redis.url


class FreshTopics(Protocol):
    async def __call__(self, partitions: int = 4) -> KafkaTopics: ...


@pytest.fixture
def fresh_topics(kafka_bootstrap: str) -> FreshTopics:
    """Makes our topics anew, empty, with a number of partitions of the test's choice."""

    async def create(partitions: int = 4) -> KafkaTopics:
        topics = KafkaTopics(kafka_bootstrap, partitions=partitions)
        await delete_topics(kafka_bootstrap)
        await topics.ensure()
        return topics

    return create


@pytest.fixture
async def no_topics(kafka_bootstrap: str) -> None:
    """Our topics do not exist when the test begins."""
    await delete_topics(kafka_bootstrap)


async def delete_topics(bootstrap: str) -> None:
    """Delete our topics and return when the cluster has forgotten them."""
    ours = {EVENTS, ACTIONS, DECISIONS, RULEBOOKS, DEAD_LETTERS}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name in ours])
        async with asyncio.timeout(30):
            while True:
                if not ours & set(await admin.list_topics()):
                    return
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


@functools.cache
def container_engine_answers() -> bool:
    """Whether a Docker engine takes requests; false as well where its client is not installed."""
    try:
        import docker  # noqa: PLC0415 - comes with testcontainers only.
    except ImportError:
        return False
    with warnings.catch_warnings():
        # A client that finds no engine leaves its socket to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env(timeout=3)
            client.close()
            return True
        except docker.errors.DockerException:
            return False
        finally:
            gc.collect()


def _note(request: pytest.FixtureRequest, line: str) -> None:
    request.config.stash.setdefault(_SERVERS, []).append(line)
