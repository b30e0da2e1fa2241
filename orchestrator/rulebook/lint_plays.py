"""Lint of plays: sends that nobody consented to, that come twice at once, or that come when nothing counts any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.core.action import Kind
from orchestrator.rulebook.build_limits import limit_layers
from orchestrator.rulebook.lint_connectors import sends_of
from orchestrator.rulebook.models.journey import JourneyHead, RulePart
from orchestrator.rulebook.models.limit import QuietPart
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.models.play import SendPart, StepPart, WaitUntil
from orchestrator.rulebook.models.scalars import is_path
from orchestrator.rulebook.models.trigger import AbsenceTrigger, DwellTrigger
from orchestrator.rulebook.names import Names
from orchestrator.rulebook.span import shown_span

#: Kinds of action that reach a person; the others reach a system.
PERSONAL = frozenset(kind.value for kind in (Kind.CALL, Kind.SMS, Kind.WHATSAPP, Kind.EMAIL, Kind.PUSH))

#: Connectors that a customer in an arm ("" without a split) has been sent something by since the last wait.
_Sent = dict[str, frozenset[str]]


def lint_plays(names: Names) -> None:
    """Check what every rule of every journey sends, to whom, and when."""
    for source in names.journeys.values():
        for rule in source.rules:
            _PlayLint(names, source.head, rule).check()


class _PlayLint:
    def __init__(self, names: Names, head: JourneyHead, rule: RulePart) -> None:
        self._names = names
        self._report = names.report
        self._head = head
        self._rule = rule
        self._layers = tuple(limit_layers(rule.limits, names))

    def check(self) -> None:
        self._consent()
        self._refused(self._rule.do, frozenset())
        self._fallback()
        self._restart()
        for step in _flat(self._rule.do):
            if step.send is not None:
                self._idle_choice([step.send])
        self._trigger_window()
        self._waits(self._rule.do)
        arms = {arm for step in _flat(self._rule.do) for arm in step.split or {} if arm != "id"}
        self._block(self._rule.do, dict.fromkeys(arms or {""}, frozenset()), tuple(arms or {""}))

    # ----------------------------------------------------------------------------------------- consent

    def _consent(self) -> None:
        """An empty list of purposes is satisfied by everybody: the trap that mails those who refused."""
        named = () if self._rule.limits is None else self._rule.limits.use
        if any(layer.consent for layer in self._layers) or not set(named) <= self._names.limit_sets.keys():
            return
        kinds = {self._kind(send) for send in sends_of(self._rule.do) if not send.consent} & PERSONAL
        if not kinds:
            return
        limits = self._rule.limits
        own = limits is not None and "consent" in limits.origin
        at: Part = limits if limits is not None and own else self._rule
        message = (
            f"sends {_listed(kinds)} to people and asks for no consent, so that it reaches those who refused as well;"
            " add `consent: [PURPOSE]` to its limits"
        )
        self._report.warning(at.origin, "consent" if own else "id", message)

    def _refused(self, steps: Iterable[StepPart], refused: frozenset[str]) -> None:
        """A send that needs what a step before it has refused is never sent, unless a wait lets the customer speak."""
        for step in steps:
            if step.wait is not None or step.wait_for is not None:
                refused = frozenset()
            if step.send is not None:
                self._needs(step.send, refused)
            inner = [] if step.wait_for is None else step.wait_for.else_
            for block in (step.do, step.then, step.else_, inner):
                self._refused(block, refused)
            if step.case is None:
                given = {name for name, granted in step.set_consent.items() if granted}
                refused = (refused - given) | (step.set_consent.keys() - given)

    def _needs(self, send: SendPart, refused: frozenset[str]) -> None:
        needed = send.consent or [purpose for layer in self._layers for purpose in layer.consent]
        for purpose in needed:
            if purpose in refused:
                message = f'is never sent: a step before it refuses consent for "{purpose}", which it needs'
                self._report.warning(send.origin, "connector", message)

    def _kind(self, send: SendPart) -> str:
        entry = self._names.connectors.get(send.connector)
        return "" if entry is None else entry.kind

    def _fallback(self) -> None:
        """Quiet hours that send a fallback instead drop the action when there is none."""
        quiet = next((layer.quiet_hours for layer in self._layers if layer.quiet_hours is not None), None)
        if quiet is None or quiet.then != "fallback":
            return
        for step in _flat(self._rule.do):
            send = step.send
            if send is None or (quiet.kinds and self._kind(send) not in quiet.kinds):
                continue
            if send.fallback:
                self._quiet_fallbacks(send, quiet)
                continue
            message = "has no fallback, so that nothing is sent in quiet hours; give it one, or write `then: drop`"
            self._report.warning(send.origin, "connector", message)

    def _restart(self) -> None:
        """What rests does not begin anew either, and the open play goes on with the trigger of before."""
        if self._rule.restart and any(layer.cooldown for layer in self._layers):
            message = (
                "its cooldown holds a newer trigger back as well, so that the open play goes on with the one before;"
                " a cap limits what is sent and lets it begin anew"
            )
            self._report.warning(self._rule.origin, "restart", message)

    def _quiet_fallbacks(self, send: SendPart, quiet: QuietPart) -> None:
        """A fallback keeps the quiet hours of its own kind."""
        kinds = {self._kind(one) for one in send.fallback}
        if not quiet.kinds or kinds <= set(quiet.kinds):
            own = f"write `kinds: [{self._kind(send)}]` for hours of that kind alone"
            message = f"a fallback by {_listed(kinds)} keeps these quiet hours too, so that nothing is sent; {own}"
            self._report.warning(send.fallback[0].origin, "connector", message)

    def _idle_choice(self, alternatives: list[SendPart]) -> None:
        """A choice of what follows an unknown outcome says nothing where nothing can follow."""
        for place, send in enumerate(alternatives, start=1):
            behind = send.fallback or alternatives[place:]
            if send.fallback_on_unknown and not behind:
                message = "nothing stands behind this send; give it a `fallback`, or leave `fallback_on_unknown` out"
                self._report.warning(send.origin, "fallback_on_unknown", message)
            self._idle_choice(send.fallback)

    # -------------------------------------------------------------------------------------- goal window

    def _trigger_window(self) -> None:
        match self._rule.on:
            case DwellTrigger(dwell=dwell):
                self._within_goal(dwell.for_, dwell, "for", "fires")
            case AbsenceTrigger(absence=absence):
                self._within_goal(absence.for_, absence, "for", "fires")
            case _:
                return

    def _waits(self, steps: Iterable[StepPart]) -> None:
        for step in _flat(steps):
            if isinstance(step.wait, int):
                self._within_goal(step.wait, step, "wait", "goes on")
            if isinstance(step.wait, WaitUntil) and is_path(step.wait.until) and step.wait.if_past is None:
                message = (
                    f"{step.wait.until} may have passed, and the play ends then; say what is meant:"
                    " `if_past: go`, `skip` or `end`"
                )
                self._report.warning(step.wait.origin, "until", message)
            if step.wait_for is not None:
                self._within_goal(step.wait_for.within, step.wait_for, "within", "goes on")

    def _within_goal(self, span_ms: int, at: Part, key: str, verb: str) -> None:
        window_ms = self._head.goal_window
        if window_ms is not None and span_ms > window_ms:
            message = (
                f"{verb} after {shown_span(span_ms)}, when the goal no longer counts:"
                f" the goal_window is {shown_span(window_ms)}"
            )
            self._report.warning(at.origin, key, message)

    # --------------------------------------------------------------------------------------- two at once

    def _block(self, steps: Iterable[StepPart], sent: _Sent, arms: tuple[str, ...]) -> _Sent:
        """Follow a block for the customers of ``arms``; return what has been sent since their last wait."""
        for step in steps:
            own = arms if step.case is None else tuple(arm for arm in arms if arm == step.case)
            sent = self._step(step, sent, own)
        return sent

    def _step(self, step: StepPart, sent: _Sent, arms: tuple[str, ...]) -> _Sent:
        nothing: _Sent = dict.fromkeys(arms, frozenset())
        if step.wait is not None:
            sent = {**sent, **nothing}
        if step.send is not None:
            sent = self._send(step.send, sent, arms)
        if step.wait_for is not None:
            sent = {**sent, **nothing}
            return _either(sent, self._block(step.wait_for.else_, sent, arms))
        if step.exit:
            return {**sent, **nothing}
        if step.if_ is not None:
            return _either(self._block(step.then, sent, arms), self._block(step.else_, sent, arms))
        return self._block(step.do, sent, arms)

    def _send(self, send: SendPart, sent: _Sent, arms: tuple[str, ...]) -> _Sent:
        if any(send.connector in sent[arm] for arm in arms):
            message = f'sends by "{send.connector}" a second time at the same moment; put a wait between the two'
            self._report.warning(send.origin, "connector", message)
        return {**sent, **{arm: sent[arm] | {send.connector} for arm in arms}}


def _either(one: _Sent, other: _Sent) -> _Sent:
    return {arm: one[arm] | other[arm] for arm in one}


def _flat(steps: Iterable[StepPart]) -> Iterator[StepPart]:
    for step in steps:
        yield step
        inner = [] if step.wait_for is None else step.wait_for.else_
        for block in (step.do, step.then, step.else_, inner):
            yield from _flat(block)


def _listed(kinds: Iterable[str]) -> str:
    return " and ".join(sorted(kinds))
