"""The locale of who reads a message: the words, separators and orders of their language and country (CLDR).

It is what the text says, ``locale: "de"``; else the profile's ``locale``, else its ``language``, each joined by the
trait ``country`` when it names none; else the main language of that country; else ``en``. A tag may be written
``de-AT`` or ``de_AT``; where CLDR does not know the language in that country, the language alone counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from babel import Locale, UnknownLocaleError

FALLBACK = Locale.parse("en")

_TAG = re.compile(r"([A-Za-z]{2,3})((?:_[A-Za-z]{4})?)((?:_(?:[A-Za-z]{2}|[0-9]{3}))?)")
_COUNTRY = re.compile(r"[A-Za-z]{2}")


def locale_of(given: Any, facts: Mapping[str, object]) -> Locale:
    """Return the locale of a rendering; raise ``ValueError`` for one that is given and unknown."""
    if given is not None:
        if fault := locale_fault(str(given)):
            raise ValueError(fault)
        return locale_named(str(given)) or FALLBACK
    held = facts.get("profile")
    profile = held if isinstance(held, Mapping) else {}
    country = _text(profile, "country")
    for trait in ("locale", "language"):
        if (found := locale_named(_text(profile, trait), country)) is not None:
            return found
    return locale_named("und", country) or FALLBACK


def locale_fault(name: str) -> str:
    """Return why a name is no locale, or nothing."""
    if locale_named(name) is None:
        return f'no locale is called "{name}". Write a language such as de, or a language and country such as de-AT.'
    return ""


@lru_cache(maxsize=1024)
def locale_named(name: str, country: str = "") -> Locale | None:
    """Return the locale of a tag, in ``country`` unless the tag names one; None when CLDR knows no such language."""
    tag = _TAG.fullmatch(name.strip().partition(".")[0].replace("-", "_"))
    if tag is None:
        return None
    language, script, territory = tag.groups()
    if not territory and _COUNTRY.fullmatch(country):
        territory = f"_{country}"
    for one in dict.fromkeys((language + script + territory, language + territory, language + script, language)):
        if (found := _known(one)) is not None:
            return found
    return None


def _known(tag: str) -> Locale | None:
    if tag == "und":
        return None
    try:
        return Locale.parse(tag)
    except (ValueError, UnknownLocaleError):
        return None


def _text(profile: Mapping[str, object], trait: str) -> str:
    value = profile.get(trait)
    return value if isinstance(value, str) else ""
