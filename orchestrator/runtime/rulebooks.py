"""The rulebook in force: loaded from a folder, checked, compiled, and switched between batches.

A rulebook with problems never replaces one without: the old one stays and the problems are reported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from orchestrator import metrics
from orchestrator.core.rulebook import Rulebook, build_rulebook
from orchestrator.errors import RulebookRefused
from orchestrator.rulebook.compile import compiled
from orchestrator.rulebook.load import Loaded, load_rulebook
from orchestrator.rulebook.problem import Severity

log = logging.getLogger(__name__)


def compile_loaded(loaded: Loaded, workspace: str) -> Rulebook:
    """Return the compiled form of a checked rulebook."""
    return build_rulebook(
        version=loaded.version,
        journeys=loaded.journeys,
        aggregates=loaded.aggregates,
        conditions=compiled,
        workspace=workspace,
    )


class FolderRulebooks:
    """The rulebook of a folder. ``on_switch`` is called with what was loaded, before it comes into force."""

    def __init__(self, folder: Path, workspace: str, on_switch: Callable[[Loaded], None] = lambda loaded: None) -> None:
        self._folder = folder
        self._workspace = workspace
        self.on_switch = on_switch
        self.loaded = self._checked()
        self._current = compile_loaded(self.loaded, workspace)
        self._announce()

    @property
    def current(self) -> Rulebook:
        """The rulebook in force."""
        return self._current

    def reload(self) -> bool:
        """Switch to what the folder holds now, if that is different; return whether it switched.

        Raises ``RulebookRefused`` with every problem, and leaves the old rulebook in force.
        """
        try:
            loaded = self._checked()
        except RulebookRefused:
            metrics.RULEBOOK_LOADS.labels("refused").inc()
            raise
        if loaded.version == self._current.version:
            return False
        rulebook = compile_loaded(loaded, self._workspace)
        self.on_switch(loaded)
        self.loaded, self._current = loaded, rulebook
        self._announce()
        return True

    def _announce(self) -> None:
        metrics.RULEBOOK_LOADS.labels("switched").inc()
        metrics.RULEBOOK.info({"version": self._current.version})
        log.info("rulebook %s: %d rules in %d journeys", self._current.version, *self._size())

    def _size(self) -> tuple[int, int]:
        return len(self._current.rules), len(self._current.journeys)

    def _checked(self) -> Loaded:
        loaded = load_rulebook(self._folder)
        errors = [problem for problem in loaded.problems if problem.severity is Severity.ERROR]
        if errors:
            raise RulebookRefused("\n".join(str(problem) for problem in errors))
        return loaded
