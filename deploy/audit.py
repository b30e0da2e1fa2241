"""Look every pinned dependency of the image up among the known vulnerabilities: `make audit`.

Exit code 0: looked up, nothing known. 1: something is known, each finding with the version that mends it. 2: the
source of advisories could not be reached, or knows some of the dependencies not at all; with AUDIT_OFFLINE=allow that
is said all the same and the exit code is 0, for machines that are cut off on purpose. Never is "could not look" taken
for "nothing found".
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PINNED = Path(__file__).with_name("constraints.txt")
SOURCES = ("pypi", "osv")
TIMEOUT_S = 120


def audited(source: str) -> list[dict[str, Any]] | None:
    """Return what a source says of each dependency, None when it does not answer."""
    options = ["--requirement", str(PINNED), "--disable-pip", "--no-deps", "--progress-spinner", "off"]
    command = [sys.executable, "-m", "pip_audit", *options, "--vulnerability-service", source, "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return found


def verdict(dependencies: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return what is known to be vulnerable, a line each, and the names that could not be looked up."""
    known = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in dependencies
        for flaw in one.get("vulns", ())
    ]
    return known, [one["name"] for one in dependencies if "skip_reason" in one]


def main() -> int:
    """Ask the sources in turn until one has looked everything up."""
    reports = []
    for source in SOURCES:
        dependencies = audited(source)
        if not dependencies:
            reports.append(f"{source} does not answer")
            continue
        known, missed = verdict(dependencies)
        if known:
            say("\n".join(known))
            return 1
        if not missed:
            say(f"{len(dependencies)} dependencies looked up at {source}: no known vulnerability.")
            return 0
        reports.append(f"{source} could not look up {len(missed)} of {len(dependencies)}")
    say(f"NOT AUDITED: {'; '.join(reports)}. Run `make audit` where pypi.org or api.osv.dev can be reached.")
    return 0 if os.environ.get("AUDIT_OFFLINE") == "allow" else 2


def say(text: str) -> None:
    """Print to the terminal."""
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
