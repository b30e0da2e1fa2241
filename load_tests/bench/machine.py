"""The machine under the benchmark: what it is, on which cores a process runs, what a process has used."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("faust-streaming", "aiokafka", "redis", "hiredis", "msgspec", "fastapi", "uvicorn")

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def described() -> dict[str, str | int]:
    """Return processor, number of cores, memory and operating system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the libraries that speed hangs on; one that is not installed is left out."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def load_average() -> float:
    """Return how many processes wanted to run, on average over the last minute."""
    return os.getloadavg()[0]


def contender_cores() -> set[int]:
    """Return the core that whatever is being measured has for itself."""
    return {max(os.sched_getaffinity(0))}


def other_cores() -> set[int]:
    """Return the cores of everything else: the servers and what makes the load. One core is shared by all."""
    everyone = os.sched_getaffinity(0)
    return everyone - contender_cores() or everyone


def pin(pid: int, cores: set[int]) -> None:
    """Bind a process to cores, with every thread it has; threads and processes it starts later inherit it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)


def cpu_s(pids: Sequence[int]) -> float:
    """Return the seconds of processor time that living processes have used, in user mode and in the kernel."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Return how much memory a process holds now, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
