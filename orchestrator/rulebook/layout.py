"""Layout: a YAML file as entries with their comments, and the one way to write them down again.

Scalars are written as their author wrote them, quotes and all. A list or mapping on one line stays on one line;
every other one is written as a block, two spaces deeper. A comment stays with the entry that it precedes or
ends, in its column where there is room. Values that were aligned stay aligned.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator.rulebook.grammar import Items, OfPart, Shape, item_shape, keys_of, part_at, shape_at
from orchestrator.rulebook.models.case import CasePart
from orchestrator.rulebook.models.journey import JourneyFile, RulePart

#: Items of these stand apart from each other by an empty line.
_SPACED = (RulePart, CasePart)
#: Entries of a mapping on several lines have no column of their own that a comment could be compared with.
_NO_COLUMN = 1_000_000
_INDENT = 2


@dataclass(slots=True)
class Comment:
    """A comment; ``gap`` is the room between it and what stands before it on its line."""

    text: str
    column: int
    gap: int = 0


@dataclass(slots=True)
class Entry:
    """A key with its value, or an item of a list. ``before`` holds comments and, as None, empty lines."""

    key: str | None
    name: str
    value: Node
    start: int
    column: int
    owner: Block
    inner: Block | None = None
    before: list[Comment | None] = field(default_factory=list)
    after: Comment | None = None


@dataclass(slots=True)
class Block:
    """A mapping or list that is written over several lines."""

    node: MappingNode | SequenceNode
    column: int
    outer: Block | None
    entries: list[Entry] = field(default_factory=list)
    tail: list[Comment | None] = field(default_factory=list)


def laid_out(text: str, shape: Shape) -> str:
    """Return the text in its canonical form.

    The text is one mapping that ``source.read_source`` has accepted; its lines end in a line feed.
    """
    root = composed(text)
    if root is None:
        return text
    reader = _Reader(text)
    block = reader.block(root, None)
    reader.attach_comments()
    header, block.entries[0].before = block.entries[0].before, []
    writer = _Writer(text)
    lines = [*_written(header, ""), *writer.block(block, 0, shape)]
    return "\n".join(_spaced(lines)) + "\n"


def comments_of(text: str) -> list[str]:
    """Return the comments of such a text, sorted."""
    root = composed(text)
    if root is None:
        return []
    reader = _Reader(text)
    reader.block(root, None)
    return sorted(reader.attach_comments())


def composed(text: str) -> MappingNode | None:
    """Return the mapping of a text as YAML nodes, or None when there is nothing in it."""
    # The parser of the loader: the one in Python refuses some texts that the one in C takes.
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return root if isinstance(root, MappingNode) and root.value else None


def _spaced(lines: list[str]) -> Iterator[str]:
    """Yield the lines with no empty line at the beginning, at the end, or beside another."""
    while lines and not lines[-1]:
        lines.pop()
    empty = True
    for line in lines:
        if line or not empty:
            yield line
        empty = not line


def _written(comments: list[Comment | None], pad: str) -> list[str]:
    return ["" if one is None else pad + one.text for one in comments]


def _is_block(node: Node) -> bool:
    """Return whether a node is written as a block: it has entries and does not stand on one line."""
    if not isinstance(node, (MappingNode, SequenceNode)) or not node.value:
        return False
    return not node.flow_style or node.start_mark.line != node.end_mark.line


class _Reader:
    """Finds entries and comments, and says which comment belongs to which entry."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._entries: list[Entry] = []
        self._scalars: list[tuple[int, int]] = []

    def block(self, node: MappingNode | SequenceNode, outer: Block | None) -> Block:
        column = _NO_COLUMN if node.flow_style else node.start_mark.column
        block = Block(node, column, outer)
        for key, value in node.value if isinstance(node, MappingNode) else ((None, one) for one in node.value):
            first = value if key is None else key
            text = None if key is None else self._source(key)
            entry = Entry(text, "" if key is None else key.value, value, first.start_mark.index, column, block)
            block.entries.append(entry)
            self._entries.append(entry)
            if key is not None:
                self._note(key)
            if _is_block(value):
                entry.inner = self.block(value, block)
            else:
                self._note(value)
        return block

    def _source(self, node: Node) -> str:
        line = self._lines[node.start_mark.line]
        return line[node.start_mark.column : node.end_mark.column]

    def _note(self, node: Node) -> None:
        """Remember where scalars stand, for a # inside them is no comment."""
        if isinstance(node, ScalarNode):
            end = node.end_mark.index
            if node.style in ("|", ">"):
                last = scalar_last_line(node, self._lines)
                end = self._starts[last] + len(self._lines[last])
            self._scalars.append((node.start_mark.index, end))
        elif isinstance(node, MappingNode):
            for key, value in node.value:
                self._note(key)
                self._note(value)
        elif isinstance(node, SequenceNode):
            for one in node.value:
                self._note(one)

    # ---------------------------------------------------------------------------------------- comments

    def attach_comments(self) -> list[str]:
        """Give every comment and empty line to an entry, or to the end of a block; return the comments."""
        self._scalars.sort()
        starts = [entry.start for entry in self._entries]
        loose: list[Comment | None] = []
        found: list[str] = []
        seen = 0
        for number, line in enumerate(self._lines):
            here = self._starts[number]
            begun = bisect_right(starts, here + len(line))
            if begun > seen:
                self._place(loose, seen, seen)
                loose, seen = [], begun
            if self._covered(here) and not self._free(number):
                continue
            column = self._comment_column(number)
            if column is None:
                if not line.strip():
                    loose.append(None)
                continue
            comment = Comment(line[column:].rstrip(), column, column - len(line[:column].rstrip()))
            found.append(comment.text)
            if line[:column].strip() and line[:column].strip() not in ("}", "]", "},", "],"):
                self._entries[seen - 1].after = comment
            else:
                loose.append(comment)
        self._place(loose, seen, len(self._entries))
        return found

    def _covered(self, position: int) -> bool:
        """Return whether a position lies inside a scalar that began on an earlier line."""
        index = bisect_right(self._scalars, (position, -1)) - 1
        return index >= 0 and self._scalars[index][0] < position <= self._scalars[index][1]

    def _free(self, number: int) -> bool:
        """Return whether a scalar that began earlier ends on this line, so that a comment may follow it."""
        end = self._starts[number] + len(self._lines[number])
        return not self._covered(end)

    def _comment_column(self, number: int) -> int | None:
        line, here = self._lines[number], self._starts[number]
        column = line.find("#")
        while column >= 0:
            alone = column == 0 or line[column - 1] in " \t"
            index = bisect_right(self._scalars, (here + column, _NO_COLUMN * _NO_COLUMN)) - 1
            inside = index >= 0 and self._scalars[index][0] <= here + column < self._scalars[index][1]
            if alone and not inside:
                return column
            column = line.find("#", column + 1)
        return None

    def _place(self, loose: list[Comment | None], seen: int, following: int) -> None:
        """Put what stands between two entries: what is indented deeper than the next ends the block before."""
        rest = list(loose)
        target = self._entries[following] if following < len(self._entries) else None
        depth = -1 if target is None else target.column
        if seen:
            while any(one is not None for one in rest):
                first = next(one for one in rest if one is not None)
                if first.column <= depth:
                    break
                block = self._block_of(self._entries[seen - 1], first.column)
                taken = rest.index(first) + 1
                block.tail += rest[:taken]
                rest = rest[taken:]
        if target is not None:
            target.before += rest

    @staticmethod
    def _block_of(entry: Entry, column: int) -> Block:
        block = entry.owner
        while block.outer is not None and block.column > column:
            block = block.outer
        return block


def scalar_last_line(node: ScalarNode, lines: list[str]) -> int:
    """Return the number of the last line of a block scalar that has text."""
    last = min(int(node.end_mark.line), len(lines) - 1)
    if last > node.start_mark.line and node.end_mark.column == 0:
        last -= 1
    while last > node.start_mark.line and not lines[last].strip():
        last -= 1
    return last


class _Writer:
    """Writes blocks down."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.split("\n")

    def block(self, block: Block, indent: int, shape: Shape) -> list[str]:
        pad = " " * indent
        entries = self._ordered(block, shape)
        names = [entry.name for entry in entries]
        width = self._aligned_width(block)
        lines: list[str] = []
        for number, entry in enumerate(entries):
            comments = list(entry.before)
            if number and _stands_apart(block, entry, shape):
                comments.insert(0, None)
            lines += _written(comments if lines else [one for one in comments if one is not None], pad)
            if entry.key is None:
                lines += self._item(entry, indent, item_shape(shape))
            else:
                inner = shape_at(shape, names, entry.name)
                head = f"{pad}{entry.key}:"
                lines += self._entry(entry, head, indent, inner, width)
        return lines + _written(block.tail, pad)

    @staticmethod
    def _ordered(block: Block, shape: Shape) -> list[Entry]:
        """Return the entries of a part in the order of its keys; those of names and lists stay as they are."""
        if not isinstance(block.node, MappingNode):
            return block.entries
        part = part_at(shape, [entry.name for entry in block.entries])
        if part is None:
            return block.entries
        rank = {key: number for number, key in enumerate(keys_of(part))}
        return sorted(block.entries, key=lambda entry: rank.get(entry.name, len(rank)))

    @staticmethod
    def _aligned_width(block: Block) -> int:
        """Return how wide keys are when the author has aligned the values, else 0."""
        if not isinstance(block.node, MappingNode) or len(block.entries) < 2:
            return 0
        columns, roomy = set(), False
        for entry in block.entries:
            start, end = entry.value.start_mark, entry.value.end_mark
            if entry.inner is not None or start.line != end.line or start.index == end.index:
                return 0
            columns.add(start.column)
            roomy = roomy or start.column > entry.column + len(str(entry.key)) + 2
        return max(len(str(entry.key)) for entry in block.entries) + 2 if len(columns) == 1 and roomy else 0

    # ----------------------------------------------------------------------------------------- entries

    def _item(self, entry: Entry, indent: int, shape: Shape) -> list[str]:
        pad = " " * indent
        if entry.inner is None:
            return self._entry(entry, f"{pad}-", indent, shape, 0)
        inner = self.block(entry.inner, indent + _INDENT, shape)
        first = next(number for number, line in enumerate(inner) if line and not line.lstrip().startswith("#"))
        hoisted = [pad + line.strip() if line else "" for line in inner[:first]]
        return [*hoisted, f"{pad}- {inner[first].lstrip()}", *inner[first + 1 :]]

    def _entry(self, entry: Entry, head: str, indent: int, shape: Shape, width: int) -> list[str]:
        if entry.inner is not None:
            return [_with_comment(head, entry.after), *self.block(entry.inner, indent + _INDENT, shape)]
        if width:
            head = head.ljust(indent + width - 1)
        lines = self._value(entry.value, shape, " " * (indent + _INDENT))
        lines[0] = f"{head} {lines[0]}" if lines[0] else head.rstrip()
        lines[-1] = _with_comment(lines[-1], entry.after)
        return lines

    def _value(self, node: Node, shape: Shape, pad: str) -> list[str]:
        if not isinstance(node, ScalarNode):
            return [self._flow(node, shape)]
        if node.style in ("|", ">"):
            return self._block_scalar(node, pad)
        first, *more = self._text[node.start_mark.index : node.end_mark.index].split("\n")
        return [first.rstrip() if more else first, *(pad + line.strip() if line.strip() else "" for line in more)]

    def _block_scalar(self, node: ScalarNode, pad: str) -> list[str]:
        start = node.start_mark
        header = self._lines[start.line][start.column :].rstrip()
        content = self._lines[start.line + 1 : scalar_last_line(node, self._lines) + 1]
        deep = next((len(line) - len(line.lstrip(" ")) for line in content if line.strip()), 0)
        return [header, *(pad + line[deep:] if line.strip() else "" for line in content)]

    def _flow(self, node: Node, shape: Shape) -> str:
        """Return a list or mapping on one line."""
        if isinstance(node, SequenceNode):
            return f"[{', '.join(self._flow(one, item_shape(shape)) for one in node.value)}]"
        if not isinstance(node, MappingNode):
            return self._text[node.start_mark.index : node.end_mark.index]
        names = [key.value for key, _ in node.value]
        part = part_at(shape, names)
        rank = {} if part is None else {key: number for number, key in enumerate(keys_of(part))}
        pairs = sorted(node.value, key=lambda pair: rank.get(pair[0].value, len(rank)))
        written = [
            f"{self._flow(key, Items(shape))}: {self._flow(value, shape_at(shape, names, key.value))}"
            for key, value in pairs
        ]
        return f"{{{', '.join(written)}}}"


def _with_comment(line: str, comment: Comment | None) -> str:
    if comment is None:
        return line
    room = 2 if comment.gap <= 2 else max(2, comment.column - len(line))
    return f"{line}{' ' * room}{comment.text}"


def _stands_apart(block: Block, entry: Entry, shape: Shape) -> bool:
    if isinstance(block.node, SequenceNode):
        return isinstance(shape, Items) and isinstance(shape.of, OfPart) and shape.of.part in _SPACED
    return entry.name == "rules" and shape == OfPart(JourneyFile)
