"""Previews: what a send would say, rendered by the production templates from the facts that production gives them.

The facts are those that a case beside the rules reaches the send with: the cases run through the production core, and
the template notes what it is given. A profile, an event or params of one's own take the place of the case's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.core.definition import Journey, Rule, Send
from orchestrator.core.limit import customer_facts
from orchestrator.core.state import CustomerState
from orchestrator.errors import ConfigurationError
from orchestrator.rulebook.cases import CaseDefinition
from orchestrator.rulebook.load import Loaded
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.template import LiquidTemplate
from orchestrator.runtime.casebook import run_case, with_fallbacks
from orchestrator.runtime.rulebooks import compile_loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which sends are asked for; None asks for any."""

    template: str | None = None
    rule: str | None = None
    connector: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Values that take the place of the case's. ``sources`` says of each where it is from; ``runs`` are by journey."""

    profile: Mapping[str, Any] | None = None
    event: Mapping[str, Any] | None = None
    runs: Mapping[str, Mapping[str, Any]] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What one send would say. ``faults`` name what is missing; ``html`` names the params that are HTML."""

    template: str
    rule: str
    step: str
    connector: str
    kind: str
    values: str
    params: Mapping[str, Any]
    html: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(slots=True)
class _Witness:
    """Stands in for a template while the cases run. Keeps the first facts that lack nothing, or else the first."""

    template: LiquidTemplate
    facts: dict[str, Any] | None = None
    case: CaseDefinition | None = None
    current: CaseDefinition | None = None
    content: bool = False

    @property
    def name(self) -> str:
        return self.template.name

    def render(self, facts: dict[str, Any]) -> dict[str, Any]:
        lacks_nothing = not self.template.preview(facts)[1]
        if self.facts is None or (lacks_nothing and not self.content):
            self.facts, self.case, self.content = facts, self.current, lacks_nothing
        return self.template.render(facts)


def previews(loaded: Loaded, wanted: Wanted, given: Given) -> list[Preview]:
    """Return a preview of every send that is wanted, in the order of the rules.

    Raises ``ConfigurationError`` when no rule sends it, or a param is given that none of the sends takes.
    """
    found = _found(loaded, wanted)
    _check_params(found, given.params)
    witnesses = _witnessed(loaded, found)
    return [_preview(rule, send, witness, given) for (rule, send), witness in zip(found, witnesses, strict=True)]


def _sends(journeys: Sequence[Journey]) -> Iterator[tuple[Rule, Send]]:
    for journey in journeys:
        for rule in journey.rules:
            for step in rule.program:
                if isinstance(step, Send):
                    for send in with_fallbacks(step):
                        yield rule, send


def _found(loaded: Loaded, wanted: Wanted) -> list[tuple[Rule, Send]]:
    found = list(_sends(loaded.journeys))
    for noun, name in (("rule", wanted.rule), ("template", wanted.template), ("connector", wanted.connector)):
        if name is not None:
            known = {_name_of(noun, *one) for one in found}
            if name not in known:
                raise ConfigurationError(f"No rule sends that: {unknown(noun, name, known)}")
            found = [one for one in found if _name_of(noun, *one) == name]
    return found


def _name_of(noun: str, rule: Rule, send: Send) -> str:
    return {"rule": rule.id, "template": send.template.name, "connector": send.connector}[noun]


def _check_params(found: Sequence[tuple[Rule, Send]], params: Mapping[str, Any]) -> None:
    known = {name for _, send in found for name in _template(send).arguments}
    for name in params:
        if name not in known:
            raise ConfigurationError(f"--params: {unknown('param of the send', name, known)}")


def _template(send: Send) -> LiquidTemplate:
    template = send.template
    if not isinstance(template, LiquidTemplate):
        raise TypeError(f"a loaded rulebook has Liquid templates, not {type(template).__name__}")
    return template


def _witnessed(loaded: Loaded, found: Sequence[tuple[Rule, Send]]) -> list[_Witness]:
    """Run the cases until every send has been reached, or all cases are through."""
    witnesses = {id(send): _Witness(_template(send)) for _, send in found}
    observed = replace(loaded, journeys=tuple(_observed(journey, witnesses) for journey in loaded.journeys))
    rulebook = compile_loaded(observed, "default")
    for case in (case for file in loaded.cases for case in file.cases):
        if all(one.content for one in witnesses.values()):
            break
        for one in witnesses.values():
            one.current = case
        run_case(rulebook, loaded.plan, case)
    return list(witnesses.values())


def _observed(journey: Journey, witnesses: Mapping[int, _Witness]) -> Journey:
    def watched(send: Send) -> Send:
        template = witnesses.get(id(send), send.template)
        return replace(send, template=template, fallback=tuple(watched(one) for one in send.fallback))

    rules = [
        replace(rule, program=tuple(watched(step) if isinstance(step, Send) else step for step in rule.program))
        for rule in journey.rules
    ]
    return replace(journey, rules=tuple(rules))


def _preview(rule: Rule, send: Send, witness: _Witness, given: Given) -> Preview:
    template = witness.template.with_arguments(given.params)
    params, faults = template.preview(_facts(rule, witness, given))
    return Preview(
        template=template.name,
        rule=rule.id,
        step=send.step,
        connector=send.connector,
        kind=send.kind,
        values=_told(witness.case, given),
        params=params,
        html=tuple(sorted(template.html)),
        faults=faults,
    )


def _facts(rule: Rule, witness: _Witness, given: Given) -> dict[str, Any]:
    facts = dict(witness.facts or {"event": {}, "profile": {}, "journey": rule.journey, "run": {}})
    for name in ("profile", "event"):
        own = getattr(given, name)
        if own is not None:
            facts[name] = dict(own)
    if given.profile is not None or given.event is not None:
        state = CustomerState(traits={name: (value, 0) for name, value in facts["profile"].items()})
        facts["customer"] = customer_facts(state, facts["event"], 0 if witness.case is None else witness.case.until_ms)
    if given.runs is not None:
        facts["run"] = dict(given.runs.get(rule.journey, {}))
    return facts


def _told(case: CaseDefinition | None, given: Given) -> str:
    """Return where the values are from, in the order in which they count."""
    sources = [*given.sources, *([] if case is None else [f"the case “{case.name}” ({case.file}:{case.line})"])]
    return ", then ".join(sources) if sources else "none: no case reaches this send"
