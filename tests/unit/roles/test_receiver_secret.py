"""The secret that an engine shares with the receiver beside it: made once, for its owner's eyes."""

from __future__ import annotations

import stat
from pathlib import Path

from connectors.signature import parse_secrets
from orchestrator.roles.receiver import shared_environment, shared_secret


def test_the_secret_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    first = shared_environment(tmp_path, "http://127.0.0.1:8090")
    assert first == shared_environment(tmp_path, "http://127.0.0.1:8090")
    [key] = parse_secrets(shared_secret(first))
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / "receiver-secret").stat().st_mode) == 0o600


def test_every_data_folder_has_another_secret(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    assert len({shared_secret(shared_environment(folder, "")) for folder in folders}) == 2


def test_the_environment_may_name_another_secret_or_none(tmp_path: Path) -> None:
    shared = shared_environment(tmp_path, "")
    assert shared_secret(shared | {"RECEIVER_SECRET_ENV": "OURS", "OURS": "whsec_x"}) == "whsec_x"
    assert shared_secret(shared | {"RECEIVER_SECRET_ENV": ""}) == ""
    assert shared_secret({}) == ""
