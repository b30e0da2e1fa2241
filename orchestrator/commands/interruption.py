"""Interruption: a command that is asked to stop (Ctrl-C, SIGTERM) stops at once, wherever it is.

A role ends in order instead: it takes the signals over once it runs (``roles.stopping``).
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn


class Interrupted(SystemExit):
    """The command was asked to stop. Its exit code is 130 for Ctrl-C and 143 for SIGTERM, as shells count.

    As an exit it passes through event loops and the command line's library, neither of which waits for the work that
    it interrupts.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        #: What a command has to add for whoever goes on, as a sentence.
        self.remark = ""


def stop_when_asked() -> None:
    """Have SIGINT and SIGTERM raise ``Interrupted`` in the main thread, at its next instruction."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(signum)


def end_at_once(interrupted: Interrupted) -> NoReturn:
    """Say in one line that the command was stopped, and end: a log of millions of events is not tidied up first."""
    with suppress(OSError, ValueError):  # Whoever read the output may have been stopped as well.
        sys.stdout.flush()
    asked = "Ctrl-C" if interrupted.signum == signal.SIGINT else signal.Signals(interrupted.signum).name
    line = f"Stopped by {asked} before the end. {interrupted.remark}".rstrip()
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    os._exit(128 + interrupted.signum)
