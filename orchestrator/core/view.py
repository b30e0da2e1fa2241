"""The view: everything a condition or a template may read, at one moment, for one stimulus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from orchestrator.core.condition import MISSING, Path, Root
from orchestrator.core.state import CustomerState, Run

if TYPE_CHECKING:
    from orchestrator.core.rulebook import Rulebook

Properties = Mapping[str, Any]


def dig(value: Any, parts: tuple[str, ...]) -> Any:
    """Return the value that a path leads to, or ``MISSING``."""
    for part in parts:
        if value.__class__ is not dict:
            return MISSING
        value = value.get(part, MISSING)
    return value


class View(msgspec.Struct, gc=False):
    """What can be read. ``at_ms`` is the event time as of which aggregates are read.

    ``event`` holds the properties of the triggering event (of the one that started the play, or armed the
    absence, when a timer is the stimulus). ``pinned`` names the run that a timer or a play belongs to, or that sent the
    action whose outcome the event is.
    """

    rulebook: Rulebook
    state: CustomerState
    at_ms: int
    event: Properties
    context: Properties
    pinned: str = ""

    def run_key(self, journey: str) -> str | None:
        """Return the name of the journey's run that the stimulus concerns, ``journey/key``, or None."""
        if self.pinned.startswith(journey + "/"):
            return self.pinned
        definition = self.rulebook.journeys.get(journey)
        if definition is None:
            return None
        if definition.key is None:
            return journey + "/"
        key = instance_key(self, definition.key)
        return None if key is None else f"{journey}/{key}"

    def run(self, journey: str) -> Run | None:
        """Return the journey's run that the stimulus concerns, or None."""
        key = self.run_key(journey)
        return None if key is None else self.state.runs.get(key)

    def concerns(self, run: str) -> bool:
        """Return whether the event concerns a run: the one it names, or every one when it names none."""
        named = self.run_key(run.partition("/")[0])
        return named is None or named == run

    def in_stage(self, own_journey: str, journey: str, stages: tuple[str, ...]) -> bool | None:
        """Return whether the run (any run, for a journey other than the rule's own) is in one of the stages.

        It is unknown, None, where the stimulus names no run of the rule's own journey.
        """
        if journey == own_journey:
            key = self.run_key(journey)
            run = None if key is None else self.state.runs.get(key)
            return None if key is None else run is not None and run.stage in stages
        prefix = journey + "/"
        return any(run.stage in stages for key, run in self.state.runs.items() if key.startswith(prefix))

    def knows(self, aggregate: str, within_ms: int) -> bool:
        """Return whether the aggregate has seen its window (``within_ms`` 0: the customer's whole history)."""
        since = self.rulebook.aggregates_since.get(aggregate, 0)
        if since == 0 or self.state.first_seen_ms >= since:
            return True
        return within_ms > 0 and since + within_ms <= self.at_ms

    def read(self, path: Path, journey: str) -> Any:
        """Return the value at ``path`` or ``MISSING``; ``journey`` is the reading rule's own."""
        match path.root:
            case Root.EVENT:
                return dig(self.event, path.parts)
            case Root.PROFILE:
                trait = self.state.traits.get(path.parts[0])
                return MISSING if trait is None else dig(trait[0], path.parts[1:])
            case Root.CONTEXT:
                return dig(self.context, path.parts)
            case Root.RUN:
                return self.run_fact(journey, path.parts[0])

    def run_fact(self, journey: str, name: str) -> Any:
        """Return a fact of the run: ``stage``, ``started_at``, ``entered_at`` (epoch ms) or ``key``."""
        key = self.run_key(journey)
        run = None if key is None else self.state.runs.get(key)
        if key is None or run is None:
            return MISSING
        if name == "key":
            return key.partition("/")[2]
        return getattr(run, name, MISSING) if name in RUN_FACTS else MISSING

    def template_facts(self, journey: str) -> dict[str, Any]:
        """Return what templates read: ``event``, ``profile``, ``journey`` and ``run``."""
        run = self.run(journey)
        return {
            "event": dict(self.event),
            "profile": {name: value for name, (value, _) in self.state.traits.items()},
            "journey": journey,
            "run": {} if run is None else {name: self.run_fact(journey, name) for name in (*RUN_FACTS, "key")},
        }


#: What ``run.`` paths may name besides ``key``.
RUN_FACTS = ("stage", "started_at", "entered_at")


def tied_key(view: View, journey: str, tie: Path) -> str | None:
    """Return the text of the property that ties events together, None when it is missing.

    An outcome need not carry the journey's key: its run is known by the action that it tells of.
    """
    definition = view.rulebook.journeys.get(journey)
    if view.pinned.startswith(f"{journey}/") and definition is not None and definition.key == tie:
        return view.pinned.partition("/")[2]
    return instance_key(view, tie)


def instance_key(view: View, path: Path) -> str | None:
    """Return the text of a key property, or None when it is missing or is not text or a whole number."""
    value = view.read(path, "")
    if value.__class__ is str:
        return str(value) or None
    return str(value) if value.__class__ is int else None
