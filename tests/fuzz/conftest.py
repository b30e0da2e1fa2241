"""Fuzzing: how many examples, and from which seed.

``make test`` tries a bounded number of examples, the same ones every time. ``FUZZ_EXAMPLES=2000 pytest tests/fuzz``
tries as many as asked for, new ones every time; Hypothesis prints how to repeat a failing one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from orchestrator.roles.embedded import run_embedded
from orchestrator.settings import Settings

RULES = Path(__file__).resolve().parents[2] / "rules"
WRITE_KEY = "fuzz-write-key"


@pytest.fixture(scope="session")
def effort() -> Callable[[int], settings]:
    """Return the settings of a test that tries ``examples`` when nobody asks for more."""
    asked = int(os.environ.get("FUZZ_EXAMPLES", "0"))

    def of(examples: int) -> settings:
        return settings(
            max_examples=asked or examples,
            derandomize=not asked,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )

    return of


class Engine:
    """The whole embedded engine on an event loop of its own: gateway, worker, dispatcher and receiver."""

    def __init__(self, configured: Settings) -> None:
        self._settings = configured
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="engine")
        self.url = ""

    def __enter__(self) -> Engine:
        self._thread.start()
        assert self._ready.wait(timeout=60), "the engine does not start"
        assert self.url, "the engine has ended instead of starting"
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(timeout=60)
        assert not self._thread.is_alive(), "the engine does not stop"

    def _run(self) -> None:
        def ready(gateway: str, _receiver: str) -> None:
            self.url = gateway
            self._ready.set()

        try:
            self._task = self._loop.create_task(run_embedded(self._settings, demo=False, on_ready=ready))
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._ready.set()
            self._loop.close()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that asks for no key."""
    with Engine(Settings(data=tmp_path_factory.mktemp("fuzz"), rules=RULES, port=0, receiver_port=0)) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that takes events from whoever has the write key, and answers nobody else."""
    keyed = Settings(
        data=tmp_path_factory.mktemp("guarded"), rules=RULES, port=0, receiver_port=0, write_keys=[WRITE_KEY]
    )
    with Engine(keyed) as running:
        yield running
