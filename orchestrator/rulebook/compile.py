"""The compiler: conditions become one generated function, every field loaded once, every literal a constant.

Truth is three-valued, yet nothing three-valued exists at run time: each condition is compiled into an
expression for "it is true" and, where a ``not`` asks for it, one for "it is false". ``not x`` is true exactly
when ``x`` is false, so unknown needs no value of its own.

No author text ever reaches the source: property names, literals and patterns are bound as constants ``k0``,
``k1`` ...; the source consists of this module's own words and numbers. ``orchestrator.core.interpret`` is the
oracle that the generated functions are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any, assert_never

from orchestrator.core.aggregate import count_at, sum_at
from orchestrator.core.compare import compare
from orchestrator.core.condition import (
    MISSING,
    AllOf,
    AnyOf,
    Compare,
    Condition,
    CountOf,
    FieldValue,
    FirstEver,
    InSegment,
    InStage,
    Not,
    Op,
    Path,
    Root,
    Since,
    SumOf,
)
from orchestrator.core.interpret import Matcher, first_ever, since
from orchestrator.core.pattern import pattern_of
from orchestrator.core.view import View, dig

_SIGNS = {Op.EQ: "==", Op.NE: "!=", Op.LT: "<", Op.LTE: "<=", Op.GT: ">", Op.GTE: ">="}
_ORDERINGS = frozenset({Op.LT, Op.LTE, Op.GT, Op.GTE})
_GROWING = frozenset({Op.GT, Op.GTE})
_SCALARS = frozenset({str, int, float, bool})


def compiled(conditions: Sequence[tuple[str, Condition | None]]) -> Matcher:
    """Return a matcher for conditions, each with the journey of its rule; None is always true.

    The matcher answers the positions of the conditions that are true. Same contract as ``interpreted``.
    """
    if not conditions:
        return _nothing
    if all(condition is None for _, condition in conditions):
        everything = tuple(range(len(conditions)))
        return lambda view: everything
    source = Source()
    tests = [None if condition is None else source.truth(condition, journey) for journey, condition in conditions]
    namespace: dict[str, Any] = dict(source.names)
    exec(_code(source.function(tests)), namespace)
    match: Matcher = namespace["match"]
    return match


@lru_cache(maxsize=4096)
def _code(text: str) -> CodeType:
    """Return compiled source. Rules of one shape share it: they differ in their constants only."""
    return compile(text, "<rulebook>", "exec")


def _nothing(view: View) -> tuple[int, ...]:
    return ()


@dataclass(slots=True)
class Source:
    """The text being generated, its constants and the fields it loads."""

    names: dict[str, Any] = field(
        default_factory=lambda: {
            "count_at": count_at,
            "sum_at": sum_at,
            "since": since,
            "first_ever": first_ever,
            "compare": compare,
            "dig": dig,
            "MISSING": MISSING,
        }
    )
    loads: list[str] = field(default_factory=list)
    fields: dict[tuple[Path, str], str] = field(default_factory=dict)
    constants: dict[tuple[type, Any], str] = field(default_factory=dict)

    def function(self, tests: Sequence[str | None]) -> str:
        """Return the source of ``match``: load, test, collect."""
        lines = [
            "def match(v):",
            "    e = v.event",
            "    s = v.state",
            "    t = s.traits",
            "    a = s.aggregates",
            "    now = v.at_ms",
        ]
        lines += [f"    {load}" for load in self.loads]
        lines.append("    out = []")
        for index, test in enumerate(tests):
            lines += (
                [f"    out.append({index})"] if test is None else [f"    if {test}:", f"        out.append({index})"]
            )
        lines.append("    return out")
        return "\n".join(lines)

    def constant(self, value: Any) -> str:
        """Bind a value and return its name; equal values of one type share it."""
        key = (value.__class__, value if value.__class__ in {str, int, float, bool} else id(value))
        name = self.constants.get(key)
        if name is None:
            name = self.constants[key] = f"k{len(self.constants)}"
            self.names[name] = value
        return name

    def loaded(self, path: Path, journey: str) -> str:
        """Return the local that holds a field, None when it is missing or null; its class is ``<local>c``."""
        own = journey if path.root is Root.RUN else ""
        local = self.fields.get((path, own))
        if local is None:
            local = self.fields[path, own] = f"f{len(self.fields)}"
            self.loads += [*self._load(local, path, own), f"{local}c = {local}.__class__"]
        return local

    def _load(self, local: str, path: Path, journey: str) -> list[str]:
        match path.root:
            case Root.EVENT if len(path.parts) == 1:
                return [f"{local} = e.get({self.constant(path.parts[0])})"]
            case Root.PROFILE if len(path.parts) == 1:
                return [
                    f"{local} = t.get({self.constant(path.parts[0])})",
                    f"if {local} is not None: {local} = {local}[0]",
                ]
            case Root.RUN:
                read = f"v.run_fact({self.constant(journey)}, {self.constant(path.parts[0])})"
            case Root.EVENT | Root.PROFILE | Root.CONTEXT:
                read = f"v.read({self.constant(path)}, '')"
            case _:
                assert_never(path.root)
        return [f"{local} = {read}", f"if {local} is MISSING: {local} = None"]

    # ------------------------------------------------------------------------------------- expressions

    def truth(self, condition: Condition, journey: str) -> str:
        """Return an expression that is true exactly when the condition is true."""
        match condition:
            case AllOf(parts):
                return _joined("and", [self.truth(part, journey) for part in parts], "True")
            case AnyOf(parts):
                return _joined("or", [self.truth(part, journey) for part in parts], "False")
            case Not(part):
                return self.falsity(part, journey)
            case InSegment(_, inner):
                return self.truth(inner, journey)
            case _:
                return self._leaf(condition, journey, wanted=True)

    def falsity(self, condition: Condition, journey: str) -> str:
        """Return an expression that is true exactly when the condition is false."""
        match condition:
            case AllOf(parts):
                return _joined("or", [self.falsity(part, journey) for part in parts], "False")
            case AnyOf(parts):
                return _joined("and", [self.falsity(part, journey) for part in parts], "True")
            case Not(part):
                return self.truth(part, journey)
            case InSegment(_, inner):
                return self.falsity(inner, journey)
            case _:
                return self._leaf(condition, journey, wanted=False)

    def _leaf(self, condition: Condition, journey: str, *, wanted: bool) -> str:
        match condition:
            case Compare():
                return self._comparison(condition, journey, wanted=wanted)
            case CountOf():
                name, within = self.constant(condition.aggregate), self.constant(condition.within_ms)
                number = f"count_at(a.get({name}), now, {within})"
                growing = wanted and condition.op in _GROWING
                return self._measured(condition, f"v.knows({name}, {within})", number, wanted=wanted, sure=growing)
            case SumOf():
                name, within = self.constant(condition.aggregate), self.constant(condition.within_ms)
                total = f"sum_at(a.get({name}), now, {within})"
                return self._measured(condition, f"v.knows({name}, {within})", total, wanted=wanted, sure=False)
            case Since():
                return f"(since({self.constant(condition)}, v)[0] is {wanted})"
            case FirstEver():
                return f"(first_ever({self.constant(condition)}, v)[0] is {wanted})"
            case InStage(other, stages):
                place = f"v.in_stage({self.constant(journey)}, {self.constant(other)}, {self.constant(stages)})"
                return f"({place} is {wanted})"
            case AllOf() | AnyOf() | Not() | InSegment():
                raise AssertionError("not a leaf")
            case _:
                assert_never(condition)

    def _measured(self, condition: CountOf | SumOf, knows: str, reading: str, *, wanted: bool, sure: bool) -> str:
        """Compare an aggregate; ``sure`` says that the answer holds however little of its window was seen."""
        test = f"{reading} {_SIGNS[condition.op]} {self.constant(condition.value)}"
        test = f"({test})" if wanted else f"(not ({test}))"
        return test if sure else f"({test} and {knows})"

    def _comparison(self, condition: Compare, journey: str, *, wanted: bool) -> str:
        local, kind = self._operand(condition, journey)
        op, value = condition.op, condition.value
        if op in {Op.EXISTS, Op.MISSING}:
            return f"({local} is {'not ' if (op is Op.EXISTS) is wanted else ''}None)"
        if isinstance(value, FieldValue):
            return f"(compare({self.constant(op)}, {local}, {self._scaled(value, journey)}) is {wanted})"
        if op in {Op.EQ, Op.NE} and value.__class__ in _SCALARS:
            return _when_present(local, self._equal(local, kind, value), wanted=(op is Op.EQ) is wanted)
        if op in {Op.IN, Op.NOT_IN}:
            return _when_present(local, self._member(local, kind, value), wanted=(op is Op.IN) is wanted)
        if op in _ORDERINGS and _guard(kind, value):
            test = f"{local} {_SIGNS[op]} {self.constant(value)}"
            return f"({_guard(kind, value)} and {test if wanted else f'not {test}'})"
        if op is Op.BETWEEN and _guard(kind, value[0]) and _guard(kind, value[0]) == _guard(kind, value[1]):
            test = f"{self.constant(value[0])} <= {local} <= {self.constant(value[1])}"
            return f"({_guard(kind, value[0])} and {test if wanted else f'not {test}'})"
        if op is Op.STARTS_WITH and value.__class__ is str:
            test = f"{local}.startswith({self.constant(value)})"
            return f"({kind} is str and {test if wanted else f'not {test}'})"
        bound = pattern_of(value) if op is Op.MATCHES else value
        return f"(compare({self.constant(op)}, {local}, {self.constant(bound)}) is {wanted})"

    def _operand(self, condition: Compare, journey: str) -> tuple[str, str]:
        """Return the left-hand side with its default applied, and its class."""
        local = self.loaded(condition.path, journey)
        if condition.default is MISSING:
            return local, f"{local}c"
        default = self.constant(condition.default)
        with_default = f"({default} if {local} is None else {local})"
        return with_default, f"{with_default}.__class__"

    def _scaled(self, value: FieldValue, journey: str) -> str:
        other = self.loaded(value.path, journey)
        if value.times == 1:
            return other
        times = self.constant(value.times)
        return f"({other} * {times} if {other}c is int or {other}c is float else None)"

    def _equal(self, local: str, kind: str, value: Any) -> str:
        guard = _guard(kind, value)
        test = f"{local} == {self.constant(value)}"
        return f"({guard} and {test})" if guard else f"({kind} is {value.__class__.__name__} and {test})"

    def _member(self, local: str, kind: str, values: Sequence[Any]) -> str:
        """Test membership per type: true is not one, and what cannot be hashed is no member."""
        tests = []
        for guard, members in (
            (f"({kind} is int or {kind} is float)", {one for one in values if one.__class__ in {int, float}}),
            (f"{kind} is str", {one for one in values if one.__class__ is str}),
            (f"{kind} is bool", {one for one in values if one.__class__ is bool}),
        ):
            if members:
                tests.append(f"({guard} and {local} in {self.constant(frozenset(members))})")
        return _joined("or", tests, "False")


def _guard(kind: str, value: Any) -> str:
    """Return the test that a field can be compared with a number or text; '' for other values."""
    if value.__class__ in {int, float}:
        return f"({kind} is int or {kind} is float)"
    return f"{kind} is str" if value.__class__ is str else ""


def _when_present(local: str, test: str, *, wanted: bool) -> str:
    return test if wanted else f"({local} is not None and not {test})"


def _joined(word: str, tests: Sequence[str], empty: str) -> str:
    return "(" + f" {word} ".join(tests) + ")" if tests else empty
