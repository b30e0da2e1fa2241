"""Every error this software raises on purpose.

JourneyError
├── ConfigurationError       a setting or file is wrong; the message names it and the remedy
├── RulebookRefused          the rulebook has problems; carries them all
├── EventRefused             an event cannot be accepted; names the field and the remedy
├── Unavailable (retriable)  a dependency does not answer; trying again may succeed
│   ├── StoreUnavailable
│   └── LogUnavailable
├── Fenced                   another process owns the partition now; stop writing to it
├── StateUnreadable          a stored state was written by another version of the engine
└── PositionLost             the log and the store disagree in a way that no crash explains
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class JourneyError(Exception):
    """The root of all errors of this software; ``retriable`` says whether the same call may succeed later."""

    retriable: ClassVar[bool] = False


class ConfigurationError(JourneyError):
    """A setting or a file is wrong; correct the one that the message names."""


class RulebookRefused(JourneyError):
    """The rulebook has problems; ``journey lint`` lists them. The active rulebook stays in force.

    ``problems`` are those with a place in a file, as ``orchestrator.rulebook.problem.Problem``.
    """

    def __init__(self, message: str, problems: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class EventRefused(JourneyError):
    """An event cannot be accepted as it is.

    ``code`` is a word of the closed list in ``orchestrator.runtime.intake``; ``field`` is the JSON path of the fault;
    the message says what is wrong and ``remedy`` what to do.
    """

    def __init__(self, code: str, field: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.remedy = remedy


class Unavailable(JourneyError):
    """A dependency does not answer; wait and try again."""

    retriable = True


class StoreUnavailable(Unavailable):
    """The state store does not answer; nothing was lost, processing goes on when it is back."""


class LogUnavailable(Unavailable):
    """The event log cannot take or give records now; nothing was acknowledged, send again."""


class Fenced(JourneyError):
    """Another process owns the partition now; drop its state and rejoin the group."""


class PositionLost(JourneyError):
    """The log and the store disagree in a way that no crash explains; the message says which and what to do."""


class StateUnreadable(JourneyError):
    """A stored state was written by another version of the engine; start that one, or start with an empty store."""
