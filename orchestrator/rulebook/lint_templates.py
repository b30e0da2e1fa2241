"""Lint of what templates and sends read: traits that nobody has, and properties that their events never carry."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.condition import Root
from orchestrator.rulebook.models.companion import TemplatePart
from orchestrator.rulebook.models.play import SendPart, StepPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.send_templates import ParamText, SendTemplates
from orchestrator.rulebook.template import Reads

#: Declared types through which no loop goes, in words.
_NO_LISTS = {"string": "text", "number": "a number", "integer": "a whole number", "boolean": "true or false"}

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
        self._traits(self._templates.param_reads(part))

    def _traits(self, texts: Iterable[tuple[ParamText, Reads]]) -> None:
        for text, reads in texts:
            for path in sorted(reads.paths):
                if path[0] == Root.PROFILE.value and path[1:] and path[1] not in self._plan.traits:
                    text.error(self._report, path, reads, self._unknown_trait(path, text.at.file))
            self._loops(text, reads, ())

    def _unknown_trait(self, path: tuple[str, ...], file: str) -> str:
        meant = self._templates.vocabulary.path_of(".".join(path)) if path[2:] else ""
        remedy = f" Write {{{{ {meant} }}}}." if meant else self._names.declare("trait", file)
        return f"{unknown('trait', path[1], self._plan.traits)}{remedy}"

    def _loops(self, text: ParamText, reads: Reads, events: tuple[str, ...]) -> None:
        """Report what is gone through and is no list: a trait, or a property of the rule's events (or of any)."""
        for path in sorted(reads.loops):
            kind = self._type_of(path, events)
            if kind in _NO_LISTS:
                message = f"{'.'.join(path)} is {_NO_LISTS[kind]}, not a list: a loop goes through the items of a list"
                text.error(self._report, path, reads, f"{text.param}: {message}")

    def _type_of(self, path: tuple[str, ...], events: tuple[str, ...]) -> str:
        """Return the declared type of what a path reads, where all that declare it agree; else nothing."""
        if path[0] == Root.PROFILE.value and len(path) > 1 and path[1] in self._plan.traits:
            found = [self._plan.traits[path[1]].inside(path[2:])]
        elif path[0] == Root.EVENT.value and len(path) > 1:
            described = self._plan.described
            found = [self._plan.property_of(event, path[1:]) for event in events or described]
        else:
            return ""
        kinds = {one.type for one in found if one is not None}
        return kinds.pop() if len(kinds) == 1 else ""

    def send(self, send: SendPart, events: EventTypes) -> None:
        """Report what a send of a rule reads that is not there; ``events`` are those that set the rule off."""
        if send.params:
            self.traits(send)
        if events is None:
            return
        if send.template and (reads := self._templates.reads(send.template)) is not None:
            for path, message in self._faults(reads, events):
                if not events or not self._nowhere(path, send.template, message):
                    self._report.error(send.origin, "template", f'template "{send.template}" reads {message}')
        self._own(self._templates.param_reads(send), events)

    def set_traits(self, step: StepPart, events: EventTypes) -> None:
        """Report what the texts of a ``set_trait`` read that is not there."""
        if "trait" not in self._names.broken:
            self._traits(self._templates.trait_reads(step))
        if events is not None:
            self._own(self._templates.trait_reads(step), events)

    def _own(self, texts: Iterable[tuple[ParamText, Reads]], events: tuple[str, ...]) -> None:
        for text, own in texts:
            for path, message in self._faults(own, events):
                text.error(self._report, path, own, f"{text.param} reads {message}")
            self._loops(text, own, events)

    def _nowhere(self, path: tuple[str, ...], template: str, message: str) -> bool:
        """Return whether no event has the property, after reporting it in the template: it can be right for no rule."""
        if any(not self._lacks(event, path[1:]) for event in self._plan.described):
            return False
        for text, reads in self._templates.param_reads(self._names.templates[template]):
            if path in reads.paths:
                text.error(self._report, path, reads, f"{text.param} reads {message}")
        return True

    def _unknown_property(self, path: tuple[str, ...], events: tuple[str, ...]) -> str:
        """Return what is unknown of a path; other systems wrap the properties that they read: ``event.properties``."""
        for end in range(2, len(path)):
            inner = next(
                (one for event in events if (one := self._plan.property_of(event, path[1:end])) is not None), None
            )
            if inner is not None and path[end] not in inner.properties:
                return unknown(f"property of {'.'.join(path[:end])}", path[end], inner.properties)
        known = {one for event in events for one in self._plan.described[event].properties}
        meant = self._templates.vocabulary.path_of(".".join(path)) if path[2:] else ""
        remedy = f" Write {{{{ {meant} }}}}." if meant else ""
        return f"{unknown('property', path[1], known)}{remedy}"

    def _faults(self, reads: Reads, events: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
        found = []
        for path in sorted(reads.paths):
            if path[0] != Root.EVENT.value or not path[1:]:
                continue
            name = ".".join(path)
            if not events and path not in reads.optional:
                found.append((path, f"{name}, which is never there: no event sets this rule off"))
            elif events and all(self._lacks(event, path[1:]) for event in events):
                found.append((path, f"{name}: {self._unknown_property(path, events)}"))
        return found

    def _lacks(self, event: str, parts: tuple[str, ...]) -> bool:
        """Return whether an event is known to carry nothing there; items of lists may carry anything."""
        for end in range(1, len(parts)):
            declared = self._plan.property_of(event, parts[:end])
            if declared is not None and (
                declared.type == "array" or (declared.type == "string" and parts[end:] == ("size",))
            ):
                return False
        return self._plan.lacks(event, parts)
