"""Loading: a folder of rule files into a checked rulebook, or everything that is wrong with it, at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from orchestrator.core.definition import Aggregate, Journey
from orchestrator.rulebook.build import built_journeys
from orchestrator.rulebook.cases import CaseFile, read_cases
from orchestrator.rulebook.connector_entry import ConnectorEntry
from orchestrator.rulebook.folder import FolderFault, folder_files, printable
from orchestrator.rulebook.gather import gathered, role_of
from orchestrator.rulebook.lint import lint
from orchestrator.rulebook.lint_cases import lint_cases
from orchestrator.rulebook.lint_unused import lint_unused
from orchestrator.rulebook.problem import Problem, Report, bounded_comparing
from orchestrator.rulebook.reading import parsed
from orchestrator.rulebook.send_templates import SendTemplates
from orchestrator.rulebook.tracking_plan import TrackingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A rulebook as loaded. When it is not ``ok`` there are no journeys: it cannot be published.

    ``ok`` says that no error was found, whatever of it ``problems`` has room for; warnings do not stand in the way.
    ``version`` is the hash of the files (32 hexadecimal digits); test cases do not count, for they decide nothing.
    ``files`` are those that do, by path, so that a rulebook can be published and loaded back elsewhere.
    """

    ok: bool
    problems: tuple[Problem, ...]
    version: str
    files: Mapping[str, bytes]
    journeys: tuple[Journey, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    plan: TrackingPlan
    connectors: tuple[ConnectorEntry, ...] = ()
    cases: tuple[CaseFile, ...] = ()


def load_rulebook(folder: Path) -> Loaded:
    """Load the rulebook of a folder. Raises nothing: a folder that cannot be read as a whole has one problem."""
    try:
        files = folder_files(folder)
    except FolderFault as fault:
        return unreadable(fault)
    return load_rulebook_files(files, shown_as=printable(folder.as_posix()))


def unreadable(fault: FolderFault) -> Loaded:
    """Return what loading makes of a folder that cannot be read: no rulebook."""
    problem = Problem(fault.place, 1, (), fault.message)
    return Loaded(ok=False, problems=(problem,), version=version_of({}), files={}, plan=TrackingPlan())


def deciding_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return those files that a version is made of: all that are rules, but no cases."""
    return {path: content for path, content in files.items() if role_of(path) not in ("", "cases")}


def version_of(files: Mapping[str, bytes]) -> str:
    """Return the name of a rulebook version: the hash of its files and their paths, which nobody can find twice."""
    digest = blake2b(digest_size=16)
    for path in sorted(files):
        digest.update(f"{path}\x00{len(files[path])}\x00".encode())
        digest.update(files[path])
    return digest.hexdigest()


def load_rulebook_files(files: Mapping[str, bytes], *, shown_as: str = "") -> Loaded:
    """Load a rulebook from the contents of its files. ``shown_as`` is the folder that problems speak of."""
    with _no_collection(), bounded_comparing():
        return _load(files, shown_as)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hold the garbage collector back: loading makes many objects that live, and scanning them finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(files: Mapping[str, bytes], shown_as: str) -> Loaded:
    report = Report()
    deciding = deciding_files(files)
    names = gathered(deciding, shown_as, report)
    templates = SendTemplates(names)
    journeys = built_journeys(names, templates)
    lint(names, templates)
    cases = []
    for path in sorted(files.keys() - deciding.keys()):
        shown = f"{shown_as}/{path}" if shown_as else path
        if role_of(path) and (source := parsed(shown, files[path], report)) is not None:
            cases.append(read_cases(source, report))
    for case in cases:
        if case is not None:
            lint_cases(case, names)
    lint_unused(names)
    return Loaded(
        ok=not report.failed,
        problems=report.sorted(),
        version=version_of(deciding),
        files=deciding,
        journeys=() if report.failed else journeys,
        aggregates=() if report.failed else tuple(names.aggregates[name] for name in sorted(names.aggregates)),
        plan=names.plan,
        connectors=tuple(names.connectors.values()),
        cases=tuple(case for case in cases if case is not None),
    )
