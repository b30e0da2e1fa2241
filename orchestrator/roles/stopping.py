"""Stopping: a role runs until its first part ends, and then all of it ends, in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Coroutine
from typing import Any


async def until_first_ends(*work: Coroutine[Any, Any, Any]) -> None:
    """Run all of ``work`` together; when one ends or fails, cancel the others, wait for them, raise its error."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def until_signalled(work: Awaitable[Any]) -> None:
    """Run ``work`` until it ends or the process is asked to stop (SIGINT, SIGTERM), which cancels it."""
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(work)
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        if not running.cancelled():
            raise
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signum)
