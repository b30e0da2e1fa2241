"""The faults of a seed: drawn at the start, struck at their moments, mended before the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from load_tests.simulation import rules
from load_tests.simulation.network import Peer, Strike, Weather
from load_tests.simulation.receiver import TROUBLES
from load_tests.simulation.worker_process import WorkerProcess
from orchestrator.errors import RulebookRefused

if TYPE_CHECKING:
    from load_tests.simulation.world import World

_FIRST_S, _LAST_S = 0.3, 11.5
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
_JUMPS_MS = (HOUR_MS, -HOUR_MS, DAY_MS, -DAY_MS, -30_000, 700, -700)


class Faults:
    """What goes wrong in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance
        self._kinds: tuple[tuple[int, Callable[[], None]], ...] = (
            (6, self._crash_worker),
            (5, self._crash_dispatcher),
            (4, self._stop_worker),
            (2, self._stop_dispatcher),
            (2, self._downtime),
            (2, self._restart),
            (3, self._scale),
            (10, self._weather),
            (8, self._bad_day),
            (2, self._publish),
            (1, self._publish_bad),
            (2, self._clock_jump),
        )

    def schedule(self) -> None:
        """Draw the faults of this seed and set them up."""
        weights, kinds = zip(*self._kinds, strict=True)
        for kind in self._chance.choices(kinds, weights, k=self._chance.randint(1, 8)):
            self._world.loop.world_later(self._chance.uniform(_FIRST_S, _LAST_S), kind)
        if self._world.make.power_cuts:
            self._world.loop.world_later(self._chance.uniform(_FIRST_S, _LAST_S), self._power_cut)

    def heal(self) -> None:
        """Mend everything."""
        world = self._world
        world.trace("world", "HEALS", "")
        world.weather.clear()
        for receiver in world.receivers.values():
            receiver.troubles = ()
        for clock in world.clocks.values():
            clock.off_ms = 0
        for member in list(world.running.values()):
            member.process.strike = None
            world.go_on(member.process)
        for slot in ("worker-0", "dispatcher-0"):
            world.start(slot)

    # ----------------------------------------------------------------------------------------- processes

    def _one(self, role: str) -> Peer | None:
        alive = [one.process for one in self._world.running.values() if one.process.role == role]
        return self._chance.choice(alive) if alive else None

    def _crash_worker(self) -> None:
        self._crash("worker")

    def _crash_dispatcher(self) -> None:
        self._crash("dispatcher")

    def _crash(self, role: str) -> None:
        process = self._one(role)
        if process is not None:
            when = self._chance.choice(["before", "after", "after", "half"])
            process.strike = Strike(when, self._chance.choice([0, 0, 1, 2, 3, 5, 8]))
            self._told(f"{role} killed at a step", process.name)

    def _stop_worker(self) -> None:
        self._stop("worker")

    def _stop_dispatcher(self) -> None:
        self._stop("dispatcher")

    def _stop(self, role: str) -> None:
        process = self._one(role)
        if process is not None:
            self._told(f"{role} stopped", process.name)
            self._world.pause(process, self._chance.choice([0.3, 1.0, 4.0, 6.0, 8.0]))

    def _downtime(self) -> None:
        """No worker is there for longer than most timers."""
        span_s = self._chance.uniform(2.0, 8.0)
        self._told("downtime of all workers", f"{span_s:.1f} s")
        for member in list(self._world.running.values()):
            if member.process.role == "worker":
                self._world.kill(member.process, "downtime", again_s=span_s)
        self._world.loop.world_later(span_s, self._count_due)

    def _count_due(self) -> None:
        """Count the customers whose timers came due while no worker was there."""
        now_ms, store = self._world.now_ms(), self._world.store
        due = sum(wake <= now_ms for one in store._partitions.values() for wake in one.wakes.values())
        self._world.counts["timer due in a downtime"] += due

    def _restart(self) -> None:
        """SIGTERM, one process after the other."""
        slots = sorted(self._world.running)
        self._told("rolling restart", ", ".join(slots))
        for number, slot in enumerate(slots):
            self._world.loop.world_later(0.7 * number, self._world.ask_to_stop, slot)

    def _scale(self) -> None:
        """Rebalance storm: a worker comes, and goes, and comes."""
        self._told("worker added and removed", "")
        slot = "worker-2"
        self._world.start(slot)
        for number in range(self._chance.randint(1, 3)):
            at_s = self._chance.uniform(0.5, 1.5) + 2.0 * number
            self._world.loop.world_later(at_s, self._world.dismiss, slot)
            self._world.loop.world_later(at_s + 1.0, self._world.start, slot)

    # ------------------------------------------------------------------------------------ dependencies

    def _weather(self) -> None:
        port = self._chance.choice(["store", "store", "log", "log", "queue", "queue"])
        until_s = self._world.loop.time() + self._chance.choice([0.2, 1.0, 3.0])
        weather = self._world.weather.setdefault(port, Weather())
        kind = self._chance.choice(["down", "flaky", "flaky", "slow"])
        self._told(f"{port} made {kind}", f"until {until_s:.1f} s")
        self._world.troubled(until_s=until_s)
        match kind:
            case "down":
                weather.down_until_s = until_s
            case "flaky":
                weather.flaky_until_s = until_s
            case _:
                weather.slow_until_s = until_s

    def _power_cut(self) -> None:
        """Redis ends, and comes back in a while as it was up to a second before."""
        world, which = self._world, self._chance.choice(["queue", "store and queue"])
        kept = [world.queue.kept()] if which == "queue" else [world.queue.kept(), world.store.kept()]
        lost_s, away_s = self._chance.uniform(0.05, 1.0), self._chance.uniform(0.2, 2.0)

        def cut() -> None:
            self._told(f"power cut of {which}", f"{lost_s:.2f} s are lost")
            for restore in kept:
                restore()
            for port in ("store", "queue"):
                weather = world.weather.setdefault(port, Weather())
                weather.down_until_s = max(weather.down_until_s, world.loop.time() + away_s)
            world.troubled(until_s=world.loop.time() + away_s)

        world.loop.world_later(lost_s, cut)

    def _bad_day(self) -> None:
        # The voice has a deadline and a fallback, so that most can go wrong there.
        receiver = self._world.receivers[self._chance.choice(["voice", "voice", "voice", "sms", "push"])]
        receiver.troubles = tuple(self._chance.sample(TROUBLES, self._chance.randint(1, 3)))
        receiver.trouble_share = self._chance.choice([0.4, 0.8, 1.0])
        self._told("receiver has a bad day", f"{receiver.name}: {', '.join(receiver.troubles)}")
        self._world.loop.world_later(self._chance.uniform(2.0, 8.0), setattr, receiver, "troubles", ())

    # -------------------------------------------------------------------------------- rules and clocks

    def _publish(self) -> None:
        """Another version comes into force, in each process at its own moment, often in the middle of a batch."""
        world = self._world
        if not world.checks.may_edit:
            return
        self._told("rulebook published", rules.second().version)
        world.published = rules.second()
        world.edited = True
        for member in world.running.values():
            if isinstance(member, WorkerProcess):
                world.loop.call_later(
                    self._chance.random(),
                    setattr,
                    member.books,
                    "current",
                    rules.second(),
                    context=member.process.context.copy(),
                )

    def _publish_bad(self) -> None:
        try:
            rules.bad()
        except RulebookRefused:
            self._told("invalid rulebook refused", "")
        else:
            self._world.violated("rulebook", "a rulebook that names no connector was accepted")

    def _clock_jump(self) -> None:
        world = self._world
        process = self._one(self._chance.choice(["worker", "dispatcher"]))
        if process is None:
            return
        jump_ms = self._chance.choice(_JUMPS_MS)
        if process.role == "dispatcher":
            world.clocks_agree = False
        way = "forward" if jump_ms > 0 else "backward"
        self._told(f"clock of a {process.role} stepped {way}", f"{process.name} by {jump_ms / 1000:.1f} s")
        clock = world.clock_of(process.name)
        clock.off_ms += jump_ms
        world.loop.world_later(self._chance.uniform(1.0, 6.0), setattr, clock, "off_ms", 0)

    def _told(self, kind: str, what: str) -> None:
        self._world.counts[f"fault: {kind}"] += 1
        self._world.trace("nemesis", "FAULT", f"{kind} {what}")
