"""Formatting: one canonical form, comments kept, meaning never changed."""

from __future__ import annotations

from pathlib import Path
from random import Random  # noqa: TID251 - a seeded source of untidiness, which decides nothing.
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import ConfigurationError
from orchestrator.rulebook.fmt import format_files, formatted
from orchestrator.rulebook.gather import plain
from orchestrator.rulebook.grammar import OfPart, Shape, file_part, item_shape, part_at, shape_at
from orchestrator.rulebook.load import Loaded, folder_files, load_rulebook_files
from orchestrator.rulebook.models.journey import JourneyFile
from orchestrator.rulebook.source import SourceFault, read_source

RULES = Path(__file__).parents[3] / "rules"
FILES = folder_files(RULES)


def fmt(text: str) -> str:
    """The canonical form of a journey file."""
    return formatted(text.encode(), JourneyFile).decode()


# ------------------------------------------------------------------------------------- the canonical form

UNTIDY = """


# yaml-language-server: $schema=schema.json
rules:   # all of them
    # the first
    -   do:
            -   send: {template: "a#b",connector:   sms}  # why
                # a tail of the step

        # before on
        on:   {
          event: e,  # inner
          # loose in flow
          where: {value: 3, op: gt, field: event.x}
        }
        title: >-  # folded
            one

            two # not a comment
              deeper

        id: r1
        # the end of r1
    # the second
    - id: r2
      on: {event: e}
      title: a long
         plain text
         over lines  # after text
      do: [{exit: true}]
# between
stages:
  a:          {on: {event: e}}        # aligned
  longer:     {on: {event: f}}
journey: j
title: "quoted
   over lines"
# the end
"""

TIDY = """\
# yaml-language-server: $schema=schema.json
journey: j
title: "quoted
  over lines"
# between
stages:
  a:      {on: {event: e}}            # aligned
  longer: {on: {event: f}}

rules:  # all of them
  # the first
  - id: r1
    title: >-  # folded
      one

      two # not a comment
        deeper

    # before on
    on:
      event: e  # inner
      # loose in flow
      where: {field: event.x, op: gt, value: 3}
    do:
      - send: {connector: sms, template: "a#b"}  # why
        # a tail of the step
    # the end of r1

  # the second
  - id: r2
    title: a long
      plain text
      over lines  # after text
    on: {event: e}
    do: [{exit: true}]
# the end
"""


def test_keys_blocks_and_comments_fall_into_place() -> None:
    assert fmt(UNTIDY.replace("rules:   #", "rules:  #")) == TIDY


def test_what_is_canonical_stays_as_it_is() -> None:
    assert fmt(TIDY) == TIDY


def test_names_of_the_author_keep_their_order_for_stages_are_ordered() -> None:
    text = "journey: j\nstages:\n  zebra: {on: {event: e}}\n  apple: {on: {event: f}}\n"
    assert fmt(text) == text


def test_parts_that_stand_beside_plain_values_are_ordered_too() -> None:
    before = "journey: j\nrules:\n  - do: [{wait: {offset: -1d, until: event.at}}]\n    id: r\n"
    after = "journey: j\n\nrules:\n  - id: r\n    do: [{wait: {until: event.at, offset: -1d}}]\n"
    assert fmt(before) == after


def test_a_byte_order_mark_and_line_ends_of_windows_go() -> None:
    assert formatted(b"\xef\xbb\xbftitle: t\r\njourney: j\r\n", JourneyFile) == b"journey: j\ntitle: t\n"


@pytest.mark.parametrize("end", ["\r", "\r\n", "\x85", "\u2028", "\u2029"])
def test_whatever_ends_a_line_for_yaml_becomes_the_plain_end(end: str) -> None:
    text = "# one\n# two\ntitle: |\n  t\n  u\njourney: j # of\nstages: {a: {on: {event: e}}}\n"
    after = fmt("# one\n# two\njourney: j  # of\ntitle: |\n  t\n  u\nstages: {a: {on: {event: e}}}\n")
    assert fmt(text) == after
    if end in "\u2028\u2029":
        text = text.replace("|\n  t\n  u", "t")
        after = after.replace("|\n  t\n  u", "t")
    assert fmt(text.replace("\n", end)) == after


@pytest.mark.parametrize("end", ["\u2028", "\u2029"])
def test_a_line_end_that_is_part_of_a_text_is_not_taken_out_of_it(end: str) -> None:
    with pytest.raises(SourceFault, match="cannot be formatted without changing what it says; it is left as it is"):
        fmt(f'journey: j\ntitle: "one{end}two"\n')


def test_values_that_are_not_there_and_empty_collections_stay() -> None:
    assert fmt("title:\nrules: []\njourney: j\nstages: {a: , b: {}}\n") == (
        "journey: j\ntitle:\nstages: {a: , b: {}}\n\nrules: []\n"
    )


def test_keys_that_the_language_does_not_have_stand_last() -> None:
    assert fmt("tittle: t\njourney: j\n") == "journey: j\ntittle: t\n"


def test_an_empty_file_and_one_with_comments_only_are_left() -> None:
    assert fmt("") == ""
    assert fmt("# nothing yet\n") == "# nothing yet\n"


def test_a_file_that_cannot_be_read_is_named_with_its_line() -> None:
    with pytest.raises(SourceFault, match='duplicate key "journey"; it is already on line 1'):
        fmt("journey: a\njourney: b\n")


def test_a_text_that_would_change_is_left_as_it_is() -> None:
    with pytest.raises(SourceFault, match="cannot be formatted without changing what it says; it is left as it is"):
        fmt("title: |4\n      two spaces deep\njourney: j\n")


# ------------------------------------------------------------------------------------ meaning never changes


def scrambled(value: Any, shape: Shape, draw: Random) -> Any:
    """The same value with the keys of every part in another order."""
    if isinstance(value, list):
        return [scrambled(item, item_shape(shape), draw) for item in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    if part_at(shape, value) is not None:
        draw.shuffle(keys)
    return {key: scrambled(value[key], shape_at(shape, value, key), draw) for key in keys}


def untidy(name: str, content: bytes, draw: Random) -> bytes:
    """A shipped file as somebody else might have written it."""
    part = file_part(name)
    assert part is not None
    value = scrambled(plain(read_source(name, content)), OfPart(part), draw)
    style = draw.choice([None, False, True])
    text = yaml.safe_dump(
        value,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=style,
        indent=draw.choice([2, 3, 4]),
        width=draw.choice([40, 120, 10_000]),
    )
    return str(text).encode()


@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_any_way_of_writing_a_file_means_the_same_when_formatted_and_twice_is_once(name: str, seed: int) -> None:
    part = file_part(name)
    assert part is not None
    before = untidy(name, FILES[name], Random(seed))
    after = formatted(before, part)
    assert read_source(name, after) == read_source(name, before) == read_source(name, FILES[name])
    assert formatted(after, part) == after


def test_a_rulebook_loads_the_same_before_and_after() -> None:
    draw = Random(20260302)
    before = {name: untidy(name, content, draw) for name, content in FILES.items()}
    after = {name: formatted(content, file_part(name)) for name, content in before.items()}  # type: ignore[arg-type]
    assert _meaning(load_rulebook_files(before)) == _meaning(load_rulebook_files(after))


def _meaning(loaded: Loaded) -> tuple[Any, ...]:
    assert loaded.ok
    kept = [
        (file.file, [(case.name, case.events[0].at_ms, case.until_ms) for case in file.cases]) for file in loaded.cases
    ]
    journeys = [
        (one.id, one.stages, one.key, [(rule.id, rule.trigger, rule.when, rule.exit_when) for rule in one.rules])
        for one in loaded.journeys
    ]
    limits = [(rule.limits, rule.arbitrate, rule.captures) for one in loaded.journeys for rule in one.rules]
    return journeys, limits, loaded.aggregates, loaded.connectors, loaded.plan.events, loaded.plan.traits, kept


# ---------------------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text("journey: good\ntitle: Good\n")
    (tmp_path / "bad.yaml").write_text("title: Bad\njourney: bad\n")
    return tmp_path


def test_check_lists_what_is_not_canonical_and_writes_nothing(folder: Path) -> None:
    done = CliRunner().invoke(app, ["fmt", str(folder), "--check"])
    assert (done.exit_code, done.output) == (1, f"{folder / 'bad.yaml'}\n1 of 2 files not in canonical form\n")
    assert (folder / "bad.yaml").read_text() == "title: Bad\njourney: bad\n"


def test_formatting_writes_what_was_not_canonical_and_then_all_is_well(folder: Path) -> None:
    done = CliRunner().invoke(app, ["fmt", str(folder)])
    assert (done.exit_code, done.output) == (0, f"{folder / 'bad.yaml'}\n1 of 2 files written anew\n")
    assert (folder / "bad.yaml").read_text() == "journey: bad\ntitle: Bad\n"
    assert CliRunner().invoke(app, ["fmt", str(folder), "--check"]).exit_code == 0


def test_one_file_may_be_named(folder: Path) -> None:
    assert CliRunner().invoke(app, ["fmt", str(folder / "good.yaml"), "--check"]).exit_code == 0
    assert CliRunner().invoke(app, ["fmt", str(folder / "bad.yaml"), "--check"]).exit_code == 1


def test_a_file_with_a_fault_is_named_and_left_while_the_others_are_written(folder: Path) -> None:
    (folder / "faulty.yaml").write_text("journey: [\n")
    done = CliRunner().invoke(app, ["fmt", str(folder)])
    assert done.exit_code == 1
    assert f"{(folder / 'faulty.yaml').as_posix()}:2  not valid YAML" in done.output
    assert (folder / "faulty.yaml").read_text() == "journey: [\n"
    assert (folder / "bad.yaml").read_text() == "journey: bad\ntitle: Bad\n"


def test_a_path_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fmt", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, ConfigurationError), "which ends the command with 2"
    assert str(done.exception) == f"{tmp_path / 'nowhere'}: there is no such folder; name the one with your journeys"


def test_a_file_that_is_no_rule_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (found,) = format_files(tmp_path / "notes.txt")
    assert found.fault == "not a rule file: its name ends in .yaml or .yml"
    assert not found.changed
