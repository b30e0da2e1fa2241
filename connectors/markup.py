"""Markup: the languages that params are written in, and how a value is written so that it stays text in each.

A type says which of its params are markup (``ActionParams.markup``). Whoever fills a template in escapes each value
that goes into one; what the author of the template wrote stays markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from html import escape
from typing import Any

#: What Slack itself asks to be escaped, wherever text is shown: https://docs.slack.dev/messaging/formatting-message-text
_SLACK = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
#: Keys of Slack's blocks under which no text is shown: addresses, names of things, and flags.
_SLACK_LITERAL = frozenset(
    {"type", "url", "image_url", "thumb_url", "title_url", "video_url", "author_icon", "provider_icon_url"}
    | {"value", "action_id", "block_id", "callback_id", "external_id", "team_id", "user_id", "usergroup_id"}
    | {"channel_id", "id", "style", "name", "emoji", "verbatim", "optional", "expand", "indent", "border", "offset"}
)
#: Elements of rich text and cells of tables, which Slack shows to the letter.
_SLACK_LETTERS = frozenset({"text", "raw_text"})
_VALUE_IN_COMMAND = re.compile(r"<\s*!?\s*\{[{%]")
_QUOTES = re.compile(r"&#3[49];")


class Markup(Enum):
    """A language in which some characters are instructions."""

    HTML = "html"
    XML = "xml"  # TwiML and SSML
    MRKDWN = "mrkdwn"  # Slack's; in a list of blocks, of every text that is shown

    def escaped(self, text: str) -> str:
        """Return ``text`` so that a reader of this markup sees it as it is."""
        return text.translate(_SLACK) if self is Markup.MRKDWN else escape(text)

    def from_html(self, text: str) -> str:
        """Return a text whose values have been escaped for HTML as one whose values are escaped for this markup."""
        if self is not Markup.MRKDWN:
            return text
        return _QUOTES.sub(lambda quote: "'" if quote[0] == "&#39;" else '"', text)

    def is_literal(self, key: str, holder: Mapping[str, Any]) -> bool:
        """Return whether what an object has under ``key`` is no markup, although the object is part of such a param."""
        if self is not Markup.MRKDWN:
            return False
        return key in _SLACK_LITERAL or (key == "text" and holder.get("type") in _SLACK_LETTERS)

    def value_fault(self, key: str, holder: Mapping[str, Any]) -> str:
        """Return why no value may be written there; empty where it may be."""
        if self is Markup.MRKDWN and key == "text" and holder.get("type") == "markdown":
            return 'a block of type "markdown" takes no values, which cannot be escaped there: write a "section"'
        return ""

    def text_fault(self, text: str) -> str:
        """Return why an author's text with ``{{ value }}`` in it cannot be written so; empty where it can."""
        if self is Markup.MRKDWN and _VALUE_IN_COMMAND.search(text):
            return (
                "a value right after < or <! could be !channel: begin the link yourself, as in "
                "<https://crm.example/{{ event.id }}|open>, or write an address without < >, which Slack makes a link"
            )
        return ""

    def escaped_inside(self, value: Any) -> Any:
        """Return a value of any shape with every text in it escaped that would be shown.

        Raises ``ValueError`` where it holds a text that cannot be.
        """
        match value:
            case str():
                return self.escaped(value)
            case Mapping():
                if fault := next(filter(None, (self.value_fault(str(key), value) for key in value)), ""):
                    raise ValueError(fault)
                return {
                    key: item if self.is_literal(str(key), value) else self.escaped_inside(item)
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self.escaped_inside(item) for item in value]
            case _:
                return value
