"""The rules folder of an embedded engine: whoever saves a file there publishes it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from orchestrator import metrics
from orchestrator.errors import RulebookRefused, Unavailable
from orchestrator.rulebook.folder import FolderFault, Listing, folder_listing
from orchestrator.runtime.rulebooks import PublishedRulebooks

log = logging.getLogger(__name__)

POLL_S = 0.25


class RulesFolder:
    """Publishes and activates what the folder holds, once it stands still; one file half written is no edit.

    A version that was published otherwise stays in force until the folder changes; a folder that changed while the
    engine was down counts as well. An edit that is refused, and a folder that cannot be read as a whole, change nothing
    and are reported once.
    """

    def __init__(self, rulebooks: PublishedRulebooks, folder: Path) -> None:
        self.rulebooks = rulebooks
        self._folder = folder
        self._before: Listing | str | None = None  # what the latest look found
        self._done: Listing | str | None = None  # what was published or refused
        self._refused = ""
        self._unpublished = ""

    async def begin(self) -> None:
        """Take the folder as it is at the start, when nobody has seen it being written."""
        found = await asyncio.to_thread(_found, self._folder)
        self._before = found
        await self._take(found)

    async def follow(self) -> None:
        """Look at the folder for ever."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.look()

    async def look(self) -> None:
        """Take what the folder holds if it is new, and the same as at the look before."""
        found = await asyncio.to_thread(_found, self._folder)
        settled, self._before = found == self._before, found
        if settled and found != self._done:
            await self._take(found)

    async def _take(self, found: Listing | str) -> None:
        try:
            published = await self.rulebooks.publish_folder(self._folder)
        except RulebookRefused as refused:
            self._refuse(str(refused))
        except Unavailable as error:
            if str(error) != self._unpublished:
                log.warning("the edit cannot be published yet: %s", error)
            self._unpublished = str(error)
            return  # The next look tries again.
        else:
            if self._refused and not published:
                log.info("the rules folder is again as rulebook %s was made from it", self.rulebooks.watched)
            self._refused = ""
        self._unpublished = ""
        self._done = found

    def _refuse(self, reason: str) -> None:
        metrics.RULEBOOK_LOADS.labels("refused").inc()
        if reason != self._refused:
            log.error("the edit was refused, rulebook %s stays:\n%s", self.rulebooks.current.version, reason)
        self._refused = reason


def _found(folder: Path) -> Listing | str:
    """Return what is there, or why it cannot be read."""
    try:
        return folder_listing(folder)
    except FolderFault as fault:
        return str(fault)
