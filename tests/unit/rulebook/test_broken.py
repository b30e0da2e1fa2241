"""Deliberately broken rulebooks: each reports exactly what stands beside it in ``expected.txt``."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.rulebook.load import folder_files, load_rulebook_files
from orchestrator.rulebook.problem import rendered

BROKEN = Path(__file__).parent / "broken"
BASE = BROKEN / "base"
FOLDERS = sorted(path for path in BROKEN.iterdir() if path.is_dir() and path != BASE)


def problems_of(folder: Path) -> str:
    """The problems of the base companions with a folder's files laid over them."""
    loaded = load_rulebook_files({**folder_files(BASE), **folder_files(folder)}, shown_as="rules")
    return rendered(loaded.problems) + "\n"


def test_there_are_at_least_ten_broken_rulebooks() -> None:
    assert len(FOLDERS) >= 10


def test_the_base_that_broken_rulebooks_stand_on_has_no_problem() -> None:
    assert problems_of(BASE) == "\n"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_broken_rulebook_reports_exactly_what_is_wrong(folder: Path) -> None:
    assert problems_of(folder) == (folder / "expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_rulebook_with_errors_gives_no_journeys(folder: Path) -> None:
    loaded = load_rulebook_files({**folder_files(BASE), **folder_files(folder)})
    assert not loaded.ok
    assert loaded.journeys == ()
    assert loaded.aggregates == ()
