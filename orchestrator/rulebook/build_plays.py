"""Building plays: nested steps flattened into a linear program with jump targets and stable step ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.core.definition import (
    HOLDOUT,
    Branch,
    Case,
    Exit,
    IfPast,
    Jump,
    Send,
    SetConsent,
    SetStage,
    SetTrait,
    Split,
    Step,
    Wait,
    WaitFor,
)
from orchestrator.rulebook.build_conditions import ConditionBuilder
from orchestrator.rulebook.build_limits import check_consents, check_zone
from orchestrator.rulebook.meant_value import hint, meant_span
from orchestrator.rulebook.models.part import shown
from orchestrator.rulebook.models.play import SendPart, StepPart, WaitForPart, WaitUntil, meant_until
from orchestrator.rulebook.models.scalars import is_path, parsed_path
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.problem import unknown
from orchestrator.rulebook.send_templates import SendTemplates
from orchestrator.rulebook.span import parsed_clock_min

STEPS_MAX = 200

_ACTIONS = ("send", "wait", "wait_for", "if", "do", "split", "set_trait", "set_consent", "set_stage", "exit")
_PERCENT_SLACK = 0.001


class PlayBuilder:
    """Builds the program of one rule. A faulty step is reported and left out."""

    def __init__(self, names: Names, conditions: ConditionBuilder, templates: SendTemplates, journey: str) -> None:
        self._names = names
        self._conditions = conditions
        self._templates = templates
        self._journey = journey
        self._program: list[Step] = []
        self._arms: tuple[str, ...] = ()

    def built(self, steps: list[StepPart]) -> tuple[Step, ...]:
        """Return the program; the play is over when its counter passes the last step."""
        self._block(steps, "")
        if len(self._program) > STEPS_MAX:
            message = f"the play has {len(self._program)} steps; at most {STEPS_MAX} are allowed"
            self._names.report.error(steps[0].origin, None, message)
        return tuple(self._program)

    def _block(self, steps: list[StepPart], prefix: str) -> None:
        skipping: list[StepPart] = []
        begun = len(self._program)
        for index, part in enumerate(steps):
            self._cased(part, f"{prefix}{index}")
            if isinstance(part.wait, WaitUntil) and part.wait.if_past == "skip":
                skipping.append(part)
            elif part.wait is None and skipping:
                self._aim_skips(begun)
                skipping.clear()
        for part in skipping:
            self._error(part.wait, "if_past", "skip leaves out the step after the wait, and no step follows it here")

    def _cased(self, part: StepPart, step: str) -> None:
        if part.case is None:
            self._step(part, step)
            return
        self._check_case(part)
        at = self._emit(Case(f"{step}.case", part.case, 0))
        self._step(part, step)
        self._aim(at)

    def _aim_skips(self, begun: int) -> None:
        """Let the waits of this block that skip a step go on behind the one that has just been built."""
        end = len(self._program)
        for at, step in enumerate(self._program[begun:], begun):
            if isinstance(step, Wait) and step.if_past is IfPast.SKIP and not step.skip_pc:
                self._program[at] = replace(step, skip_pc=end)

    def _emit(self, step: Step) -> int:
        self._program.append(step)
        return len(self._program) - 1

    def _aim(self, at: int) -> None:
        """Let the step at ``at`` go to the end of what has been built so far."""
        step, end = self._program[at], len(self._program)
        match step:
            case Case() | Branch() | WaitFor():
                self._program[at] = replace(step, else_pc=end)
            case Jump():
                self._program[at] = replace(step, pc=end)
            case _:
                raise AssertionError(f"no jump: {step!r}")

    def _error(self, part: Any, key: str | None, message: str) -> None:
        self._names.report.error(part.origin, key, message)

    # -------------------------------------------------------------------------------------------- steps

    def _step(self, part: StepPart, step: str) -> None:
        present = [key for key in _ACTIONS if key in part.origin]
        if present not in ([one] for one in _ACTIONS) and present != ["send", "wait_for"]:
            found = " and ".join(present) if present else "none"
            message = f"a step has one of the keys {', '.join(_ACTIONS)} (or send with wait_for); this one has {found}"
            self._error(part, None, message)
            return
        if "if" not in present and ({"then", "else"} & part.origin.keys()):
            self._error(part, None, "then and else belong to a step with `if`")
        for key in present:
            self._action(key, part, step)

    def _action(self, key: str, part: StepPart, step: str) -> None:  # noqa: PLR0912 - one row a kind of step.
        match key:
            case "send" if part.send is not None:
                if (send := self._send(part.send, step)) is not None:
                    self._emit(send)
            case "wait_for" if part.wait_for is not None:
                self._wait_for(part.wait_for, step)
            case "wait":
                self._wait(part, step)
            case "if":
                self._branch(part, step)
            case "do":
                if part.case is None:
                    self._error(part, "do", "a nested do needs a `case`")
                self._block(part.do, f"{step}.do.")
            case "split" if part.split is not None:
                self._split(part, step)
            case "set_trait":
                for name, value in part.set_trait.items():
                    if self._names.known("trait", name, part.origin["set_trait"], name):
                        self._emit(SetTrait(step, name, value, self._templates.trait(part, name)))
            case "set_consent" if part.set_consent:
                for purpose, granted in part.set_consent.items():
                    if self._names.known("consent", purpose, part.origin["set_consent"], purpose):
                        self._emit(SetConsent(step, purpose, granted))
            case "set_stage" if part.set_stage is not None:
                stages = self._names.journeys[self._journey].head.stages
                if part.set_stage not in stages:
                    self._error(part, "set_stage", unknown("stage", part.set_stage, stages))
                self._emit(SetStage(step, part.set_stage))
            case "exit":
                if not part.exit:
                    self._error(part, "exit", "write `exit: true`")
                self._emit(Exit(step))
            case _:
                self._error(part, key, f"{key}: nothing is given")

    def _send(self, part: SendPart, step: str) -> Send | None:
        known = self._names.known("connector", part.connector, part.origin, "connector")
        kind = self._names.connectors[part.connector].kind if known else ""
        check_consents(self._names, part, part.consent)
        template = self._templates.built(part)
        fallback = [self._send(one, f"{step}.fallback.{index}") for index, one in enumerate(part.fallback)]
        if not known or template is None:
            return None
        return Send(
            step,
            part.connector,
            kind,
            template,
            priority=part.priority,
            deadline_ms=part.deadline,
            fallback=tuple(send for send in fallback if send is not None),
            consent=tuple(part.consent),
            fallback_on_unknown=part.fallback_on_unknown,
        )

    def _wait(self, part: StepPart, step: str) -> None:
        waiting = part.wait
        if not isinstance(waiting, WaitUntil):
            self._emit(Wait(step, for_ms=waiting))
            return
        check_zone(self._names, waiting, waiting.zone)
        minute = parsed_clock_min(waiting.until)
        if minute is not None:
            for key, given in (("offset", waiting.offset), ("if_past", waiting.if_past)):
                if given:
                    self._error(waiting, key, f"an {key} belongs to a field, not to a time of day")
            self._emit(Wait(step, until_min=minute, zone=waiting.zone))
        elif is_path(waiting.until):
            if_past = IfPast(waiting.if_past or IfPast.END)
            path = parsed_path(waiting.until)
            self._emit(Wait(step, waiting.offset, until_path=path, zone=waiting.zone, if_past=if_past))
        else:
            self._error(waiting, "until", self._no_moment(waiting.until))

    def _no_moment(self, until: str) -> str:
        """Return what to say of a text that is neither a time of day nor a field, with what was likely meant."""
        message = f'expected a time of day such as "09:00" or a field such as event.starts_at, got {shown(until)}'
        remedy = meant_until(until)
        if not remedy and (span := meant_span(until)):
            remedy = f"`wait: {span}` in place of `until`"
        if not remedy and any(until in declared.properties for declared in self._names.plan.described.values()):
            remedy = f"event.{until}"
        if not remedy and until in self._names.plan.traits:
            remedy = f"profile.{until}"
        return message + hint(f"{remedy} for the next morning" if until.strip().lower() == "tomorrow" else remedy)

    def _wait_for(self, part: WaitForPart, step: str) -> None:
        where = self._conditions.where(part, "where", part.where)
        own = f"{step}.wait_for" if self._program and self._program[-1].step == step else step
        at = self._emit(WaitFor(own, part.event, part.within, 0, where))
        if not part.else_:
            self._aim(at)
            return
        over = self._emit(Jump(f"{own}.else", 0))
        self._aim(at)
        self._block(part.else_, f"{step}.else.")
        self._aim(over)

    def _branch(self, part: StepPart, step: str) -> None:
        condition = self._conditions.built(part.if_)
        if not part.then and not part.else_:
            self._error(part, "if", "`if` needs steps under `then` or `else`")
        if condition is None:
            return
        at = self._emit(Branch(step, condition, 0))
        self._block(part.then, f"{step}.then.")
        if not part.else_:
            self._aim(at)
            return
        over = self._emit(Jump(f"{step}.else", 0))
        self._aim(at)
        self._block(part.else_, f"{step}.else.")
        self._aim(over)

    # ------------------------------------------------------------------------------------------- splits

    def _split(self, part: StepPart, step: str) -> None:
        written = part.split or {}
        arms = tuple((arm, float(percent)) for arm, percent in written.items() if arm != "id")
        total = sum(percent for _, percent in arms)
        if abs(total - 100) > _PERCENT_SLACK:
            self._error(part, "split", f"the arms of a split make 100 percent; these make {total:g}")
        if len(arms) < 2:
            self._error(part, "split", "a split needs at least two arms")
        self._arms = tuple(arm for arm, _ in arms)
        self._emit(Split(step, str(written["id"]), arms))

    def _check_case(self, part: StepPart) -> None:
        if part.case == HOLDOUT:
            self._error(part, "case", "the arm holdout receives nothing, so no step may be limited to it")
        elif not self._arms:
            self._error(part, "case", "no split stands before this case")
        elif part.case not in self._arms:
            self._error(part, "case", unknown("arm", str(part.case), self._arms))
