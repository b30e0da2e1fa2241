"""Running faults: each under a load of its own, judged at rest, on one ground as long as that holds."""

from __future__ import annotations

import random  # noqa: TID251 - the seeded nemesis.
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from load_tests.faults.case import Account, Case, Fault
from load_tests.faults.ground import Ground
from load_tests.faults.verdict import Verdict
from load_tests.servers.process import Say, silent

#: How long a load lasts at least, so that there is something to judge.
_LOAD_S_MIN = 4.0


@dataclass(slots=True)
class Row:
    """What a fault came to. ``error`` says why it could not be carried out, '' when it was."""

    fault: Fault
    account: Account
    verdict: Verdict | None
    seconds: float
    exits: list[tuple[str, str]]
    redis_version: str = ""
    error: str = ""

    @property
    def holds(self) -> bool:
        """Whether the row's invariant held."""
        return not self.error and not self.account.broken and (self.verdict is None or self.verdict.holds)

    def trouble(self) -> str:
        """Return what is wrong, '' when nothing is."""
        found = [self.error, *self.account.broken, "" if self.verdict is None else self.verdict.text()]
        return "; ".join(one for one in found if one)


@dataclass(slots=True)
class Faults:
    """A run over some of the faults, in ``folder``; ``workers`` and ``rate`` are the ground's."""

    folder: Path
    seed: int
    short: bool = False
    workers: int = 3
    rate: int = 60
    say: Say = silent

    def rows(self, faults: Sequence[Fault]) -> Iterator[Row]:
        """Carry out faults one after another and yield what each came to.

        A ground on which an invariant did not hold is kept for a look, and the next fault gets a new one.
        """
        with ExitStack() as stack:
            shared: Ground | None = None
            for fault in faults:
                if fault.act is None:
                    yield Row(fault, Account(), None, 0, [])
                    continue
                self.say(f"{fault.number}. {fault.title}")
                if fault.destructive:
                    yield self._destructive(fault)
                    continue
                if shared is None:
                    shared = stack.enter_context(self._ground(self.folder / f"from-{fault.name}"))
                row = self._carried_out(fault, shared)
                if not row.holds:
                    stack.pop_all().close()
                    shared = None
                yield row

    def _destructive(self, fault: Fault) -> Row:
        folder = self.folder / fault.name
        with ExitStack() as stack:
            if fault.folder is not None:
                stack.enter_context(fault.folder(folder))
            return self._carried_out(fault, stack.enter_context(self._ground(folder)))

    def _ground(self, folder: Path) -> Ground:
        folder.mkdir(parents=True, exist_ok=True)
        return Ground(folder, workers=self.workers, rate=self.rate, say=self.say)

    def _carried_out(self, fault: Fault, ground: Ground) -> Row:
        case = Case(ground, random.Random(f"{self.seed} {fault.name}"), self.short)
        ground.exits.clear()
        began = time.monotonic()
        verdict, error = None, ""
        try:
            verdict = _under_load(fault, case, self.seed)
        except Exception as caught:
            self.say(traceback.format_exc())
            error = f"{type(caught).__name__}: {caught}"
        version = "" if error else str(ground.patiently(lambda: ground.deployment.redis.version))
        row = Row(fault, case.account, verdict, time.monotonic() - began, list(ground.exits), version, error)
        self.say(f"   {row.trouble() or 'held'} after {row.seconds:.0f} s")
        return row


def _under_load(fault: Fault, case: Case, seed: int) -> Verdict:
    assert fault.act is not None
    act = fault.act(case)
    with case.ground.load(fault.name, seed, disorder=fault.disorder) as load:
        began = time.monotonic()
        case.begin(load)
        next(act)
        time.sleep(max(0.0, _LOAD_S_MIN - (time.monotonic() - began)))
    verdict = case.ground.judge(
        fault.name,
        [*load.sent(), *case.sent],
        [*load.acknowledged(), *case.acknowledged],
        bounds=case.account.bounds,
        expected_words=fault.expects,
        within_s=fault.rest_s,
    )
    try:
        act.send(verdict)
    except StopIteration:
        return verdict
    raise AssertionError(f"{fault.name} yields more than once")


def cleaned(folder: Path, rows: Sequence[Row]) -> None:
    """Remove the folder of a run in which everything held; otherwise its logs are wanted."""
    if all(row.holds for row in rows):
        shutil.rmtree(folder, ignore_errors=True)
