"""The route that forgets a customer, and what look-ups must not show of one who was forgotten."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from fastapi import APIRouter
from pydantic import Field

from orchestrator.core.event import CUSTOMER_ERASED, Event
from orchestrator.core.moment import aware_moment
from orchestrator.gateway.backend import Actions, Customers
from orchestrator.gateway.customer_path import CustomerId
from orchestrator.gateway.page import Page
from orchestrator.gateway.views import ActionView, View
from orchestrator.runtime.intake import Intake, encode_event
from orchestrator.runtime.ports import ENGINE, EVENTS, Clock, EventLog, Outgoing


class ErasureView(View):
    """An erasure that was accepted."""

    customer_id: str = Field(description="Id of the customer.")
    event_id: str = Field(description="Id of the event that erases, for the record.")


def customer_router(log: EventLog, intake: Intake, clock: Clock) -> APIRouter:
    """Return the route that forgets a customer."""
    router = APIRouter(prefix="/v1/customers")

    # As a path, since some proxies decode a slash in an id, and whoever has one must be able to be forgotten.
    @router.delete("/{customer_id:path}", status_code=202, summary="Forget a customer")
    async def forget(customer_id: CustomerId) -> ErasureView:
        """Accept the erasure of a customer, known or not.

        It takes its place in the log: whatever was accepted before it is forgotten, in moments, and whatever happens
        after it begins a new customer.
        """
        # Who has an id that stands for nobody, from before these were refused, must be able to be forgotten as well.
        event = _erasure(customer_id, clock.now_ms())
        await log.append([Outgoing(EVENTS, intake.key(event.customer_id), encode_event(event), ENGINE)])
        return ErasureView(customer_id=event.customer_id, event_id=event.id)

    return router


def _erasure(customer_id: str, now_ms: int) -> Event:
    return Event(
        id=str(uuid4()),
        type=CUSTOMER_ERASED,
        customer_id=customer_id,
        occurred_at_ms=now_ms,
        received_at_ms=now_ms,
        source="gateway",
    )


class UnforgottenActions:
    """``Actions`` without those that a customer's erasure has forgotten and the log still holds."""

    def __init__(self, actions: Actions, customers: Customers) -> None:
        self._actions = actions
        self._customers = customers

    async def recent(self, limit: int, customer_id: str | None, before: str | None = None) -> Page[ActionView]:
        """Return a page of the latest actions, newest first; fewer than ``limit`` when some are forgotten."""
        found = await self._actions.recent(limit, customer_id, before)
        concerned = list(dict.fromkeys(action.customer_id for action in found.items))
        states = await asyncio.gather(*(self._customers.state(one) for one in concerned))
        erased_at_ms = {
            one: 0 if state is None else state.erased_at_ms for one, state in zip(concerned, states, strict=True)
        }
        kept = [one for one in found.items if one.decided_at > aware_moment(erased_at_ms[one.customer_id])]
        return Page(kept, found.next)
