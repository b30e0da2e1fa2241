"""The log connector, which has no other side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from connectors.conformance.bench import Example, Exchange, How


class NoOtherSide:
    """A bench that is never asked."""

    base = ""
    refusal = ""
    retry_after_s = None

    def __init__(self) -> None:
        self.heard: list[Exchange] = []

    async def answers(self, how: How) -> None:
        assert how is How.OK


@asynccontextmanager
async def bench() -> AsyncIterator[NoOtherSide]:
    yield NoOtherSide()


EXAMPLE = Example(
    bench=bench,
    settings=lambda _bench: {},
    kind="email",
    params={"text": "line\nbreak"},
    id_of=None,
    no_id_because="The id is in the line that is written.",
    cannot={how: "A log answers nothing." for how in How if how is not How.OK},
)
