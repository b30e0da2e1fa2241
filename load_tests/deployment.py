"""A distributed engine on this machine: Kafka, Redis and every role as a process of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx

from load_tests.processes import RoleProcess, arrivals_of, journey
from load_tests.servers import LocalKafka, LocalRedis, ServerFailed, ServerProcess, free_port
from load_tests.servers.process import Say, silent
from orchestrator.core.moment import format_moment


class Deployment:
    """One gateway, workers, dispatchers (one at first) and one receiver over a Kafka and a Redis of their own.

    Used as a context manager it is started with ``workers`` workers, and every process is ended at the end.
    """

    def __init__(
        self,
        folder: Path,
        rules: Path,
        *,
        workers: int = 2,
        partitions: int = 8,
        session_timeout_s: float = 6,
        say: Say = silent,
    ) -> None:
        """Prepare a deployment whose data and logs lie in ``folder``."""
        self._folder = folder
        self._say = say
        self._launched = 0
        self.kafka = LocalKafka(folder / "kafka", say=say)
        self.redis = LocalRedis(folder / "redis", say=say)
        self.record = folder / "received.jsonl"
        receiver_port = free_port()
        self.settings: Mapping[str, str] = {
            "MALLOC_ARENA_MAX": "1",  # as in the image
            "JOURNEY_RULES": str(rules),
            "JOURNEY_DATA": str(folder / "unused"),
            "JOURNEY_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            **self.store(),
            "JOURNEY_PARTITIONS": str(partitions),
            "JOURNEY_SESSION_TIMEOUT_S": str(session_timeout_s),
            "JOURNEY_METRICS_PORT": "0",
            # So few that workers have to forget customers within minutes, as they would within hours.
            "JOURNEY_CUSTOMERS_CACHED_MAX": "1000",
            "RECEIVER_URL": f"http://127.0.0.1:{receiver_port}",
        }
        self.gateway = self._role("gateway", "--port", str(free_port()))
        self.receiver = self._role("receiver", "--port", str(receiver_port), "--record", str(self.record))
        self.dispatchers = [self._role("dispatcher")]
        self._leaving: list[RoleProcess] = []
        self.workers = [self._role("worker") for _ in range(workers)]

    def store(self) -> Mapping[str, str]:
        """Return the settings that name the Redis of the roles."""
        return {"JOURNEY_REDIS_URL": self.redis.url}

    # ------------------------------------------------------------------------------------------- the life

    def start(self) -> Self:
        """Start the servers, create the topics, start the roles side by side; return when all answer."""
        self.redis.start()
        self.kafka.start()
        created = self.journey("topics", "create")
        if created.returncode != 0:
            raise ServerFailed(f"journey topics create: {created.stdout}{created.stderr}")
        roles = self._roles()
        self._say("Starting gateway, workers, dispatcher and receiver ...")
        for role in roles:
            role.launch()
        for role in roles:
            role.await_ready()
        return self

    def close(self) -> None:
        """End every process, roles before servers."""
        with ThreadPoolExecutor() as ends:
            list(ends.map(ServerProcess.stop, self._roles()))
        self.kafka.kill()
        self.redis.stop()

    def add_worker(self) -> RoleProcess:
        """Begin to start one more worker and return it; ``await_ready`` returns when it has joined."""
        worker = self._role("worker")
        self.workers.append(worker)
        worker.launch()
        return worker

    def remove_worker(self) -> RoleProcess:
        """Take the longest-serving worker out of the deployment and return it, for the caller to end."""
        worker = self.workers.pop(0)
        self._leaving.append(worker)
        return worker

    def add_dispatcher(self) -> RoleProcess:
        """Begin to start one more dispatcher and return it."""
        dispatcher = self._role("dispatcher")
        self.dispatchers.append(dispatcher)
        dispatcher.launch()
        return dispatcher

    @property
    def dispatcher(self) -> RoleProcess:
        """The dispatcher that serves longest."""
        return self.dispatchers[0]

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------------------------------- what it is asked

    def client(self, *, timeout_s: float = 30) -> httpx.Client:
        """Return a client of the gateway."""
        return httpx.Client(base_url=self.gateway.url, timeout=timeout_s)

    def journey(self, *arguments: str, timeout_s: float = 120) -> Any:
        """Run the command with the deployment's settings."""
        return journey(*arguments, environment=self.settings, timeout_s=timeout_s)

    def backtest(self, until_ms: int) -> dict[str, Any]:
        """Return what the deployment's rules make of its log, timers up to ``until_ms``."""
        until = format_moment(until_ms)
        done = self.journey("backtest", "--events", "topic", "--kafka", "--until", until, "--json", timeout_s=300)
        if not done.stdout:
            raise ServerFailed(f"journey backtest: {done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def arrivals(self) -> list[dict[str, Any]]:
        """Return every first arrival at the receiver, in order."""
        return arrivals_of(self.record)

    # ---------------------------------------------------------------------------------------- details

    def _role(self, role: str, *options: str) -> RoleProcess:
        self._launched += 1
        folder = self._folder / f"{role}-{self._launched}"
        return RoleProcess(role, *options, folder=folder, environment=self.settings, say=self._say)

    def _roles(self) -> Sequence[RoleProcess]:
        return [self.receiver, *self.dispatchers, *self.workers, *self._leaving, self.gateway]
