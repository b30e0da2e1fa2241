"""The routes of one customer's past: the timeline, "why / why not", and everything that is known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Protocol

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from orchestrator.core.moment import number_or_text, parse_moment
from orchestrator.core.rulebook import Rulebook
from orchestrator.core.state import CustomerState
from orchestrator.gateway.answer import answered
from orchestrator.gateway.backend import Actions, Customers
from orchestrator.gateway.customer_path import CustomerId
from orchestrator.gateway.page import Before, Filling, link_to, unknown_place
from orchestrator.gateway.past_views import (
    ExplainedView,
    ExplanationView,
    ExportView,
    TimelineView,
    export_view,
    timeline_page,
)
from orchestrator.gateway.problem import Problem
from orchestrator.gateway.views import ActionView
from orchestrator.runtime.explain import explain
from orchestrator.runtime.explanation import Explained
from orchestrator.runtime.ports import Clock
from orchestrator.runtime.timeline import ENTRIES_MAX, History
from orchestrator.runtime.walk import RulebookPast

#: Actions that an export looks for.
ACTIONS_MAX = 1_000


#: Rules that are explained at once.
RULES_EXPLAINED_MAX = 200
#: Rules that a refusal names.
RULES_NAMED_MAX = 50


class Past(Protocol):
    """What the routes need besides the gateway's look-ups. May raise ``Unavailable``."""

    async def history(self, customer_id: str) -> History:
        """Return what is kept of a customer's past; an empty history for one who is not known."""
        ...

    def rulebooks(self) -> RulebookPast:
        """Return what knows which rulebook was in force when."""
        ...


Rules = Annotated[list[str] | None, Query(alias="rule", description="Id of a rule; may be repeated. All without one.")]
At = Annotated[
    str | None, Query(description="At or before this moment: RFC 3339 or epoch ms. The present without one.")
]
Limit = Annotated[int, Query(ge=1, le=2 * ENTRIES_MAX, description="How many, newest first.")]


def explain_router(past: Past, customers: Customers, actions: Actions, clock: Clock) -> APIRouter:
    """Return the routes of a customer's past."""
    router = APIRouter(prefix="/v1/customers/{customer_id}")

    @router.get("/timeline", summary="A customer's recent events and decisions", response_model=TimelineView)
    async def timeline(
        request: Request, customer_id: CustomerId, limit: Limit = ENTRIES_MAX, before: Before = None
    ) -> Response:
        history, state = await _known(past, customers, customer_id)
        view, going_on = await asyncio.to_thread(timeline_page, history, state, limit, before)
        return await answered(lambda: view, link_to(request, going_on))

    @router.get("/explain", summary="Why a rule did or did not act for a customer", response_model=ExplainedView)
    async def explained(
        request: Request, customer_id: CustomerId, rules: Rules = None, at: At = None, before: Before = None
    ) -> Response:
        now_ms = clock.now_ms()
        at_ms = _past_moment(at, now_ms)
        history, state = await _known(past, customers, customer_id)
        rulebooks = past.rulebooks()
        rulebook = await asyncio.to_thread(rulebooks.in_force_at, now_ms if at_ms is None else at_ms)
        for rule in rules or ():
            if rule not in rulebook.rules:
                raise _unknown_rule(rule, rulebook, at)
        asked = list(rulebook.rules) if rules is None else list(dict.fromkeys(rules))
        begin = _place(before, asked)
        some = asked[begin : begin + RULES_EXPLAINED_MAX]
        # In a thread, since a long past takes some ten milliseconds to decide again and events must not wait for it.
        found = await asyncio.to_thread(explain, rulebooks, history, state, now_ms=now_ms, at_ms=at_ms, rules=some)
        view, number = await asyncio.to_thread(_explained_page, found)
        going_on = asked[begin + number - 1] if begin + number < len(asked) else None
        return await answered(lambda: view, link_to(request, going_on))

    @router.get("/export", summary="Everything that is known about a customer", response_model=ExportView)
    async def export(customer_id: CustomerId) -> Response:
        history, state = await _known(past, customers, customer_id)
        found = await _all_actions(actions, customer_id)
        return await answered(lambda: export_view(history, state or CustomerState(), found, 2 * ENTRIES_MAX))

    return router


async def _all_actions(actions: Actions, customer_id: str) -> list[ActionView]:
    """Return the latest actions of a customer, page after page."""
    page = await actions.recent(ACTIONS_MAX, customer_id)
    found = list(page.items)
    while page.next is not None and len(found) < ACTIONS_MAX:
        page = await actions.recent(ACTIONS_MAX, customer_id, page.next)
        found += page.items
    return found[:ACTIONS_MAX]


def _place(before: str | None, rules: Sequence[str]) -> int:
    """Return the number of the first rule of a page; ``before`` is the last one that was explained."""
    if before is None:
        return 0
    try:
        return rules.index(before) + 1
    except ValueError:
        raise unknown_place(before) from None


def _explained_page(found: Explained) -> tuple[ExplainedView, int]:
    """Return as many explanations as a page holds, and their number."""
    view = ExplainedView.model_validate(found)
    filling: Filling[ExplanationView] = Filling(RULES_EXPLAINED_MAX)
    for one in view.explanations:
        if not filling.takes(one):
            break
    return view.model_copy(update={"explanations": filling.items}), len(filling.items)


def _unknown_rule(rule: str, rulebook: Rulebook, at: str | None) -> Problem:
    known = sorted(rulebook.rules)
    more = f" and {len(known) - RULES_NAMED_MAX} more" if len(known) > RULES_NAMED_MAX else ""
    remedy = f"There are: {', '.join(known[:RULES_NAMED_MAX])}{more}."
    then = "" if at is None else f" at {at}"
    return Problem(404, "unknown_rule", f'There is no rule "{rule}" in force{then}.', remedy=remedy)


async def _known(past: Past, customers: Customers, customer_id: str) -> tuple[History, CustomerState | None]:
    """Return history and state; a problem for a customer of whom neither is known."""
    history, state = await asyncio.gather(past.history(customer_id), customers.state(customer_id))
    if not history.events and not history.decisions and (state is None or not state.first_seen_ms):
        detail = f'There is no customer "{customer_id}".'
        raise Problem(404, "unknown_customer", detail, remedy="Compare the id with its source.")
    return history, state


def _past_moment(text: str | None, now_ms: int) -> int | None:
    if text is None:
        return None
    at_ms = parse_moment(number_or_text(text))
    if at_ms is None:
        raise Problem(
            400,
            "invalid_request",
            f"{text} is not a moment.",
            field="at",
            remedy="Send RFC 3339 with its offset, such as 2026-03-02T10:30:00+05:30, or epoch milliseconds; "
            "no year before 1970 or after 9988.",
        )
    if at_ms > now_ms:
        detail = f"{text} lies in the future."
        raise Problem(400, "invalid_request", detail, field="at", remedy="Ask about the past, or leave it out for now.")
    return at_ms
