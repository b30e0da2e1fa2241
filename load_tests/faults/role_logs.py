"""What roles wrote: whole logs are read, and whatever is an error or an end must be one that the fault explains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROLES = ("gateway", "receiver", "dispatcher", "worker")
_TROUBLE = re.compile(r"Traceback \(most recent call last\)|^\S+ \S+ (ERROR|CRITICAL) ")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a role's log."""

    role: str
    words: str


@dataclass(frozen=True, slots=True)
class Expected:
    """Words that a fault makes roles say, as a pattern, and why. Only when it ``ends`` may a role end with them."""

    pattern: str
    because: str
    ends: bool = False

    def fits(self, words: str) -> bool:
        """Return whether the words are of this kind."""
        return re.search(self.pattern, words) is not None


#: The client library calls it an error that it must try again.
BROKER_AWAY = Expected(r" ERROR +aiokafka", "aiokafka tells of every attempt to reach a broker that is away")
#: Expected of whatever runs.
NEW_CLUSTER = Expected(
    r" ERROR +aiokafka\.consumer\.group_coordinator +Group Coordinator Request failed: \[Error 15\]",
    "a new cluster makes the topic of its groups when it is first asked for one",
)
GROUP_MOVED = Expected(
    r" ERROR +aiokafka\.consumer\.group_coordinator +(OffsetCommit|Heartbeat) failed",
    "aiokafka tells a member of a group that has moved on without it, which then joins again",
)
WOKEN = Expected(
    r" ERROR +orchestrator\.adapters\.faust_transport +.*Thread keepalive is not responding",
    "Faust tells, as it wakes up, that its consumer's thread has not been heard of for so long",
)
PRODUCER_REFUSED = Expected(
    r" ERROR +orchestrator\.runtime\.producers +Producer \(direct\) had ",
    "a worker says whose records are refused, and goes on",
)
FENCED = Expected(r"was taken over: epoch \d+ owns it", "a former owner that wakes up ends", ends=True)


class RoleLogs:
    """The logs of every role that ever ran in a ground's folder, each read on from where the last look ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_up_to: dict[Path, int] = {}

    def fresh(self) -> list[Line]:
        """Return the whole lines since the last call."""
        found: list[Line] = []
        for role in ROLES:
            for path in sorted(self._folder.glob(f"{role}-*/{role}.log")):
                found += [Line(role, words) for words in self._fresh(path)]
        return found

    def _fresh(self, path: Path) -> list[str]:
        with path.open("rb") as log:
            log.seek(self._read_up_to.get(path, 0))
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_up_to[path] = self._read_up_to.get(path, 0) + len(whole)
        return whole.decode(errors="replace").splitlines()


def unexpected(lines: Iterable[Line], exits: Iterable[tuple[str, str]], expected: Sequence[Expected] = ()) -> list[str]:
    """Return the errors, and the ends of roles by themselves with their last words, that nothing explains."""
    errors = [
        f"{line.role} said: {line.words}"
        for line in lines
        if _TROUBLE.search(line.words) and not any(one.fits(line.words) for one in (NEW_CLUSTER, *expected))
    ]
    ends = [
        f"{role} ended by itself: {words}"
        for role, words in exits
        if not any(one.ends and one.fits(words) for one in expected)
    ]
    return [*errors, *ends]
