"""A data folder belongs to one workspace for good, and to its owner alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.roles.embedded import embedded
from orchestrator.settings import Settings

RULES = Path(__file__).parents[3] / "rules"
RECEIVER = "http://127.0.0.1:9"


def settings(data: Path, workspace: str) -> Settings:
    return Settings(data=data, rules=RULES, workspace=workspace)


async def test_another_workspace_is_refused_the_folder(tmp_path: Path) -> None:
    async with embedded(settings(tmp_path, "acme"), RECEIVER):
        pass
    with pytest.raises(ConfigurationError) as refused:
        async with embedded(settings(tmp_path, "globex"), RECEIVER):
            pass
    assert str(refused.value) == (
        f'The data folder {tmp_path} belongs to the workspace "acme", not to "globex". Name another folder with '
        "--data, or correct JOURNEY_WORKSPACE."
    )
    async with embedded(settings(tmp_path, "acme"), RECEIVER) as again:
        assert again.intake.key("c1") == b"acme:c1"


async def test_a_folder_from_before_workspaces_were_noted_is_the_default_ones(tmp_path: Path) -> None:
    async with embedded(settings(tmp_path, "default"), RECEIVER):
        pass
    (tmp_path / "workspace").unlink()
    with pytest.raises(ConfigurationError, match='belongs to the workspace "default", not to "globex"'):
        async with embedded(settings(tmp_path, "globex"), RECEIVER):
            pass


async def test_the_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    made, older = tmp_path / "made", tmp_path / "older"
    older.mkdir()
    older.chmod(0o755)
    for data in (made, older):
        async with embedded(settings(data, "default"), RECEIVER):
            files = {stat.filemode(path.stat().st_mode) for path in data.glob("journey.sqlite3*")}
        assert (stat.filemode(data.stat().st_mode), files) == ("drwx------", {"-rw-------"})
