"""A case: one row of the table of faults, what is done for it, and the account of what came of it."""

from __future__ import annotations

import random  # noqa: TID251 - the seeded nemesis: when it strikes, and whom.
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from load_tests.faults.ground import Ground
from load_tests.faults.load import Load
from load_tests.faults.role_logs import Expected
from load_tests.faults.story import Event
from load_tests.faults.verdict import ANY_NUMBER, Bounds, Verdict
from load_tests.processes import RoleProcess

#: What a fault does: it strikes while the load runs, yields when that may stop, and goes on with the verdict.
Act = Generator[None, Verdict, None]


@dataclass(slots=True)
class Account:
    """What was done how often, how long recovery took (seconds), what that may cost, and what else is worth knowing."""

    done: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    bounds: Bounds = field(default_factory=Bounds)
    #: What ingest answered during outages, by status; 0 is no answer.
    answers: Counter[int] = field(default_factory=Counter)

    def promise(self, kept: bool, text: str) -> None:
        """Note that a promise of the row was not kept."""
        if not kept:
            self.broken.append(text)


@dataclass(slots=True)
class Case:
    """What a fault has in hand: the ground, its load, its chance, its account, and how long a run may be.

    ``sent`` are events that a fault sent itself under the run's name, ``acknowledged`` their ids once they are.
    """

    ground: Ground
    chance: random.Random
    short: bool
    account: Account = field(default_factory=Account)
    sent: list[Event] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    _load: Load | None = None

    @property
    def load(self) -> Load:
        """The load that runs."""
        assert self._load is not None, "it begins with the fault"
        return self._load

    def begin(self, load: Load) -> None:
        """Take the load that runs from now on."""
        self._load = load

    def times(self, full: int, short: int = 1) -> int:
        """Return how often something is done in this run."""
        return short if self.short else full

    def pause(self, longest_s: float) -> None:
        """Let a random part of a span pass, so that strikes fall at random points of the work."""
        time.sleep(self.chance.uniform(0, longest_s))

    def within_commit(self, longest_s: float = 1.0) -> int | None:
        """Return a partition as soon as one has stored decisions not known to be published; None when time is up."""
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline:
            if found := [one for one, number in self.ground.outboxes().items() if number]:
                return self.chance.choice(found)
        return None

    def aim(self) -> None:
        """Half of the times let chance choose the moment, else wait for a commit that is under way."""
        if self.chance.random() < 0.5:
            self.pause(1.0)
        elif self.within_commit() is not None:
            self.account.done["aimed at a commit"] += 1

    def note_unpublished(self, copies: int = 1) -> int:
        """Return what outboxes hold just after a strike: so much may come to the topic again, ``copies`` times each."""
        left = int(self.ground.patiently(self.ground.unpublished))
        self.account.bounds.republished += left * copies
        return left

    def note_unanswered(self) -> int:
        """Do so where the broker is struck: it may have written what it never answered for, and groups move after it.

        Nobody outside can tell how much comes to the topic again then. At the receiver nothing of it must arrive.
        """
        left = self.note_unpublished()
        self.account.bounds.republished = ANY_NUMBER
        return left

    def note_under_way(self) -> None:
        """Note what dispatchers have claimed at a strike: it may be sent again, letters may be dropped instead."""
        claimed = self.ground.patiently(self.ground.under_way)
        self.account.bounds.dropped += claimed.pop("email")
        self.account.bounds.repeats += claimed

    def ready_workers(self) -> list[RoleProcess]:
        """Return the workers once all of them have joined."""
        self.ground.await_roles()
        return list(self.ground.deployment.workers)

    def recovered(self, seconds: float) -> None:
        """Note how long a recovery took."""
        self.account.recoveries_s.append(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row of the table: ``number`` and ``title`` as in it, the invariant in its words, and what is done.

    A fault that is ``destructive`` gets a ground of its own; ``folder`` prepares where that lies. A row whose fault
    real processes cannot show has no ``act`` and says ``elsewhere`` where it is shown.
    """

    number: int
    name: str
    title: str
    invariant: str
    act: Callable[[Case], Act] | None = None
    elsewhere: str = ""
    disorder: bool = False
    destructive: bool = False
    expects: tuple[Expected, ...] = ()
    rest_s: float = 60.0
    folder: Callable[[Path], AbstractContextManager[Path]] | None = None
