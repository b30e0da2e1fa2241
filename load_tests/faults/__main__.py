"""Carries out faults and writes the report.

    python -m load_tests.faults [--only NAME ...] [--seed N] [--short] [--date DAY] [--report FILE]

Exit code 0 when every invariant held, 1 otherwise. Everything runs on loopback and ends with this process.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from load_tests.faults.catalogue import faults_named
from load_tests.faults.machine import commit, description, versions
from load_tests.faults.report import as_json, markdown
from load_tests.faults.run import Faults, Row, cleaned
from orchestrator.adapters.clock import SystemClock
from orchestrator.core.moment import format_moment

SESSION_TIMEOUT_S = 6


def main() -> int:
    """Run and report."""
    options = _options()
    faults = faults_named(options.only)
    # An end by SIGTERM unwinds like Ctrl-C, so that every process is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="journey-faults-"))
    run = Faults(folder, options.seed, short=options.short, rate=options.rate, say=_say)
    began, rows = time.monotonic(), list[Row]()
    ending = began + options.minutes * 60
    try:
        for row in run.rows(faults):
            rows.append(row)
            if time.monotonic() > ending:
                _say(f"the {options.minutes:g} minutes are over; what is left was not carried out")
                break
    finally:
        about = {
            "date": options.date or format_moment(SystemClock().now_ms())[:10],
            "machine": description(),
            "versions": versions(next((one.redis_version for one in rows if one.redis_version), "unknown")),
            "commit": commit(),
            "seed": options.seed,
            "rate": options.rate,
            "minutes": (time.monotonic() - began) / 60,
            "command": "make faults" if not options.only and not options.short else "python -m load_tests.faults",
            "session_timeout_s": SESSION_TIMEOUT_S,
        }
        _write(rows, about, options.report)
    cleaned(folder, rows)
    broken = [row for row in rows if not row.holds]
    if broken or len(rows) < len(faults):
        _say(f"logs are in {folder}")
    return 1 if broken or len(rows) < len(faults) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m load_tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="names or numbers of faults")
    parser.add_argument("--seed", type=int, default=1, help="seed of the nemesis and of the load")
    parser.add_argument("--rate", type=int, default=60, help="events a second")
    parser.add_argument("--minutes", type=float, default=40, help="begin no further fault after this time")
    parser.add_argument("--short", action="store_true", help="each fault once, quickly")
    parser.add_argument("--date", default="", help="day that the report is dated, today by default")
    parser.add_argument("--report", type=Path, help="Markdown file to write; its JSON gets the same name")
    return parser.parse_args()


def _write(rows: list[Row], about: dict[str, object], path: Path | None) -> None:
    text = markdown(rows, about)
    if path is None:
        sys.stdout.write(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.with_suffix(".json").write_text(json.dumps(as_json(rows, about), indent=1) + "\n")
    _say(f"written: {path}")


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
