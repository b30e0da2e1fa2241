"""Lint of cases: examples that speak of events, rules or stages that do not exist prove nothing."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.rulebook.cases import CaseDefinition, CaseFile
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import Problem, unknown


def lint_cases(file: CaseFile, names: Names) -> None:
    """Check the cases of a file against the tracking plan and the names of the rulebook."""
    for case in file.cases:
        _CaseLint(case, names).check()


class _CaseLint:
    def __init__(self, case: CaseDefinition, names: Names) -> None:
        self._case = case
        self._names = names
        self._rules = {rule.id for source in names.journeys.values() for rule in source.rules}

    def check(self) -> None:
        for event in self._case.events:
            refused = self._names.plan.check(event.type, dict(event.properties))
            if refused is not None and "event type" not in self._names.broken:
                self._error(event.line, f"{refused}. {refused.remedy}")
        self._customer()
        for action in self._case.expect.actions or ():
            self._known("rule", action.rule, self._rules, action.line)
            self._known("connector", action.connector, self._names.connectors, action.line)
            self._known("template", action.template, self._names.templates, action.line)
        for decision in self._case.expect.decisions:
            self._known("rule", decision.rule, self._rules, decision.line)
        for run, stage in self._case.expect.stages.items():
            self._stage(run, stage)

    def _customer(self) -> None:
        for trait in self._case.customer.traits:
            self._known("trait", trait, self._names.plan.traits, self._case.line)
        for purpose in self._case.customer.consents:
            self._known("consent", purpose, self._names.plan.consents, self._case.line)

    def _stage(self, run: str, stage: str) -> None:
        journey = run.partition("/")[0]
        self._known("journey", journey, self._names.journeys, self._case.line)
        source = self._names.journeys.get(journey)
        if source is not None:
            self._known(f'stage of journey "{journey}"', stage, source.head.stages, self._case.line)

    def _known(self, noun: str, name: str | None, names: Collection[str], line: int) -> None:
        # A rule or journey with faults of its own is not in the lists; the case is judged when it is mended.
        if name is not None and name not in names and not self._names.broken and not self._names.report.failed:
            self._error(line, unknown(noun, name, names))

    def _error(self, line: int, message: str) -> None:
        self._names.report.add(Problem(self._case.file, line, (f'case "{self._case.name}"',), message))
