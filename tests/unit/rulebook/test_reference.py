"""The reference: it describes every key, and every example in it is a line that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.rulebook.grammar import keys_of, reachable_parts
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.problem import Report, rendered
from orchestrator.rulebook.reading import parsed, read_part
from orchestrator.rulebook.reference import BEGIN, END, SECTIONS, reference, title_of, with_reference

RULES = Path(__file__).parents[3] / "rules"
README = (RULES / "README.md").read_text(encoding="utf-8")
REFERENCE = reference(RULES)
PARTS = {part.__name__: part for part in reachable_parts()}
BLOCK = re.compile(r"(?:<!-- part: (\w+) -->\n)?```yaml\n(.*?)\n```", re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in BLOCK.finditer(README)]


def test_every_part_that_a_file_may_hold_is_described() -> None:
    described = [part for parts in SECTIONS.values() for part in parts]
    assert len(described) == len(set(described))
    assert set(described) == reachable_parts()


@pytest.mark.parametrize("part", sorted(PARTS.values(), key=title_of), ids=title_of)
def test_every_key_has_a_row_with_its_meaning_and_an_example(part: type[Part]) -> None:
    section = REFERENCE.partition(f"#### {title_of(part)}\n")[2].partition("####")[0]
    rows = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows[cells[0].strip("`")] = cells
    assert list(rows) == list(keys_of(part))
    assert [key for key, cells in rows.items() if not cells[1] or not cells[3] or len(cells[4]) < 3] == []


def test_types_and_defaults_are_in_the_words_of_authors() -> None:
    text = REFERENCE
    assert "| `pause` | span | `30s` | How long it stays open before one attempt is made. | `30s` |" in text
    assert "| `when` | [condition](#conditions) |  | What must be true then. | `{in_segment: new_here}` |" in text
    assert "| `rearm` | `latest` `first` | `latest` |" in text
    assert "| `exit_when` | list of [exit event](#exit-event), or a single one |" in text
    assert "anything |" not in text.replace("mapping of names to anything", "")


def test_the_reference_in_the_readme_is_current() -> None:
    assert with_reference(README, RULES) == README, "run `journey reference`"


def test_the_readme_has_blocks_of_the_introduction_and_of_every_part() -> None:
    assert len(BLOCKS) >= len(PARTS) + 5
    assert [text for name, text in BLOCKS if name is None] == []


@pytest.mark.parametrize(("name", "text"), BLOCKS)
def test_every_block_of_the_readme_loads(name: str, text: str) -> None:
    report = Report()
    source = parsed("README.md", text.encode(), report)
    assert source is not None, rendered(report.problems)
    assert read_part(PARTS[name], source, report) is not None, rendered(report.problems)


def test_links_lead_to_headings() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in README.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) - headings == set()


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape(f"the file needs the two lines {BEGIN} and {END}")):
        with_reference("# Rules\n", RULES)


def test_the_command_writes_between_the_markers_and_leaves_the_rest(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Mine\n{BEGIN}\nof last week\n{END}\nafter\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["reference", str(readme)])
    assert done.exit_code == 0
    written = readme.read_text(encoding="utf-8")
    assert written.startswith(f"# Mine\n{BEGIN}\n\n### Journeys\n")
    assert written.endswith(f"{END}\nafter\n")
    assert "of last week" not in written
