"""Connector entries: which systems carry out actions, with what settings and under what delivery policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from connectors.connector_type import ConnectorType
from connectors.markup import Markup
from connectors.registry import connector_types
from orchestrator.rulebook.capacity import Capacity

#: What is markup in whatever goes out as this kind.
_OF_KIND: Mapping[str, Mapping[str, Markup]] = {"email": {"html": Markup.HTML}}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``max`` sends in any ``per_ms``."""

    max: int
    per_ms: int


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How the dispatcher treats a connector; spans are milliseconds.

    ``on_unknown`` is ``retry`` or ``drop``: what becomes of an action whose request was written and never answered.
    """

    concurrency: int = 10
    rate: Rate | None = None
    attempts_max: int = 5
    budget_ms: int = 3_600_000
    backoff_first_ms: int = 1_000
    backoff_max_ms: int = 300_000
    lease_ms: int = 60_000
    breaker_failures: int = 5
    breaker_pause_ms: int = 30_000
    on_unknown: str = "retry"
    capacity: Capacity | None = None


@dataclass(frozen=True, slots=True)
class ConnectorEntry:
    """One connector of connectors.yaml.

    ``settings`` are as written, so that no secret and no address of one machine enters a rulebook: whoever sends
    fills ``${NAME:-default}`` in with ``connectors.registry.expand_environment`` and builds with ``type`` beside them.
    """

    name: str
    type: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    delivery: DeliveryPolicy = field(default_factory=DeliveryPolicy)
    description: str = ""


@lru_cache(maxsize=1)
def types_by_name() -> Mapping[str, ConnectorType]:
    """Return the connector types that are installed."""
    return {one.type: one for one in connector_types()}


def markup_params(kind: str, connector_type: str) -> Mapping[str, Markup]:
    """Return the params that are written in a markup, so that the values in them are escaped for it.

    They are those that the connector's type names, and ``html`` in whatever is an e-mail, also when a webhook carries
    it: a type that takes any params cannot tell, and what escapes too much is seen, what escapes too little is not.
    """
    known = types_by_name().get(connector_type)
    return {**_OF_KIND.get(kind, {}), **({} if known is None else known.action_params.markup)}
