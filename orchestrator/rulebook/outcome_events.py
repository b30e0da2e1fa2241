"""Outcome events: what providers report of a delivery, and which properties rules may count on.

They need no declaration in the tracking plan. A plan may declare more properties of them, such as those that its own
voice system adds; what a provider reports beyond the declared is kept and can be read once it is declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from orchestrator.core.event import OUTCOMES


class Known(NamedTuple):
    """A property that is known without a declaration."""

    type: str
    description: str
    enum: tuple[str, ...] = ()


class OutcomeEvent(NamedTuple):
    """One type of outcome, with the properties that it has beside the common ones."""

    description: str
    own: Mapping[str, Known]


COMMON: Mapping[str, Known] = {
    "connector": Known("string", "The connector that the report came through."),
    "kind": Known("string", "The kind of action that the connector carries: call, sms, email …"),
    "action_id": Known("string", "The action that it is about, where the provider names it."),
    "channel": Known("string", "The provider's own channel, where it has several."),
    "reference": Known("string", "The provider's name for the message or call."),
}
_REASON = Known("string", "Why, in the connector's words.")
_CODE = Known("integer", "The provider's own code.")
_WRITTEN = {
    "text": Known("string", "What the customer wrote."),
    "to": Known("string", "The number or mailbox that they wrote to."),
    "media_urls": Known("array", "Pictures and the like that came along."),
    "message_type": Known("string", "What they sent: text, button, image …"),
    "payload": Known("string", "What the button that they pressed stands for."),
    "in_reply_to": Known("string", "The provider's name for the message that they answered."),
}
_PURPOSES = Known("array", "Purposes of consent that it is about; without any it is about the channel.")
_CATEGORY = Known("string", "What it is about, where the provider tells one kind of message from another.")

EVENTS: Mapping[str, OutcomeEvent] = {
    "message_delivered": OutcomeEvent("It reached the device or mailbox.", {}),
    "message_read": OutcomeEvent("It was read.", {}),
    "email_opened": OutcomeEvent("Its pictures were loaded, which mail programs also do unasked.", {}),
    "message_bounced": OutcomeEvent(
        "The address takes no messages. Closes the channel until the customer has a new address.",
        {
            "reason": _REASON,
            "error_code": _CODE,
            "permanent": Known("boolean", "False when it may pass; then the channel stays open."),
        },
    ),
    "message_failed": OutcomeEvent(
        "It did not arrive, for a reason that may pass.", {"reason": _REASON, "error_code": _CODE}
    ),
    "link_clicked": OutcomeEvent("A link of it was followed.", {"url": Known("string", "The link.")}),
    "message_received": OutcomeEvent("The customer wrote back.", _WRITTEN),
    "unsubscribed": OutcomeEvent(
        "STOP, one-click unsubscribing or a complaint. Closes the channel, or the purposes that it names.",
        {"reason": _REASON, "error_code": _CODE, "category": _CATEGORY, "purposes": _PURPOSES, **_WRITTEN},
    ),
    "resubscribed": OutcomeEvent(
        "START. Opens the channel again, and the purposes that it names.",
        {"reason": _REASON, "category": _CATEGORY, "purposes": _PURPOSES, **_WRITTEN},
    ),
    "call_answered": OutcomeEvent(
        "Somebody, or something, picked up.", {"answered_by": Known("string", "human, machine … where it is known.")}
    ),
    "call_missed": OutcomeEvent(
        "Nobody picked up.",
        {
            "reason": Known("string", "Why nobody did.", ("no_answer", "busy", "failed", "canceled")),
            "sip_response_code": Known("string", "The telephone network's code."),
        },
    ),
    "call_ended": OutcomeEvent(
        "The line is free again.",
        {
            "duration_s": Known("number", "Length in seconds."),
            "result": Known("string", "What came of it: completed, qualified, booked, not_interested …"),
            "answered_by": Known("string", "human, machine … where it is known."),
        },
    ),
}
assert EVENTS.keys() == OUTCOMES


def described() -> Iterator[str]:
    """Yield the lines of a Markdown table of all outcomes, for the reference."""
    common = ", ".join(f"`{name}`" for name in COMMON)
    yield "What providers report comes back as events of these types, without a declaration. All of them may have"
    yield f"{common}; a plan may declare more."
    yield ""
    yield "| event | what it means | its own properties |"
    yield "| --- | --- | --- |"
    for name, outcome in EVENTS.items():
        own = ", ".join(f"`{one}`{_values(known)}" for one, known in outcome.own.items())
        yield f"| `{name}` | {outcome.description} | {own} |"


def _values(known: Known) -> str:
    return f" ({', '.join(known.enum)})" if known.enum else ""
