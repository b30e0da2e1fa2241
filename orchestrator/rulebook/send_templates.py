"""The templates of sends: each send gets a template compiled for its connector, with its own params filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from connectors.markup import Markup
from orchestrator.core.view import RUN_FACTS
from orchestrator.rulebook.connector_entry import markup_params
from orchestrator.rulebook.models.companion import TemplatePart
from orchestrator.rulebook.models.play import SendPart, StepPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.placeholders import Vocabulary, explained, expression_at, sent_as_they_stand
from orchestrator.rulebook.problem import Report, did_you_mean, listed, unknown
from orchestrator.rulebook.source import Map, Seq
from orchestrator.rulebook.template import LiquidTemplate, Reads, TemplateFault, compiled_template, is_template
from orchestrator.rulebook.trait_template import TraitTemplate

#: What the params of a send may read; a template may read ``params``, those of its send, as well.
ROOTS = ("event", "profile", "customer", "journey", "run")
TEMPLATE_ROOTS = (*ROOTS, "params")
#: The one fact of ``customer.``: the zone that quiet hours go by, as far as its clock is known.
_ZONE = "timezone"
_RUN_FACTS = (*RUN_FACTS, "key")


@dataclass(frozen=True, slots=True)
class ParamText:
    """A text of a param, which may lie deep inside of it, and its place in the source."""

    param: str
    text: str
    at: Map | Seq
    key: str | int

    def error(self, report: Report, path: tuple[str, ...], reads: Reads, message: str) -> None:
        """Report what is wrong with a path that the text reads, in the line in which it is read first."""
        report.error(self.at, self.key, message, offset=reads.places.get(path, 0))


def param_texts(part: TemplatePart | SendPart) -> Iterator[ParamText]:
    """Yield every text in the params of a template or a send."""
    params = part.origin.get("params")
    for param in part.params:
        if isinstance(params, Map) and param in params:
            yield from _texts_in(param, params[param], params, param)


def _texts_in(param: str, value: Any, at: Map | Seq, key: str | int) -> Iterator[ParamText]:
    if isinstance(value, str):
        yield ParamText(param, value, at, key)
    elif isinstance(value, (dict, list)):
        inner = value if isinstance(value, (Map, Seq)) else None
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts_in(param, item, at if inner is None else inner, key if inner is None else name)


class SendTemplates:
    """Compiles each template once for every way that it is sent: by its params' markup, with the params of a send."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._reads: dict[str, Reads] = {}
        self._compiled: dict[tuple[str, frozenset[tuple[str, Markup]]], LiquidTemplate] = {}
        properties = {name for declared in names.plan.described.values() for name in declared.properties}
        self.vocabulary = Vocabulary(names.plan.traits, properties)
        for name, part in names.templates.items():
            if self._is_good(part, TEMPLATE_ROOTS):
                self._reads[name] = compiled_template(name, part.params).reads

    def reads(self, name: str) -> Reads | None:
        """Return what a shared template reads, or None when it is faulty."""
        return self._reads.get(name)

    @staticmethod
    def param_reads(part: TemplatePart | SendPart) -> Iterator[tuple[ParamText, Reads]]:
        """Yield each text of the params that is valid, with what it reads."""
        for text in param_texts(part):
            try:
                yield text, compiled_template("", {text.param: text.text}).reads
            except TemplateFault:
                # It has been reported where the template or the send is built.
                continue

    def _is_good(self, part: TemplatePart | SendPart, roots: tuple[str, ...]) -> bool:
        """Return whether every param is valid, after reporting those that are not."""
        faultless = [self._is_good_text(text, roots) for text in param_texts(part)]
        return all(faultless)

    def _is_good_text(self, text: ParamText, roots: tuple[str, ...]) -> bool:
        try:
            reads = compiled_template("", {text.param: text.text}).reads
        except TemplateFault as fault:
            message = f"{text.param}: {self._explained(fault, text.text)}"
            self._names.report.error(text.at, text.key, message, offset=fault.offset)
            return False
        self._check_paths(text, reads, roots)
        for offset, message in sent_as_they_stand(text.text, self.vocabulary):
            self._names.report.warning(text.at, text.key, f"{text.param}: {message}", offset=offset)
        return True

    def _explained(self, fault: TemplateFault, text: str) -> str:
        """Return a fault with what to write for what another system would have understood."""
        said = str(fault)
        unread = said.startswith(("not valid Liquid", "unknown tag")) and not said.endswith("?")
        remedy = "" if not unread else explained(expression_at(text, fault.offset), self.vocabulary)
        if not remedy:
            return said
        return f"{said} {remedy[0].upper()}{remedy[1:]}" if said.endswith(".") else f"{said}; {remedy}"

    def _check_paths(self, text: ParamText, reads: Reads, roots: tuple[str, ...]) -> None:
        for path in sorted(reads.paths):
            if path[0] not in roots:
                message = f'"{path[0]}" is not known here. Known: {listed(roots)}.{self._meant(path, roots)}'
            elif path[0] == "run" and path[1:] and path[1] not in _RUN_FACTS:
                message = unknown("fact of the run", path[1], _RUN_FACTS)
            elif path[0] == "customer" and path != ("customer", _ZONE):
                written = ".".join(path)
                message = f"{written} is not known here; of customer there is {_ZONE} alone." + self._written(path)
            elif path[0] == "journey" and path[1:]:
                message = f"journey is the name of the journey and has no {path[1]}"
            else:
                continue
            text.error(self._names.report, path, reads, f"{text.param}: {message}")
        if "event" in reads.dynamic:
            message = f"{text.param}: name the properties of the event one by one; it is not kept as a whole"
            text.error(self._names.report, ("event",), reads, message)

    def _meant(self, path: tuple[str, ...], roots: tuple[str, ...]) -> str:
        """Return what to write for a path that begins with nothing known here."""
        if path[0] in ("params", "context"):
            return ""
        # Of "customer" there is the zone alone, so whoever writes "user" or "contact" hardly means it.
        hint = did_you_mean(path[0], [root for root in roots if root != "customer"]) if path[1:] else ""
        return hint or self._written(path)

    def _written(self, path: tuple[str, ...]) -> str:
        return f" Write {self.vocabulary.placeholder_of('.'.join(path))}"

    def built(self, part: SendPart) -> LiquidTemplate | None:
        """Return the template of a send, or None after reporting why there is none."""
        entry = self._names.connectors.get(part.connector)
        markup = markup_params("", "") if entry is None else markup_params(entry.kind, entry.type)
        if part.template is None:
            return self._bare(part, markup)
        if not self._names.known("template", part.template, part.origin, "template"):
            return None
        good = self._is_good(part, ROOTS)
        shared = self._reads.get(part.template)
        if shared is None:
            return None
        self._check_kind(part, "" if entry is None else entry.kind)
        self._check_params(part, shared)
        try:
            return self._filled(part, part.template, markup) if good else None
        except TemplateFault as fault:  # What only the markup of this connector forbids.
            message = f'template "{part.template}" cannot be sent by "{part.connector}": {fault}'
            self._names.report.error(part.origin, "template", message)
            return None

    def trait(self, step: StepPart, name: str) -> TraitTemplate | None:
        """Return what renders the value of a trait that a step sets, or None for one that stands as it is."""
        value, declared = step.set_trait[name], self._names.plan.traits.get(name)
        if not isinstance(value, str) or declared is None or not is_template(value):
            return None
        if not self._is_good_text(ParamText(name, value, step.origin["set_trait"], name), ROOTS):
            return None
        return TraitTemplate(name, declared, compiled_template("set_trait", {name: value}))

    @staticmethod
    def trait_reads(step: StepPart) -> Iterator[tuple[ParamText, Reads]]:
        """Yield each valid text that a step sets a trait to, with what it reads."""
        for name, value in step.set_trait.items():
            if not isinstance(value, str) or not is_template(value):
                continue
            with suppress(TemplateFault):  # It has been reported where the step is built.
                yield ParamText(name, value, step.origin["set_trait"], name), compiled_template("", {name: value}).reads

    def _bare(self, part: SendPart, markup: Mapping[str, Markup]) -> LiquidTemplate | None:
        if not part.params:
            self._names.report.error(part.origin, None, "a send needs a template or params")
            return None
        try:
            good = self._is_good(part, ROOTS)
            return compiled_template(part.connector, part.params, markup=markup) if good else None
        except TemplateFault as fault:  # What only the markup of this connector forbids.
            self._names.report.error(part.origin, "params", f'cannot be sent by "{part.connector}": {fault}')
            return None

    def _filled(self, part: SendPart, name: str, markup: Mapping[str, Markup]) -> LiquidTemplate:
        own = self._names.templates[name].params
        if part.params:
            replaced = {key: part.params.get(key, value) for key, value in own.items()}
            return compiled_template(name, replaced, part.params, markup=markup)
        way = name, frozenset(pair for pair in markup.items() if pair[0] in own)
        if way not in self._compiled:
            self._compiled[way] = compiled_template(name, own, markup=markup)
        return self._compiled[way]

    def _check_kind(self, part: SendPart, kind: str) -> None:
        wanted = self._names.templates[str(part.template)].kind
        if kind and wanted and kind != wanted:
            message = f'template "{part.template}" is written for {wanted}; connector "{part.connector}" carries {kind}'
            self._names.report.error(part.origin, "template", message)

    def _check_params(self, part: SendPart, shared: Reads) -> None:
        own = self._names.templates[str(part.template)].params
        read = {path[1]: path in shared.optional for path in shared.paths if path[0] == "params" and path[1:]}
        known = {*own, *read}
        for param in part.params:
            if param not in known:
                hint = did_you_mean(param, known)
                message = f'template "{part.template}" has no param "{param}". Allowed: {listed(known)}.{hint}'
                self._names.report.error(part.origin["params"], param, message)
        for param, optional in sorted(read.items()):
            if not optional and param not in part.params:
                message = f'template "{part.template}" needs the param "{param}"'
                self._names.report.error(part.origin, "template", message)
