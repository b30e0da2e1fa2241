"""The look-up routes: customers, journeys, actions, dead letters, rulebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from orchestrator.core.definition import Journey
from orchestrator.core.state import CustomerState
from orchestrator.gateway.backend import Backend, Customers
from orchestrator.gateway.customer_path import CustomerId
from orchestrator.gateway.page import Before, Filling, Page, listed, unknown_place
from orchestrator.gateway.problem import Problem
from orchestrator.gateway.views import (
    ActionView,
    CustomerView,
    DeadLetterView,
    JourneyView,
    Redrive,
    Redriven,
    RulebookVersion,
    customer_view,
    journey_view,
)

#: Journeys or versions on a page.
LISTED_MAX = 1_000
Limit = Annotated[int, Query(ge=1, le=1_000, description="How many, newest first.")]


def lookup_router(backend: Backend) -> APIRouter:
    """Return the look-ups over ``backend``."""
    router = APIRouter(prefix="/v1")

    @router.get("/customers/{customer_id}", summary="What is known about a customer")
    async def customer(customer_id: CustomerId) -> CustomerView:
        state = await backend.customers.state(customer_id)
        if state is None or (state.first_seen_ms == 0 and not state.merged_into):
            raise _unknown("customer", customer_id)
        return customer_view(customer_id, state, await _now_known_as(backend.customers, state))

    @router.get("/journeys", summary="Journeys of the rulebook in force, by id", response_model=list[JourneyView])
    async def journeys(request: Request, before: Before = None) -> Response:
        return await listed(request, _journey_page(await backend.journeys.active(), before))

    @router.get("/actions", summary="Latest actions and what became of them", response_model=list[ActionView])
    async def actions(
        request: Request,
        limit: Limit = 100,
        customer_id: Annotated[str | None, Query(description="Only actions of this customer.")] = None,
        before: Before = None,
    ) -> Response:
        return await listed(request, await backend.actions.recent(limit, customer_id, before))

    @router.get("/dead-letters", summary="Latest refused records and why", response_model=list[DeadLetterView])
    async def dead_letters(request: Request, limit: Limit = 100, before: Before = None) -> Response:
        return await listed(request, await backend.dead_letters.recent(limit, before))

    @router.post("/dead-letters/redrive", summary="Send dead letters again")
    async def redrive(which: Redrive) -> Redriven:
        return Redriven(redriven=await backend.dead_letters.redrive(which.ids))

    @router.get("/rulebooks", summary="Published versions of the rulebook", response_model=list[RulebookVersion])
    async def rulebooks(request: Request, before: Before = None) -> Response:
        return await listed(request, _version_page(await backend.rulebooks.versions(), before))

    return router


async def _now_known_as(customers: Customers, state: CustomerState) -> str:
    """Return the id at the end of the merges that began with a state, '' when there was none."""
    customer_id, seen = state.merged_into, {""}
    # While an erasure is under way two ids may point at each other for a moment.
    while customer_id not in seen:
        seen.add(customer_id)
        onward = await customers.state(customer_id)
        if onward is None or not onward.merged_into:
            break
        customer_id = onward.merged_into
    return customer_id


def _journey_page(journeys: Sequence[Journey], before: str | None) -> Page[JourneyView]:
    """Return a page of journeys in the order of their ids; ``before`` is the last id that was shown."""
    filling: Filling[JourneyView] = Filling(LISTED_MAX)
    for journey in sorted(journeys, key=lambda one: one.id):
        if before is not None and journey.id <= before:
            continue
        if not filling.takes(journey_view(journey)):
            return Page(filling.items, filling.items[-1].id)
    return Page(filling.items)


def _version_page(versions: Sequence[RulebookVersion], before: str | None) -> Page[RulebookVersion]:
    """Return a page of versions: the one in force, then by the moment of their publication.

    ``before`` names the version that came first and the last one that was shown, so that neither comes again when
    another has come into force meanwhile.
    """
    first, order = "", list(versions)
    if before is not None:
        first, _, last = before.partition(".")
        order.sort(key=lambda one: one.published_at, reverse=True)
        if last != first:  # The first one alone was out of its place.
            order = order[_number_of(last, order, before) + 1 :]
        order = [one for one in order if one.version != first]
    filling: Filling[RulebookVersion] = Filling(LISTED_MAX)
    for one in order:
        if not filling.takes(one):
            return Page(filling.items, f"{first or filling.items[0].version}.{filling.items[-1].version}")
    return Page(filling.items)


def _number_of(version: str, order: Sequence[RulebookVersion], before: str) -> int:
    for number, one in enumerate(order):
        if one.version == version:
            return number
    raise unknown_place(before)


def _unknown(what: str, name: str) -> Problem:
    return Problem(404, f"unknown_{what}", f'There is no {what} "{name}".', remedy="Compare the id with its source.")
