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
from load_tests.faults.verdict import Verdict
from load_tests.processes import RoleProcess

#: What a fault does: it strikes while the load runs, yields when that may stop, and goes on with the verdict.
Act = Generator[None, Verdict, None]


@dataclass(slots=True)
class Account:
    """What was done how often, how long recovery took (seconds), and what else is worth knowing."""

    done: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def promise(self, kept: bool, text: str) -> None:
        """Note that a promise of the row was not kept."""
        if not kept:
            self.broken.append(text)


@dataclass(slots=True)
class Case:
    """What a fault has in hand: the ground, its chance, its account, and how long a run may be."""

    ground: Ground
    chance: random.Random
    short: bool
    account: Account = field(default_factory=Account)

    def times(self, full: int, short: int = 1) -> int:
        """Return how often something is done in this run."""
        return short if self.short else full

    def pause(self, longest_s: float) -> None:
        """Let a random part of a span pass, so that strikes fall at random points of the work."""
        time.sleep(self.chance.uniform(0, longest_s))

    def strike_within_commit(self, longest_s: float = 1.0) -> bool:
        """Return as soon as something is decided and stored but not known to be published; False when time is up."""
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline:
            if self.ground.unpublished():
                return True
        return False

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
    judged: bool = True
    folder: Callable[[Path], AbstractContextManager[Path]] | None = None
