"""A role gives back what it no longer uses."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref

from load_tests.faults.machine import own_mb
from orchestrator.roles.collection import keep_tidy


class Ring:
    def __init__(self) -> None:
        self.itself = self


async def test_cycles_are_freed_without_waiting_for_the_collectors_own_turn() -> None:
    gc.disable()
    try:
        kept = weakref.ref(Ring())
        tidying = asyncio.create_task(keep_tidy(every_s=0.01))
        async with asyncio.timeout(5):
            while kept() is not None:  # noqa: ASYNC110 - there is nobody who would tell.
                await asyncio.sleep(0.01)
        tidying.cancel()
    finally:
        gc.enable()


async def test_memory_that_lies_free_between_what_lives_is_given_back() -> None:
    """Blocks too large for Python's own pools and too small for pages of their own, of which every eighth lives on."""
    blocks = [bytearray(60_000) for _ in range(1_600)]
    lasting = blocks[::8]
    blocks.clear()
    before = own_mb(os.getpid())
    tidying = asyncio.create_task(keep_tidy(every_s=0.01))
    await asyncio.sleep(0.1)
    tidying.cancel()
    assert len(lasting) == 200
    assert before - own_mb(os.getpid()) > 40


async def test_cycles_that_have_grown_old_are_freed_as_well() -> None:
    ring = Ring()
    kept = weakref.ref(ring)
    gc.collect()  # Everything that lives through it is old.
    del ring
    tidying = asyncio.create_task(keep_tidy(every_s=0.01))
    async with asyncio.timeout(5):
        while kept() is not None:  # noqa: ASYNC110 - there is nobody who would tell.
            await asyncio.sleep(0.01)
    tidying.cancel()
