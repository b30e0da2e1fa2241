"""Spans and times of day."""

from __future__ import annotations

import pytest

from orchestrator.rulebook.span import parsed_clock_min, parsed_signed_span_ms, parsed_span_ms, shown_clock, shown_span


@pytest.mark.parametrize(
    ("text", "span_ms"),
    [
        ("500ms", 500),
        ("90s", 90_000),
        ("30m", 1_800_000),
        ("1d12h", 129_600_000),
        ("2w", 1_209_600_000),
        ("0s", 0),
        ("1.5h", None),
        ("h", None),
        ("30", None),
        ("-1h", None),
        ("4000d", None),
        (30, None),
        ("", None),
    ],
)
def test_a_span_is_numbers_with_units_and_at_most_ten_years(text: object, span_ms: int | None) -> None:
    assert parsed_span_ms(text) == span_ms


@pytest.mark.parametrize(
    ("text", "span_ms"), [("-2h", -7_200_000), ("+2h", 7_200_000), ("2h", 7_200_000), ("+-2h", None), (None, None)]
)
def test_an_offset_may_be_signed(text: object, span_ms: int | None) -> None:
    assert parsed_signed_span_ms(text) == span_ms


@pytest.mark.parametrize(
    ("text", "minute"), [("21:00", 1260), ("00:00", 0), ("24:00", None), ("9:00", None), (1260, None)]
)
def test_a_time_of_day_has_two_digits_each(text: object, minute: int | None) -> None:
    assert parsed_clock_min(text) == minute


@pytest.mark.parametrize("text", ["500ms", "90s", "1d12h", "7d", "0s"])
def test_a_span_is_shown_so_that_it_reads_back(text: str) -> None:
    span_ms = parsed_span_ms(text)
    assert span_ms is not None
    assert parsed_span_ms(shown_span(span_ms)) == span_ms


def test_a_time_of_day_is_shown_as_it_is_written() -> None:
    assert shown_clock(1260) == "21:00"
