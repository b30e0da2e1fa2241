"""Journey files: stages, and the rules that act along them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from orchestrator.rulebook.meant_value import meant_span, named
from orchestrator.rulebook.models.condition import Condition
from orchestrator.rulebook.models.limit import ArbitratePart, LimitsPart
from orchestrator.rulebook.models.part import ByKey, Part, expected
from orchestrator.rulebook.models.play import StepPart
from orchestrator.rulebook.models.scalars import NAME_PATTERN, Name, PropertyPath, Span, SpanOrZero
from orchestrator.rulebook.models.trigger import EventTrigger, Exits, Trigger
from orchestrator.rulebook.span import parsed_span_ms


class StageDwell(Part):
    """The run has not moved for a span, in any stage that is not final."""

    dwell: Span = Field(description="How long the run has not moved.")


StageEntry = Annotated[
    EventTrigger | StageDwell, ByKey("the entry of a stage", named("{event: …}"), event=EventTrigger, dwell=StageDwell)
]


class StagePart(Part):
    """One stage of a journey."""

    short_form: ClassVar[str] = "{on: {event: …}}"

    on: StageEntry = Field(description="What moves a run here: an event, or not having moved for a span.")
    goal: bool = Field(False, description="Reaching this stage is success.")
    final: bool | None = Field(
        None, description="The run ends here; by default true for goals and for stages entered by dwell."
    )
    value: PropertyPath | None = Field(None, description="The property that holds what reaching it is worth.")
    moment_of_truth: bool = Field(False, description="This stage decides whether customers stay.")
    touchpoint: str = Field("", description="Where it happens: web, app, store, call …")
    owner: str = Field("", description="Who answers for it.")


class Reentry(Part):
    """When an ended run may start anew."""

    after: SpanOrZero = Field(description="The span after the end.")

    @classmethod
    def meant(cls, value: Any) -> str:
        """Return a span under ``after``."""
        span = value if parsed_span_ms(value) is not None else meant_span(value)
        return f"{{after: {span}}}" if span else "{after: 0s}" if value is True or value == "always" else ""


_EDIT_WORDS = ("pin", "follow")


def _on_edit(value: Any) -> str | dict[str, str]:
    if isinstance(value, str) and value in _EDIT_WORDS:
        return value
    stages = value.get("migrate") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(stages, dict) or not stages or not all(isinstance(one, str) for one in stages.values()):
        raise expected("pin, follow or {migrate: {stage of before: stage of now}}", value)
    return dict(stages)


OnEdit = Annotated[
    str | dict[str, str],
    PlainValidator(_on_edit),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(_EDIT_WORDS)},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["migrate"],
                    "properties": {
                        "migrate": {
                            "type": "object",
                            "minProperties": 1,
                            "additionalProperties": {"type": "string", "pattern": NAME_PATTERN},
                        }
                    },
                },
            ]
        }
    ),
]


class RulePart(Part):
    """When something happens, and a condition holds, do something, within limits."""

    id: Name = Field(description="Unique in the rulebook; it names the rule in every report.")
    title: str = Field("", description="For people.")
    on: Trigger = Field(description="What sets the rule off; exactly one trigger.")
    acts: Literal["in_run", "anytime"] = Field(
        "in_run",
        description=(
            "When the rule acts: while its run is open, the event that opens or closes it included (in_run), or whether"
            " a run is open or not, and beyond its end (anytime)."
        ),
    )
    restart: bool = Field(
        False,
        description=(
            "true lets the newest trigger replace the open play of the same run: its wait ends, and what it sent and"
            " was not delivered is taken back. Otherwise the open play goes on and the trigger is dropped."
        ),
    )
    when: Condition | None = Field(None, description="What must be true then.")
    do: list[StepPart] = Field(min_length=1, description="The steps of the play.")
    exit_when: Exits = Field(default_factory=list, description="Events that end the play at once, even in a wait.")
    limits: LimitsPart | None = Field(None, description="What may hold an action back.")
    arbitrate: ArbitratePart | None = Field(None, description="How the rule competes with others for a slot.")
    lateness: SpanOrZero | None = Field(None, description="How late an event may come and still decide; 1h by default.")


class JourneyHead(Part):
    """A journey without its rules."""

    journey: Name = Field(description="The id of the journey, unique in the rulebook.")
    title: str = Field("", description="For people.")
    key: PropertyPath | None = Field(
        None, description="One run per value of this property; without it, one run per customer."
    )
    stages: dict[Name, StagePart] = Field(
        min_length=1, description="The stages in order; a run only moves forward. The first entered starts it."
    )
    reentry: Reentry | None = Field(None, description="When an ended run may start anew; without it, never.")
    goal_window: Span | None = Field(None, description="A goal counts only within this span of the run's start.")
    on_edit: OnEdit = Field(
        "pin",
        description=(
            "What becomes of running plays when this version takes over: they keep the version that started them (pin),"
            " go on in this one at the same step (follow), or follow while stages that are gone move on (migrate)."
        ),
    )


class JourneyFile(JourneyHead):
    """A file with one journey and its rules."""

    rules: list[RulePart] = Field(default_factory=list, description="The rules that act along this journey.")
