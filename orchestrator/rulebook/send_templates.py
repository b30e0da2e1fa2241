"""The templates of sends: each send gets a compiled template with its own params filled in."""

from __future__ import annotations

from orchestrator.rulebook.models.companion import TemplatePart
from orchestrator.rulebook.models.play import SendPart
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import did_you_mean, listed
from orchestrator.rulebook.template import LiquidTemplate, Reads, TemplateFault, compiled_template

#: What a template may read.
ROOTS = ("event", "profile", "context", "journey", "run", "action", "params")


class SendTemplates:
    """Compiles every template once, and once more for each send that gives it params of its own."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._shared: dict[str, LiquidTemplate] = {}
        for name, part in names.templates.items():
            if (template := self._compiled(name, part)) is not None:
                self._shared[name] = template

    def reads(self, name: str) -> Reads | None:
        """Return what a shared template reads, or None when it is faulty."""
        return self._shared[name].reads if name in self._shared else None

    def _compiled(self, name: str, part: TemplatePart) -> LiquidTemplate | None:
        faulty = False
        for param, value in part.params.items():
            try:
                self._check_roots(part, param, compiled_template(name, {param: value}).reads)
            except TemplateFault as fault:
                faulty = True
                self._names.report.error(part.origin["params"], param, f"{param}: {fault}")
        return None if faulty else compiled_template(name, part.params)

    def _check_roots(self, part: TemplatePart | SendPart, param: str, reads: Reads) -> None:
        at = part.origin["params"]
        for path in sorted(reads.paths):
            if path[0] not in ROOTS:
                hint = did_you_mean(path[0], ROOTS)
                self._names.report.error(
                    at, param, f'{param}: "{path[0]}" is not known here. Known: {listed(ROOTS)}.{hint}'
                )
        if "event" in reads.dynamic:
            message = f"{param}: name the properties of the event one by one; it is not kept as a whole"
            self._names.report.error(at, param, message)

    def built(self, part: SendPart, kind: str) -> LiquidTemplate | None:
        """Return the template of a send, or None after reporting why there is none."""
        if part.template is None:
            return self._bare(part)
        if not self._names.known("template", part.template, part.origin, "template"):
            return None
        shared = self._shared.get(part.template)
        if shared is None:
            return None
        self._check_kind(part, kind)
        self._check_params(part, shared)
        return shared if not part.params else self._filled(part, part.template)

    def _bare(self, part: SendPart) -> LiquidTemplate | None:
        if not part.params:
            self._names.report.error(part.origin, None, "a send needs a template or params")
            return None
        faulty = False
        for param, value in part.params.items():
            try:
                self._check_roots(part, param, compiled_template("", {param: value}).reads)
            except TemplateFault as fault:
                faulty = True
                self._names.report.error(part.origin["params"], param, f"{param}: {fault}")
        return None if faulty else compiled_template(part.connector, part.params)

    def _filled(self, part: SendPart, name: str) -> LiquidTemplate | None:
        own = self._names.templates[name].params
        replaced = {key: part.params.get(key, value) for key, value in own.items()}
        try:
            return compiled_template(name, replaced, part.params)
        except TemplateFault as fault:
            self._names.report.error(part.origin, "params", str(fault))
            return None

    def _check_kind(self, part: SendPart, kind: str) -> None:
        wanted = self._names.templates[str(part.template)].kind
        if kind and wanted and kind != wanted:
            message = f'template "{part.template}" is written for {wanted}; connector "{part.connector}" carries {kind}'
            self._names.report.error(part.origin, "template", message)

    def _check_params(self, part: SendPart, shared: LiquidTemplate) -> None:
        own = self._names.templates[str(part.template)].params
        read = {
            path[1]: path in shared.reads.optional for path in shared.reads.paths if path[0] == "params" and path[1:]
        }
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
