"""The rulebook in force: loaded, checked, compiled, and switched between batches.

A rulebook with problems never replaces one without: the old one stays and the problems are reported.
``FolderRulebooks`` is what a folder holds; ``PublishedRulebooks`` what the shelf says (see ``shelf``), for every role.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from orchestrator import metrics
from orchestrator.core.rulebook import Rulebook, build_rulebook, pinned_to
from orchestrator.errors import RulebookRefused, Unavailable
from orchestrator.rulebook.compile import compiled
from orchestrator.rulebook.folder import FolderFault, existing_folder, folder_files, printable
from orchestrator.rulebook.load import (
    Loaded,
    deciding_files,
    load_rulebook,
    load_rulebook_files,
    unreadable,
    version_of,
)
from orchestrator.rulebook.problem import Severity, rendered
from orchestrator.runtime.ports import EventLog, Record
from orchestrator.runtime.shelf import Active, Published, Shelf, check_size

log = logging.getLogger(__name__)

#: Compiled versions that are kept; an older one that a play is pinned to is compiled again when it is needed.
BOOKS_MAX = 16
#: The author of versions that were taken from a folder.
FOLDER = "folder"
_RETRY_S = 0.5

Listener = Callable[[Loaded], None]
#: Raises ``RulebookRefused`` for a rulebook that lints, but could not run in this deployment.
Gate = Callable[[Loaded], Awaitable[None]]


def compile_loaded(loaded: Loaded, workspace: str) -> Rulebook:
    """Return the compiled form of a checked rulebook."""
    return build_rulebook(
        version=loaded.version,
        journeys=loaded.journeys,
        aggregates=loaded.aggregates,
        conditions=compiled,
        workspace=workspace,
    )


def checked(loaded: Loaded) -> Loaded:
    """Return a rulebook that may come into force; raise ``RulebookRefused`` with every error of one that may not."""
    errors = [problem for problem in loaded.problems if problem.severity is Severity.ERROR]
    if errors:
        raise RulebookRefused(rendered(errors), errors)
    return loaded


class RulebookInForce:
    """Holds the rulebook in force. ``listeners`` are called with what was loaded, before it comes into force."""

    def __init__(self, loaded: Loaded, rulebook: Rulebook) -> None:
        self.listeners: list[Listener] = []
        self.loaded = loaded
        self._current = rulebook
        self._announce()

    @property
    def current(self) -> Rulebook:
        """The rulebook in force."""
        return self._current

    def in_force_at(self, at_ms: int) -> Rulebook:
        """Return the rulebook that was in force at a log time. A folder remembers no other than its present one."""
        return self._current

    def version(self, version: str) -> Rulebook | None:
        """Return a version as it was when it was last in force, None when it cannot be had."""
        return self._current if version == self._current.version else None

    def switch(self, loaded: Loaded, rulebook: Rulebook) -> None:
        """Put another rulebook into force, at once and as a whole."""
        for listener in self.listeners:
            listener(loaded)
        self.loaded, self._current = loaded, rulebook
        self._announce()

    def _announce(self) -> None:
        current = self._current
        metrics.RULEBOOK_LOADS.labels("switched").inc()
        metrics.RULEBOOK.info({"version": current.version})
        log.info("rulebook %s: %d rules in %d journeys", current.version, len(current.rules), len(current.journeys))


class FolderRulebooks(RulebookInForce):
    """The rulebook of a folder. Raises ``RulebookRefused`` when that has errors."""

    def __init__(self, folder: Path, workspace: str) -> None:
        self._folder = folder
        self._workspace = workspace
        loaded = checked(load_rulebook(folder))
        super().__init__(loaded, compile_loaded(loaded, workspace))

    def reload(self) -> bool:
        """Switch to what the folder holds now, if that is different; return whether it switched.

        Raises ``RulebookRefused`` with every problem, and leaves the old rulebook in force.
        """
        try:
            loaded = checked(load_rulebook(self._folder))
        except RulebookRefused:
            metrics.RULEBOOK_LOADS.labels("refused").inc()
            raise
        if loaded.version == self._current.version:
            return False
        self.switch(loaded, compile_loaded(loaded, self._workspace))
        return True


# ------------------------------------------------------------------------------------------ published ones


class RulebookTopic(Protocol):
    """Reads ``journey.rulebooks``, which has one partition."""

    async def bounds(self) -> tuple[int, int]:
        """Return the first offset that is kept and the offset that the next record will get."""
        ...

    def read(self, offset: int) -> AsyncGenerator[list[Record], None]:
        """Yield records from ``offset`` on, waiting for new ones for ever. Compaction may have left gaps."""
        ...


class _Earlier(Mapping[str, Rulebook]):
    """The versions that plays may be pinned to under ``current``, each prepared when a play first asks for it."""

    def __init__(self, versions: PublishedRulebooks) -> None:
        self._versions = versions
        self._prepared: dict[str, Rulebook] = {}
        self.current: Rulebook

    def __getitem__(self, version: str) -> Rulebook:
        book = self._prepared.get(version)
        if book is None:
            book = self._prepared[version] = pinned_to(self._versions.book(version), self.current)
        return book

    def __iter__(self) -> Iterator[str]:
        return iter([one.version for one in self._versions.published() if one.version != self.current.version])

    def __len__(self) -> int:
        return sum(1 for _ in self)


class PublishedRulebooks(RulebookInForce):
    """The active version of the shelf; what a folder holds as long as nothing was ever published.

    ``follow`` keeps it up to date: an activation is in force here as soon as it has been read and compiled. Versions
    that running plays are pinned to can be had through ``current.earlier``, as far back as the topic goes.
    """

    def __init__(self, shelf: Shelf, topic: RulebookTopic, event_log: EventLog, workspace: str, start: Loaded) -> None:
        """Use ``opened``, which reads the topic first."""
        self._shelf = shelf
        self._topic = topic
        self._log = event_log
        self._workspace = workspace
        self._books: dict[str, tuple[Loaded, Rulebook]] = {}
        self._reading = asyncio.Lock()
        self._publishing = asyncio.Lock()
        #: What is published or activated here has to pass it.
        self.gate: Gate = _open
        book = self._kept(start)[1]
        super().__init__(start, self._in_force(book))

    @classmethod
    async def opened(
        cls, topic: RulebookTopic, event_log: EventLog, workspace: str, folder: Path
    ) -> PublishedRulebooks:
        """Read the topic to its end and return with the active version in force, or else with the folder's.

        Raises ``RulebookRefused`` when that one has errors, ``FolderFault`` when there is no such folder and it is
        needed, ``LogUnavailable`` when the topic cannot be read.
        """
        shelf = Shelf(workspace)
        await _read_to_end(shelf, topic)
        active = None if shelf.active is None else shelf.find(shelf.active.version)
        if active is None:
            existing_folder(folder)
        found = await asyncio.to_thread(load_rulebook, folder) if active is None else await _loaded(active)
        return cls(shelf, topic, event_log, workspace, checked(found))

    # ---------------------------------------------------------------------------------------- the shelf

    def published(self) -> list[Published]:
        """Return the versions on the shelf, the latest published first."""
        return self._shelf.published()

    def find(self, version: str) -> Published | None:
        """Return a version of the shelf, None when it is not there."""
        return self._shelf.find(version)

    @property
    def watched(self) -> str:
        """The version that the watched folder had when a version was last activated; '' without one."""
        return "" if self._shelf.active is None else self._shelf.active.folder

    def book(self, version: str) -> Rulebook:
        """Return an earlier version, compiled; raise ``KeyError`` when it cannot be had (it is reported why)."""
        if version not in self._books:
            found = self._shelf.find(version)
            if found is None:
                raise KeyError(version)
            try:
                self._kept(checked(_read_back(found)))
            except RulebookRefused as refused:
                log.error(
                    "plays of rulebook %s go on in the one in force, for it is refused now:\n%s", version, refused
                )
                raise KeyError(version) from refused
        return self._books[version][1]

    def in_force_at(self, at_ms: int) -> Rulebook:
        """Return the rulebook that was in force at a log time, and that knows since when it counts what.

        Before the first activation that is remembered, and for a version that is refused today, it is the nearest
        one that can be had.
        """
        activations = self._shelf.activations()
        found = next((one for one in reversed(activations) if one.since_ms <= at_ms), None)
        if found is None:
            found = activations[0] if activations else None
        if found is None or found is self._shelf.active:
            return self._current
        try:
            return self._as_of(self.book(found.version), found)
        except KeyError:
            return self._current

    def version(self, version: str) -> Rulebook | None:
        """Return a version as it was when it was last in force, None when it cannot be had."""
        if version == self._current.version:
            return self._current
        found = next((one for one in reversed(self._shelf.activations()) if one.version == version), None)
        try:
            return None if found is None else self._as_of(self.book(version), found)
        except KeyError:
            return None

    async def draft(self, loaded: Loaded) -> Rulebook:
        """Return a checked rulebook as it would be in force if it were published now."""
        rulebook = await asyncio.to_thread(compile_loaded, loaded, self._workspace)
        return self._in_force(rulebook)

    # ------------------------------------------------------------------------------------------ following

    async def follow(self) -> None:
        """Take activations into force for ever; an outage of the log is waited out."""
        while True:
            try:
                async with aclosing(self._topic.read(self._shelf.next_offset)) as batches:
                    async for records in batches:
                        async with self._reading:
                            await self._take(records)
            except Unavailable as error:
                log.warning(
                    "the rulebook topic cannot be read yet, %s stays in force: %s", self._current.version, error
                )
                await asyncio.sleep(_RETRY_S)

    async def catch_up(self) -> None:
        """Read the topic to its end now; return with what it says in force."""
        async with self._reading:
            await _read_to_end(self._shelf, self._topic)
            await self._settle()

    async def _take(self, records: list[Record]) -> None:
        for record in records:
            self._shelf.apply(record)
        await self._settle()

    async def _settle(self) -> None:
        """Bring the active version into force, unless it is already or cannot be."""
        active = self._shelf.active
        if active is None:
            return
        if active.version == self._current.version and self._since() == self._current.aggregates_since:
            return
        found = self._shelf.find(active.version)
        assert found is not None, "an activation is applied after its edition"
        if active.version not in self._books:
            try:
                loaded = checked(await _loaded(found))
            except RulebookRefused as refused:
                metrics.RULEBOOK_LOADS.labels("refused").inc()
                log.error("rulebook %s is refused, %s stays:\n%s", active.version, self._current.version, refused)
                return
            rulebook = await asyncio.to_thread(compile_loaded, loaded, self._workspace)
            self._keep(loaded, rulebook)
        loaded, rulebook = self._books[active.version]
        self.switch(loaded, self._in_force(rulebook))

    def _kept(self, loaded: Loaded) -> tuple[Loaded, Rulebook]:
        if loaded.version not in self._books:
            self._keep(loaded, compile_loaded(loaded, self._workspace))
        return self._books[loaded.version]

    def _keep(self, loaded: Loaded, rulebook: Rulebook) -> None:
        self._books[loaded.version] = (loaded, rulebook)
        while len(self._books) > BOOKS_MAX:
            del self._books[next(iter(self._books))]

    def _in_force(self, book: Rulebook) -> Rulebook:
        """Return a compiled version as it is in force: with its history and the versions before it."""
        return self._as_of(book, self._shelf.active)

    def _as_of(self, book: Rulebook, activation: Active | None) -> Rulebook:
        """Return a compiled version as it was in force by an activation; None is what a folder holds."""
        earlier = _Earlier(self)
        earlier.current = replace(book, aggregates_since=_kept_since(activation), earlier=earlier)
        return earlier.current

    def _since(self) -> dict[str, int]:
        return _kept_since(self._shelf.active)

    # ----------------------------------------------------------------------------------------- publishing

    async def publish(
        self, files: Mapping[str, bytes], *, author: str = "", note: str = "", activate: bool = True
    ) -> Published:
        """Put a version on the shelf, and into force unless told otherwise; in force here when this returns.

        Raises ``RulebookRefused`` with every problem, and then nothing has changed. Raises ``LogUnavailable`` when the
        log does not acknowledge it; publishing again is safe. Of two that are activated at once the later one wins.
        """
        check_size(files)
        loaded = checked(await asyncio.to_thread(load_rulebook_files, files))
        await self.gate(loaded)
        return await self._publish(loaded, author=author, note=note, activate=activate)

    async def publish_folder(self, folder: Path) -> bool:
        """Publish and activate what a watched folder holds, if it has changed since the latest activation.

        Return whether it had. Raises ``RulebookRefused`` with every problem, and then nothing has changed.
        """
        loaded = await asyncio.to_thread(_edited, folder, self.watched)
        if loaded is None:
            return False
        await self.gate(checked(loaded))
        await self._publish(loaded, author=FOLDER, note="", activate=True, watched=loaded.version)
        return True

    async def activate(self, version: str, *, author: str = "") -> Published | None:
        """Put a version of the shelf into force (rollback is this); None when it is not there.

        Raises ``RulebookRefused`` for one that this version of the engine, or this deployment, cannot run.
        """
        async with self._publishing:
            await self.catch_up()
            found = self._shelf.find(version)
            if found is None:
                return None
            await self.gate(checked(await _loaded(found)))
            await self._activate(version, author)
            return self._shelf.find(version)

    async def _publish(
        self, loaded: Loaded, *, author: str, note: str, activate: bool, watched: str | None = None
    ) -> Published:
        async with self._publishing:
            await self.catch_up()
            if self._shelf.active is None and self.loaded.version != loaded.version:
                # What was in force until now came from a folder: it goes on the shelf first, to be rolled back to.
                await self._put(self.loaded, FOLDER, "in force before the first publication")
                await self._activate(self.loaded.version, FOLDER)
            if self._shelf.find(loaded.version) is None:
                await self._put(loaded, author, note)
            if activate:
                await self._activate(loaded.version, author, watched)
            found = self._shelf.find(loaded.version)
            assert found is not None, "it was read back"
            return found

    async def _put(self, loaded: Loaded, author: str, note: str) -> None:
        edition = await asyncio.to_thread(self._shelf.edition, loaded, author=author, note=note)
        await self._log.append([edition])
        await self.catch_up()

    async def _activate(self, version: str, author: str, watched: str | None = None) -> None:
        await self._log.append([self._shelf.activation(version, author=author, folder=watched)])
        await self.catch_up()


def _kept_since(activation: Active | None) -> dict[str, int]:
    """Return since when a version's aggregates are kept; those from the beginning need no mention."""
    return {} if activation is None else {name: at_ms for name, at_ms in activation.aggregates_since.items() if at_ms}


async def _open(_loaded: Loaded) -> None:
    """Let every rulebook pass."""


async def _read_to_end(shelf: Shelf, topic: RulebookTopic) -> None:
    first, end = await topic.bounds()
    if shelf.next_offset >= end or first >= end:
        return
    async with aclosing(topic.read(max(first, shelf.next_offset))) as batches:
        async for records in batches:
            for record in records:
                shelf.apply(record)
            if shelf.next_offset >= end:
                return


def _edited(folder: Path, watched: str) -> Loaded | None:
    """Return what a folder holds, None when that is the version ``watched``. The folder is read once."""
    try:
        files = folder_files(folder)
    except FolderFault as fault:
        return unreadable(fault)
    if version_of(deciding_files(files)) == watched:
        return None
    return load_rulebook_files(files, shown_as=printable(folder.as_posix()))


async def _loaded(published: Published) -> Loaded:
    return await asyncio.to_thread(_read_back, published)


def _read_back(published: Published) -> Loaded:
    """Return a version under the name that the shelf gives it: earlier engines made names of files in another way."""
    return replace(load_rulebook_files(published.files()), version=published.version)
