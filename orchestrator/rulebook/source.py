"""Source: YAML text as plain data in which every key, value and item knows its file and line.

The traps of YAML 1.1 are disarmed. Keys are always text, so ``on:`` is "on". ``yes``, ``no``, ``on``, ``off`` and
``NO`` are text, ``21:00`` and dates are text, numbers with a leading zero are text. Duplicate keys, tags,
anchors and merge keys are refused. Files have a ceiling of size, depth and number of values, and nothing
is ever shared or expanded, so a small file stays small in memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol, cast

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

BYTES_MAX = 2_000_000
DEPTH_MAX = 32
VALUES_MAX = 400_000

_TOO_DEEP = f"nested more than {DEPTH_MAX} levels deep; name a part as a segment of its own"

#: What stands together wherever lines are folded; braces and names are told apart by their whole run.
_WORD = re.compile(r"""[^\s"'\\]{1,40}""")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?)")
_CONSTANTS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class LongText:
    """A text that is written over several lines: the number of the first of them, and the lines as they stand."""

    line: int
    lines: tuple[str, ...]

    def line_of(self, text: str, offset: int) -> int:
        """Return the line of a character. YAML folds lines and drops indents, but changes no word of a text."""
        word = _WORD.match(text, offset)
        if word is None:
            return self.line
        earlier = text.count(word[0], 0, offset)
        for number, line in enumerate(self.lines):
            found = line.count(word[0])
            if earlier < found:
                return self.line + number
            earlier -= found
        return self.line


class Map(dict[str, Any]):
    """A mapping of the source. ``name`` is its key or position in ``parent``; lines count from 1."""

    __slots__ = ("file", "key_lines", "line", "name", "parent", "texts", "value_lines")

    def __init__(self, file: str, line: int, parent: Map | Seq | None, name: str | int) -> None:
        super().__init__()
        self.file = file
        self.line = line
        self.parent = parent
        self.name = name
        self.key_lines: dict[str, int] = {}
        self.value_lines: dict[str, int] = {}
        self.texts: dict[str, LongText] | None = None

    def line_of(self, key: str | int | None, offset: int | None = None) -> int:
        """Return the line to point at for a key: that of a plain value, or else of the key itself.

        ``offset`` is that of a character in a text, which may stand on several lines.
        """
        if key is None or key not in self.key_lines:
            return self.line
        text = str(key)
        if offset is not None and self.texts is not None and text in self.texts:
            return self.texts[text].line_of(self[text], offset)
        return self.key_lines[text] if isinstance(self[text], (dict, list)) else self.value_lines[text]


class Seq(list[Any]):
    """A list of the source; ``item_lines`` has the line of each item."""

    __slots__ = ("file", "item_lines", "line", "name", "parent", "texts")

    def __init__(self, file: str, line: int, parent: Map | Seq | None, name: str | int) -> None:
        super().__init__()
        self.file = file
        self.line = line
        self.parent = parent
        self.name = name
        self.item_lines: list[int] = []
        self.texts: dict[int, LongText] | None = None

    def line_of(self, key: str | int | None, offset: int | None = None) -> int:
        """Return the line of an item, or of the list itself; ``offset`` as in ``Map``."""
        if offset is not None and self.texts is not None and isinstance(key, int) and key in self.texts:
            return self.texts[key].line_of(self[key], offset)
        if isinstance(key, int) and 0 <= key < len(self.item_lines):
            return self.item_lines[key]
        return self.line


class SourceFault(Exception):
    """A file cannot be read as YAML of this language; ``line`` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Events(Protocol):
    def get_event(self) -> Any: ...
    def dispose(self) -> None: ...


def _parser(text: str) -> _Events:
    # The C parser is five times as fast; both produce the same events.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return cast(_Events, loader(text))


def read_source(file: str, content: bytes) -> Map | Seq | None:
    """Return the one document of a file, None when it is empty. Raise ``SourceFault`` when it cannot be read."""
    if len(content) > BYTES_MAX:
        raise SourceFault(1, f"the file is larger than {BYTES_MAX:,} bytes; split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content[: fault.start].count(b"\n") + 1
        raise SourceFault(line, "the file is not UTF-8 text; save it as UTF-8") from None
    try:
        parser = _parser(text)
        try:
            return _Builder(file, text).document(parser)
        finally:
            parser.dispose()
    except yaml.MarkedYAMLError as fault:
        raise _syntax_fault(fault, text) from None
    except yaml.reader.ReaderError as fault:
        line = text.count("\n", 0, fault.position) + 1
        character = fault.character if isinstance(fault.character, int) else ord(fault.character)
        raise SourceFault(line, f"the character #x{character:02x} is not allowed in YAML") from None


def _syntax_fault(fault: yaml.MarkedYAMLError, text: str) -> SourceFault:
    mark = fault.problem_mark or fault.context_mark
    line = mark.line + 1 if mark else 1
    if fault.problem and "maximum nesting depth" in fault.problem:
        # Newer parsers in C have a ceiling of their own, far above ours, and meet it before we see a level.
        return SourceFault(line, _TOO_DEEP)
    parts = [part for part in (fault.problem, fault.context) if part]
    message = f"not valid YAML: {', '.join(parts)}"
    # The parser in C does not name the character that it stumbles over.
    if fault.problem and "cannot start any token" in fault.problem and _begins_with_tab(text, line):
        message += "; indent with spaces, not tabs"
    elif fault.problem and "mapping values are not allowed" in fault.problem:
        message += '; put text that contains ": " in quotes'
    return SourceFault(line, message)


def _begins_with_tab(text: str, line: int) -> bool:
    lines = text.split("\n", line)
    return lines[line - 1].lstrip(" ").startswith("\t") if line <= len(lines) else False


class _Builder:
    """Builds data from parse events with a stack of its own: depth costs no recursion."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._lines: list[str] | None = None
        self._root: Any = None
        self._documents = 0
        self._values = 0
        self._here: Map | Seq | None = None
        self._key: str | None = None
        self._depth = 0

    def document(self, parser: _Events) -> Map | Seq | None:
        get_event = parser.get_event
        while True:
            event = get_event()
            kind = event.__class__
            if kind is ScalarEvent:
                self._scalar(event)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                self._open(event, Map if kind is MappingStartEvent else Seq)
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._close()
            elif kind is AliasEvent:
                raise SourceFault(_line(event), _NO_ANCHORS)
            elif kind is DocumentStartEvent:
                self._documents += 1
                if self._documents > 1:
                    raise SourceFault(_line(event), "a second document begins here; use one file for each")
            elif kind is StreamEndEvent:
                break
        if self._root is None or isinstance(self._root, (Map, Seq)):
            return self._root
        raise SourceFault(1, "the file holds a single value; a mapping such as `journey: …` is expected")

    def _scalar(self, event: Any) -> None:
        here = self._here
        if event.anchor is not None:
            raise SourceFault(_line(event), _NO_ANCHORS)
        if event.tag is not None:
            raise SourceFault(_line(event), f"tags such as {event.tag} are not supported; write the plain value")
        if here.__class__ is Map and self._key is None:
            self._take_key(event)
            return
        value = event.value
        if event.implicit[0]:  # plain: neither quoted nor a block
            value = plain_value(value)
        if event.end_mark.line > event.start_mark.line and here is not None:
            self._keep_lines(event, here)
        self._put(value, event.start_mark.line + 1)

    def _keep_lines(self, event: Any, here: Map | Seq) -> None:
        """Remember the lines of a text that is written over several, to find a place in it again."""
        if self._lines is None:
            self._lines = self._text.splitlines()
        # A block begins below the mark that opens it.
        first = event.start_mark.line + (event.style in ("|", ">"))
        text = LongText(first + 1, tuple(self._lines[first : event.end_mark.line + 1]))
        if isinstance(here, Map):
            here.texts = {} if here.texts is None else here.texts
            here.texts[self._key or ""] = text
        else:
            here.texts = {} if here.texts is None else here.texts
            here.texts[len(here)] = text

    def _take_key(self, event: Any) -> None:
        here = cast(Map, self._here)
        key, line = event.value, event.start_mark.line + 1
        if key in here.key_lines:
            raise SourceFault(line, f'duplicate key "{key}"; it is already on line {here.key_lines[key]}')
        if key == "<<" and event.implicit[0]:
            raise SourceFault(line, _NO_ANCHORS)
        here.key_lines[key] = line
        self._key = key

    def _put(self, value: Any, line: int) -> None:
        self._values += 1
        if self._values > VALUES_MAX:
            raise SourceFault(line, f"the file holds more than {VALUES_MAX:,} values; split it")
        here = self._here
        if here is None:
            self._root = value
        elif isinstance(here, Map):
            key = self._key or ""
            here[key] = value
            here.value_lines[key] = line
            self._key = None
        else:
            here.append(value)
            here.item_lines.append(line)

    def _open(self, event: Any, kind: type[Map] | type[Seq]) -> None:
        here, line = self._here, event.start_mark.line + 1
        if event.anchor is not None:
            raise SourceFault(line, _NO_ANCHORS)
        if event.tag is not None:
            raise SourceFault(line, f"tags such as {event.tag} are not supported; write the plain value")
        if here.__class__ is Map and self._key is None:
            raise SourceFault(line, "a key must be plain text, not a list or a mapping")
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise SourceFault(line, _TOO_DEEP)
        name: str | int = 0 if here is None else self._key if self._key is not None else len(here)
        opened = kind(self._file, line, here, name)
        self._put(opened, line)
        self._here = opened

    def _close(self) -> None:
        self._depth -= 1
        self._here = cast("Map | Seq", self._here).parent


_NO_ANCHORS = "anchors and merge keys (&name, *name, <<) are not supported; use a segment, a template or a limit set"


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def plain_value(text: str) -> Any:
    """Return what an unquoted scalar means: null, true, false, a number, and text in every other case."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] in "0123456789+-" and (number := _NUMBER.fullmatch(text)):
        return float(text) if number.group(1) or number.group(2) else int(text)
    return text
