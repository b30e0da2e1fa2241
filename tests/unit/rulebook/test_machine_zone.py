"""Nothing that a customer reads depends on the zone of the machine that writes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RULES = Path(__file__).parents[3] / "rules"

TABLE = """
2026-03-14                | date                                        | 2026-03-14
2026-03-14                | date: '%d %b %H:%M'                         | 14 Mar 00:00
2026-03-14                | date: '%d %b', 'America/New_York'           | 14 Mar
2026-03-14                | date: '%s'                                  | 1773446400
20260314                  | date                                        | 2026-03-14
2026-03-10T10:00:00       | date: '%H:%M'                               | 10:00
2026-03-10T10:00:00       | date: '%H:%M %z'                            | 10:00 +0530
2026-03-10T10:00:00       | date: '%H:%M', 'Europe/London'              | 04:30
2026-03-10T10:00:00       | date: '%s'                                  | 1773117000
2026-03-10T10:00:00       | date: '%%s %-d'                             | %s 10
2026-03-10T10:00:00Z      | date: '%H:%M'                               | 15:30
2026-03-10T10:00:00Z      | date: '%s'                                  | 1773136800
2026-03-10T23:00:00-05:00 | date: '%d %b %H:%M'                         | 11 Mar 09:30
2026-03-10T23:00:00-05:00 | date: '%d %b %H:%M', 'as_written'           | 10 Mar 23:00
2026-03-10T10:00:00       | date: '%H:%M %Z', 'as_written'              | 10:00 UTC
1773136800000             | date: '%H:%M %Z'                            | 15:30 IST
1773136800000             | date: '%H:%M', 'as_written'                 | 10:00
"""
ROWS = [[cell.strip() for cell in row.split(" | ")] for row in TABLE.strip().splitlines()]
ZONES = ("America/New_York", "Asia/Tokyo", "Pacific/Apia")

PROGRAM = """
import json, sys
from pathlib import Path
from orchestrator.rulebook.load import load_rulebook
from orchestrator.rulebook.template import compiled_template
from orchestrator.runtime.preview import Given, Wanted, previews

def shown(value, filters):
    value = int(value) if value.isdigit() and len(value) > 8 else value
    facts = {"event": {"at": value}, "profile": {"timezone": "Asia/Kolkata"}, "run": {}}
    return compiled_template("t", {"p": "{{ event.at | " + filters + " }}"}).render(facts)["p"]

loaded = load_rulebook(Path(sys.argv[1]))
sends = [[one.rule, one.step, dict(one.params), one.faults] for one in previews(loaded, Wanted(), Given())]
print(json.dumps({"rows": [shown(*row) for row in json.loads(sys.argv[2])], "sends": sends}))
"""


def written_in(zone: str) -> dict[str, list[object]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(RULES), json.dumps([row[:2] for row in ROWS])],
        env={**os.environ, "TZ": zone},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, list[object]] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def everywhere() -> list[dict[str, list[object]]]:
    return [written_in(zone) for zone in ZONES]


def test_moments_are_written_as_the_table_says_in_every_zone_of_the_machine(
    everywhere: list[dict[str, list[object]]],
) -> None:
    wanted = [row[2] for row in ROWS]
    assert [answer["rows"] for answer in everywhere] == [wanted] * len(ZONES)


def test_every_send_of_the_packs_says_the_same_in_every_zone_of_the_machine(
    everywhere: list[dict[str, list[object]]],
) -> None:
    first, *others = (answer["sends"] for answer in everywhere)
    assert len(first) > 20
    assert all(other == first for other in others)
