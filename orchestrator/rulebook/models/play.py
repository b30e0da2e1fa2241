"""Plays as authors write them: what a rule does, step by step."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema

from orchestrator.rulebook.meant_value import hint, meant_clock, meant_number, meant_span
from orchestrator.rulebook.models.condition import Condition
from orchestrator.rulebook.models.part import Part, expected, shown, told
from orchestrator.rulebook.models.scalars import NAME_PATTERN, Name, Scalar, SignedSpan, Span, checked_name, is_path
from orchestrator.rulebook.span import parsed_clock_min, parsed_span_ms


class SendPart(Part):
    """One action for a connector."""

    short_form: ClassVar[str] = "{connector: …, template: TEMPLATE}"

    connector: Name = Field(description="A connector of connectors.yaml.")
    template: Name | None = Field(None, description="A template of templates.yaml; without it, params say it all.")
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Values for the template: they replace its params or are read in it as {{ params.NAME }}.",
    )
    priority: int = Field(50, ge=0, le=100, description="0 to 100; the higher the sooner.")
    deadline: Span | None = Field(
        None,
        description="After this span the action is worthless and is not sent. It begins with the decision, or with the "
        "end of the quiet hours that held it back.",
    )
    consent: list[Name] = Field(
        default_factory=list, description="Purposes the customer must have consented to, in place of the rule's."
    )
    fallback: list[SendPart] = Field(
        default_factory=list, max_length=4, description="Tried in order when this one cannot be sent."
    )
    fallback_on_unknown: bool = Field(
        False,
        description="Send the fallback also when nobody knows whether this one arrived: both may, where otherwise "
        "perhaps neither would.",
    )


def _until(value: Any) -> str:
    if not isinstance(value, str):
        raise expected('a time of day such as "09:00", or a field', value, meant_clock(value))
    return value


Until = Annotated[str, PlainValidator(_until), WithJsonSchema({"type": "string"})]


class WaitUntil(Part):
    """A moment to wait for."""

    until: Until = Field(description='A time of day such as "09:00", or a field that holds a moment.')
    offset: SignedSpan = Field(0, description="Added to the moment of the field, for example -2h.")
    zone: str = Field("profile", description="profile for the customer's own zone, or an IANA name.")
    if_past: Literal["go", "skip", "end"] | None = Field(
        None,
        description=(
            "What happens when the moment of the field has passed already: go on at once (go), leave out the step that"
            " follows the wait (skip), or end the play (end); end by default."
        ),
    )


def _meant_wait(value: Any) -> str:
    """Return how to write a wait: a span, or a moment in its mapping."""
    if (span := meant_span(value)) or not isinstance(value, str):
        return span
    moment = meant_until(value)
    return f"{{until: {moment}}}" if moment else ""


def meant_until(text: str) -> str:
    """Return how to write a moment to wait for: a time of day in its quotes, or a field."""
    braced = re.fullmatch(r"\s*\{\{\s*([\w.]+)\s*\}\}\s*", text)
    if parsed_clock_min(text) is not None or (is_path(text) and not braced):
        return f'"{text}"' if ":" in text else text
    path = braced[1] if braced else text
    if braced and is_path(path):
        return path
    if re.match(r"tomorrow\b|next\b", text.strip().lower()):
        clock = meant_clock(re.sub(r"^\s*(?:tomorrow|next \w+)\s*(?:at)?\s*", "", text.lower()))
        return clock or '"09:00"'
    return meant_clock(text)


def _wait(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, dict):
        return WaitUntil.model_validate(value, context=info.context)
    span_ms = parsed_span_ms(value)
    if not span_ms:
        raise expected('a span such as 2h, or {until: "09:00"}', value, _meant_wait(value))
    return span_ms


Waiting = Annotated[
    Any,
    PlainValidator(_wait),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "examples": ["30m", "2h"]},
                {
                    "type": "object",
                    "properties": {
                        "until": {"type": "string"},
                        "offset": {"type": "string"},
                        "zone": {"type": "string"},
                        "if_past": {"enum": ["go", "skip", "end"]},
                    },
                    "required": ["until"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class WaitForPart(Part):
    """Wait for an event; go on when it comes."""

    short_form: ClassVar[str] = "{event: …, within: 1d}"

    event: Name = Field(description="The event type.")
    within: Span = Field(description="How long to wait.")
    where: Condition | None = Field(None, description="Only events for which this holds.")
    else_: list[StepPart] = Field(
        default_factory=list, alias="else", description="Steps when it does not come in time."
    )


def _split(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise told("a split needs an id and its arms with their percentages, {id: NAME, holdout: 10, a: 45, b: 45}")
    for name in (value["id"], *value):
        checked_name(name)
    for arm, percent in value.items():
        if arm != "id" and (isinstance(percent, bool) or not isinstance(percent, (int, float)) or percent <= 0):
            raise told(f"the arm {arm} needs a percentage above 0, got {shown(percent)}{hint(meant_number(percent))}")
    return value


SplitPart = Annotated[
    dict[str, Any],
    PlainValidator(_split),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"id": {"type": "string", "pattern": NAME_PATTERN}},
            "required": ["id"],
            "propertyNames": {"pattern": NAME_PATTERN},
            "additionalProperties": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
        }
    ),
]


class StepPart(Part):
    """One step. ``case`` limits it to an arm of the latest split; ``wait_for`` may follow a ``send``."""

    case: Name | None = Field(None, description="Only for customers in this arm of the latest split.")
    send: SendPart | None = Field(None, description="Send one action.")
    wait: Waiting = Field(None, description="Wait a span, or until a moment.")
    wait_for: WaitForPart | None = Field(None, description="Wait for an event, with steps for when it does not come.")
    if_: Condition | None = Field(None, alias="if", description="Go on with `then` when this holds, else with `else`.")
    then: list[StepPart] = Field(default_factory=list, description="Steps when `if` holds.")
    else_: list[StepPart] = Field(
        default_factory=list, alias="else", description="Steps when `if` does not hold or is unknown."
    )
    do: list[StepPart] = Field(default_factory=list, description="Several steps under one `case`.")
    split: SplitPart | None = Field(None, description="Assign the customer to an arm, for good; percentages make 100.")
    set_trait: dict[str, Scalar] = Field(
        default_factory=dict,
        description="Set traits of the profile; {{ fields }} of a text are filled in, in the type of the trait.",
    )
    set_consent: dict[Name, bool] = Field(
        default_factory=dict,
        description="Give or refuse consent, by purposes; what is pending and needs one that is refused is taken back.",
    )
    set_stage: Name | None = Field(None, description="Move the run to a stage.")
    exit: bool = Field(False, description="true ends the play.")


for _model in (SendPart, WaitForPart, StepPart):
    _model.model_rebuild()
