"""The examples: one module ``example_<type>.py`` beside this file for each type of ours, or an entry point.

A package that brings a connector type may bring its example too, under the entry-point group
``journey.connector_examples`` and the type's name.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from connectors.conformance.bench import Example
from connectors.conformance.suite import announced_examples

HERE = Path(__file__).parent


@cache
def examples() -> dict[str, Example]:
    """Return every example by the name of its type."""
    found: dict[str, Example] = {
        path.stem.removeprefix("example_"): import_module(f"tests.contract.connectors.{path.stem}").EXAMPLE
        for path in sorted(HERE.glob("example_*.py"))
    }
    return found | announced_examples()


@pytest.fixture
def recording(request: pytest.FixtureRequest) -> bool:
    """Whether conversations are written anew instead of compared (``pytest --record``)."""
    return bool(request.config.getoption("--record"))
