"""Readers: what people see of a text in some markup, so that a value can be told from an instruction.

They read by other means than connectors write with: the standard library's parsers, and Slack's rules by the letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from xml.etree import ElementTree

from connectors.markup import Markup

#: Slack decodes these and no others.
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}


@dataclass(frozen=True, slots=True)
class Control:
    """An instruction: a tag, a mention, a link. ``values`` are those of a tag's attributes, with their names."""

    text: str
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Letters:
    """What is shown as it is."""

    text: str


Seen = Control | Letters


def read(markup: Markup, text: str) -> list[Seen]:
    """Return what a reader of ``text`` makes of it, in order."""
    match markup:
        case Markup.HTML:
            return read_html(text)
        case Markup.XML:
            return read_xml(text)
        case Markup.MRKDWN:
            return read_mrkdwn(text)


def read_mrkdwn(text: str) -> list[Seen]:
    """Return what Slack shows of a text: what stands in angle brackets is an instruction."""
    seen: list[Seen] = []
    for part in re.split(r"(<[^<>]*>)", text):
        if part.startswith("<") and part.endswith(">"):
            seen.append(Control(part[1:-1]))
        elif part:
            seen.append(Letters(re.sub(r"&(amp|lt|gt);", lambda entity: _ENTITIES[entity[0]], part)))
    return seen


def read_xml(text: str) -> list[Seen]:
    """Return the elements of an XML document with their attributes, and its texts; what is no XML is no text either."""

    def walk(element: ElementTree.Element) -> list[Seen]:
        inner = [seen for child in element for seen in (*walk(child), *_letters(child.tail))]
        return [Control(element.tag, tuple(sorted(element.attrib.items()))), *_letters(element.text), *inner]

    try:
        return walk(ElementTree.fromstring(text))
    except ElementTree.ParseError as error:
        return [Control(f"no XML: {error}")]


def read_html(text: str) -> list[Seen]:
    """Return the tags of an HTML text with their attributes, its comments, and its texts."""
    reader = _HtmlReader(convert_charrefs=True)
    reader.feed(text)
    reader.close()
    return reader.seen


class _HtmlReader(HTMLParser):
    def __init__(self, *, convert_charrefs: bool) -> None:
        super().__init__(convert_charrefs=convert_charrefs)
        self.seen: list[Seen] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(Control(tag, tuple((name, value or "") for name, value in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(Control(f"/{tag}"))

    def handle_data(self, data: str) -> None:
        self.seen.append(Letters(data))

    def handle_comment(self, data: str) -> None:
        self.seen.append(Control(f"!--{data}"))

    def handle_decl(self, decl: str) -> None:
        self.seen.append(Control(f"!{decl}"))

    def handle_pi(self, data: str) -> None:
        self.seen.append(Control(f"?{data}"))


def _letters(text: str | None) -> list[Seen]:
    return [Letters(text)] if text else []
