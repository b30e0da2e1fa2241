"""The plan: what differs between two versions of a rulebook, thing by thing, in the author's own words.

It compares what was written, not what was compiled: stages, rules, templates, segments, limits, connectors and the
tracking plan by their names, and within each the keys that changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.rulebook.gather import role_of
from orchestrator.rulebook.problem import Report
from orchestrator.rulebook.reading import parsed

#: Longer values are shown up to here.
VALUE_CHARS_MAX = 80
_ABSENT = object()

#: What the files of companions hold, by role: the key of the mapping and the noun of its items.
_COMPANIONS = {
    "templates": (("templates", "template"),),
    "segments": (("segments", "segment"),),
    "limits": (("limits", "limit set"),),
    "connectors": (("connectors", "connector"),),
    "tracking_plan": (("events", "event"), ("traits", "trait"), ("consents", "consent")),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that an edit adds, removes or changes. ``details`` say which keys changed, from what to what."""

    kind: str  # added, removed, changed
    noun: str
    name: str
    journey: str = ""
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f'journey "{self.journey}": ' if self.journey and self.noun != "journey" else ""
        text = f'{place}{self.noun} "{self.name}" {self.kind}'
        return f"{text}: {'; '.join(self.details)}" if self.details else text


_Thing = tuple[str, str, str]  # journey, noun, name


def differences(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Change]:
    """Return what the files of ``after`` change, by journey, noun and name; nothing when they say the same."""
    old, new = _things(before), _things(after)
    return [change for thing in sorted(old.keys() | new.keys()) if (change := _change(thing, old, new)) is not None]


def _things(files: Mapping[str, bytes]) -> dict[_Thing, Any]:
    """Return everything that the files name. Files that cannot be read name nothing: loading reports them."""
    found: dict[_Thing, Any] = {}
    for path in sorted(files):
        role = role_of(path)
        source = parsed(path, files[path], Report()) if role not in {"", "cases"} else None
        if source is None:
            continue
        if role == "journey":
            found |= _journey_things(source)
        for key, noun in _COMPANIONS.get(role, ()):
            section = source.get(key)
            for name, value in section.items() if isinstance(section, dict) else ():
                found["", noun, str(name)] = value
    return found


def _journey_things(source: Mapping[str, Any]) -> dict[_Thing, Any]:
    journey = str(source.get("journey"))
    stages, rules = source.get("stages"), source.get("rules")
    stages = stages if isinstance(stages, dict) else {}
    head = {key: value for key, value in source.items() if key not in {"journey", "stages", "rules"}}
    found: dict[_Thing, Any] = {(journey, "journey", journey): {**head, "order of stages": list(stages)}}
    found |= {(journey, "stage", str(name)): value for name, value in stages.items()}
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict):
            found[journey, "rule", str(rule.get("id"))] = {key: value for key, value in rule.items() if key != "id"}
    return found


def _change(thing: _Thing, old: Mapping[_Thing, Any], new: Mapping[_Thing, Any]) -> Change | None:
    journey, noun, name = thing
    if thing not in old:
        return Change("added", noun, name, journey)
    if thing not in new:
        return Change("removed", noun, name, journey)
    details = tuple(_details(old[thing], new[thing], ()))
    return Change("changed", noun, name, journey, details) if details else None


def _details(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the keys that differ; lists of one length item by item, others as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _details(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, str(key)))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (one, other) in enumerate(zip(old, new, strict=True), start=1):
            yield from _details(one, other, (*path, str(place)))
    elif old != new:
        where = " ".join(path)
        if old is _ABSENT:
            yield f"{where} {_shown(new)} added".strip()
        elif new is _ABSENT:
            yield f"{where} {_shown(old)} removed".strip()
        else:
            yield f"{where} {_shown(old)} → {_shown(new)}".strip()


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[: VALUE_CHARS_MAX - 1]}…"
