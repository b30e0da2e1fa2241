"""The look-up routes: customers, journeys, actions, dead letters, rulebooks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from orchestrator.core.state import CustomerState
from orchestrator.gateway.backend import Backend, Customers
from orchestrator.gateway.customer_path import CustomerId
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

    @router.get("/journeys", summary="Journeys of the rulebook in force")
    async def journeys() -> list[JourneyView]:
        return [journey_view(journey) for journey in await backend.journeys.active()]

    @router.get("/actions", summary="Latest actions and what became of them")
    async def actions(
        limit: Limit = 100,
        customer_id: Annotated[str | None, Query(description="Only actions of this customer.")] = None,
    ) -> list[ActionView]:
        return list(await backend.actions.recent(limit, customer_id))

    @router.get("/dead-letters", summary="Latest refused records and why")
    async def dead_letters(limit: Limit = 100) -> list[DeadLetterView]:
        return list(await backend.dead_letters.recent(limit))

    @router.post("/dead-letters/redrive", summary="Send dead letters again")
    async def redrive(which: Redrive) -> Redriven:
        return Redriven(redriven=await backend.dead_letters.redrive(which.ids))

    @router.get("/rulebooks", summary="Published versions of the rulebook")
    async def rulebooks() -> list[RulebookVersion]:
        return list(await backend.rulebooks.versions())

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


def _unknown(what: str, name: str) -> Problem:
    return Problem(404, f"unknown_{what}", f'There is no {what} "{name}".', remedy="Compare the id with its source.")
