"""Event files, as people and spreadsheets write them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.event import Event
from orchestrator.errors import ConfigurationError
from orchestrator.rulebook.tracking_plan import EventType, Property, TrackingPlan
from orchestrator.runtime import eventfile
from orchestrator.runtime.event_table import cell
from orchestrator.runtime.eventfile import EventFile, Line, RefusedLine, read_events
from orchestrator.runtime.intake import Intake, Limits

AT_MS = 1_772_425_800_000
HEAD = "id,type,customer_id,occurred_at"
ROW = f"e1,cart_updated,c1,{AT_MS}"
EVENT = {"id": "e1", "type": "cart_updated", "customer_id": "c1", "occurred_at": AT_MS}
MOMENT = 'Send a time such as "2026-03-02T10:00:00+05:30", or whole milliseconds such as 1772425800000.'


class AnyEvent:
    def check(self, event_type: str, properties: Mapping[str, Any]) -> None:
        return None


def read(path: Path, content: str | bytes) -> list[Event | RefusedLine]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_events(path, Intake(AnyEvent(), "default", Limits())))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "events.csv"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def refusals(found: list[Event | RefusedLine]) -> list[tuple[int, str, str]]:
    assert all(isinstance(one, RefusedLine) for one in found), found
    return [(one.number, str(one.refused), one.refused.remedy) for one in found if isinstance(one, RefusedLine)]


# --------------------------------------------------------------------------------------------------------- CSV


def test_cells_are_what_they_look_like(table: Path) -> None:
    (event,) = read(table, f'{HEAD},total,gift,tags,name,note\n{ROW},80.5,true,"[1, 2]",tea,\n')
    assert isinstance(event, Event)
    assert event.properties == {"total": 80.5, "gift": True, "tags": [1, 2], "name": "tea"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_mark_of_a_spreadsheet_is_no_part_of_the_first_column(table: Path, encoding: str) -> None:
    (event,) = read(table, f"{HEAD},name\r\n{ROW},Zoë\r\n".encode(encoding))
    assert isinstance(event, Event)
    assert (event.id, event.properties) == ("e1", {"name": "Zoë"})


def test_a_cell_beyond_the_limit_is_named_by_its_row(table: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(table, f'{HEAD},note\n{ROW},ok\n{ROW},"{"x" * 70_000}\n{"y" * 70_000}"\n')
    assert str(refused.value) == (
        f"Cannot read {table}: in the row that begins on line 3: field larger than field limit (131072). "
        "Shorten the cell, or close the quotation mark that it begins with."
    )


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("\u00b2", 'occurred_at "\u00b2" is not an RFC 3339 time.'),
        ("9" * 5_000, f'occurred_at "{"9" * 58}… is not an RFC 3339 time.'),
        ("9" * 18, "occurred_at lies outside the years 1970 to 9988."),
        ("1.77E+12", 'occurred_at "1.77E+12" is not an RFC 3339 time.'),
    ],
)
def test_a_cell_that_is_no_moment_is_refused_with_its_line(table: Path, written: str, message: str) -> None:
    found = read(table, f"{HEAD}\ne1,cart_updated,c1,{written}\n")
    assert refusals(found) == [(2, message, MOMENT)]


@pytest.mark.parametrize("cell", ["[" * 5_000, "[" * 5_000 + "]" * 5_000, '{"a":' * 3_000])
def test_a_cell_that_nests_too_deeply_is_refused_with_its_line(table: Path, cell: str) -> None:
    quoted = cell.replace('"', '""')
    refused, event = read(table, f'{HEAD},a\n{ROW},"{quoted}"\ne2,cart_updated,c1,{AT_MS},[\n')
    assert refusals([refused]) == [
        (2, "The event nests objects or lists more than 16 deep.", "Flatten its properties.")
    ]
    assert isinstance(event, Event)
    assert event.properties == {"a": "["}


def test_what_is_no_text_says_what_to_do(table: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(table, f"{HEAD},name\n{ROW},Zo\x81\n".encode("latin-1"))
    assert str(refused.value) == (f"Cannot read {table}: it is neither UTF-8 nor Windows-1252. Save it as UTF-8.")


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("cp1252", "it is not UTF-8 and is read as Windows-1252; look at its accents, or save it as UTF-8"),
    ],
)
def test_a_table_is_read_in_the_encodings_of_spreadsheets(table: Path, encoding: str, note: str | None) -> None:
    heard: list[str] = []
    table.write_bytes(f"{HEAD},name\n{ROW},Zo\xeb \u20ac\n".encode(encoding))
    (event,) = read_events(table, Intake(AnyEvent(), "default", Limits()), PLAN, heard.append)
    assert isinstance(event, Event)
    assert event.properties == {"name": "Zo\xeb \u20ac"}
    assert heard == ([] if note is None else [f"{table}: {note}."])


def test_lines_of_json_may_be_utf_16(lines: Path) -> None:
    (event,) = read(lines, (json.dumps(EVENT) + "\r\n").encode("utf-16"))
    assert isinstance(event, Event)


PLAN = TrackingPlan(
    {
        "cart_updated": EventType(
            "cart_updated",
            {
                "code": Property("string"),
                "firstName": Property("string"),
                "total": Property("number"),
                "count": Property("integer"),
                "gift": Property("boolean"),
                "items": Property("array"),
            },
        )
    },
    {"email": Property("string")},
)


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        ("string", "1001", "1001"),
        ("string", "12E4", "12E4"),
        ("string", "12345678901234567890", "12345678901234567890"),
        ("string", "true", "true"),
        ("string", " x ", " x "),
        ("string", '["a"]', '["a"]'),
        ("number", "1001", 1001),
        ("number", "79.90", 79.9),
        ("number", "1e3", 1000.0),
        ("number", " 007 ", 7),
        ("number", "1e999", "1e999"),
        ("number", "79,90", "79,90"),
        ("number", "9" * 19, "9" * 19),
        ("integer", "5", 5),
        ("boolean", "TRUE", True),
        ("boolean", "yes", "yes"),
        ("array", "[1]", [1]),
        ("array", "[1", "[1"),
        ("", "1001", 1001),
        ("", "-0.50", -0.5),
        ("", "0123", "0123"),
        ("", "12E4", "12E4"),
        ("", "919812345678", 919812345678),
        ("", "12345678901234567890", "12345678901234567890"),
        ("", "false", False),
        ("", "True", "True"),
        ("", "{", "{"),
    ],
)
def test_a_cell_is_what_the_plan_says_and_else_what_it_plainly_is(kind: str, written: str, meant: Any) -> None:
    found = cell(kind, written)
    assert (found, type(found)) == (meant, type(meant))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_columns_are_known_however_they_are_separated_and_spelt(table: Path, separator: str) -> None:
    header = ["ID", "Type", "Customer ID", "occurred-at", "First Name", "Code", "Other"]
    row = ["e1", "cart_updated", "c1", str(AT_MS), "Zo\xeb", "1001", "1001"]
    table.write_text(f"{separator.join(header)}\n{separator.join(row)}\n")
    heard: list[str] = []
    (event,) = read_events(table, Intake(AnyEvent(), "default", Limits()), PLAN, heard.append)
    assert isinstance(event, Event)
    assert (event.id, event.customer_id) == ("e1", "c1")
    assert event.properties == {"firstName": "Zo\xeb", "code": "1001", "Other": 1001}
    assert heard[-1].endswith(
        ": of the columns, ID is id, Type is type, Customer ID is customer_id, occurred-at is occurred_at, "
        "First Name is firstName, Code is code."
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("id,type,occurred_at,name", "There is no column customer_id; the columns are: id, type, occurred_at, name."),
        (f"{HEAD},Customer ID", "There are two columns customer_id: rename or remove one of them."),
        ("", "There is no column type; the columns are: ."),
    ],
)
def test_a_table_whose_columns_cannot_be_told_is_not_read(table: Path, header: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(table, f"{header}\n{ROW},c2\n")
    assert str(refused.value) == f"Cannot read {table}: {message}"


def test_a_row_with_surplus_cells_is_refused_and_no_other(table: Path) -> None:
    ragged, short, padded = read(table, f"{HEAD},name,\n{ROW},x,,y,z\n{ROW}\n{ROW},x,,,\n")
    assert refusals([ragged]) == [
        (
            2,
            "The row has more cells than the 6 columns: y, z.",
            "Put what has a separator in it into quotation marks, or name its column.",
        )
    ]
    assert isinstance(short, Event) and isinstance(padded, Event)


def test_a_line_too_long_to_be_an_event_is_refused_and_no_other(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventfile, "LINE_BYTES_MAX", 200)
    refused, event = read(lines, "x" * 950 + "\n" + json.dumps(EVENT) + "\n")
    assert refusals([refused]) == [
        (1, "The line is longer than 200 bytes.", "Send one JSON object an event, a line each.")
    ]
    assert isinstance(event, Event)


# -------------------------------------------------------------------------------------------------- JSON lines


def test_a_mark_before_the_first_line_is_no_part_of_it(lines: Path) -> None:
    line = json.dumps(EVENT).encode() + b"\r\n"
    found = read(lines, codecs.BOM_UTF8 + line + line)
    assert [one.id for one in found if isinstance(one, Event)] == ["e1", "e1"]


# ------------------------------------------------------------------------------------------ when it was received


def stamped(received_at: str) -> str:
    return json.dumps(EVENT)[:-1] + f', "received_at": {received_at}}}\n'


def received(found: list[Event | RefusedLine]) -> list[int]:
    return [one.received_at_ms for one in found if isinstance(one, Event)]


def test_a_stamp_is_kept_and_without_one_no_event_is_received_before_the_one_above(lines: Path, table: Path) -> None:
    content = (
        stamped(str(AT_MS + 7_000)) + json.dumps(EVENT) + "\n" + stamped("null") + stamped('"2026-03-02T05:00:00Z"')
    )
    assert received(read(lines, content)) == [AT_MS + 7_000, AT_MS + 7_000, AT_MS + 7_000, AT_MS + 1_800_000]
    content = f"{HEAD},received_at\n{ROW},{AT_MS + 7_000}\n{ROW},\n{ROW},2026-03-02T05:00:00Z\n"
    assert received(read(table, content)) == [AT_MS + 7_000, AT_MS + 7_000, AT_MS + 1_800_000]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("9" * 33, "received_at lies outside the years 1970 to 9988."),
        (str(2**63 - 1), "received_at lies outside the years 1970 to 9988."),
        ("-1", "received_at lies outside the years 1970 to 9988."),
        ('"0001-01-01T00:00:00+14:00"', "received_at lies outside the years 1970 to 9988."),
        ('"today"', 'received_at "today" is not an RFC 3339 time.'),
        ("1e12", "received_at must be a whole number of milliseconds or an RFC 3339 time, not a number."),
        ("[]", "received_at must be an RFC 3339 time or epoch milliseconds, not a list."),
    ],
)
def test_a_stamp_that_is_no_moment_refuses_its_line_and_no_other(lines: Path, written: str, message: str) -> None:
    refused, event = read(lines, stamped(written) + json.dumps(EVENT))
    assert refusals([refused]) == [(1, message, MOMENT)]
    assert isinstance(event, Event)
    assert event.received_at_ms == AT_MS


def test_the_rest_of_a_line_with_a_stamp_stays_as_it_is_written(lines: Path) -> None:
    lines.write_text('{"n": 123456789012345678901234567890, "x": 1.50, "received_at": 5, "p": {"received_at": 6}}\n')
    with EventFile(lines) as file:
        (line,) = file.lines()
    assert isinstance(line, Line)
    assert line.value == b'{"n":123456789012345678901234567890,"x":1.50,"p":{"received_at": 6}}'
    assert (line.number, line.received_at) == (1, 5)


def test_a_line_that_is_no_json_is_refused_whatever_it_says_of_a_stamp(lines: Path) -> None:
    deep = '{"received_at": ' + "[" * 5_000
    assert refusals(read(lines, '{"received_at": 5, oops\n[{"received_at": 5}]\n' + deep)) == [
        (
            1,
            "The event is not JSON: object keys must be strings (byte 19).",
            "Send one JSON object an event, encoded as UTF-8.",
        ),
        (2, "An event is an object, not a list.", "Send one JSON object an event."),
        (3, "The event nests objects or lists more than 16 deep.", "Flatten its properties."),
    ]
