"""The plan of a publication: what it changes, and what is under way that it touches, counted from the states.

Counting reads every customer's state once, page by page, beside the running engine. Numbers are those of the moment
at which each page is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.core.edit import Fate, fate_of
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState, decode_state
from orchestrator.core.turn import timer_parts
from orchestrator.rulebook.load import Loaded
from orchestrator.rulebook.plan import Change, differences
from orchestrator.runtime.ports import StateStore
from orchestrator.runtime.rulebooks import PublishedRulebooks, checked
from orchestrator.runtime.warm_up import WarmUp, warm_ups


@dataclass(slots=True)
class Impact:
    """What of one journey is under way, and what becomes of it. ``on_edit`` is the declaration that decides.

    ``runs_moved`` change their stage by migration; ``runs_stranded`` stand in a stage that is gone and are taken for
    standing before the first. ``timers_idle`` belong to stages, rules or absences that are gone, and will do nothing.
    """

    journey: str
    on_edit: str
    runs: int = 0
    runs_moved: int = 0
    runs_stranded: int = 0
    plays: int = 0
    plays_pinned: int = 0
    plays_following: int = 0
    plays_ending: int = 0
    timers: int = 0
    timers_idle: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What publishing ``version`` over ``against`` would change. ``warm_ups`` are counts that begin with it."""

    version: str
    against: str
    changes: Sequence[Change] = ()
    impacts: Sequence[Impact] = ()
    customers: int = 0
    warm_ups: Sequence[WarmUp] = ()


class Planner:
    """Plans publications against the version in force and the states of all partitions."""

    def __init__(self, rulebooks: PublishedRulebooks, store: StateStore, partitions: Iterable[int]) -> None:
        self._rulebooks = rulebooks
        self._store = store
        self._partitions = tuple(partitions)

    async def plan(self, loaded: Loaded) -> Plan:
        """Return the plan of a rulebook. Raise ``RulebookRefused`` for one with errors.

        What grows with the rules or the customers is done in threads: whatever else runs here goes on meanwhile.
        """
        before = self._rulebooks.loaded
        draft = await self._rulebooks.draft(checked(loaded))
        census = _Census(self._rulebooks.current, draft)
        async for page in self._pages():
            await asyncio.to_thread(census.count_all, page)
        return Plan(
            version=loaded.version,
            against=before.version,
            changes=await asyncio.to_thread(differences, before.files, loaded.files),
            impacts=[census.impacts[journey] for journey in sorted(census.impacts)],
            customers=census.customers,
            warm_ups=warm_ups(draft, self._rulebooks.current.kept_aggregates()),
        )

    async def _pages(self) -> AsyncIterator[list[bytes]]:
        for partition in self._partitions:
            async for page in self._store.scan(partition):
                yield [stored for _, stored in page]


@dataclass(slots=True)
class _Census:
    """Counts what is under way, by journey."""

    current: Rulebook
    draft: Rulebook
    impacts: dict[str, Impact] = field(default_factory=dict)
    customers: int = 0

    def count_all(self, page: Iterable[bytes]) -> None:
        for stored in page:
            self.count(decode_state(stored))

    def count(self, state: CustomerState) -> None:
        self.customers += 1
        self._runs(state)
        self._plays(state)
        self._timers(state)

    def _impact(self, journey: str) -> Impact:
        impact = self.impacts.get(journey)
        if impact is None:
            known = self.draft.journeys.get(journey) or self.current.journeys.get(journey)
            impact = self.impacts[journey] = Impact(journey, "pin" if known is None else known.on_edit.value)
        return impact

    def _runs(self, state: CustomerState) -> None:
        for key, run in state.runs.items():
            if run.ended_at:
                continue
            journey = key.partition("/")[0]
            impact = self._impact(journey)
            impact.runs += 1
            moved = self.draft.stage_maps.get(journey, {}).get(run.stage)
            if moved is not None:
                impact.runs_moved += 1
            elif not _has_stage(self.draft, journey, run.stage):
                impact.runs_stranded += 1

    def _plays(self, state: CustomerState) -> None:
        for play in state.plays.values():
            impact = self._impact(play.run.partition("/")[0])
            impact.plays += 1
            match fate_of(self.draft, play)[0]:
                case Fate.PINNED:
                    impact.plays_pinned += 1
                case Fate.FOLLOWS:
                    impact.plays_following += 1
                case Fate.ENDS:
                    impact.plays_ending += 1
                case Fate.GOES_ON:
                    pass

    def _timers(self, state: CustomerState) -> None:
        for timer in state.timers:
            kind, name, instance = timer_parts(timer)
            match kind:
                case "play":
                    run, idle = instance.partition("|")[2], False
                case "stage":
                    journey = instance.partition("/")[0]
                    now = self.draft.stage_maps.get(journey, {}).get(name, name)
                    run, idle = instance, not _has_stage(self.draft, journey, now)
                case "dwell" | "schedule":
                    run, idle = instance, name not in self.draft.alone
                case "absence":
                    arm = state.arms.get(f"{name}|{instance}")
                    run, idle = "" if arm is None else arm.run, name not in self.draft.watches
                case _:
                    continue  # Trials and decision windows are not of a journey, and no edit touches them.
            impact = self._impact(run.partition("/")[0])
            impact.timers += 1
            impact.timers_idle += idle


def _has_stage(rulebook: Rulebook, journey: str, stage: str) -> bool:
    known = rulebook.journeys.get(journey)
    return known is not None and any(one.name == stage for one in known.stages)
