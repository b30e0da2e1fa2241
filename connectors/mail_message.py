"""An e-mail as it goes over the wire (RFC 5322): its headers, its two bodies, and the addresses in it.

The same action gives the same message but for its ``Date``: ``Message-ID`` and the boundary between the parts come from
the action's id, so a mailbox or a relay can tell a repeat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address, BaseHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy, Policy
from email.utils import format_datetime
from hashlib import sha256
from typing import Annotated, Any

import idna
from pydantic import AfterValidator, StringConstraints

ADDRESS_CHARS_MAX = 254

_LOCAL_PART = re.compile(r"[^\s\x00-\x20\x7f\"(),:;<>@\[\\\].]+(?:\.[^\s\x00-\x20\x7f\"(),:;<>@\[\\\].]+)*")
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _address(text: str) -> str:
    """Return an address with its domain in ASCII (IDNA 2008)."""
    local, at, domain = text.rpartition("@")
    try:
        domain = idna.encode(domain, uts46=True).decode() if not domain.isascii() else domain
    except UnicodeError:
        at = ""
    if not (at and _LOCAL_PART.fullmatch(local) and _DOMAIN.fullmatch(domain)) or len(text) > ADDRESS_CHARS_MAX:
        raise ValueError("must be an e-mail address such as ana@example.com, and nothing else")
    return f"{local}@{domain}"


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    return text


def _writable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character, which no message can carry")
    return text


EmailAddress = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_address)]
#: Text of a header. A line break in it would begin a header of the writer's own.
OneLine = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_one_line)]
BodyText = Annotated[str, AfterValidator(_writable)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What one e-mail says; addresses and header texts have been checked. ``at_s`` is its Date, epoch seconds.

    ``unsubscribe`` are the addresses of List-Unsubscribe; ``one_click`` says that the first takes RFC 8058's POST.
    """

    action_id: str
    at_s: float
    sender: tuple[str, str]  # name, which may be empty, and address
    recipient: tuple[str, str]
    subject: str
    text: str
    html: str = ""
    reply_to: str = ""
    unsubscribe: tuple[str, ...] = ()
    one_click: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def message_bytes(mail: Mail) -> bytes:
    """Return the message with CRLF line ends. Raises ``ValueError`` for a header that is not one line."""
    message = EmailMessage(policy=_policy(mail))
    for name, value in _headers(mail).items():
        message[name] = value
    message.set_content(mail.text, cte="quoted-printable")
    if mail.html:
        message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        message.set_boundary("=_" + sha256(mail.action_id.encode() + mail.html.encode()).hexdigest()[:32])
    return message.as_bytes()


def message_id(action_id: str, sender: str) -> str:
    """Return the Message-ID of an action's mail: the id itself where it may stand there, else its hash."""
    plain = action_id if _PLAIN_ID.fullmatch(action_id) else sha256(action_id.encode()).hexdigest()
    return f"<{plain}@{sender.rpartition('@')[2]}>"


def needs_utf8(mail: Mail) -> bool:
    """Whether an address has a local part beyond ASCII, which servers need SMTPUTF8 (RFC 6531) for."""
    return not (mail.sender[1] + mail.recipient[1] + mail.reply_to).isascii()


def _headers(mail: Mail) -> dict[str, Any]:
    headers: dict[str, Any] = {
        "From": _mailbox(*mail.sender),
        "To": _mailbox(*mail.recipient),
        "Subject": mail.subject,
        "Date": format_datetime(datetime.fromtimestamp(mail.at_s, UTC)),
        "Message-ID": message_id(mail.action_id, mail.sender[1]),
        # RFC 3834: no holiday notice or other robot answers what a robot wrote.
        "Auto-Submitted": "auto-generated",
        "X-Action-Id": mail.action_id,
    }
    if mail.reply_to:
        headers["Reply-To"] = _mailbox("", mail.reply_to)
    if mail.unsubscribe:
        headers["List-Unsubscribe"] = ", ".join(f"<{address}>" for address in mail.unsubscribe)
        if mail.one_click:
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers | dict(mail.headers)


def _mailbox(name: str, address: str) -> Address:
    local, _, domain = address.rpartition("@")
    return Address(display_name=name, username=local, domain=domain)


def _policy(mail: Mail) -> EmailPolicy[EmailMessage]:
    registry = HeaderRegistry()
    registry.map_to_type("list-unsubscribe", _InAngleBrackets)
    registry.map_to_type("message-id", _InAngleBrackets)
    return SMTP.clone(header_factory=registry, utf8=needs_utf8(mail))


class _InAngleBrackets(BaseHeader):
    """A header of addresses in angle brackets, folded between them alone.

    The library folds a word longer than a line by encoding it, and no reader decodes what stands in angle brackets.
    """

    max_count = 1

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        """Take the text as it is."""
        kwds["parse_tree"] = None
        kwds["decoded"] = value

    def fold(self, *, policy: Policy[Any]) -> str:
        """Return the header, one address a line."""
        return f"{self.name}: " + str(self).replace(", ", f",{policy.linesep} ") + policy.linesep
