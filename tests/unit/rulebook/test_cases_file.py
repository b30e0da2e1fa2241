"""Case files: relative moments made absolute, and what is wrong said at its line."""

from __future__ import annotations

from datetime import datetime

from orchestrator.core.reason import Reason
from orchestrator.rulebook.cases import CaseFile, read_cases
from orchestrator.rulebook.problem import Report, rendered
from orchestrator.rulebook.reading import parsed


def read(text: str) -> tuple[CaseFile | None, str]:
    report = Report()
    source = parsed("rules/a.cases.yaml", text.encode(), report)
    assert source is not None
    return read_cases(source, report), rendered(report.sorted())


START_MS = round(datetime.fromisoformat("2026-03-02T10:00:00+05:30").timestamp() * 1000)


def test_events_follow_each_other_and_expectations_follow_the_first() -> None:
    file, problems = read("""
cases:
  - case: a nudge
    customer: {id: c1, traits: {country: IN}, consents: {marketing: true}}
    events:
      - {at: "2026-03-02T10:00:00+05:30", type: a}
      - {at: "+29m", type: b, properties: {x: {y: [1]}}}
      - {at: "+1m", type: c, received: "+5m"}
    until: "+2h"
    expect:
      actions: [{connector: sms, at: "+30m", params: {code: X}}]
      stage: {purchase/k1: ordered}
      decisions: [{rule: r, reason: cooldown}]
""")
    assert problems == ""
    assert file is not None
    case = file.cases[0]
    minutes = [(event.at_ms - START_MS) // 60_000 for event in case.events]
    assert minutes == [0, 29, 30]
    assert (case.events[2].received_at_ms - START_MS) // 60_000 == 35
    assert (case.until_ms - START_MS) // 60_000 == 120
    assert case.expect.actions is not None
    assert case.expect.actions[0].at_ms == START_MS + 30 * 60_000
    assert case.expect.actions[0].params == {"code": "X"}
    assert case.expect.stages == {"purchase/k1": "ordered"}
    assert (case.file, case.line, case.customer.consents) == ("rules/a.cases.yaml", 3, {"marketing": True})


def test_without_until_the_clock_runs_to_the_last_event() -> None:
    file, _ = read(
        "cases: [{case: x, events: [{at: '2026-03-02T10:00:00+05:30', type: a}, {at: +1h, type: b}], expect: {}}]"
    )
    assert file is not None
    assert file.cases[0].until_ms == START_MS + 3_600_000
    assert file.cases[0].expect.actions is None


def test_a_moment_without_an_offset_is_refused() -> None:
    file, problems = read("""
cases:
  - case: x
    events:
      - {at: "+5m", type: a}
      - {at: "2026-03-02T10:00:00", type: b}
    expect: {decisions: [{reason: becuase}]}
""")
    assert file is None
    assert problems == (
        'rules/a.cases.yaml:5  case "x" \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} event 1\n'
        '    at: expected a moment with its offset such as "2026-03-02T10:00:00+05:30", got "+5m"\n'
        'rules/a.cases.yaml:6  case "x" \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} event 2\n'
        '    at: expected a moment with its offset such as "2026-03-02T10:00:00+05:30" or a span such as "+29m", '
        'got "2026-03-02T10:00:00"\n'
        'rules/a.cases.yaml:7  case "x"\n'
        '    unknown reason "becuase". Known: already_in_play, arbitration_lost, arrived_late, cap_reached, '
        "channel_withdrawn, completed, consent_missing, consent_withdrawn, cooldown, duplicate_event, erased, "
        f'execution_failed and {len(Reason) - 12} more. Did you mean "erased"?'
    )
