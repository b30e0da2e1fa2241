"""The tracking plan: which events, properties, traits and consents exist, and whether an event keeps to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from orchestrator.core.event import OUTCOMES, SYSTEM_TYPES
from orchestrator.errors import EventRefused
from orchestrator.rulebook import outcome_events
from orchestrator.rulebook.lossless import lossless
from orchestrator.rulebook.problem import did_you_mean, listed

#: An event that the engine itself reports when the friction of a customer in a stage changes.
FRICTION_SCORED = "friction_scored"

_KNOWN_ALWAYS = SYSTEM_TYPES | {FRICTION_SCORED}

#: The classes of JSON values that each declared type has.
CLASSES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


@dataclass(frozen=True, slots=True)
class Property:
    """What values a property or trait has. ``enum`` empty allows all; ``properties`` are those of an object."""

    type: str
    enum: tuple[Any, ...] = ()
    required: bool = False
    description: str = ""
    properties: Mapping[str, Property] = field(default_factory=dict)

    def inside(self, parts: Iterable[str]) -> Property | None:
        """Return the property inside an object; an object without declared properties may hold anything."""
        here = self
        for part in parts:
            if here.type != "object":
                return None
            if not here.properties:
                return Property("anything")
            if part not in here.properties:
                return None
            here = here.properties[part]
        return here


@dataclass(frozen=True, slots=True)
class EventType:
    """An event type and what it carries."""

    name: str
    properties: Mapping[str, Property]
    closed: bool = False
    description: str = ""


# One row a declared property: name, classes, required, allowed values or None, declared type.
_Row = tuple[str, tuple[type, ...], bool, frozenset[Any] | None, str]


class TrackingPlan:
    """Event types, traits and purposes of consent by name. ``check`` is compiled once per type."""

    def __init__(
        self,
        events: Mapping[str, EventType] | None = None,
        traits: Mapping[str, Property] | None = None,
        consents: Mapping[str, str] | None = None,
    ) -> None:
        self.events = dict(events or {})
        self.traits = dict(traits or {})
        self.consents = dict(consents or {})
        #: Declared events, and outcomes with the properties that they have without a declaration.
        self.described = {**self.events, **{name: _outcome(name, self.events.get(name)) for name in OUTCOMES}}
        self._types = _KNOWN_ALWAYS.union(self.events)
        self._rows = {name: _rows(declared) for name, declared in self.events.items()}
        # Who sends a wrong type sends it all day, and to compare it with a large plan takes a millisecond.
        self._hint = lru_cache(maxsize=1024)(partial(did_you_mean, known=self.events))

    def knows(self, event_type: str) -> bool:
        """Return whether the type is declared, or one of the engine's own."""
        return event_type in self._types

    @property
    def types(self) -> frozenset[str]:
        """Every event type there is, the engine's own included."""
        return self._types

    def property_of(self, event_type: str, parts: tuple[str, ...]) -> Property | None:
        """Return what is declared of a property of an event, or None."""
        declared = self.described.get(event_type)
        first = declared.properties.get(parts[0]) if declared else None
        return None if first is None else first.inside(parts[1:])

    def lacks(self, event_type: str, parts: tuple[str, ...]) -> bool:
        """Return whether an event is known not to carry a property; the engine's own, but outcomes, carry any."""
        if event_type not in self.described or event_type in SYSTEM_TYPES - OUTCOMES:
            return False
        return self.property_of(event_type, parts) is None

    def check(self, event_type: str, properties: dict[str, Any]) -> EventRefused | None:
        """Return why an event does not keep to the plan, or None. Properties that are not declared are allowed.

        Null counts as missing. A text that says the same as the number or truth value that is declared is replaced by
        it in ``properties``. Codes are ``unknown_type`` and ``wrong_property``.
        """
        rows = self._rows.get(event_type)
        if rows is None:
            return None if event_type in _KNOWN_ALWAYS else self._unknown(event_type)
        for name, classes, required, allowed, declared_type in rows:
            value = properties.get(name)
            if value is None:
                if required:
                    return self._wrong(event_type, name, properties)
                continue
            if value.__class__ not in classes and (meant := lossless(value, declared_type)) is not None:
                value = properties[name] = meant
            if value.__class__ not in classes or (allowed is not None and value not in allowed):
                return self._wrong(event_type, name, properties)
        declared = self.events[event_type]
        if declared.closed and event_type not in OUTCOMES and not properties.keys() <= declared.properties.keys():
            return self._undeclared(declared, properties)
        return None

    def _unknown(self, event_type: str) -> EventRefused:
        return EventRefused(
            "unknown_type",
            "type",
            f'the event type "{event_type}" is not in the tracking plan',
            f"Declare it in tracking_plan.yaml, or send a declared type.{self._hint(event_type)}",
        )

    def _wrong(self, event_type: str, name: str, properties: Mapping[str, Any]) -> EventRefused:
        declared = self.events[event_type].properties[name]
        value = properties.get(name)
        where = f"properties.{name}"
        if value is None:
            message = f'{event_type} needs the property "{name}"'
            return EventRefused("wrong_property", where, message, f"Send {name} as {_article(declared.type)}.")
        if value.__class__ not in CLASSES[declared.type]:
            message = f'"{name}" of {event_type} is {_json_type(value)}, not {_article(declared.type)}'
            return EventRefused("wrong_property", where, message, f"Send {name} as {_article(declared.type)}.")
        hint = did_you_mean(value, [str(one) for one in declared.enum]) if isinstance(value, str) else ""
        message = f'"{name}" of {event_type} may not be {value!r}'
        allowed = listed(str(one) for one in declared.enum)
        return EventRefused("wrong_property", where, message, f"Send one of {allowed}.{hint}")

    def _undeclared(self, declared: EventType, properties: Mapping[str, Any]) -> EventRefused:
        name = min(properties.keys() - declared.properties.keys())
        hint = did_you_mean(name, declared.properties)
        message = f'{declared.name} has no property "{name}"'
        return EventRefused("wrong_property", f"properties.{name}", message, f"Leave it out, or declare it.{hint}")


def _outcome(name: str, declared: EventType | None) -> EventType:
    """Return an outcome with its own properties and those that a plan adds; providers may always add more."""
    known = {**outcome_events.COMMON, **outcome_events.EVENTS[name].own}
    own = {one: Property(each.type, each.enum, description=each.description) for one, each in known.items()}
    added = declared.properties if declared is not None else {}
    return EventType(name, {**own, **added}, description=outcome_events.EVENTS[name].description)


def _rows(declared: EventType) -> tuple[_Row, ...]:
    return tuple(
        (name, CLASSES[one.type], one.required, frozenset(one.enum) if one.enum else None, one.type)
        for name, one in declared.properties.items()
        if one.type in CLASSES
    )


def _article(json_type: str) -> str:
    return {"string": "text", "number": "a number", "integer": "a whole number", "boolean": "true or false"}.get(
        json_type, f"an {json_type}"
    )


def _json_type(value: Any) -> str:
    for name, classes in CLASSES.items():
        if value.__class__ in classes:
            return "a number" if name in ("number", "integer") else _article(name)
    return "of an unknown type"
