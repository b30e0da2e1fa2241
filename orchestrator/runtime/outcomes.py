"""Outcomes: what providers report of deliveries, as events of the customers whom it concerns.

A report becomes an ordinary event, so that rules can wait for it, count it and react to it. Its id is made of the
connector's name and the report's own id, so a provider that reports twice is heard once. An address goes into no event:
it only serves to find the customer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from connectors.callback import CallbackReader, Outcome, OutcomeType
from orchestrator.core.event import Event
from orchestrator.errors import EventRefused
from orchestrator.runtime.contacts import ContactBook, customer_of
from orchestrator.runtime.intake import Intake, encode_event
from orchestrator.runtime.intake.admission import UNKNOWN_CUSTOMER
from orchestrator.runtime.intake.dead_letter import DeadLetter, encode_dead_letter, gateway_letter
from orchestrator.runtime.intake.limits import ID_CHARS_MAX
from orchestrator.runtime.intake.refusal import RefusalCode
from orchestrator.runtime.ports import DEAD_LETTERS, ENGINE, EVENTS, Outgoing

#: What says that a call's line is free again.
_ENDS_CALL = frozenset({OutcomeType.CALL_ENDED, OutcomeType.CALL_MISSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where reports of one connector are taken. ``reader`` is None when it cannot be built; ``fault`` says why."""

    connector: str
    kind: str
    reader: CallbackReader | None
    fault: str = ""
    unconfigured: bool = False  # the fault is only that nobody has set it up


Desks = Mapping[str, Desk]


@dataclass(slots=True)
class Taken:
    """What becomes of a callback's reports: records for the log, and actions whose lines are free again."""

    records: list[Outgoing] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    refused: list[EventRefused] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)


class OutcomeIntake:
    """Turns reports into events in normal form. What cannot be an event becomes a dead letter: the provider is done."""

    def __init__(self, intake: Intake, contacts: ContactBook) -> None:
        self._intake = intake
        self._contacts = contacts

    async def take(self, desk: Desk, outcomes: Sequence[Outcome], now_ms: int) -> Taken:
        """Return what the log has to take, in the order reported. Raises ``StoreUnavailable``; may be repeated."""
        taken = Taken()
        for outcome in outcomes:
            customer_id = outcome.customer_id or await customer_of(
                self._contacts, desk.connector, outcome.action_id, outcome.address
            )
            claimed = _claimed(desk, outcome, customer_id, now_ms)
            value = json.dumps(claimed, default=str).encode()
            try:
                event = self._event(value, outcome, now_ms)
            except EventRefused as refused:
                taken.refused.append(refused)
                key = self._intake.key(UNKNOWN_CUSTOMER.decode())
                letter = gateway_letter(refused, key, value, now_ms, ENGINE)
                taken.records.append(Outgoing(DEAD_LETTERS, key, encode_dead_letter(letter)))
            else:
                taken.types.append(event.type)
                key = self._intake.key(event.customer_id)
                taken.records.append(Outgoing(EVENTS, key, encode_event(event), ENGINE))
            if outcome.type in _ENDS_CALL and outcome.action_id:
                taken.freed.append(outcome.action_id)
        return taken

    def _event(self, value: bytes, outcome: Outcome, now_ms: int) -> Event:
        """Return the event in ``value``, under the same bounds and the same tracking plan as any other."""
        normal = self._intake.decode(value, now_ms)
        if not normal.customer_id:
            raise _nobody(outcome)
        return self._intake.check(normal, str(normal.id), now_ms)


async def attributed(letter: DeadLetter, contacts: ContactBook) -> DeadLetter:
    """Return the dead letter of a report that concerned nobody with the customer who is found for it by now.

    Any other comes back as it is, and so does one that still concerns nobody. Raises ``StoreUnavailable``.
    """
    if letter.code != RefusalCode.CUSTOMER_UNKNOWN or letter.value is None:
        return letter
    claimed = json.loads(letter.value)
    properties = claimed["properties"]
    named = (str(properties.get(name, "")) for name in ("connector", "action_id", "address"))
    claimed["customer_id"] = await customer_of(contacts, *named)
    if not claimed["customer_id"]:
        return letter
    properties.pop("address", None)
    return msgspec.structs.replace(letter, value=json.dumps(claimed).encode())


def _claimed(desk: Desk, outcome: Outcome, customer_id: str, now_ms: int) -> dict[str, Any]:
    properties = {**outcome.properties, "connector": desk.connector, "kind": desk.kind}
    if outcome.action_id:
        properties["action_id"] = outcome.action_id
    if outcome.address and not customer_id:
        properties["address"] = outcome.address  # All that is left to find the customer by.
    return {
        "id": _event_id(desk.connector, outcome.id),
        "type": outcome.type.value,
        "customer_id": customer_id,
        # A provider's clock may be ahead of ours; what it reports has happened all the same.
        "occurred_at": now_ms if outcome.at_ms is None else min(outcome.at_ms, now_ms),
        "properties": properties,
        "source": f"connector:{desk.connector}",
    }


def _event_id(connector: str, outcome_id: str) -> str:
    named = f"{connector}:{outcome_id}"
    if len(named) <= ID_CHARS_MAX and named.isprintable():
        return named
    return f"{connector}:{blake2b(outcome_id.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


def _nobody(outcome: Outcome) -> EventRefused:
    if outcome.address:
        known = "comes from an address that nobody has"
    else:
        known = "names an action that nobody knows" if outcome.action_id else "names no customer and no address"
    return EventRefused(
        RefusalCode.CUSTOMER_UNKNOWN,
        "customer_id",
        f"The report {outcome.type.value} {known}.",
        "Find the customer and send the event with their customer_id, or let the provider hand the customer_id back.",
    )
