"""Rows of harness B over a ground that is played: only real hits count, and what a row promises is looked at."""

from __future__ import annotations

import random  # noqa: TID251 - the seeded nemesis.
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from load_tests.faults import case as case_module
from load_tests.faults import server_faults, worker_faults
from load_tests.faults.case import Act, Case
from load_tests.faults.verdict import Verdict


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the moment."""
        self.now += 0.001
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Server:
    """A role or a server: its process id is new after each start."""

    def __init__(self, name: str, pid: int = 1) -> None:
        self.name, self.folder, self.pid, self.running = name, f"{name}-{pid}", pid, True

    def pause(self) -> None:
        """Freeze."""

    resume = stop = kill = start = pause


class PlayedGround:
    """What acts ask of a ground. ``left`` are the outboxes after each strike, the last of them for ever."""

    partitions = 1

    def __init__(self, left: list[int], answers: Counter[int] | None = None) -> None:
        self.left = left
        self.workers = [Server("worker", 1), Server("worker", 2)]
        self.kafka = Server("kafka", 3)
        self.gateway, self.dispatcher = Server("gateway", 4), Server("dispatcher", 5)
        self.deployment = self
        self.view = self
        self.struck = False
        self.epoch = 0
        self.killed: list[Server] = []
        self.answered = answers or Counter()
        self.dying = False

    def answers(self, since: float, until: float) -> Counter[int]:
        """Answer as the load."""
        assert since < until
        return self.answered

    def outboxes(self) -> dict[int, int]:
        """Something is always under way until a strike."""
        return {0: self.left[0] if self.struck else 1}

    def unpublished(self) -> int:
        """Return the sum."""
        return self.outboxes()[0]

    def under_way(self) -> Counter[str]:
        """Nothing is claimed."""
        return Counter(email=0)

    def owners(self) -> dict[int, Server]:
        """The first worker owns all."""
        return {0: self.workers[0]}

    def epochs(self) -> dict[int, int]:
        """Each look finds another owner."""
        self.epoch += 1
        return {0: self.epoch}

    def positions(self) -> dict[int, int]:
        """Nothing waits in the log."""
        return {0: 0}

    def ends(self, _topic: str) -> dict[int, int]:
        """Nothing waits in the log."""
        return {0: 0}

    def kill(self, *roles: Server) -> None:
        """Strike."""
        self.killed += roles
        self.struck = True

    def launch(self, *_roles: Server) -> None:
        """Mend, and go on to what the next strike leaves."""
        self.struck = False
        self.left = self.left[1:] or self.left

    def revive(self) -> None:
        """A role that dies gets another process."""
        if self.dying:
            self.gateway.pid = 99

    def await_roles(self) -> None:
        """All answer."""

    def await_progress(self, _since: float, within_s: float = 60) -> float:
        """All go on at once."""
        return within_s / 60

    def patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask."""
        return ask()

    def until(self, condition: Callable[[], Any], **_how: Any) -> Any:
        """Ask."""
        assert condition()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Let no act wait for real."""
    played = Clock()
    for module in (case_module, server_faults, worker_faults):
        monkeypatch.setattr(module, "time", played)
    monkeypatch.setattr(server_faults, "rss_mb", lambda _pid: 100.0)
    monkeypatch.setattr(server_faults, "peak_mb", lambda _pid: 120.0)
    yield played


def carried_out(act: Callable[[Case], Act], ground: PlayedGround, republished: int = 0, *, short: bool = True) -> Case:
    """Carry out an act as a run does."""
    case = Case(ground, random.Random(1), short)  # type: ignore[arg-type]  # it is played.
    case.begin(ground)  # type: ignore[arg-type]  # it is played.
    going = act(case)
    next(going)
    with pytest.raises(StopIteration):
        going.send(Verdict(republished=republished))
    return case


@pytest.mark.parametrize(
    ("left", "hits", "republished", "broken"),
    [
        ([3, 3, 3], 2, 3, []),
        ([3, 3, 0], 1, 3, []),
        ([3, 0], 0, 3, ["no kill fell into a recovery"]),
        ([0, 3, 3], 1, 0, ["nothing was published again, so no kill fell between P1 and P3"]),
    ],
)
def test_only_heirs_that_left_work_behind_count(
    left: list[int], hits: int, republished: int, broken: list[str]
) -> None:
    case = carried_out(worker_faults.kill_recovering_workers, PlayedGround([*left, 0]), republished)
    assert case.account.done["kill of an heir"] == 2
    assert case.account.done["of these with an outbox to publish"] == hits
    assert case.account.broken == broken


@pytest.mark.parametrize(("left", "within"), [(2, 1), (0, 0)])
def test_a_kill_that_was_aimed_at_a_commit_counts_as_within_one_only_when_it_left_an_outbox(
    left: int, within: int
) -> None:
    case = carried_out(worker_faults.kill_workers, PlayedGround([left]))
    assert case.account.done["kill -9 of a worker"] == 1
    assert case.account.done["workers that left an outbox behind"] == within <= case.account.bounds.republished


@pytest.mark.parametrize(
    ("answers", "broken"),
    [
        (Counter({503: 2}), []),
        (Counter({202: 9}), ["ingest never answered 503 while the broker was away: Counter({202: 9})"]),
    ],
)
def test_ingest_has_to_answer_503_while_the_broker_is_away(answers: Counter[int], broken: list[str]) -> None:
    case = carried_out(server_faults.restart_kafka, PlayedGround([0], answers), short=False)
    assert case.account.broken == broken


def test_a_request_without_an_answer_is_told_when_the_gateway_ran() -> None:
    case = carried_out(server_faults.restart_kafka, PlayedGround([0], Counter({0: 1})))
    assert case.account.broken == ["1 requests got no answer although the gateway ran"]


def test_a_role_that_died_behind_a_frozen_broker_does_not_hold() -> None:
    ground = PlayedGround([0], Counter({503: 1}))
    assert carried_out(server_faults.freeze_kafka, ground).account.broken == []
    ground.dying = True
    broken = carried_out(server_faults.freeze_kafka, ground).account.broken
    assert broken == ["the gateway of process 4 did not live through it"]


def test_memory_is_judged_by_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_faults, "peak_mb", lambda pid: 500.0 if pid == 5 else 120.0)
    case = carried_out(server_faults.freeze_kafka, PlayedGround([0], Counter({429: 1})))
    assert case.account.broken == ["a dispatcher grew by 400 MB"]
