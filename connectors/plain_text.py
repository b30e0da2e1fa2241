"""The plain-text alternative of an HTML message, for mail that brings none of its own.

A message in HTML alone is taken for spam more often, and is silent in programs that show text.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_HIDDEN = frozenset({"head", "style", "script", "title", "template"})
_BLOCKS = frozenset(
    {"p", "div", "table", "tr", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "section", "article"}
    | {"header", "footer", "hr", "pre"}
)


def plain_text(html: str) -> str:
    """Return what a reader of ``html`` would read: blocks as paragraphs, items as dashes, links with their address."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    text = "".join(reader.written)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.written: list[str] = []
        self._hidden = 0
        self._links: list[tuple[str, int]] = []  # address, and how much had been written before it

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "br":
            self.written.append("\n")
        elif tag == "li":
            self.written.append("\n- ")
        elif tag in _BLOCKS:
            self.written.append("\n\n")
        elif tag in {"td", "th"}:
            self.written.append(" ")
        elif tag == "img":
            self.written.append(given.get("alt") or "")
        elif tag == "a":
            self._links.append((given.get("href") or "", len(self.written)))

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self.written.append("\n\n")
        elif tag == "a" and self._links:
            address, start = self._links.pop()
            said = "".join(self.written[start:]).strip()
            if address.startswith(("http:", "https:", "mailto:")) and said != address:
                self.written.append(f" ({address})" if said else address)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            # Line breaks of the source mean nothing in HTML.
            self.written.append(re.sub(r"\s+", " ", data))
