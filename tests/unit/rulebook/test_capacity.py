"""Capacity in connectors.yaml: what is read, and what is refused with a place and a remedy."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from orchestrator.core.opening import OpeningHours, Window
from orchestrator.rulebook.capacity import Capacity, LineGroup
from orchestrator.rulebook.load import folder_files, load_rulebook_files
from orchestrator.rulebook.problem import rendered

BASE = folder_files(Path(__file__).parent / "broken" / "base")
HEAD = """connectors:
  email: {type: webhook, kind: email, settings: {url: "http://127.0.0.1:1/mail"}}
  sms: {type: webhook, kind: sms, settings: {url: "http://127.0.0.1:1/sms"}}
  voice:
    type: voice
    kind: call
    settings: {base_url: "http://127.0.0.1:1"}
"""
OFFICE = "{zone: Asia/Kolkata, windows: {from: '09:00', to: '18:00'}}"


def problems(text: str) -> str:
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    loaded = load_rulebook_files({**BASE, "connectors.yaml": (HEAD + lines).encode()}, shown_as="rules")
    return "\n".join(line for line in rendered(loaded.problems).splitlines() if line)


def test_a_capacity_is_read_in_full() -> None:
    text = """capacity:
      lines: 20
      line_hold: 5m
      call_min: 30s
      group_by: team
      groups:
        sales: {lines: 5}
        support: {opening_hours: {zone: UTC, windows: {days: [sat], from: "22:00", to: "00:00"}}}
      opening_hours:
        zone: Asia/Kolkata
        windows: [{days: [mon, tue], from: "09:00", to: "18:00"}]
        closed: ["2026-12-25", 2027-01-26]
      slot: 10m
"""
    loaded = load_rulebook_files({**BASE, "connectors.yaml": (HEAD + "    " + text).encode()})
    assert rendered(loaded.problems) == ""
    (voice,) = [one for one in loaded.connectors if one.name == "voice"]
    assert voice.delivery.capacity == Capacity(
        lines=20,
        hold_ms=300_000,
        call_min_ms=30_000,
        group_by="team",
        groups={
            "sales": LineGroup(lines=5),
            "support": LineGroup(hours=OpeningHours((Window(frozenset({5}), 1320, 0),), "UTC")),
        },
        hours=OpeningHours(
            (Window(frozenset({0, 1}), 540, 1080),),
            "Asia/Kolkata",
            frozenset({date(2026, 12, 25), date(2027, 1, 26)}),
        ),
        slot_ms=600_000,
    )


def test_calls_last_as_long_as_lines_are_held_where_nothing_else_is_said() -> None:
    loaded = load_rulebook_files(
        {**BASE, "connectors.yaml": (HEAD + "    capacity: {lines: 2, line_hold: 5m}\n").encode()}
    )
    (voice,) = [one for one in loaded.connectors if one.name == "voice"]
    assert voice.delivery.capacity == Capacity(lines=2, hold_ms=300_000, call_min_ms=300_000)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "delivery: {concurrency: 5}\ncapacity: {lines: 5}",
            8,
            "the lines of the capacity take the place of concurrency; leave one of them out",
        ),
        (
            "capacity: {lines: 2, groups: {sales: {lines: 5}}}",
            8,
            'the group "sales" has 5 lines, and the connector only 2',
        ),
        (
            "capacity: {lines: 2, line_hold: 1m, call_min: 2m}",
            8,
            "no call keeps its line longer than line_hold, 1m",
        ),
        (
            "capacity: {lines: 2, opening_hours: {zone: Asia/Kolkatta, windows: {from: '09:00', to: '18:00'}}}",
            8,
            'unknown zone "Asia/Kolkatta"; write an IANA name such as Asia/Kolkata. Did you mean "Asia/Kolkata"?',
        ),
        (
            "capacity: {lines: 2, opening_hours: {zone: UTC, windows: {from: '09:00', to: '09:10'}}}",
            8,
            "the window is shorter than a slot, 15m: nothing could be booked into it",
        ),
        (
            "capacity: {lines: 2, opening_hours: {zone: UTC, windows: {from: '09:00', to: '18:00'}, closed: [25.12.]}}",
            8,
            'expected a day such as 2026-12-25, got "25.12."',
        ),
        (
            "capacity: {lines: 2, group_by: team, groups: {'': {lines: 1}}}",
            8,
            "a group is named by a value of the param team, not by nothing",
        ),
        ("capacity: {lines: 0}", 8, "lines: must be at least 1, got 0"),
        ("capacity: {lines: 2, holds: 5m}", 8, 'unknown key "holds".'),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(text: str, line: int, message: str) -> None:
    said = problems(text)
    assert f"rules/connectors.yaml:{line}" in said
    assert message in said


def test_a_night_shift_is_as_long_as_its_hours() -> None:
    assert problems("capacity: {lines: 2, opening_hours: {zone: UTC, windows: {from: '22:00', to: '06:00'}}}") == ""
