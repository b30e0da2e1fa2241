"""Ctrl-C while the command is still being loaded ends it without a trace."""

from __future__ import annotations

import subprocess
import sys

#: Loading the command line is interrupted, as SIGINT does it in the middle of an import.
INTERRUPTED = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "rich.table":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from orchestrator.entry import main
main()
"""


def test_an_interrupted_start_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
