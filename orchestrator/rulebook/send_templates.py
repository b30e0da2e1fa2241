"""The templates of sends: each send gets a template compiled for its connector, with its own params filled in."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.markup import Markup
from orchestrator.core.view import RUN_FACTS
from orchestrator.rulebook.connector_entry import markup_params
from orchestrator.rulebook.models.companion import TemplatePart
from orchestrator.rulebook.models.play import SendPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import did_you_mean, listed, unknown
from orchestrator.rulebook.template import LiquidTemplate, Reads, TemplateFault, compiled_template

#: What the params of a send may read; a template may read ``params``, those of its send, as well.
ROOTS = ("event", "profile", "journey", "run")
TEMPLATE_ROOTS = (*ROOTS, "params")
_RUN_FACTS = (*RUN_FACTS, "key")


class SendTemplates:
    """Compiles each template once for every way that it is sent: by its params' markup, with the params of a send."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._reads: dict[str, Reads] = {}
        self._compiled: dict[tuple[str, frozenset[tuple[str, Markup]]], LiquidTemplate] = {}
        for name, part in names.templates.items():
            if self._is_good(part, TEMPLATE_ROOTS):
                self._reads[name] = compiled_template(name, part.params).reads

    def reads(self, name: str) -> Reads | None:
        """Return what a shared template reads, or None when it is faulty."""
        return self._reads.get(name)

    @staticmethod
    def param_reads(part: TemplatePart | SendPart) -> Mapping[str, Reads]:
        """Return what each param reads that is valid."""
        found = {}
        for param, value in part.params.items():
            try:
                found[param] = compiled_template("", {param: value}).reads
            except TemplateFault:
                # It has been reported where the template or the send is built.
                continue
        return found

    def _is_good(self, part: TemplatePart | SendPart, roots: tuple[str, ...]) -> bool:
        """Return whether every param is valid, after reporting those that are not."""
        good = True
        for param, value in part.params.items():
            try:
                self._check_paths(part, param, compiled_template("", {param: value}).reads, roots)
            except TemplateFault as fault:
                good = False
                self._names.report.error(part.origin["params"], param, f"{param}: {fault}")
        return good

    def _check_paths(self, part: TemplatePart | SendPart, param: str, reads: Reads, roots: tuple[str, ...]) -> None:
        at, report = part.origin["params"], self._names.report
        for path in sorted(reads.paths):
            if path[0] not in roots:
                hint = did_you_mean(path[0], roots)
                report.error(at, param, f'{param}: "{path[0]}" is not known here. Known: {listed(roots)}.{hint}')
            elif path[0] == "run" and path[1:] and path[1] not in _RUN_FACTS:
                report.error(at, param, f"{param}: {unknown('fact of the run', path[1], _RUN_FACTS)}")
            elif path[0] == "journey" and path[1:]:
                report.error(at, param, f"{param}: journey is the name of the journey and has no {path[1]}")
        if "event" in reads.dynamic:
            message = f"{param}: name the properties of the event one by one; it is not kept as a whole"
            report.error(at, param, message)

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
