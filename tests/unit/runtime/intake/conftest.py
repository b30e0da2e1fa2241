from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.errors import EventRefused
from orchestrator.runtime.intake import HttpIntake, Intake, Limits


class DeclaredTypes:
    """A tracking plan that declares everything but ``never_declared``, and ``total`` as a number."""

    def check(self, event_type: str, properties: Mapping[str, Any]) -> EventRefused | None:
        if event_type == "never_declared":
            return EventRefused("unknown_type", "type", "never_declared is not declared.", "Declare it.")
        if isinstance(properties.get("total"), str):
            return EventRefused("wrong_property", "properties.total", "properties.total must be a number.", "Send one.")
        return None


@pytest.fixture(scope="session")
def intake() -> Intake:
    return Intake(DeclaredTypes(), "default", Limits(event_bytes_max=4_000, depth_max=6))


@pytest.fixture(scope="session")
def http_intake(intake: Intake) -> HttpIntake:
    return HttpIntake(intake)
