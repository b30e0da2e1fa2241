"""What customers type, put into every place of a delivery that takes free text, and what the other side makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from connectors.conformance.bench import Case
from connectors.conformance.readers import Control, Letters, Seen, read
from connectors.markup import Markup

#: Typed by somebody harmless: a place that does not take it takes no free text.
HARMLESS = "Asha"
#: Typed by somebody else.
HOSTILE = (
    "<!channel>",
    "<@U123> &amp; &#39;",
    "<https://evil.example|click>",
    "</Say><Dial>+1900</Dial>",
    "<script>alert('x')</script>",
    "<!-- ]]> <?x?>",
    '" onload="x',
    '"},{"to":"eve',
    "x&To=%2B1900;y",
    "../../admin?x=1#y%2fz",
    "{{ 7 | times: 7 }}{% raw %}",
    "${HOME}{action_id}{customer_id}",
    "=?utf-8?q?=0d=0aBcc:eve=40evil.example?=",
    "Ana\r\nBcc: eve@evil.example",
    "a\r\n.\r\nMAIL FROM:<eve@evil.example>",
    "tab\tand      blanks",
    "' OR 1=1 -- *_~`",
    "NUL \0",
    "line\u2028end",
    "half \ud83d",
)
_QUERY = re.compile(r"(https?://[^?\s]+\?)?\w+=\S*")


@dataclass(frozen=True, slots=True)
class Place:
    """A text somewhere in a delivery: the keys that lead to it in ``params``, none for the customer's id.

    ``markup`` is that of the text there; then what is typed goes in after the text, escaped, as a template does it.
    """

    path: tuple[str | int, ...]
    markup: Markup | None = None

    def __str__(self) -> str:
        return ".".join(map(str, ("params", *self.path))) if self.path else "customer_id"

    def changes(self, case: Case, typed: str) -> dict[str, Any]:
        """Return what the example's delivery has otherwise when ``typed`` stands in this place."""
        if not self.path:
            return {"customer_id": typed}
        return {"params": _with(case.example.params, self.path, self.markup, typed)}


def places(case: Case) -> Iterator[Place]:
    """Yield every place of the example's delivery that holds a text."""
    yield Place(())
    for name, value in case.example.params.items():
        yield from _places((name,), value, case.known.action_params.markup.get(name))


def _places(path: tuple[str | int, ...], value: Any, markup: Markup | None) -> Iterator[Place]:
    match value:
        case str():
            yield Place(path, markup)
        case dict():
            for key, item in value.items():
                literal = markup is None or markup.is_literal(str(key), value)
                yield from _places((*path, key), item, None if literal else markup)
        case list():
            for index, item in enumerate(value):
                yield from _places((*path, index), item, markup)


def _with(value: Any, path: tuple[str | int, ...], markup: Markup | None, typed: str) -> Any:
    if not path:
        return typed if markup is None else f"{value} {markup.escaped(typed)}"
    key, *rest = path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    changed = {name: _with(item, tuple(rest), markup, typed) if name == key else item for name, item in items}
    return changed if isinstance(value, dict) else list(changed.values())


def as_seen(case: Case, typed: str) -> list[Any]:
    """Return what the bench heard as the other side reads it, with ``typed`` taken for what somebody harmless typed."""
    opened = [case.example.opened(exchange.request) for exchange in case.bench.heard]
    return [_seen(request, "", case, " ".join(typed.split())) for request in opened]


def _seen(value: Any, name: str, case: Case, typed: str) -> Any:
    if name in case.example.varies:
        return None
    match value:
        case dict():
            return {_text(str(key), typed): _seen(item, key, case, typed) for key, item in value.items()}
        case [str(field), str(item)]:  # of a form, or of a query
            return [_text(field, typed), _seen(item, field, case, typed)]
        case list():
            return [_seen(item, name, case, typed) for item in value]
        case str() if markup := case.example.markup.get(name):
            return [_marked(one, typed) for one in _joined(read(markup, value))]
        case str() if (content := _structure(value)) is not None:
            return _seen(content, name, case, typed)
        case str():
            return _text(value, typed)
        case _:
            return value


def _structure(text: str) -> Any:
    """Return what a text is made of that is JSON, a query, or an address with one; None for any other."""
    if text[:1] in {"{", "["}:
        try:
            return json.loads(text)
        except ValueError:
            return None
    if not _QUERY.fullmatch(text):
        return None
    address, _, query = text.rpartition("?")
    pairs = parse_qsl(urlsplit(f"?{query}").query, keep_blank_values=True)
    return [address, *(list(pair) for pair in pairs)]


def _joined(seen: list[Seen]) -> list[Seen]:
    joined: list[Seen] = []
    for one in seen:
        if isinstance(one, Letters) and joined and isinstance(joined[-1], Letters):
            joined[-1] = Letters(joined[-1].text + one.text)
        else:
            joined.append(one)
    return joined


def _marked(seen: Seen, typed: str) -> Seen:
    """Only letters and the values of attributes may hold what was typed; an instruction must not change with it."""
    if isinstance(seen, Letters):
        return Letters(_text(seen.text, typed))
    return Control(seen.text, tuple((name, _text(value, typed)) for name, value in seen.values))


def _text(text: str, typed: str) -> str:
    """Blanks and line ends are each transport's own, and half a character has no form in most."""
    shown = " ".join(text.split()).replace(typed, HARMLESS)
    return shown.replace(typed.encode("utf-8", "replace").decode(), HARMLESS)


def differences(plain: Any, typed: Any, where: str = "") -> Iterator[str]:
    """Yield where two requests differ."""
    if isinstance(plain, Mapping) and isinstance(typed, Mapping) and plain.keys() == typed.keys():
        for key in plain:
            yield from differences(plain[key], typed[key], f"{where}.{key}")
    elif isinstance(plain, list) and isinstance(typed, list) and len(plain) == len(typed):
        for index, pair in enumerate(zip(plain, typed, strict=True)):
            yield from differences(*pair, f"{where}.{index}")
    elif plain != typed:
        yield f"{where.lstrip('.')}: expected {plain!r}, saw {typed!r}"
