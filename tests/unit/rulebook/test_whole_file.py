"""Files that are written as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.rulebook.whole_file import write_whole


def test_a_file_takes_the_place_of_another_with_its_permissions_and_behind_its_link(tmp_path: Path) -> None:
    path, link = tmp_path / "rules.yaml", tmp_path / "link.yaml"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, b"new")
    assert (path.read_text(), path.stat().st_mode & 0o777, link.is_symlink()) == ("new", 0o640, True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.yaml", "rules.yaml"]


def test_a_writer_that_is_stopped_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("old")

    def stopped(self: Path, target: Path) -> Path:
        raise SystemExit(130)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(SystemExit):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["rules.yaml"]
