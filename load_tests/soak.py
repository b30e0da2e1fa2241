"""The soak: a deployment at half of what it can take, with random faults, watched for what grows.

    python -m load_tests.soak [--minutes 60] [--rate N] [--every S] [--seed N] [--report FILE]

The load comes in stretches on the same processes. Each ends at rest, where the oracle compares every effect and every
state; within it workers, broker and Redis are killed and calls fail, at random moments. Every ten seconds the memory
and the descriptors of each process are noted. A process that was killed begins a new series, and one worker is spared,
so that a series as long as the run exists. The verdict is the slope of each series after its warm-up: of descriptors
for every process, of memory for the engine's own. What Kafka, Redis and the receiver hold grows with what they are
given to keep, and is told beside what that was.

Exit code 0 when nothing grew and everything reconciled, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random  # noqa: TID251 - the seeded nemesis.
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from load_tests.faults import delivery_faults
from load_tests.faults.case import Case
from load_tests.faults.ground import Ground, now_ms
from load_tests.faults.machine import commit, description, versions
from load_tests.faults.role_logs import BROKER_AWAY
from load_tests.faults.samples import WARM_UP_S, Growth, Watch, growth
from load_tests.faults.story import Story
from load_tests.faults.verdict import Verdict
from orchestrator.core.moment import format_moment
from orchestrator.runtime.ports import EVENTS

STRETCH_S = 300.0
#: What a role may grow by in an hour, in MB and in descriptors, before it is said to leak.
GROWTH_MB_MAX, GROWTH_DESCRIPTORS_MAX = 12.0, 4.0
#: They keep what they are given: records, states, the ids of what arrived.
KEEPERS = {"kafka", "redis", "receiver"}
#: They are never struck, so that each has a series as long as the run.
SPARED = ("gateway", "receiver", "dispatcher 1", "worker 1")
#: How much shorter than the settled part of the run a series may be: the last judgement is no longer watched.
_SHORTER_MINUTES_MAX = 3.0
#: Events of the burst by which the capacity is measured.
_BURST = 3_000
#: Beyond the session timeout of six seconds.
_AWAY_S = 12.0


@dataclass(slots=True)
class Soak:
    """What a run came to."""

    rate: int = 0
    minutes: float = 0.0
    capacity: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    exits: list[tuple[str, str]] = field(default_factory=list)
    kept: str = ""
    #: One sample a minute of each process: seconds since the start, MB, descriptors.
    minutely: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)

    @property
    def leaks(self) -> list[Growth]:
        """The series that grew by more than is allowed."""
        return [
            one
            for one in self.growths
            if (one.own_mb_per_hour > GROWTH_MB_MAX and one.role not in KEEPERS)
            or one.descriptors_per_hour > GROWTH_DESCRIPTORS_MAX
        ]

    @property
    def unwatched(self) -> list[str]:
        """The roles that were spared and yet have no series as long as the run after its warm-up."""
        long_s = self.minutes * 60 - WARM_UP_S - _SHORTER_MINUTES_MAX * 60
        long = {one.role for one in self.growths if one.minutes * 60 >= max(1.0, long_s)}
        return [one for one in SPARED if one not in long]

    @property
    def holds(self) -> bool:
        """Whether all reconciled, nothing ended by itself, and all that was spared was watched and did not grow."""
        judged = bool(self.verdicts) and all(one.holds for one in self.verdicts)
        return judged and any(one.due for one in self.verdicts) and not self.trouble()

    def trouble(self) -> list[str]:
        """Return what does not hold beside the verdicts: what grew, what ended, and what was not watched."""
        found = [f"{one.role} ({one.pid}) grew" for one in self.leaks]
        found += [f"{role} ended by itself: {words}" for role, words in self.exits]
        return found + [f"{one} has no series as long as the run" for one in self.unwatched]


def main() -> int:
    """Soak and report."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="journey-soak-"))
    soak = Soak(rate=options.rate)
    with Ground(folder, workers=2, rate=options.rate, say=_say) as ground:
        about = {
            "date": options.date or format_moment(now_ms())[:10],
            "machine": description(),
            "versions": versions(ground.deployment.redis.version),
            "commit": commit(),
            "seed": options.seed,
        }
        if not options.rate:
            soak.capacity = _capacity(ground)
            soak.rate = ground.rate = max(10, round(soak.capacity / 2))
            _say(f"{soak.capacity:.0f} events a second are decided and delivered; the load is half of that")
        watch = Watch(lambda: _processes(ground))
        watch.start()
        try:
            _stretches(ground, soak, options)
        finally:
            watch.stop()
            soak.growths = [one for series in watch.series.values() if (one := growth(series)) is not None]
            soak.minutely = {
                f"{one.role} {one.pid}": [
                    (round(each.at_s), each.own_mb, each.descriptors) for each in one.samples[::6]
                ]
                for one in watch.series.values()
            }
            soak.exits = list(ground.exits)
            soak.kept = _kept(ground, soak.verdicts)
            _write(soak, about, options.report)
    _say("held" if soak.holds else f"did not hold; logs are in {folder}")
    return 0 if soak.holds else 1


def _stretches(ground: Ground, soak: Soak, options: argparse.Namespace) -> None:
    chance = random.Random(options.seed)
    began = time.monotonic()
    ending = began + options.minutes * 60
    number = 0
    while (now := time.monotonic()) < ending:
        number += 1
        run = f"soak{number}"
        case = Case(ground, chance, short=False)
        with ground.load(run, options.seed) as load:
            _disturb(case, soak, min(ending, now + STRETCH_S), options.every)
        bounds = case.account.bounds
        verdict = ground.judge(run, load.sent(), load.acknowledged(), bounds=bounds, expected_words=[BROKER_AWAY])
        soak.verdicts.append(verdict)
        soak.minutes = (time.monotonic() - began) / 60
        told = verdict.text() or "held"
        _say(f"{soak.minutes:.0f} minutes: {verdict.due:,} effects of {verdict.events:,} events, {told}")


def _disturb(case: Case, soak: Soak, until: float, every_s: float) -> None:
    """Do something bad every ``every_s`` seconds on average, and wait each time until everything goes on."""
    ground, chance = case.ground, case.chance
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, chance.uniform(0.5, 1.5) * every_s))
        ground.revive()
        if until - time.monotonic() < 30:
            continue
        struck = time.monotonic()
        what = chance.choice(["worker", "broker", "redis", "connector"])
        _strike(case, what, soak.done[what])
        soak.recoveries_s.append(ground.await_progress(struck, within_s=120))
        soak.done[what] += 1
        ground.await_roles()


def _strike(case: Case, what: str, times: int) -> None:
    """Strike one thing, which has been struck so many times before, and note what that may cost."""
    ground, bounds = case.ground, case.account.bounds
    kill = case.chance.random() < 0.5
    match what:
        case "worker":
            victim = ground.deployment.workers[-1]
            ground.kill(victim)
            case.note_unpublished()
            # The first time, and every other, it stays away until the spared worker has taken its partitions over.
            time.sleep(0 if times % 2 else _AWAY_S)
            ground.launch(victim)
        case "broker":
            kafka = ground.deployment.kafka
            kafka.kill() if kill else kafka.stop()
            case.note_unanswered()
            kafka.start()
        case "redis":
            case.note_under_way()
            case.note_unpublished()
            ground.deployment.redis.restart(kill=kill)
            case.note_unpublished()
        case _:
            failing = delivery_faults.fail_calls(ground, case.chance)
            bounds.failed["voice"] += failing
            bounds.repeats["voice"] += failing


def _capacity(ground: Ground) -> float:
    """Return how many events a second of the usual mix the deployment decides and delivers."""
    story = Story("capacity", 1, now_ms, at_once=_BURST // 12)
    events = [event for event, _ in zip(story.events(), range(_BURST), strict=False)]
    began = time.monotonic()
    ground.view.append(EVENTS, [(one["customer_id"].encode(), json.dumps(one).encode()) for one in events])
    verdict = ground.judge("capacity", events, [one["id"] for one in events], within_s=300)
    taken_s = ground.last_arrival_s(began)
    if not verdict.holds:
        raise AssertionError(f"the burst by which the capacity is measured: {verdict.text()}")
    return len(events) / taken_s


def _kept(ground: Ground, verdicts: Sequence[Verdict]) -> str:
    """Return what the servers were given to keep, in words."""
    held: dict[str, int] = ground.patiently(lambda: ground.store.info("memory"))
    events, customers, effects = (
        sum(getattr(one, name) for one in verdicts) for name in ("events", "customers", "due")
    )
    return (
        f"{events:,} events and as many records about {effects:,} effects, and the states of {customers:,} customers "
        f"with the ledger of their effects, which are {held['used_memory'] / 1e6:.0f} MB in Redis"
    )


def _processes(ground: Ground) -> dict[str, int]:
    """Return the process id of every role that runs."""
    deployment = ground.deployment
    named = {
        "gateway": deployment.gateway,
        "receiver": deployment.receiver,
        "kafka": deployment.kafka,
        "redis": deployment.redis,
        **{f"dispatcher {place}": one for place, one in enumerate(deployment.dispatchers, 1)},
        **{f"worker {place}": one for place, one in enumerate(deployment.workers, 1)},
    }
    return {name: one.pid for name, one in named.items() if one.running}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m load_tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="length of the run")
    parser.add_argument("--rate", type=int, default=0, help="events a second; half of what is measured by default")
    parser.add_argument("--every", type=float, default=60, help="seconds between faults, on average")
    parser.add_argument("--seed", type=int, default=1, help="seed of the nemesis and of the load")
    parser.add_argument("--date", default="", help="day that the report is dated, today by default")
    parser.add_argument("--report", type=Path, help="Markdown file to write; its JSON gets the same name")
    return parser.parse_args()


_HEAD = """\
# The soak

{minutes:.0f} minutes at {rate} events a second ({capacity}), with {done}.

{date} · {machine} · {versions} · commit {commit} · seed {seed}

**{summary}**

| process | over | memory, MB, after each quarter | an hour | descriptors, likewise | an hour |
|---|--:|--:|--:|--:|--:|
"""

_FOOT = """
Sampled every ten seconds; the first {warm_up:.0f} minutes of a process are its warm-up. Memory is what the process
took for itself (anonymous), without mapped files. Slopes are medians over all pairs of samples; of descriptors, over
the lowest of every five minutes, since connections come and go. A process that was killed begins a new series; those
too short to tell are left out, but {spared} have to have one as long as the run. No role ended by itself, or
the soak did not hold. Kafka, Redis and the receiver keep what they are given:
{kept}.
Made by `make soak`.
"""


def markdown(soak: Soak, about: dict[str, Any]) -> str:
    """Return the report for people."""
    verdicts = soak.verdicts
    lost = sum(len(one.lost) + len(one.unlogged) + len(one.silent) + len(one.wrong_states) for one in verdicts)
    extra = sum(len(one.extra) + len(one.twice) + len(one.altered) + len(one.untrue) for one in verdicts)
    growing = ", ".join(f"{one.role} ({one.pid})" for one in soak.leaks)
    grew = f"{growing} grew" if growing else "nothing grew"
    if soak.unwatched:
        grew = f"{', '.join(soak.unwatched)} not watched for as long as the run; {grew}"
    if not soak.growths:
        grew = "too short to tell what grows"
    summary = (
        f"{lost} lost and {extra} extra among {sum(one.due for one in verdicts):,} effects of "
        f"{sum(one.events for one in verdicts):,} events; {grew}"
    )
    text = _HEAD.format(
        minutes=soak.minutes,
        rate=soak.rate,
        capacity=f"half of the {soak.capacity:.0f} measured" if soak.capacity else "as asked for",
        done=", ".join(f"{number} x {what}" for what, number in soak.done.items()) or "no fault",
        summary=summary,
        **{**about, "versions": ", ".join(f"{name} {one}" for name, one in about["versions"].items())},
    )
    for one in sorted(soak.growths, key=lambda one: (one.role, one.pid)):
        memory = f"{_curve(one.own_mb)} | {one.own_mb_per_hour:+.1f} MB"
        files = f"{_curve(one.descriptors)} | {one.descriptors_per_hour:+.1f}"
        text += f"| {one.role} | {one.minutes:.0f} min | {memory} | {files} |\n"
    text += _FOOT.format(
        warm_up=WARM_UP_S / 60, spared=" and ".join([", ".join(SPARED[:-1]), SPARED[-1]]), kept=soak.kept
    )
    broken = [*soak.trouble(), *(one.text() for one in verdicts if not one.holds)]
    return text + "".join(f"\n- did not hold: {one}" for one in broken)


def _curve(values: Sequence[float]) -> str:
    return " → ".join(f"{one:.0f}" for one in values)


def _write(soak: Soak, about: dict[str, Any], path: Path | None) -> None:
    text = markdown(soak, about)
    if path is None:
        sys.stdout.write(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    found = to_builtins(soak)
    path.with_suffix(".json").write_text(json.dumps({**about, **found}, indent=1) + "\n")


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
