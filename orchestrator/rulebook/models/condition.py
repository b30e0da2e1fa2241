"""Conditions as authors write them: each is one mapping, told apart by its key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema

from orchestrator.rulebook.meant import meant_condition
from orchestrator.rulebook.models.part import ByKey, Part, expected
from orchestrator.rulebook.models.scalars import FieldPath, Name, Number, PropertyPath, Span, SpanOrZero

FieldOp = Literal[
    "eq",
    "ne",
    "lt",
    "lte",
    "gt",
    "gte",
    "in",
    "not_in",
    "contains",
    "starts_with",
    "matches",
    "exists",
    "missing",
    "between",
]
NumberOp = Literal["eq", "ne", "lt", "lte", "gt", "gte"]
SpanOp = Literal["lt", "lte", "gt", "gte"]

_ITEMS_MAX = 1_000


class OtherField(Part):
    """Another field as the right-hand side, scaled."""

    field: FieldPath = Field(description="The field to compare with, for example profile.credit_limit.")
    times: Number = Field(1, description="The other field is multiplied by this before comparing.")


def _operand(value: Any, info: ValidationInfo) -> Any:
    """Accept a scalar or a list of scalars; anything else is told apart later by the operator."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, list) and all(isinstance(item, (str, int, float, bool)) for item in value):
        if len(value) > _ITEMS_MAX:
            raise expected(f"at most {_ITEMS_MAX} values", len(value))
        return value
    if isinstance(value, dict):
        return OtherField.model_validate(value, context=info.context)
    raise expected("a value, a list of values, or a mapping {field: …, times: …}", value)


Operand = Annotated[
    Any,
    PlainValidator(_operand),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["string", "number", "boolean"]},
                {"type": "array", "items": {"type": ["string", "number", "boolean"]}},
                {
                    "type": "object",
                    "properties": {"field": {"type": "string"}, "times": {"type": "number"}},
                    "required": ["field"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class FieldCondition(Part):
    """A field against a value. A missing field makes the condition unknown, which does not fire."""

    field: FieldPath = Field(description="What to look at: event.…, profile.…, context.… or run.….")
    op: FieldOp = Field(description="How to compare.")
    value: Operand = Field(
        None, description="What to compare with: a value, a list (in, not_in, between), or {field: …, times: …}."
    )
    default: Operand = Field(None, description="Stands in when the field is missing.")


class CountCondition(Part):
    """How often an event happened within a window."""

    count: Name = Field(description="The event type to count.")
    within: Span = Field(description="The window that ends now.")
    op: NumberOp = Field(description="How to compare the number.")
    value: int = Field(ge=0, description="The number to compare with.")
    where: Condition | None = Field(None, description="Counts only events for which this holds.")


class SumCondition(Part):
    """The sum of a property over the events of a window."""

    sum: Name = Field(description="The event type to sum over.")
    of: PropertyPath = Field(description="The numeric property to add up, for example event.total.")
    within: Span = Field(description="The window that ends now; it slides by a sixtieth of its length.")
    op: NumberOp = Field(description="How to compare the sum.")
    value: Number = Field(description="The number to compare with.")
    where: Condition | None = Field(None, description="Adds only events for which this holds.")


class SinceLastCondition(Part):
    """The span since an event last happened."""

    since_last: Name = Field(description="The event type.")
    op: SpanOp = Field(description="How to compare the span.")
    value: SpanOrZero = Field(description="The span to compare with.")
    if_never: bool | None = Field(None, description="The answer when it never happened; without it, unknown.")
    where: Condition | None = Field(None, description="Looks only at events for which this holds.")


class SinceFirstCondition(Part):
    """The span since an event first happened."""

    since_first: Name = Field(description="The event type.")
    op: SpanOp = Field(description="How to compare the span.")
    value: SpanOrZero = Field(description="The span to compare with.")
    if_never: bool | None = Field(None, description="The answer when it never happened; without it, unknown.")
    where: Condition | None = Field(None, description="Looks only at events for which this holds.")


class FirstCondition(Part):
    """Whether an event has happened exactly once so far."""

    first: Name = Field(description="The event type.")
    where: Condition | None = Field(None, description="Looks only at events for which this holds.")


class SegmentCondition(Part):
    """Whether the customer belongs to a segment."""

    in_segment: Name = Field(description="A segment of segments.yaml.")


def _stages(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return list(names)
    raise expected("a stage or a list of stages", value)


class StageCondition(Part):
    """Whether the run is in one of these stages."""

    in_stage: Annotated[
        list[str],
        PlainValidator(_stages),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(description="A stage, or a list of stages.")
    journey: Name | None = Field(None, description="The journey whose stages are meant; the rule's own by default.")


class ScoreCondition(Part):
    """A score of the customer (trait ``scores``), between 0 and 1 unless your model says otherwise."""

    score: Name = Field(description="The score, for example propensity, sentiment or effort.")
    op: Literal["eq", "ne", "lt", "lte", "gt", "gte", "between", "exists", "missing"] = Field(
        description="How to compare."
    )
    value: Operand = Field(None, description="The number to compare with, or [low, high] for between.")
    default: Operand = Field(None, description="Stands in when the customer has no such score.")


class AllCondition(Part):
    """True when every part is true."""

    all: list[Condition] = Field(min_length=1, description="The parts.")


class AnyCondition(Part):
    """True as soon as one part is true."""

    any: list[Condition] = Field(min_length=1, description="The parts.")


class NotCondition(Part):
    """True when the part is false; a part that is unknown stays unknown."""

    not_: Condition = Field(alias="not", description="The part to negate.")


Condition = Annotated[
    AllCondition
    | AnyCondition
    | NotCondition
    | FieldCondition
    | CountCondition
    | SumCondition
    | SinceLastCondition
    | SinceFirstCondition
    | FirstCondition
    | SegmentCondition
    | StageCondition
    | ScoreCondition,
    ByKey(
        "a condition",
        meant_condition,
        all=AllCondition,
        any=AnyCondition,
        not_=NotCondition,
        field=FieldCondition,
        count=CountCondition,
        sum=SumCondition,
        since_last=SinceLastCondition,
        since_first=SinceFirstCondition,
        first=FirstCondition,
        in_segment=SegmentCondition,
        in_stage=StageCondition,
        score=ScoreCondition,
    ),
]

for _model in (
    AllCondition,
    AnyCondition,
    NotCondition,
    CountCondition,
    SumCondition,
    SinceLastCondition,
    SinceFirstCondition,
    FirstCondition,
):
    _model.model_rebuild()
