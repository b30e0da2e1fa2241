"""The decision: what the core answers. Effects for the world, records for the ledger, a state to keep."""

from __future__ import annotations

from typing import Any

import msgspec

from orchestrator.core.action import Action
from orchestrator.core.event import Event
from orchestrator.core.propensity import Lesson
from orchestrator.core.reason import Outcome, Reason
from orchestrator.core.state import CustomerState


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of the ledger (``journey.decisions``): what was decided about one rule and why.

    ``at`` is the log's moment of the decision, ``cause`` the id of the event or timer behind it, ``detail`` the
    facts that settled it (the cap and its count, the quiet window, the four factors of a lost arbitration).
    """

    customer_id: str
    at: int
    rule: str
    outcome: Outcome
    reason: Reason
    journey: str = ""
    run: str = ""
    stage: str = ""
    cause: str = ""
    step: str = ""
    action_id: str = ""
    variant: str = ""
    rulebook_version: str = ""
    detail: dict[str, Any] = {}


class Decision(msgspec.Struct, gc=False):
    """The answer to one stimulus: the state after it, actions to emit (or withdraw), ledger lines, lessons.

    ``events`` go to ``journey.events``, each under the customer it names.
    """

    state: CustomerState
    actions: list[Action]
    records: list[DecisionRecord]
    duplicate: bool = False
    lessons: list[Lesson] = []
    events: list[Event] = []
