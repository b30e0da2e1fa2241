"""Definitions: what a checked rulebook is made of, free of YAML and of pydantic.

All spans are milliseconds. All names have been resolved: an unknown name cannot get this far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from orchestrator.core.condition import Condition, Path

# --------------------------------------------------------------------------------------------- aggregates


class AggregateKind(Enum):
    """What a shared primitive keeps per customer, each in bounded space."""

    COUNT = "count"  # the last ``size`` stamps
    SUM = "sum"  # ``SUM_BUCKETS`` sums over equal parts of the window
    STAMPS = "stamps"  # first stamp, last stamp, number


#: A windowed sum is kept in this many equal buckets; its window slides by one bucket at a time.
SUM_BUCKETS = 60


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A primitive over one event type. ``name`` is the hash of its canonical form: equal ones share state."""

    name: str
    kind: AggregateKind
    event: str
    where: Condition | None = None
    within_ms: int = 0
    size: int = 0
    path: Path | None = None


# ------------------------------------------------------------------------------------------------ triggers


@dataclass(frozen=True, slots=True)
class OnEvent:
    """Fires on each event of a type."""

    event: str
    where: Condition | None = None


@dataclass(frozen=True, slots=True)
class OnEnter:
    """Fires when the run enters a stage of the rule's journey."""

    stage: str


@dataclass(frozen=True, slots=True)
class OnLeave:
    """Fires when the run leaves a stage of the rule's journey."""

    stage: str


@dataclass(frozen=True, slots=True)
class OnDwell:
    """Fires when the run has stayed in a stage for a span."""

    stage: str
    for_ms: int


class Rearm(Enum):
    """Which occurrence of the awaited event starts the clock of an absence."""

    LATEST = "latest"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class OnAbsence:
    """Fires when ``after`` happened and then no ``of`` for a span.

    ``same`` names the event property that ties the two together; without it the journey's key does, and
    without a key the customer. ``name`` is the hash of the canonical form; equal absences share state.
    """

    name: str
    after: str
    of: str
    for_ms: int
    rearm: Rearm = Rearm.LATEST
    same: Path | None = None
    after_where: Condition | None = None
    of_where: Condition | None = None


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """One expected event; ``without`` are event types that must not happen between it and the one before."""

    event: str
    where: Condition | None = None
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OnSequence:
    """Fires when events happened in this order, all within a span, tied together by ``same``."""

    name: str
    steps: tuple[SequenceStep, ...]
    within_ms: int
    same: Path | None = None


@dataclass(frozen=True, slots=True)
class OnSchedule:
    """Fires at a local time of the customer on some weekdays (0 = Monday) while a run is open."""

    at_min: int
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    zone: str = "profile"


Trigger = OnEvent | OnEnter | OnLeave | OnDwell | OnAbsence | OnSequence | OnSchedule

# --------------------------------------------------------------------------------------------------- plays


class Template(Protocol):
    """Renders what a connector receives. Pure; compiled once when the rulebook is loaded."""

    @property
    def name(self) -> str:
        """The template's name in the rulebook."""
        ...

    def render(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the action's params; raise ``MissingTemplateValue`` naming a variable that is not there.

        ``facts`` has ``event``, ``profile``, ``customer``, ``journey`` and ``run`` (see the language reference).
        """
        ...


class MissingTemplateValue(Exception):
    """A template needs a value that the customer does not have; give the template a default for it."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send one action. ``fallback`` is tried, in order, when this one cannot be sent.

    ``fallback_on_unknown`` tries it also when nobody knows whether this one arrived.
    """

    step: str
    connector: str
    kind: str
    template: Template
    priority: int = 50
    deadline_ms: int | None = None
    fallback: tuple[Send, ...] = ()
    consent: tuple[str, ...] = ()
    fallback_on_unknown: bool = False


class IfPast(Enum):
    """What becomes of a play that is to wait until a moment that has passed."""

    GO = "go"  # it goes on at once
    SKIP = "skip"  # it leaves out the step that the wait was for
    END = "end"  # it ends


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait a span, or until a local time, or until the moment in a property plus an offset.

    ``skip_pc`` is where a play goes on that skips the step which the wait was for.
    """

    step: str
    for_ms: int = 0
    until_min: int | None = None
    until_path: Path | None = None
    zone: str = "profile"
    if_past: IfPast = IfPast.END
    skip_pc: int = 0


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Wait for an event; when it does not come within the span go to ``else_pc``."""

    step: str
    event: str
    within_ms: int
    else_pc: int
    where: Condition | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """Go on when the condition is true, otherwise go to ``else_pc``."""

    step: str
    when: Condition
    else_pc: int


@dataclass(frozen=True, slots=True)
class Jump:
    """Go to ``pc``."""

    step: str
    pc: int


@dataclass(frozen=True, slots=True)
class Split:
    """Assign the customer to an arm, by a hash of (id, customer), for good. ``arms`` are (name, percent)."""

    step: str
    id: str
    arms: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Go on when the play's latest split chose ``arm``, otherwise go to ``else_pc``."""

    step: str
    arm: str
    else_pc: int


@dataclass(frozen=True, slots=True)
class SetTrait:
    """Set a trait of the profile, to ``value`` or to what ``text`` renders under the trait's name."""

    step: str
    trait: str
    value: Any
    text: Template | None = None


@dataclass(frozen=True, slots=True)
class SetConsent:
    """Give or refuse consent for a purpose on the customer's behalf, as an event of theirs would."""

    step: str
    purpose: str
    granted: bool


@dataclass(frozen=True, slots=True)
class SetStage:
    """Move the run to a stage."""

    step: str
    stage: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End the play."""

    step: str


Step = Send | Wait | WaitFor | Branch | Jump | Split | Case | SetTrait | SetConsent | SetStage | Exit

#: The arm of a split whose customers receive nothing, so that the effect of acting can be measured.
HOLDOUT = "holdout"

# -------------------------------------------------------------------------------------------------- limits


class Period(Enum):
    """A calendar period in the customer's own zone."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Cap:
    """At most ``max`` actions per rolling span or calendar period.

    ``of`` is what is counted: ``rule``, ``kind:sms``, ``connector:NAME`` or ``group:NAME``. ``key`` names the
    counter in the customer's state.
    """

    key: str
    max: int
    of: str
    per_ms: int = 0
    period: Period | None = None


class QuietThen(Enum):
    """What becomes of an action that falls into quiet hours."""

    DEFER = "defer"
    DROP = "drop"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Minutes of the local day; the window may pass midnight. ``zone`` is ``profile`` or an IANA name.

    ``kinds`` are the kinds of action it holds for, such as ``call``; empty holds for all.
    """

    start_min: int
    end_min: int
    zone: str = "profile"
    then: QuietThen = QuietThen.DEFER
    kinds: tuple[str, ...] = ()

    def holds_for(self, kind: str) -> bool:
        """Return whether actions of a kind keep these hours."""
        return not self.kinds or kind in self.kinds


@dataclass(frozen=True, slots=True)
class Limits:
    """What may hold an action back."""

    cooldown_ms: int = 0
    caps: tuple[Cap, ...] = ()
    consent: tuple[str, ...] = ()
    quiet_hours: QuietHours | None = None


# --------------------------------------------------------------------------------------------- arbitration


@dataclass(frozen=True, slots=True)
class Arbitrate:
    """How a rule competes for its slot: score = propensity x context x value x weight.

    ``context`` is a tuple of (condition, factor); the factors of all that are true multiply.
    ``propensity`` is a constant; ``learn`` names a learned one instead, which counts an action as a success when
    the event ``reward`` happens within ``horizon_ms``. It is learned per segment: the first of ``learn_segments``
    (name, condition) that holds. Candidates of one slot are collected for ``decision_window_ms``.
    """

    slot: str
    value: float = 1.0
    weight: float = 1.0
    propensity: float = 1.0
    learn: str = ""
    context: tuple[tuple[Condition, float], ...] = ()
    decision_window_ms: int = 0
    reward: str = ""
    horizon_ms: int = 7 * 86_400_000
    learn_segments: tuple[tuple[str, Condition], ...] = ()


# ------------------------------------------------------------------------------------- rules and journeys


@dataclass(frozen=True, slots=True)
class ExitWhen:
    """The event that ends a play at once."""

    event: str
    where: Condition | None = None


#: How late an event may come (log stamp minus event time) and still decide, unless the rule says otherwise.
LATENESS_DEFAULT_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Rule:
    """A trigger, a condition, a program and the limits it must respect.

    ``captures`` are the top-level event properties that anything in the rule reads; a play or an armed
    absence keeps just these of the event that started it. ``anytime`` says that it does not live by a run of its
    journey: it acts whether one is open or not, and goes on when one ends. ``restart`` says that its newest trigger
    replaces the open play of the same run.
    """

    id: str
    journey: str
    trigger: Trigger
    program: tuple[Step, ...]
    title: str = ""
    when: Condition | None = None
    exit_when: tuple[ExitWhen, ...] = ()
    limits: Limits = field(default_factory=Limits)
    arbitrate: Arbitrate | None = None
    lateness_ms: int = LATENESS_DEFAULT_MS
    captures: tuple[str, ...] = ()
    anytime: bool = False
    restart: bool = False


@dataclass(frozen=True, slots=True)
class StageOn:
    """A stage is entered by an event, or by a run that has not moved for a span."""

    event: str = ""
    where: Condition | None = None
    dwell_ms: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a journey. ``index`` orders stages: a run only moves forward."""

    name: str
    index: int
    on: StageOn
    goal: bool = False
    final: bool = False
    value: Path | None = None
    moment_of_truth: bool = False
    touchpoint: str = ""
    owner: str = ""


class OnEdit(Enum):
    """What becomes of a running play when another version of the rulebook comes into force."""

    PIN = "pin"  # it goes on with the program of the version that started it
    FOLLOW = "follow"  # it goes on in the new program, at the step of the same id
    MIGRATE = "migrate"  # it follows, and runs move from stages that are gone to those that took their place


@dataclass(frozen=True, slots=True)
class Journey:
    """Ordered stages and the rules that act along them.

    ``key`` is the event property that names a run; None means one run a customer. ``reentry_after_ms`` is
    the span after which an ended run may start anew; None means never. A goal counts only within
    ``goal_window_ms`` of the run's start. ``stage_map`` leads from stages of earlier versions to stages of this one.
    """

    id: str
    title: str
    stages: tuple[Stage, ...]
    key: Path | None = None
    reentry_after_ms: int | None = None
    goal_window_ms: int | None = None
    rules: tuple[Rule, ...] = ()
    on_edit: OnEdit = OnEdit.PIN
    stage_map: tuple[tuple[str, str], ...] = ()

    def stage(self, name: str) -> Stage | None:
        """Return the stage of a name, None when the journey has none."""
        return next((one for one in self.stages if one.name == name), None)
