"""Lint of what templates and sends read: traits that nobody has, and properties that their events never carry."""

from __future__ import annotations

from orchestrator.core.condition import Root
from orchestrator.rulebook.models.companion import TemplatePart
from orchestrator.rulebook.models.play import SendPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.send_templates import SendTemplates
from orchestrator.rulebook.template import Reads

#: What ``event.`` means somewhere: the types it may be; empty when there is no event; None when anything goes.
EventTypes = tuple[str, ...] | None


class TemplateLint:
    """Checks what is read against the tracking plan; whatever is wrong is reported at the param that reads it."""

    def __init__(self, names: Names, templates: SendTemplates) -> None:
        self._names = names
        self._templates = templates
        self._plan = names.plan
        self._report = names.report

    def traits(self, part: TemplatePart | SendPart) -> None:
        """Report traits that are not declared."""
        if "trait" in self._names.broken:
            return
        for param, reads in self._templates.param_reads(part).items():
            for path in sorted(reads.paths):
                if path[0] == Root.PROFILE.value and path[1:] and path[1] not in self._plan.traits:
                    self._report.error(part.origin["params"], param, unknown("trait", path[1], self._plan.traits))

    def send(self, send: SendPart, events: EventTypes) -> None:
        """Report what a send of a rule reads that is not there; ``events`` are those that set the rule off."""
        if send.params:
            self.traits(send)
        if events is None:
            return
        if send.template and (reads := self._templates.reads(send.template)) is not None:
            for message in self._faults(reads, events):
                self._report.error(send.origin, "template", f'template "{send.template}" reads {message}')
        for param, own in self._templates.param_reads(send).items():
            for message in self._faults(own, events):
                self._report.error(send.origin["params"], param, f"{param} reads {message}")

    def _faults(self, reads: Reads, events: tuple[str, ...]) -> list[str]:
        found = []
        for path in sorted(reads.paths):
            if path[0] != Root.EVENT.value or not path[1:]:
                continue
            name = ".".join(path)
            if not events and path not in reads.optional:
                found.append(f"{name}, which is never there: no event sets this rule off")
            elif events and all(self._plan.lacks(event, path[1:]) for event in events):
                known = {one for event in events for one in self._plan.described[event].properties}
                found.append(f"{name}: {unknown('property', path[1], known)}")
        return found
