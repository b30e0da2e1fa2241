"""Opting out: what it closes where a customer unsubscribes through a connector.

It closes the channel, for every purpose, or the purposes that the connector's settings name, on every channel: who
leaves a newsletter still wants the receipt. An outcome says which by its property ``purposes``; without it the channel
is meant. A bounce always closes the channel, because there is nobody at the address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import BeforeValidator, Field

from connectors.callback import Outcome, OutcomeType

Purpose = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]


def _scope(value: object) -> object:
    if value == "channel":
        return ()
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("must be channel, or a list of purposes of consent such as [marketing]")
    return tuple(value)


#: What unsubscribing closes, written ``channel`` (which is no purpose here) or as a list of purposes.
Scope = Annotated[tuple[Purpose, ...], Field(max_length=20), BeforeValidator(_scope)]
SCOPE_DESCRIPTION = (
    "What unsubscribing closes: channel, or a list of the purposes of consent, which end on every channel."
)

_OPT_OUTS = frozenset({OutcomeType.UNSUBSCRIBED, OutcomeType.RESUBSCRIBED})


def scoped(outcome: Outcome, purposes: Sequence[str]) -> Outcome:
    """Return the outcome with what it closes or opens, unless it says so itself or is of another type."""
    if outcome.type not in _OPT_OUTS or not purposes or "purposes" in outcome.properties:
        return outcome
    return replace(outcome, properties={**outcome.properties, "purposes": list(purposes)})
