"""Where the ``journey`` command begins: before anything is loaded that Ctrl-C could interrupt with a trace."""

from __future__ import annotations

#: What shells expect of a process that Ctrl-C has ended.
INTERRUPTED = 130


def main() -> None:
    """Load the command line and run it."""
    try:
        from orchestrator.cli import main as run  # noqa: PLC0415 - loading takes a second, in which Ctrl-C may come.

        run()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
