"""Placeholders: how other systems write what is filled in, told apart from ours, and what to write here.

Marketing ops bring their texts along: ``*|FNAME|*``, ``{{ customer.first_name }}``, ``{{${first_name}}}``, ``%EMAIL%``.
Some of them are no Liquid at all and would be sent as they stand, some stop a template from being read, some read
what is called otherwise here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from orchestrator.rulebook.meant import meant_root
from orchestrator.rulebook.problem import letters

#: What Liquid leaves as it is because its author says so, or leaves out.
_UNREAD = re.compile(r"\{%-?\s*(raw|comment|doc)\s*-?%\}.*?\{%-?\s*end\1\s*-?%\}", re.DOTALL)
#: What Liquid reads: what stands outside is sent as it stands.
_LIQUID = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_NAME = r"[A-Za-z_][\w.]{0,63}"
_SPACED = r"[A-Za-z_][\w. -]{0,62}\w"
#: Placeholders outside of Liquid. Each has its name in the one group that matches.
_SENT_AS_THEY_STAND = (
    re.compile(rf"\*\|(?:[A-Z]+:)?({_NAME})\|\*"),
    re.compile(rf"%%=?(?:v\(@)?({_SPACED}|\w)\)?=?%%"),
    re.compile(r"(?<![\w%])%([A-Za-z_]\w{2,63})%(?![\w%])"),
    re.compile(rf"\[\[\s*({_NAME})\s*\]\]"),
    re.compile(rf"\$\{{\s*({_SPACED})\s*\}}"),
    re.compile(rf"\{{\s*\$\s*({_NAME})\s*\}}"),
    re.compile(rf"[#@]\{{\s*({_NAME})\s*\}}"),
    re.compile(rf"\{{[!@]\s*({_NAME})\s*\}}"),
    re.compile(rf"\$\[\s*({_NAME})\s*\]\$"),
    re.compile(rf"<%=?\s*({_NAME})\s*%>"),
    re.compile(rf"\[({_NAME})\s*,\s*fallback=[^\]]*\]"),
)
#: These may be a part of any text: they are placeholders only with a name that we know.
_WITH_A_KNOWN_NAME = (
    re.compile(rf"(?<![{{$#@!\w])\{{\s*({_NAME})\s*\}}(?!\}})"),
    re.compile(rf"<<\s*({_NAME})\s*>>"),
)
_SUSPECT = re.compile(r"[%*\[$#@<{]")
_NUMBERED = re.compile(r"\{\{-?\s*(\d+)\s*-?\}\}")

#: Short names of other systems, by letters, with those that they may have here.
_SYNONYMS = {
    "fname": ("firstname",),
    "givenname": ("firstname",),
    "forename": ("firstname",),
    "name": ("firstname", "fullname"),
    "displayname": ("firstname", "fullname"),
    "lname": ("lastname",),
    "surname": ("lastname",),
    "familyname": ("lastname",),
    "mail": ("email",),
    "emailaddress": ("email",),
    "mobile": ("phone", "phonenumber"),
    "mobilephone": ("phone", "phonenumber"),
    "phonenumber": ("phone", "mobile"),
    "tel": ("phone",),
    "telephone": ("phone",),
    "sms": ("phone",),
    "tz": ("timezone",),
    "countrycode": ("country",),
    "value": ("total", "amount"),
    "price": ("total", "amount"),
    "amount": ("total",),
    "revenue": ("total", "amount"),
    "itemname": ("productname", "name"),
    "productname": ("itemname", "name"),
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What texts may read: traits of the customer, and properties of any event."""

    traits: Collection[str]
    properties: Collection[str]

    def path_of(self, name: str) -> str:
        """Return the field that another system's name stands for, or nothing where none here is called like it."""
        parts = [part for part in re.split(r"[^A-Za-z0-9_$-]+", name) if part]
        if not parts:
            return ""
        root = meant_root(parts[0]) if len(parts) > 1 else ""
        root = parts[0] if parts[0] in ("event", "profile") and len(parts) > 1 else root
        traits, properties = ("profile", self.traits), ("event", self.properties)
        order = (properties, traits) if root == "event" else (traits, properties)
        for words in (parts[-1], "".join(parts), "".join(parts[1:])):
            for wanted in (letters(words), *_SYNONYMS.get(letters(words), ())):
                for place, known in order:
                    if wanted and (found := next((one for one in sorted(known) if letters(one) == wanted), "")):
                        return f"{place}.{found}"
        return ""

    def placeholder_of(self, name: str) -> str:
        """Return what to write for another system's placeholder of this name."""
        path = self.path_of(name)
        if path:
            return f"{{{{ {path} }}}}"
        parts = [part for part in re.split(r"[^A-Za-z0-9_$-]+", name) if part]
        root = meant_root(parts[0]) if len(parts) > 1 else ""
        if root:
            return f"{{{{ {root}.{parts[-1]} }}}}"
        return "{{ profile.TRAIT }} for what is known of the customer, or {{ event.PROPERTY }}"


def sent_as_they_stand(text: str, vocabulary: Vocabulary) -> Iterator[tuple[int, str]]:
    """Yield the place of each placeholder that is no Liquid, with what is wrong with it. The text is valid Liquid."""
    read = _UNREAD.sub(_blanked, text)
    for numbered in _NUMBERED.finditer(read):
        yield numbered.start(), f"{numbered[0]} writes the number {numbered[1]}: name a value, {{{{ profile.TRAIT }}}}"
    outside = _LIQUID.sub(_blanked, read)
    if not _SUSPECT.search(outside):
        return
    taken: set[int] = set()
    for form in _SENT_AS_THEY_STAND:
        for found in form.finditer(outside):
            if taken.isdisjoint(range(found.start(), found.end())):
                taken.update(range(found.start(), found.end()))
                yield found.start(), _sent(found[0], vocabulary.placeholder_of(found[1]))
    for form in _WITH_A_KNOWN_NAME:
        for found in form.finditer(outside):
            if found.start() not in taken and vocabulary.path_of(found[1]):
                yield found.start(), _sent(found[0], vocabulary.placeholder_of(found[1]))


def _blanked(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _sent(written: str, here: str) -> str:
    return f'"{written}" is another system\'s placeholder and is sent as it stands. Write {here}'


# ------------------------------------------------------------------------------------- what Liquid does not read

_BRAZE = re.compile(r"\$\{\s*([\w. -]+?)\s*\}")
_PATHLIKE = re.compile(r"[$@.]?\s*([A-Za-z_][\w .$-]*\w)")
_TAGS = {
    "elseif": "elsif",
    "elif": "elsif",
    "foreach": "for",
    "each": "for",
    "set": "assign",
    "let": "assign",
    "var": "assign",
    "switch": "case",
    "end": "endif or endfor",
    "endforeach": "endfor",
    "endeach": "endfor",
    "fi": "endif",
}
_HANDLEBARS = {"if": "{% if … %}", "unless": "{% unless … %}", "each": "{% for item in event.LIST %}"}


def _inside(written: str) -> str:
    braces = 3 if written.startswith("{{{") else 2
    return written[braces:-braces].strip("- \t\n")


def expression_at(text: str, offset: int) -> str:
    """Return the tag or output that begins at a place of a text, with its braces; nothing where none begins."""
    found = re.compile(r"\{\{\{?.*?\}\}\}?|\{%.*?%\}", re.DOTALL).match(text, offset)
    return "" if found is None else found[0]


def explained(written: str, vocabulary: Vocabulary) -> str:
    """Return what to write for a tag or an output, with its braces, that Liquid cannot read; or nothing."""
    inner = _inside(written)
    if written.startswith("{%"):
        return _explained_tag(inner, vocabulary)
    if handlebars := re.match(r"[#/]\s*(\w+)", inner):
        tag = _HANDLEBARS.get(handlebars[1], "{% if … %}")
        return f"write {tag if inner[0] == '#' else _closing(tag)}"
    if inner.split(" ")[0] in ("else", "endif", "endfor", "if", "for"):
        return f"write {{% {inner} %}}"
    return _explained_output(inner, vocabulary)


def _closing(tag: str) -> str:
    return f"{{% end{tag.split(' ')[1]} %}}"


def _explained_output(inner: str, vocabulary: Vocabulary) -> str:
    path, pipe, filters = inner.partition("|")
    if braze := _BRAZE.search(path):
        prefix = path[: braze.start()].strip(" .")
        name = f"{prefix}.{braze[1]}" if prefix else braze[1]
        return f"write {_with_filters(vocabulary.placeholder_of(name), pipe, filters)}"
    if otherwise := re.fullmatch(r"([\w.]+)\s*(?:\|\||\?\?|\bor\b|\?:)\s*(['\"].*['\"])", inner):
        path = vocabulary.path_of(otherwise[1]) or otherwise[1]
        return f"write {{{{ {path} | default: {otherwise[2]} }}}}"
    if called := re.search(r"\|\s*(\w+)\s*(?:\(\s*(.*?)\s*\)|\s(['\"].*['\"]))\s*$", inner):
        path = vocabulary.path_of(path) or path.strip()
        return f"write {{{{ {path} | {called[1]}: {called[2] or called[3]} }}}}"
    name = _PATHLIKE.fullmatch(path.strip())
    return f"write {_with_filters(vocabulary.placeholder_of(name[1]), pipe, filters)}" if name else ""


def _with_filters(placeholder: str, pipe: str, filters: str) -> str:
    if not filters.strip() or placeholder.count("{{") != 1:
        return placeholder
    return f"{placeholder[:-3]} | {filters.strip(' }')} }}}}"


def _explained_tag(inner: str, vocabulary: Vocabulary) -> str:
    tag = inner.split(maxsplit=1)[0] if inner else ""
    if tag.startswith("="):
        return f"write {vocabulary.placeholder_of(inner.lstrip('= '))}"
    if tag in _TAGS:
        return f"write {{% {_TAGS[tag]}{inner[len(tag) :] if ' or ' not in _TAGS[tag] else ''} %}}"
    for theirs, ours in (("&&", "and"), ("||", "or"), ("===", "=="), ("!==", "!=")):
        if theirs in inner:
            return f"write {ours} for {theirs}"
    if re.search(r"[^=!<>]=[^=]", inner) and tag in ("if", "elsif", "unless"):
        return "write == to compare"
    if re.search(r"\bnot\s", inner):
        return "write {% unless … %}, or compare with != or == false"
    if tag == "for" and " in " not in inner:
        return "write {% for item in event.LIST %}"
    return ""
