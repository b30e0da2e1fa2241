"""The filters that texts may use, each with an example that is rendered by a test: the one list of them for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class FilterRow(NamedTuple):
    """What a filter does, and what ``example`` becomes of ``EXAMPLE_FACTS``."""

    name: str
    what: str
    example: str
    shown: str


#: What the examples read: a customer in India who reads English.
EXAMPLE_FACTS: Mapping[str, Any] = {
    "event": {
        "total": 1234.5,
        "share": 0.256,
        "day": "2026-03-14",
        "at": "2026-03-14T10:00:00Z",
        "items": ["tea", "rice", "tea"],
        "lines": [{"name": "tea", "price": 3}, {"name": "rice", "price": 5}],
        "note": " two  words ",
    },
    "profile": {"first_name": "Asha", "language": "en", "country": "IN", "timezone": "Asia/Kolkata"},
    "journey": "purchase",
    "run": {},
}

_OURS: tuple[tuple[str, str, str, str], ...] = (
    (
        "date",
        "the day by the customer's clock: `short`, `medium`, `long`, `full`",
        'event.at | date: "long"',
        "14 March 2026",
    ),
    ("date", "or a format of strftime, in English", 'event.at | date: "%d %b at %H:%M"', "14 Mar at 15:30"),
    ("date", "by the clock of a zone", 'event.at | date: "%H:%M", "Europe/London"', "10:00"),
    ("date", "by the offset that was sent", 'event.at | date: "%H:%M", "as_written"', "10:00"),
    ("date", "in another language", 'event.day | date: "long", locale: "fr"', "14 mars 2026"),
    ("time", "the time of day, with the same formats", 'event.at | time: "short", locale: "de"', "15:30"),
    ("number", "a number with separators", "event.total | number", "1,234.5"),
    ("number", "with as many decimals as you say", 'event.total | number: 2, locale: "de"', "1.234,50"),
    ("percent", "a share as a percentage", "event.share | percent", "26%"),
    ("money", "an amount in a currency", 'event.total | money: "INR"', "₹1,234.50"),
    ("money", "without its decimals", 'event.total | money: "EUR", 0, locale: "en-IE"', "€1,234"),
)
_NUMBERS: tuple[tuple[str, str, str, str], ...] = (
    ("abs", "without its sign", "-5 | abs", "5"),
    ("at_least", "the larger one", "3 | at_least: 5", "5"),
    ("at_most", "the smaller one", "9 | at_most: 5", "5"),
    ("ceil", "rounded up", "4.2 | ceil", "5"),
    ("floor", "rounded down", "4.8 | floor", "4"),
    ("round", "rounded", "3.14159 | round: 2", "3.14"),
    ("plus", "added", "4 | plus: 2", "6"),
    ("minus", "taken away", "4 | minus: 2", "2"),
    ("times", "multiplied", "4 | times: 2", "8"),
    ("divided_by", "divided; whole numbers stay whole", "7 | divided_by: 2", "3"),
    ("modulo", "the rest of a division", "7 | modulo: 2", "1"),
)
_TEXTS: tuple[tuple[str, str, str, str], ...] = (
    ("default", "in place of what is not there", 'profile.last_name | default: "there"', "there"),
    ("append", "with a text behind", '"/blog" | append: ".html"', "/blog.html"),
    ("prepend", "with a text before", '"blog" | prepend: "/"', "/blog"),
    ("capitalize", "the first letter large", '"tea" | capitalize', "Tea"),
    ("upcase", "all letters large", "profile.first_name | upcase", "ASHA"),
    ("downcase", "all letters small", "profile.first_name | downcase", "asha"),
    ("remove", "without a text", '"a-b-c" | remove: "-"', "abc"),
    ("remove_first", "without its first occurrence", '"a-b-c" | remove_first: "-"', "ab-c"),
    ("remove_last", "without its last occurrence", '"a-b-c" | remove_last: "-"', "a-bc"),
    ("replace", "one text for another", '"a-b-c" | replace: "-", "+"', "a+b+c"),
    ("replace_first", "its first occurrence", '"a-b-c" | replace_first: "-", "+"', "a+b-c"),
    ("replace_last", "its last occurrence", '"a-b-c" | replace_last: "-", "+"', "a-b+c"),
    ("slice", "a part: from where, how long", '"basket" | slice: 0, 3', "bas"),
    ("split", "cut into a list", '"a,b" | split: "," | last', "b"),
    ("squish", "every run of blanks is one", "event.note | squish", "two words"),
    ("strip", "without blanks at both ends", "event.note | strip", "two  words"),
    ("lstrip", "without blanks before", '" tea" | lstrip', "tea"),
    ("rstrip", "without blanks behind", '"tea " | rstrip', "tea"),
    ("strip_html", "without tags", '"<b>tea</b>" | strip_html', "tea"),
    ("strip_newlines", "in one line", '"tea" | strip_newlines', "tea"),
    ("newline_to_br", "lines for HTML", '"tea" | newline_to_br', "tea"),
    ("truncate", "cut to a length", '"a long basket" | truncate: 9', "a long..."),
    ("truncatewords", "cut to so many words", '"a long basket" | truncatewords: 2', "a long..."),
    ("size", "how many letters or items", "event.items | size", "3"),
    ("escape", "for HTML, where a text is not already", '"1 < 2" | escape', "1 &lt; 2"),
    ("escape_once", "the same, once only", '"1 &lt; 2" | escape_once', "1 &lt; 2"),
    ("url_encode", "for a part of an address", '"a b&c" | url_encode', "a+b%26c"),
    ("url_decode", "back again", '"a+b%26c" | url_decode', "a b&c"),
    ("base64_encode", "as base64", '"tea" | base64_encode', "dGVh"),
    ("base64_decode", "back again", '"dGVh" | base64_decode', "tea"),
    ("base64_url_safe_encode", "as base64 for addresses", '"tea?>" | base64_url_safe_encode', "dGVhPz4="),
    ("base64_url_safe_decode", "back again", '"dGVhPz4=" | base64_url_safe_decode', "tea?>"),
)
_LISTS: tuple[tuple[str, str, str, str], ...] = (
    ("join", "as one text", 'event.items | join: ", "', "tea, rice, tea"),
    ("first", "the first item", "event.items | first", "tea"),
    ("last", "the last item", "event.items | last", "tea"),
    ("uniq", "each item once", 'event.items | uniq | join: ", "', "tea, rice"),
    ("sort", "in order, large letters first", 'event.items | sort | join: ", "', "rice, tea, tea"),
    ("sort_natural", "in order, whatever the case", 'event.items | sort_natural | join: ", "', "rice, tea, tea"),
    ("reverse", "the last one first", 'event.items | reverse | join: ", "', "tea, rice, tea"),
    ("concat", "with another list behind", "event.items | concat: event.items | size", "6"),
    ("compact", "without what is null", "event.items | compact | size", "3"),
    ("map", "one key of each item", 'event.lines | map: "name" | join: ", "', "tea, rice"),
    ("sum", "added up", 'event.lines | sum: "price"', "8"),
    ("where", "the items with a value", 'event.lines | where: "name", "tea" | size', "1"),
    ("reject", "the items without it", 'event.lines | reject: "name", "tea" | size', "1"),
    ("has", "whether there is one", 'event.lines | has: "name", "tea"', "true"),
    ("find_index", "which one it is, from 0", 'event.lines | find_index: "name", "rice"', "1"),
    ("find", "the first one", 'event.lines | find: "name", "rice" | map: "price" | first', "5"),
)

#: Every filter, ours first.
FILTERS = tuple(FilterRow(*row) for row in (*_OURS, *_TEXTS, *_NUMBERS, *_LISTS))


def described() -> Iterator[str]:
    """Yield the lines of the filters' table."""
    yield "| filter | what it gives | example | shown |"
    yield "| --- | --- | --- | --- |"
    for row in FILTERS:
        cells = (f"`{row.name}`", row.what, f"`{{{{ {row.example} }}}}`", f"`{row.shown}`")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
