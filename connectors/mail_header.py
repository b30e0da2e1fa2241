"""Headers of an e-mail as they go over the wire (RFC 5322, 2047), written here and read again by nobody.

The library's own headers parse what they are given: they decode what looks like an encoded word in a name and fold
the result, so that on some Pythons (3.11.7 is one) ``=?utf-8?q?=0d=0aBcc:...?=`` becomes a header. Here a value is
encoded once, and what looks like an encoded word in it is encoded too, so that people read it as it was typed. No
control character reaches a header on any Python: each function raises ``ValueError`` for one, and for a line too long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.header import Header

LINE_CHARS, LINE_CHARS_MAX = 78, 998

#: Line breaks, whatever else is no text, and halves of a character (which have no form in UTF-8).
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
#: A blank between two words: a fold before it is undone by whoever reads the header.
_BLANK = re.compile(r"(?<=[^ ]) (?=[^ ])")
_FOLD = "\r\n "


def text_header(name: str, text: str) -> str:
    """Return a header of free text, such as the subject: plain where it can be, else in encoded words."""
    if _is_plain(text) and (lines := _folded(f"{name}: ", text)):
        return lines + "\r\n"
    return f"{name}: {_encoded(name, text)}\r\n"


def literal_header(name: str, text: str) -> str:
    """Return a header that programs read: ASCII as it is, folded nowhere."""
    line = f"{name}: {text}"
    if not _PRINTABLE.fullmatch(text):
        raise ValueError(f'header "{name}" is not one line of printable ASCII')
    return _fitting(line) + "\r\n"


def machine_header(name: str, text: str) -> str:
    """Return a header for programs that may hold what a customer typed: as it is where it can only be read so."""
    return literal_header(name, text) if _is_plain(text) else text_header(name, text)


def mailbox_header(name: str, label: str, address: str) -> str:
    """Return a header of one checked ``address``, with ``label``, which may be empty, as the name of who has it."""
    if CONTROL.search(address):
        raise ValueError(f'header "{name}": the address has a control character')
    if not label:
        return f"{name}: {address}\r\n"
    if _is_plain(label) and (lines := _folded(f"{name}: ", _phrase(label), f"<{address}>")):
        return lines + "\r\n"
    encoded = f"{name}: {_encoded(name, label)}"
    last = encoded.rpartition("\r\n")[2]
    return encoded + (" " if len(last) + len(address) + 3 < LINE_CHARS else _FOLD) + f"<{address}>\r\n"


def bracketed_header(name: str, addresses: Sequence[str]) -> str:
    """Return a header of addresses in angle brackets, one a line: no reader decodes or joins what stands there."""
    if not all(_PRINTABLE.fullmatch(address) and not re.search(r"[ <>]", address) for address in addresses):
        raise ValueError(f'header "{name}": an address is not printable ASCII, or has a blank or an angle bracket')
    lines = [f"<{address}>" for address in addresses]
    return _fitting(f"{name}: " + f",{_FOLD}".join(lines)) + "\r\n"


def _is_plain(text: str) -> bool:
    """Return whether readers take the text for what it is. Some decode an encoded word wherever it stands."""
    return _PRINTABLE.fullmatch(text) is not None and "=?" not in text


def _phrase(label: str) -> str:
    if _ATOMS.fullmatch(label):
        return label
    return '"' + re.sub(r'(["\\])', r"\\\1", label) + '"'


def _folded(beginning: str, text: str, last: str = "") -> str:
    """Return ``beginning`` and the text, folded at blanks, with ``last`` as its last word whatever its length.

    It is empty when another word is too long for a line.
    """
    first, *words = _BLANK.split(text)
    lines = [beginning + first]
    for word in [*words, *filter(None, [last])]:
        if len(lines[-1]) + 1 + len(word) < LINE_CHARS:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return _FOLD.join(lines) if all(len(line) < LINE_CHARS or line == last for line in lines) else ""


def _encoded(name: str, text: str) -> str:
    if control := CONTROL.search(text):
        raise ValueError(f'header "{name}" has the control character {control[0]!a}')
    return Header(text, "utf-8", maxlinelen=LINE_CHARS - 2, header_name=name).encode(linesep="\r\n")


def _fitting(lines: str) -> str:
    if max(map(len, (line.encode() for line in lines.split("\r\n")))) > LINE_CHARS_MAX:
        raise ValueError(f'header "{lines.partition(":")[0]}" has a line of more than {LINE_CHARS_MAX} bytes')
    return lines
