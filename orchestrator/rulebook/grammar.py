"""Grammar: which part of the language stands where in a file, read off the models.

What formats files and what describes them both walk a file along its grammar: at every mapping they ask which
part it is, and at every key what may stand there.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from yaml.nodes import MappingNode, Node, SequenceNode

from orchestrator.rulebook.gather import role_of
from orchestrator.rulebook.models.condition import FieldCondition, OtherField, ScoreCondition
from orchestrator.rulebook.models.limit import ArbitratePart, LearnPart
from orchestrator.rulebook.models.part import ByKey, Part
from orchestrator.rulebook.models.play import StepPart, WaitUntil
from orchestrator.rulebook.schema import SCHEMAS


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain value, or a mapping whose keys are the author's own."""


@dataclass(frozen=True, slots=True)
class OfPart:
    """A mapping with the keys of one part."""

    part: type[Part]


@dataclass(frozen=True, slots=True)
class OneOf:
    """A mapping that is the part whose key it has."""

    choices: tuple[tuple[str, type[Part]], ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A list, or its single item."""

    of: Shape


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping from the author's names to one kind of thing, in the author's order."""

    of: Shape


Shape = Plain | OfPart | OneOf | Items | Named

PLAIN = Plain()

#: Parts that may stand where a plain value may stand as well; their validators hide them from the annotation.
_BESIDE_VALUES: dict[tuple[type[Part], str], type[Part]] = {
    (FieldCondition, "value"): OtherField,
    (ScoreCondition, "value"): OtherField,
    (StepPart, "wait"): WaitUntil,
    (ArbitratePart, "propensity"): LearnPart,
}


def file_part(path: str) -> type[Part] | None:
    """Return the part that a file of this path holds, or None for a file that is no rule file."""
    return SCHEMAS.get(role_of(path))


@cache
def keys_of(part: type[Part]) -> dict[str, Shape]:
    """Return what may stand at each key of a part, in the order in which the keys are written."""
    return {
        field.alias or name: _shape(field.annotation, tuple(field.metadata), _BESIDE_VALUES.get((part, name)))
        for name, field in part.model_fields.items()
    }


def _shape(annotation: Any, metadata: tuple[Any, ...], beside: type[Part] | None = None) -> Shape:
    if beside is not None:
        return OfPart(beside)
    for one in metadata:
        if isinstance(one, ByKey):
            return OneOf(tuple(one.members.items()))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0], arguments[1:])
    if origin is list:
        return Items(_shape(arguments[0], ()))
    if origin is dict:
        return Named(_shape(arguments[1], ()))
    if origin in (Union, types.UnionType):
        return next((found for one in arguments if (found := _shape(one, ())) != PLAIN), PLAIN)
    return OfPart(annotation) if isinstance(annotation, type) and issubclass(annotation, Part) else PLAIN


def part_at(shape: Shape, keys: object) -> type[Part] | None:
    """Return the part that a mapping with these keys is, or None when its keys are the author's own."""
    match shape:
        case OfPart(part):
            return part
        case OneOf(choices):
            present = set(keys) if isinstance(keys, (dict, list, tuple, set, frozenset)) else set()
            return next((part for key, part in choices if key in present), None)
        case Items(of):
            return part_at(of, keys)
        case _:
            return None


def shape_at(shape: Shape, keys: object, key: str) -> Shape:
    """Return what stands at one key of a mapping."""
    if isinstance(shape, Named):
        return shape.of
    part = part_at(shape, keys)
    return PLAIN if part is None else keys_of(part).get(key, PLAIN)


def item_shape(shape: Shape) -> Shape:
    """Return what the items of a list are."""
    return shape.of if isinstance(shape, Items) else PLAIN


def parts_in(node: Node, shape: Shape) -> Iterator[tuple[type[Part], MappingNode]]:
    """Yield every mapping inside a node of a file that is a part, outermost first."""
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from parts_in(item, item_shape(shape))
    elif isinstance(node, MappingNode):
        keys = [key.value for key, _ in node.value]
        part = part_at(shape, keys)
        if part is not None:
            yield part, node
        for key, value in node.value:
            yield from parts_in(value, shape_at(shape, keys, key.value))


def reachable_parts() -> frozenset[type[Part]]:
    """Return every part that some file may hold."""
    found: set[type[Part]] = set()
    waiting: list[Shape] = [OfPart(part) for part in SCHEMAS.values()]
    while waiting:
        match waiting.pop():
            case OfPart(part) if part not in found:
                found.add(part)
                waiting += keys_of(part).values()
            case OneOf(choices):
                waiting += [OfPart(part) for _, part in choices]
            case Items(of) | Named(of):
                waiting.append(of)
            case _:
                continue
    return frozenset(found)
