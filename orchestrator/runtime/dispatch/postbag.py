"""The postbag: records that are ready at the same time go to the log in one append."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.errors import Unavailable
from orchestrator.runtime.ports import EventLog, Outgoing


class Postbag:
    """An ``EventLog`` in front of another that gathers while it is busy.

    A lone append goes out at once. What comes while one is under way goes out together when that one is done, so a
    log that takes as long for fifty records as for one is asked once. Records keep the order in which they came.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._waiting: list[tuple[Sequence[Outgoing], asyncio.Future[None]]] = []
        self._carrier: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The append under way, if there is one."""
        return [] if self._carrier is None else [self._carrier]

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return when the log has acknowledged these records; raise what it raised for them."""
        if not records:
            return
        acknowledged = asyncio.get_running_loop().create_future()
        self._waiting.append((records, acknowledged))
        if self._carrier is None:
            self._carrier = asyncio.create_task(self._carry(), name="carry receipts to the log")
        await acknowledged

    async def _carry(self) -> None:
        try:
            while self._waiting:
                bag, self._waiting = self._waiting, []
                await self._hand_over(bag)
        finally:
            self._carrier = None
            for _, acknowledged in self._waiting:
                acknowledged.cancel()

    async def _hand_over(self, bag: list[tuple[Sequence[Outgoing], asyncio.Future[None]]]) -> None:
        try:
            await self._log.append([record for records, _ in bag for record in records])
        except Unavailable as error:
            _answer(bag, error)
        except asyncio.CancelledError:
            for _, acknowledged in bag:
                acknowledged.cancel()
            raise
        except Exception as error:
            # A record that the log can never take must not take the others down with it.
            if len(bag) == 1:
                _answer(bag, error)
            else:
                for one in bag:
                    await self._hand_over([one])
        else:
            _answer(bag, None)


def _answer(bag: list[tuple[Sequence[Outgoing], asyncio.Future[None]]], error: Exception | None) -> None:
    for _, acknowledged in bag:
        if acknowledged.done():
            continue  # Whoever waited has been cancelled.
        if error is None:
            acknowledged.set_result(None)
        else:
            acknowledged.set_exception(error)
