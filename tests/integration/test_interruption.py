"""Commands that are asked to stop: real processes, real signals, in the midst of work that would not end by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from load_tests.processes import JOURNEY, ROOT, environment_of

pytestmark = pytest.mark.integration

SIGNALS = pytest.mark.parametrize(
    ("signum", "line"),
    [
        (signal.SIGINT, "Stopped by Ctrl-C before the end.\n"),
        (signal.SIGTERM, "Stopped by SIGTERM before the end.\n"),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
AT_MS = 1_772_425_800_000
#: A command that does not end when it is asked to is caught by this, not by a moment that it must keep.
PATIENCE_S = 60


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(JOURNEY), *arguments],
        cwd=ROOT,
        env=environment_of(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


@SIGNALS
def test_a_backtest_of_a_log_without_end_stops(tmp_path: Path, signum: int, line: str) -> None:
    """The log comes through a pipe, so that it is being read when the signal comes, and is never over."""
    log = tmp_path / "events.jsonl"
    os.mkfifo(log)
    process = started("backtest", "--events", str(log))
    with pytest.raises(BrokenPipeError), log.open("w") as pipe:
        for number in range(10_000_000):
            event = {"id": f"e{number}", "type": "cart_updated", "customer_id": f"c{number % 5_000}"}
            event |= {"occurred_at": AT_MS + number * 10, "properties": {"cart_id": f"k{number}", "total": 20}}
            pipe.write(json.dumps(event) + "\n")
            if number == 50_000:
                process.send_signal(signum)
    assert ended(process) == (128 + signum, "", line)


@SIGNALS
@pytest.mark.parametrize("command", ["explain asha", "plan", "versions", "dead-letters list", "publish --no-activate"])
def test_a_command_that_waits_for_a_gateway_stops(command: str, signum: int, line: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = started(*command.split(), "--url", f"http://127.0.0.1:{silent.getsockname()[1]}")
        silent.settimeout(PATIENCE_S)
        with silent.accept()[0] as connection:
            connection.settimeout(PATIENCE_S)
            assert connection.recv(16)
            process.send_signal(signum)
            assert ended(process) == (128 + signum, "", line)


@SIGNALS
def test_a_look_at_servers_that_do_not_answer_stops(signum: int, line: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = started("doctor", "--distributed", JOURNEY_KAFKA_BOOTSTRAP=address)
        silent.settimeout(PATIENCE_S)
        with silent.accept()[0]:
            process.send_signal(signum)
            assert ended(process) == (128 + signum, "", line)
