"""Moments in and out of text, at the edges of what a date can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.core.localtime import next_local_minute
from orchestrator.core.moment import MOMENT_MAX_MS, aware_moment, format_moment, number_or_text, parse_moment
from orchestrator.rulebook.span import SPAN_MAX_MS


@pytest.mark.parametrize(
    ("value", "moment_ms"),
    [
        ("2026-03-02T10:00:00+05:30", 1_772_425_800_000),
        ("2026-03-02T04:30:00.125Z", 1_772_425_800_125),
        (1_772_425_800_000, 1_772_425_800_000),
        ("1970-01-01T00:00:00Z", 0),
        ("9988-12-31T23:59:59.999Z", MOMENT_MAX_MS),
        ("9989-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("1969-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        (MOMENT_MAX_MS, MOMENT_MAX_MS),
        (MOMENT_MAX_MS + 1, None),
        (2**63 - 1, None),
        (10**30, None),
        (-1, None),
        ("2026-03-02T10:00:00", None),
        ("yesterday", None),
        ("", None),
        (True, None),
        (1_772_425_800_000.0, 1_772_425_800_000),
        (1_772_425_800_000.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (None, None),
    ],
)
def test_a_moment_has_an_offset_and_lies_in_the_years_1970_to_9988(value: Any, moment_ms: int | None) -> None:
    assert parse_moment(value) == moment_ms


@given(st.text() | st.integers() | st.datetimes(timezones=st.timezones()).map(datetime.isoformat))
def test_whatever_is_read_is_a_moment_in_bounds_or_none(value: Any) -> None:
    found = parse_moment(value)
    assert found is None or 0 <= found <= MOMENT_MAX_MS


@given(st.integers(0, MOMENT_MAX_MS))
@example(MOMENT_MAX_MS)
def test_what_is_written_is_read_as_the_same_moment(moment_ms: int) -> None:
    assert parse_moment(format_moment(moment_ms)) == moment_ms


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "America/St_Johns", "UTC"])
def test_from_the_last_moment_the_longest_span_leads_to_one_that_every_zone_has(zone: str) -> None:
    later_ms = next_local_minute(MOMENT_MAX_MS + SPAN_MAX_MS, 9 * 60, ZoneInfo(zone))
    assert aware_moment(later_ms) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=later_ms)


@pytest.mark.parametrize(
    ("moment_ms", "text"),
    [
        (1_772_425_800_125, "2026-03-02T04:30:00.125Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (10**15, "9999-12-31T23:59:59.999Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999Z"),
        (-(2**63), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_any_number_can_be_written_as_a_moment(moment_ms: int, text: str) -> None:
    assert format_moment(moment_ms) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1772425800000", 1_772_425_800_000),
        ("007", 7),
        ("2026-03-02T10:00:00Z", "2026-03-02T10:00:00Z"),
        ("-1", "-1"),
        ("", ""),
        ("\u00b2", "\u00b2"),
        ("\u0663", "\u0663"),
        ("9" * 5_000, "9" * 5_000),
    ],
)
def test_digits_are_a_number_and_all_else_stays_text(text: str, value: int | str) -> None:
    assert number_or_text(text) == value
