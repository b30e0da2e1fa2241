"""The engine's own processes, as operators run them: roles of the ``journey`` command with a log and a life each."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from load_tests.servers import ServerFailed, ServerProcess, free_port
from load_tests.servers.process import Say, silent

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "rules"
JOURNEY = Path(sysconfig.get_path("scripts")) / "journey"

_READY = re.compile(r"^ready  .*?(http://\S+)", re.MULTILINE)
_DEV_RECEIVER = re.compile(r"^ +receiver +(http://\S+)", re.MULTILINE)


def environment_of(given: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without its own ``JOURNEY_`` settings, and with ``given`` on top.

    A command that is told no data folder gets an empty one, and never sees the one of this clone.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JOURNEY_", "RECEIVER_"))}
    return {**inherited, "COLUMNS": "200", "JOURNEY_DATA": _no_data(), **given}


@functools.cache
def _no_data() -> str:
    folder = tempfile.TemporaryDirectory(prefix="journey-")
    atexit.register(folder.cleanup)
    return str(Path(folder.name) / "data")


def journey(
    *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path = ROOT, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and return its exit code and output."""
    return subprocess.run(
        [str(JOURNEY), *arguments],
        cwd=cwd,
        env=environment_of(environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def until(condition: Callable[[], Any], *, within_s: float, because: str, pause_s: float = 0.02) -> Any:
    """Ask until the answer is true and return it; ``AssertionError`` naming ``because`` when time is up."""
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {within_s:g} s still not: {because}")
        time.sleep(pause_s)
    return answer


class RoleProcess(ServerProcess):
    """One role. ``url`` is where it answers once it is ready; it may differ after a restart with port 0."""

    start_timeout_s = 60

    def __init__(
        self, role: str, *options: str, folder: Path, environment: Mapping[str, str] | None = None, say: Say = silent
    ) -> None:
        """Prepare ``journey ROLE OPTIONS`` with its log in ``folder``; ``environment`` are its settings."""
        self.name = role
        super().__init__(folder, say=say)
        self._options = options
        self._environment = environment_of(environment or {})
        self._began_at = 0

    def prepare(self) -> None:
        """Remember where this start's lines begin in the log."""
        self._began_at = self.log_path.stat().st_size if self.log_path.exists() else 0

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(JOURNEY), self.name, *self._options]

    def environment(self) -> Mapping[str, str]:
        """Return the role's environment."""
        return self._environment

    def ready(self) -> bool:
        """Return whether the role has said that it is ready."""
        return _READY.search(self.said()) is not None

    def said(self) -> str:
        """Return what the role has written since it was last started."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._began_at)
            return log.read().decode(errors="replace")

    @property
    def url(self) -> str:
        """Where the role answers; ``ServerFailed`` before it is ready."""
        return self._found(_READY)

    def _found(self, pattern: re.Pattern[str]) -> str:
        found = pattern.search(self.said())
        if found is None:
            raise ServerFailed(f"{self.name} is not ready; see {self.log_path}.")
        return found.group(1)


class EmbeddedEngine(RoleProcess):
    """``journey dev`` over a data folder of its own, on ports that stay the same over restarts."""

    def __init__(
        self, folder: Path, *, rules: Path = RULES, environment: Mapping[str, str] | None = None, say: Say = silent
    ) -> None:
        """Prepare an engine whose data lie in ``folder/data``."""
        self.data = folder / "data"
        self.rules = rules
        options = ["--rules", str(rules), "--data", str(self.data)]
        ports = ["--port", str(free_port()), "--receiver-port", str(free_port())]
        super().__init__("dev", *options, *ports, folder=folder, environment=environment, say=say)

    @property
    def receiver_url(self) -> str:
        """Where the receiver answers."""
        return self._found(_DEV_RECEIVER)

    def arrivals(self) -> list[dict[str, Any]]:
        """Return every first arrival that the receiver ever recorded, in order."""
        return arrivals_of(self.data / "received.jsonl")


def arrivals_of(record: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a receiver's record; a line that is being written now is left for later."""
    if not record.exists():
        return []
    text = record.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def unthrottled_rules(folder: Path, *, lease: str = "60s") -> Path:
    """Copy the shipped rules to ``folder`` with connectors that are as fast as their systems, and return it.

    What differs is how the dispatcher drives connectors: no rates, many slots, and a send whose outcome a crash
    left unknown is repeated once its ``lease`` has ended. What is decided is the same.
    """
    shutil.copytree(RULES, folder)
    path = folder / "connectors.yaml"
    written = yaml.safe_load(path.read_text())
    for connector in written["connectors"].values():
        driven = connector["delivery"]
        driven.pop("rate", None)
        driven |= {"concurrency": 50, "lease": lease, "on_unknown": "retry"}
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    return folder
