"""Connector entries: which systems carry out actions, with what settings and under what delivery policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
