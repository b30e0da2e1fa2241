"""The YAML loader: every value knows its line, and the traps of YAML 1.1 are disarmed."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from orchestrator.rulebook.source import BYTES_MAX, DEPTH_MAX, Map, Seq, SourceFault, read_source


def read(text: str) -> Any:
    return read_source("rules/a.yaml", text.encode())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("21:00", "21:00"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z"),
        ("0912", "0912"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("12345678901234567890", "12345678901234567890"),
        ("+30", 30),
        ("-7", -7),
        ("1.50", 1.5),
        ("2e3", 2000.0),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("'null'", "null"),
        ('"12"', "12"),
    ],
)
def test_a_plain_scalar_means_what_its_author_sees(written: str, meant: Any) -> None:
    value = read(f"key: {written}")["key"]
    assert value == meant
    assert type(value) is type(meant)


def test_a_key_is_always_text() -> None:
    assert read("on: 1\n21: 2\ntrue: 3\nno: 4\n") == {"on": 1, "21": 2, "true": 3, "no": 4}


def test_every_key_value_and_item_knows_its_line_and_parent() -> None:
    root = read("a: 1\nb:\n  - x\n  - c: >-\n      long\n      text\n    d:\n      5\n")
    assert isinstance(root, Map)
    items = root["b"]
    assert isinstance(items, Seq)
    assert (root.line, root.key_lines) == (1, {"a": 1, "b": 2})
    assert items.item_lines == [3, 4]
    assert (items.parent, items.name) == (root, "b")
    assert (items[1].parent, items[1].name) == (items, 1)
    assert items[1].key_lines == {"c": 4, "d": 7}
    assert items[1].value_lines == {"c": 4, "d": 8}
    assert items[1].line_of("d") == 8
    assert root.line_of("b") == 2
    assert root.line_of("missing") == 1


def test_both_lines_of_a_duplicate_key_are_told() -> None:
    with pytest.raises(SourceFault, match=r'^duplicate key "a"; it is already on line 1$') as fault:
        read("a: 1\nb: 2\na: 3\n")
    assert fault.value.line == 3


@pytest.mark.parametrize("text", ["a: &x 1", "a: &x {b: 1}", "a: [1]\nb: *a", "<<: {a: 1}"])
def test_anchors_and_merge_keys_are_refused_with_what_to_use_instead(text: str) -> None:
    with pytest.raises(SourceFault) as fault:
        read(text)
    assert fault.value.message == (
        "anchors and merge keys (&name, *name, <<) are not supported; use a segment, a template or a limit set"
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "a: !!python/name:os 1",
            1,
            "tags such as tag:yaml.org,2002:python/name:os are not supported; write the plain value",
        ),
        ("? [a]\n: 1", 1, "a key must be plain text, not a list or a mapping"),
        ("a: 1\n---\nb: 1", 2, "a second document begins here; use one file for each"),
        ("just text", 1, "the file holds a single value; a mapping such as `journey: …` is expected"),
        (
            "a: b: c",
            1,
            'not valid YAML: mapping values are not allowed in this context; put text that contains ": " in quotes',
        ),
        ("a: [1\nb: 2", 2, "not valid YAML: did not find expected ',' or ']', while parsing a flow sequence"),
        ("a: \x07", 1, "the character #x07 is not allowed in YAML"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(text: str, line: int, message: str) -> None:
    with pytest.raises(SourceFault) as fault:
        read(text)
    assert (fault.value.line, fault.value.message) == (line, message)


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000])
def test_bottomless_nesting_is_refused_without_recursion(text: str) -> None:
    with pytest.raises(SourceFault, match=f"nested more than {DEPTH_MAX} levels deep"):
        read(text)


def test_a_file_over_the_ceiling_is_refused_unread() -> None:
    with pytest.raises(SourceFault, match="larger than 2,000,000 bytes"):
        read_source("rules/a.yaml", b"#" * (BYTES_MAX + 1))


def test_text_in_another_encoding_is_refused_at_its_line() -> None:
    with pytest.raises(SourceFault, match="not UTF-8") as fault:
        read_source("rules/a.yaml", b"a: 1\nb: caf\xe9\n")
    assert fault.value.line == 2


def test_an_empty_file_holds_nothing() -> None:
    assert read("# nothing yet\n") is None


def test_the_python_parser_reads_the_same_as_the_c_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: [1, {b: 'x', on: off}]\nc: |\n  text\nd: 21:00\n"
    fast = read(text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert read(text) == fast
