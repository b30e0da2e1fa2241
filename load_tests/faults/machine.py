"""What a process takes of the machine, as the kernel tells it, and what the machine and its software are."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from load_tests.processes import ROOT
from load_tests.servers import KAFKA_VERSION


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process in MB, 0 when it has ended."""
    return _status_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """Return the most resident memory that a process ever had, in MB, 0 when it has ended."""
    return _status_mb(pid, "VmHWM")


def own_mb(pid: int) -> float:
    """Return the memory in MB that a process took for itself, files that it mapped left out; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Anonymous:")), 0.0)


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open, 0 when it has ended."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def commit() -> str:
    """Return the commit of this tree, with a mark when it has been changed since."""
    asked = ["git", "-C", str(ROOT)]
    found = subprocess.run([*asked, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*asked, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return (found.stdout.strip() or "unknown") + (" and changes" if changed.stdout.strip() else "")


def versions(redis_version: str) -> dict[str, str]:
    """Return the versions of what took part."""
    return {
        "Python": platform.python_version(),
        "Kafka": KAFKA_VERSION,
        "Redis": redis_version,
        **{name: version(name) for name in ("faust-streaming", "aiokafka", "redis")},
    }


def description() -> str:
    """Return the machine in a line."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.machine()}, Linux {platform.release().split('-')[0]}"


def _status_mb(pid: int, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)
