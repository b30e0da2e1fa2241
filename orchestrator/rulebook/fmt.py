"""Formatting: rule files in their one canonical form, so that a diff shows what changed and nothing else.

Keys stand in the order of the language reference, blocks are indented by two spaces, rules and cases stand an
empty line apart. Comments stay, quotes stay, and so does the choice between one line and several. Formatting
twice changes nothing more, and what a file means never changes: that is checked before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.rulebook.folder import FolderFault, file_content, folder_files
from orchestrator.rulebook.grammar import OfPart, Shape, file_part, part_at, shape_at
from orchestrator.rulebook.layout import comments_of, laid_out
from orchestrator.rulebook.models.part import Part
from orchestrator.rulebook.source import Map, SourceFault, read_source

#: What ends a line for YAML besides "\n". Within a scalar the last two are text: a file that has them there is not
#: formatted, since it would say something else.
_OTHER_BREAK = re.compile("\r\n?|[\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Formatted:
    """What formatting made of one file; ``fault`` says why it was left as it is."""

    path: Path
    before: bytes
    after: bytes
    fault: str = ""

    @property
    def changed(self) -> bool:
        """Whether the file is not in canonical form."""
        return self.before != self.after


def format_files(path: Path) -> Iterator[Formatted]:
    """Yield every rule file of a folder (or the one file) with its canonical form. Writes nothing."""
    folder = path if path.is_dir() else path.parent
    try:
        files = folder_files(folder) if path.is_dir() else {path.name: file_content(path)}
    except FolderFault as fault:
        yield Formatted(path, b"", b"", f"{fault.place}  {fault.message}")
        return
    for name, content in files.items():
        part = file_part(name)
        if part is None:
            yield Formatted(path, content, content, "not a rule file: its name ends in .yaml or .yml")
            continue
        try:
            yield Formatted(folder / name, content, formatted(content, part, name=name))
        except SourceFault as fault:
            yield Formatted(folder / name, content, content, f"{(folder / name).as_posix()}:{fault.line}  {fault}")


def formatted(content: bytes, part: type[Part], *, name: str = "") -> bytes:
    """Return the canonical form of a file that holds ``part``. Raises ``SourceFault`` for one that cannot be read."""
    before = read_source(name, content)
    if not isinstance(before, Map):
        return content
    text = _OTHER_BREAK.sub("\n", content.decode("utf-8-sig"))
    after = laid_out(text, OfPart(part))
    if not _says_the_same(before, text, after, OfPart(part)):
        raise SourceFault(1, "cannot be formatted without changing what it says; it is left as it is")
    return after.encode()


def _says_the_same(before: Map, text: str, after: str, shape: Shape) -> bool:
    try:
        return _same(before, read_source("", after.encode()), shape) and comments_of(text) == comments_of(after)
    except SourceFault:
        return False


def _same(one: Any, other: Any, shape: Shape) -> bool:
    """Return whether two values mean the same; the order of an author's own names counts, that of keys does not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys() or (part_at(shape, one) is None and list(one) != list(other)):
            return False
        return all(_same(one[key], other[key], shape_at(shape, one, key)) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        inner = getattr(shape, "of", shape)
        return len(one) == len(other) and all(_same(a, b, inner) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)
