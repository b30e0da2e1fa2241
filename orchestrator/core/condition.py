"""The condition tree: what ``when`` and ``where`` mean once every name in them has been checked.

Truth is three-valued (Kleene): a missing field or an aggregate that has not seen its window makes a
condition *unknown*, and only *true* fires. ``interpret`` walks this tree; ``rulebook.compile`` fuses it
into generated functions; both must always agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final


class Missing(Enum):
    """The value of a field that is not there: distinct from null, false, zero and the empty string."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class Root(Enum):
    """Where a path starts."""

    EVENT = "event"  # properties of the triggering event
    PROFILE = "profile"  # traits of the customer
    CONTEXT = "context"  # context of the triggering event
    RUN = "run"  # facts of the journey run: stage, entered_at, started_at, key


class Op(Enum):
    """Comparison operators of a ``field`` condition."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    IN = "in"
    NOT_IN = "not_in"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    MATCHES = "matches"
    EXISTS = "exists"
    MISSING = "missing"
    BETWEEN = "between"


@dataclass(frozen=True, slots=True)
class Path:
    """A field: ``event.address.city`` is ``Path(Root.EVENT, ("address", "city"))``."""

    root: Root
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.root.value, *self.parts))


@dataclass(frozen=True, slots=True)
class FieldValue:
    """Another field as the right-hand side, scaled: ``{field: profile.limit, times: 2}``."""

    path: Path
    times: float = 1


@dataclass(frozen=True, slots=True)
class Compare:
    """``path op value``.

    ``value`` is a scalar for the orderings and ``eq``/``ne``/``contains``/``starts_with``/``matches``, a tuple
    for ``in``/``not_in``, a pair (low, high; both inclusive) for ``between``, None for ``exists``/``missing``.
    Values of unlike types never compare: the result is unknown, except that ``eq`` is false and ``ne`` true.
    ``default`` stands in for a missing field.
    """

    path: Path
    op: Op
    value: Any = None
    default: Any = MISSING


@dataclass(frozen=True, slots=True)
class CountOf:
    """How often an event happened within a window, against a number (``aggregate`` names the counter)."""

    aggregate: str
    event: str
    within_ms: int
    op: Op
    value: int


@dataclass(frozen=True, slots=True)
class SumOf:
    """The sum of a numeric property over a window, against a number."""

    aggregate: str
    event: str
    path: Path
    within_ms: int
    op: Op
    value: float


class SinceEnd(Enum):
    """Which occurrence a ``since`` condition measures from."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Since:
    """The span since the first or last occurrence of an event, against a span in milliseconds.

    ``if_never`` is the answer for an event that never happened; None leaves it unknown.
    """

    aggregate: str
    event: str
    end: SinceEnd
    op: Op
    value_ms: int
    if_never: bool | None = None


@dataclass(frozen=True, slots=True)
class FirstEver:
    """True while the event has happened exactly once; false when more often; unknown when never."""

    aggregate: str
    event: str


@dataclass(frozen=True, slots=True)
class InSegment:
    """Whether the customer is in a segment; ``condition`` is the segment's own definition, resolved."""

    segment: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class InStage:
    """Whether the run of ``journey`` that the stimulus concerns is in one of ``stages``.

    For a journey other than the rule's own: whether any of the customer's runs of it is.
    """

    journey: str
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """True when every part is true; false as soon as one is false."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True as soon as one part is true; false when every part is false."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; unknown stays unknown."""

    part: Condition


Condition = Compare | CountOf | SumOf | Since | FirstEver | InSegment | InStage | AllOf | AnyOf | Not
