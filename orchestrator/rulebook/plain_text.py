"""Plain texts: words and ``{{ path }}`` only, as most texts of rules are, joined without a template engine.

Liquid takes some twenty times as long. It keeps the last word: for a value that is not text or a whole number (one
that is missing, a number with a fraction, a list) the text is rendered by it.
"""

from __future__ import annotations

import re
from typing import Any

from orchestrator.core.view import dig
from orchestrator.rulebook import liquid_dialect as dialect

_PATH = re.compile(r"\{\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*\}\}")
#: Words that mean something to Liquid by themselves.
_LIQUID_WORDS = frozenset({"true", "false", "nil", "null", "empty", "blank", "size", "first", "last"})

#: However many bytes a character takes, such a text is within Liquid's bounds; it judges what is beyond.
_CHARS_MAX = dialect.OUTPUT_BYTES_MAX // 4
_INT_MAX = 2**dialect.NUMBER_BITS_MAX

_Piece = str | tuple[str, ...]


class PlainText:
    """A text in pieces: literal words, and paths as tuples of names. ``compiled`` is the same text in Liquid."""

    __slots__ = ("compiled", "pieces")

    def __init__(self, pieces: tuple[_Piece, ...], compiled: dialect.Compiled) -> None:
        self.pieces = pieces
        self.compiled = compiled

    def render(self, facts: dialect.Facts) -> Any:
        """Return the text as Liquid would, or raise as Liquid would."""
        words: list[str] = []
        chars = 0
        for piece in self.pieces:
            if isinstance(piece, str):
                words.append(piece)
                continue
            value = dig(facts, piece)
            if value.__class__ is int and -_INT_MAX < value < _INT_MAX:
                value = str(value)
            if value.__class__ is not str:
                return self.compiled.rendered(facts)
            chars += len(value)
            if chars > _CHARS_MAX:
                return self.compiled.rendered(facts)
            words.append(value)
        text = "".join(words)
        return text if len(text) <= _CHARS_MAX else self.compiled.rendered(facts)


def pieces_of(text: str) -> tuple[_Piece, ...] | None:
    """Return the pieces of a plain text; None for a text that only Liquid understands."""
    pieces: list[_Piece] = []
    end = 0
    for path in _PATH.finditer(text):
        pieces += [text[end : path.start()], tuple(path[1].split("."))]
        end = path.end()
    pieces.append(text[end:])
    literal = "".join(piece for piece in pieces if isinstance(piece, str))
    names = {name for piece in pieces if not isinstance(piece, str) for name in piece}
    if "{{" in literal or "{%" in literal or names & _LIQUID_WORDS:
        return None
    return tuple(piece for piece in pieces if piece)
