"""The reference of the rule language, generated from its models: every key with its type, default and an example.

The examples are taken from the rulebook itself, so that each of them is a line that works; what no rule uses has
one written by hand. The reference stands in the README of the rules, between two markers.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from yaml.nodes import MappingNode, Node

from orchestrator.rulebook import filters, outcome_events
from orchestrator.rulebook.examples import KEYS_BY_HAND, PARTS_BY_HAND
from orchestrator.rulebook.folder import folder_files
from orchestrator.rulebook.grammar import OfPart, file_part, parts_in
from orchestrator.rulebook.layout import composed
from orchestrator.rulebook.models import capacity, case, companion, condition, journey, limit, play, scalars, trigger
from orchestrator.rulebook.models.part import ByKey, OneOrMore, Part
from orchestrator.rulebook.span import shown_clock, shown_span

BEGIN = "<!-- reference: written by `journey reference`, do not edit below -->"
END = "<!-- end of the reference -->"

_EXAMPLE_CHARS_MAX = 64
_BLOCK_LINES_MAX = 24

#: The parts in the order in which they are described.
SECTIONS: Mapping[str, tuple[type[Part], ...]] = {
    "Journeys": (journey.JourneyFile, journey.StagePart, journey.StageDwell, journey.Reentry),
    "Rules": (journey.RulePart, trigger.ExitEvent),
    "Triggers": (
        trigger.EventTrigger,
        trigger.EnterTrigger,
        trigger.LeaveTrigger,
        trigger.DwellTrigger,
        trigger.Dwell,
        trigger.AbsenceTrigger,
        trigger.Absence,
        trigger.SequenceTrigger,
        trigger.Sequence,
        trigger.SequenceEvent,
        trigger.SequenceGap,
        trigger.ScheduleTrigger,
        trigger.Schedule,
        trigger.FrictionTrigger,
        trigger.Friction,
    ),
    "Conditions": (
        condition.AllCondition,
        condition.AnyCondition,
        condition.NotCondition,
        condition.FieldCondition,
        condition.OtherField,
        condition.CountCondition,
        condition.SumCondition,
        condition.SinceLastCondition,
        condition.SinceFirstCondition,
        condition.FirstCondition,
        condition.SegmentCondition,
        condition.StageCondition,
        condition.ScoreCondition,
    ),
    "Steps": (play.StepPart, play.SendPart, play.WaitUntil, play.WaitForPart),
    "Limits": (limit.LimitsPart, limit.CapPart, limit.QuietPart),
    "Arbitration": (limit.ArbitratePart, limit.LearnPart, limit.ContextPart, limit.LeverPart),
    "Cases": (
        case.CasesFile,
        case.CasePart,
        case.CustomerPart,
        case.CaseEventPart,
        case.ExpectPart,
        case.ExpectedActionPart,
        case.ExpectedDecisionPart,
    ),
    "Tracking plan": (companion.TrackingPlanFile, companion.EventPart, companion.PropertyPart),
    "Templates, segments and shared limits": (
        companion.TemplatesFile,
        companion.TemplatePart,
        companion.SegmentsFile,
        companion.SegmentPart,
        companion.LimitsFile,
    ),
    "Connectors": (
        companion.ConnectorsFile,
        companion.ConnectorPart,
        companion.DeliveryPart,
        companion.RatePart,
        companion.BreakerPart,
        capacity.CapacityPart,
        capacity.LineGroupPart,
        capacity.OpeningHoursPart,
        capacity.WindowPart,
    ),
}

_WORDS: tuple[tuple[Any, str], ...] = (
    (scalars.Span, "span"),
    (scalars.SpanOrZero, "span"),
    (scalars.SignedSpan, "span, may be negative"),
    (scalars.ClockTime, "time of day"),
    (scalars.Name, "name"),
    (scalars.FieldPath, "field"),
    (scalars.PropertyPath, "property of the event"),
    (scalars.Number, "number"),
    (scalars.Scalar, "text, number, true or false"),
    (scalars.Factor, "factor or percentage"),
    (scalars.Lever, "percentage"),
    (play.Waiting, "span or [wait until](#wait-until)"),
    (play.SplitPart, "id, and a percentage for each arm"),
    (capacity.Day, "day"),
    (limit.Per, "span, or day, week, month"),
    (limit.Propensity, "number from 0 to 1, or [learn](#learn)"),
    (condition.Operand, "value, list of values, or [other field](#other-field)"),
    (journey.OnEdit, "pin, follow, or {migrate: {old stage: new stage}}"),
)
_SPANS = ("span", "span, may be negative")


def reference(rules: Path) -> str:
    """Return the reference as Markdown, with examples from the rulebook in ``rules``. Reads its files."""
    shown = _Examples(rules)
    lines: list[str] = []
    for section, parts in SECTIONS.items():
        lines += [f"### {section}", ""]
        for part in parts:
            lines += [*_described(part, shown), ""]
    lines += ["### Filters", "", "#### Filters of texts", "", *filters.described(), ""]
    lines += ["### Outcomes", "", "#### Outcome events", "", *outcome_events.described(), ""]
    return "\n".join(lines)


def with_reference(readme: str, rules: Path) -> str:
    """Return the text of a README with the reference between its markers. Raises ``ValueError`` without markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the file needs the two lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{reference(rules)}\n{END}{after}"


def title_of(part: type[Part]) -> str:
    """Return what a part is called: ``WaitForPart`` is "Wait for"."""
    words = re.sub(r"(?<!^)([A-Z])", r" \1", part.__name__).removesuffix(" Part")
    return words.lower().capitalize()


def _link(part: type[Part]) -> str:
    title = title_of(part)
    return f"[{title.lower()}](#{title.lower().replace(' ', '-')})"


def _described(part: type[Part], shown: _Examples) -> Iterator[str]:
    yield f"#### {title_of(part)}"
    yield ""
    yield str(part.__doc__).strip()
    yield ""
    yield "| key | type | default | what it means | example |"
    yield "| --- | --- | --- | --- | --- |"
    for name, field in part.model_fields.items():
        key = field.alias or name
        words = _words(field.annotation, tuple(field.metadata))
        cells = (f"`{key}`", words, _default(field, words), str(field.description), _code(shown.of_key(part, key)))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    block = shown.of_part(part)
    if block:
        yield from ("", f"<!-- part: {part.__name__} -->", "```yaml", block, "```")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


# ----------------------------------------------------------------------------------------------- types


def _words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """Return a type in the words of authors."""
    for one in metadata:
        if isinstance(one, ByKey):
            return _union(one)
        for alias, words in _WORDS:
            if one == get_args(alias)[1]:
                return words
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in arguments if one is not type(None))
    if origin is list:
        single = any(isinstance(one, OneOrMore) for one in metadata)
        return f"list of {_words(arguments[0])}{', or a single one' if single else ''}"
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"mapping of names to {_words(arguments[1])}"
    if origin is Literal:
        return " ".join(f"`{one}`" for one in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return _link(annotation)
    return {bool: "true or false", int: "whole number", float: "number", str: "text"}.get(annotation, "anything")


def _union(union: ByKey) -> str:
    """Return a few parts by name, and many by the section that describes them."""
    if len(union.members) <= 2:
        return " or ".join(_link(part) for part in union.members.values())
    noun = union.noun.removeprefix("a ")
    return f"[{noun}](#{noun.replace(' ', '-')}s)"


def _default(field: FieldInfo, words: str) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", [], {}):
        return ""
    if words in _SPANS:
        return f"`{shown_span(value)}`"
    if words == "time of day":
        return f"`{shown_clock(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`[{', '.join(value)}]`" if isinstance(value, list) else f"`{value}`"


# -------------------------------------------------------------------------------------------- examples


class _Examples:
    """Finds, for each part and key, how a rulebook writes it."""

    def __init__(self, rules: Path) -> None:
        self._keys: dict[tuple[type[Part], str], str] = {}
        self._parts: dict[type[Part], tuple[int, str]] = {}
        for part, text in PARTS_BY_HAND.items():
            self._note(dedent(text).strip(), OfPart(part), only=part)
        for name, content in folder_files(rules).items():
            held = file_part(name)
            if held is not None:
                self._note(content.decode("utf-8"), OfPart(held))
        self._keys |= KEYS_BY_HAND

    def _note(self, text: str, shape: OfPart, only: type[Part] | None = None) -> None:
        root = composed(text)
        for part, node in parts_in(root, shape) if root is not None else ():
            if only is not None and part is not only:
                continue
            for key, value in node.value:
                example = _one_line(text, value)
                if example:
                    self._keys.setdefault((part, key.value), example)
            block = _source(text, node)
            known = self._parts.get(part)
            if block and part in PARTS_BY_HAND and only is None:
                continue
            if block and (known is None or len(node.value) > known[0]):
                self._parts[part] = (len(node.value), block)

    def of_key(self, part: type[Part], key: str) -> str:
        return self._keys.get((part, key), "")

    def of_part(self, part: type[Part]) -> str:
        return self._parts.get(part, (0, ""))[1]


def _one_line(text: str, node: Node) -> str:
    if node.start_mark.line != node.end_mark.line:
        return ""
    example = text[node.start_mark.index : node.end_mark.index]
    return example if len(example) <= _EXAMPLE_CHARS_MAX else ""


def _source(text: str, node: MappingNode) -> str:
    """Return a mapping as it stands in its file, moved to the left; nothing when it is long."""
    if node.flow_style:
        source = text[node.start_mark.index : node.end_mark.index]
        return source if "\n" not in source and len(source) <= 2 * _EXAMPLE_CHARS_MAX else ""
    last = max((value.end_mark for _, value in node.value), key=lambda mark: mark.index)
    lines = (" " * node.start_mark.column + text[node.start_mark.index : last.index]).rstrip().split("\n")
    return dedent("\n".join(lines)) if len(lines) <= _BLOCK_LINES_MAX else ""
