"""What a command loads before it does anything: seconds of a terminal's user, and of each backtest in a script."""

from __future__ import annotations

import subprocess
import sys

#: Clients and servers of the running roles.
_NOT_FOR_FILES = {"aiohttp", "aiokafka", "aiosmtplib", "faust", "fastapi", "redis", "uvicorn"}


def test_a_backtest_of_a_file_loads_no_client_and_no_server() -> None:
    program = "import sys, orchestrator.cli, orchestrator.roles.backtest_text; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "orchestrator.runtime.replay" in loaded.split()
    assert _NOT_FOR_FILES & set(loaded.split()) == set()
