"""What several integration tests need beside the servers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE_PROJECT = Path(__file__).parent / "segment_node"
NODE_INSTALLED = Path(__file__).parents[2] / ".cache" / "segment_node"


@pytest.fixture(scope="session")
def node_library() -> Path:
    """The folder that Segment's Node library is installed in, at the version of package.json."""
    if shutil.which("npm") is None:
        pytest.fail("npm is not installed: run tests/install-debian, or install Node with npm.")
    wanted = (NODE_PROJECT / "package.json").read_text()
    done = NODE_INSTALLED / "installed.json"
    if not (done.exists() and done.read_text() == wanted):
        NODE_INSTALLED.mkdir(parents=True, exist_ok=True)
        (NODE_INSTALLED / "package.json").write_text(wanted)
        install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        installed = subprocess.run(
            install, cwd=NODE_INSTALLED, capture_output=True, text=True, check=False, timeout=120
        )
        assert installed.returncode == 0, installed.stdout + installed.stderr
        done.write_text(wanted)
    return NODE_INSTALLED
