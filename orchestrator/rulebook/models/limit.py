"""Limits and arbitration as authors write them: what holds an action back, and who wins a slot."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema

from orchestrator.rulebook.meant_value import meant_hours, meant_number, meant_period, named
from orchestrator.rulebook.models.condition import Condition
from orchestrator.rulebook.models.part import OneOrMore, Part, expected
from orchestrator.rulebook.models.scalars import ClockTime, Factor, Lever, Name, Span, SpanOrZero
from orchestrator.rulebook.span import SPAN_PATTERN, parsed_span_ms

CALENDAR = ("day", "week", "month")


def _per(value: Any) -> Any:
    if value in CALENDAR and isinstance(value, str):
        return value
    span_ms = parsed_span_ms(value)
    if not span_ms:
        raise expected("a span such as 7d (rolling) or one of day, week, month (calendar)", value, meant_period(value))
    return span_ms


Per = Annotated[
    Any,
    PlainValidator(_per),
    WithJsonSchema({"anyOf": [{"enum": list(CALENDAR)}, {"type": "string", "pattern": SPAN_PATTERN}]}),
]


class CapPart(Part):
    """At most so many actions in a span."""

    max: int = Field(ge=0, le=1_000, description="How many.")
    per: Per = Field(description="A rolling span such as 7d, or a calendar day, week or month of the customer.")
    of: str = Field(
        "rule", description="What is counted: rule, kind:KIND, connector:NAME, or group:NAME (rules that share it)."
    )

    @classmethod
    def meant(cls, value: Any) -> str:
        """Return a number as a cap of a week."""
        number = value if isinstance(value, int) else meant_number(value)
        return f"{{max: {number}, per: 7d}}" if number else ""


class QuietPart(Part):
    """Hours in which nothing is sent. The window may pass midnight."""

    from_: ClockTime = Field(alias="from", description='Begin, for example "21:00".')
    to: ClockTime = Field(description='End, for example "08:00".')
    zone: str = Field("profile", description="profile for the customer's own zone, or an IANA name.")
    then: Literal["defer", "drop", "fallback"] = Field(
        "defer", description="Hold the action until the end, drop it, or send its fallback instead."
    )
    kinds: list[Literal["call", "sms", "whatsapp", "email", "push", "chat", "crm", "webhook", "publish"]] = Field(
        default_factory=list, description="The kinds of action that keep these hours; all of them when left out."
    )

    @classmethod
    def meant(cls, value: Any) -> str:
        """Return hours in one text as a begin and an end."""
        return meant_hours(value)


class LimitsPart(Part):
    """What may hold an action back."""

    use: Annotated[list[Name], OneOrMore()] = Field(
        default_factory=list, description="Shared sets of limits.yaml, merged with what stands here."
    )
    consent: list[Name] = Field(default_factory=list, description="Purposes the customer must have consented to.")
    cooldown: Span | None = Field(None, description="The rule acts for a customer at most once in this span.")
    cap: Annotated[list[CapPart], OneOrMore()] = Field(default_factory=list, description="One cap or a list of them.")
    quiet_hours: QuietPart | None = Field(None, description="Hours in which nothing is sent.")

    @classmethod
    def meant(cls, value: Any) -> str:
        """Return the names of shared sets under ``use``."""
        names = value if isinstance(value, list) else [value]
        return f"{{use: [{', '.join(names)}]}}" if names and all(named("…")(name) for name in names) else ""


class LearnPart(Part):
    """A propensity that is learned from outcomes."""

    learn: Name = Field(description="The name of the learned propensity; rules with the same name learn together.")
    reward: Name | None = Field(
        None, description="The event that makes an action a success; by default the one that reaches the goal."
    )
    horizon: Span = Field(7 * 86_400_000, description="Without the reward in this span it was no success.")
    segments: list[Name] = Field(
        default_factory=list, description="Learn apart for these segments: a customer counts for the first that holds."
    )


def _meant_propensity(value: Any) -> str:
    """Return a percentage as the number that it is."""
    number = float(meant_number(value) or "nan") if isinstance(value, str) else value
    percent = isinstance(number, (int, float)) and 1 < number <= 100
    return f"{number / 100:g}" if percent else named("{learn: …}")(value)


def _propensity(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, dict):
        return LearnPart.model_validate(value, context=info.context)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise expected("a number from 0 to 1, or {learn: NAME}", value, _meant_propensity(value))
    return float(value)


Propensity = Annotated[
    Any,
    PlainValidator(_propensity),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {
                    "type": "object",
                    "properties": {
                        "learn": {"type": "string"},
                        "reward": {"type": "string"},
                        "horizon": {"type": "string"},
                        "segments": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["learn"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class LeverPart(Part):
    """A lever that holds under a condition."""

    when: Condition = Field(description="The lever is pulled when this is true.")
    lever: Lever = Field(description="A percentage: +30 multiplies the score by 1.3.")


class ContextPart(Part):
    """Levers by situation; all that hold multiply."""

    stage: dict[str, Lever] = Field(default_factory=dict, description="A percentage per stage of this journey.")
    segment: dict[str, Lever] = Field(default_factory=dict, description="A percentage per segment.")
    levers: list[LeverPart] = Field(default_factory=list, description="Percentages under conditions of your own.")


class ArbitratePart(Part):
    """How the rule competes for a slot: score = propensity x context x value x weight."""

    short_form: ClassVar[str] = "{slot: …}"

    slot: Name = Field(description="Rules with the same slot compete; one of them acts.")
    value: Factor = Field(1.0, description="What success is worth, in any one currency.")
    weight: Factor = Field(1.0, description="A factor such as 1.2, or a percentage such as +20%.")
    propensity: Propensity = Field(1.0, description="How likely success is, from 0 to 1, or {learn: NAME}.")
    context: ContextPart | None = Field(None, description="Levers by stage, segment or condition.")
    decision_window: SpanOrZero = Field(0, description="How long to collect candidates; up to 60s.")
