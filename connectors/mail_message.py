"""An e-mail as it goes over the wire (RFC 5322): its headers (by ``mail_header``), two bodies, and addresses.

The same action gives the same message but for its ``Date``: ``Message-ID`` and the boundary between the parts come from
the action's id, so a mailbox or a relay can tell a repeat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256
from typing import Annotated

import idna
from pydantic import AfterValidator, StringConstraints

from connectors.mail_header import (
    CONTROL,
    bracketed_header,
    literal_header,
    machine_header,
    mailbox_header,
    text_header,
)

ADDRESS_CHARS_MAX = 254

_LOCAL_PART = re.compile(r"[^\s\x00-\x20\x7f\"(),:;<>@\[\\\].]+(?:\.[^\s\x00-\x20\x7f\"(),:;<>@\[\\\].]+)*")
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _address(text: str) -> str:
    """Return an address with its domain in ASCII (IDNA 2008)."""
    local, at, domain = text.rpartition("@")
    try:
        domain = idna.encode(domain, uts46=True).decode() if not domain.isascii() else domain
    except UnicodeError:
        at = ""
    if CONTROL.search(local) or "=?" in local:
        # Some readers decode an encoded word even in an address, where it may say another one.
        at = ""
    if not (at and _LOCAL_PART.fullmatch(local) and _DOMAIN.fullmatch(domain)) or len(text) > ADDRESS_CHARS_MAX:
        raise ValueError("must be an e-mail address such as ana@example.com, and nothing else")
    return f"{local}@{domain}"


def _one_line(text: str) -> str:
    if CONTROL.search(text):
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
    ``headers`` are further ones as the settings have them, ``headers_with_ids`` those with ids of the delivery in them.
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
    headers_with_ids: Mapping[str, str] = field(default_factory=dict)


def message_bytes(mail: Mail) -> bytes:
    """Return the message with CRLF line ends. Raises ``ValueError`` for what no header, or no text, can hold."""
    body = EmailMessage(policy=SMTP)
    body.set_content(mail.text, cte="quoted-printable")
    if mail.html:
        body.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        body.set_boundary("=_" + sha256(mail.action_id.encode() + mail.html.encode()).hexdigest()[:32])
    return "".join(_headers(mail)).encode() + body.as_bytes()


def message_id(action_id: str, sender: str) -> str:
    """Return the Message-ID of an action's mail: the id itself where it may stand there, else its hash."""
    plain = action_id if _PLAIN_ID.fullmatch(action_id) else sha256(action_id.encode()).hexdigest()
    return f"<{plain}@{sender.rpartition('@')[2]}>"


def needs_utf8(mail: Mail) -> bool:
    """Whether an address has a local part beyond ASCII, which servers need SMTPUTF8 (RFC 6531) for."""
    return not (mail.sender[1] + mail.recipient[1] + mail.reply_to).isascii()


def _headers(mail: Mail) -> Iterator[str]:
    yield mailbox_header("From", *mail.sender)
    yield mailbox_header("To", *mail.recipient)
    yield text_header("Subject", mail.subject)
    yield literal_header("Date", format_datetime(datetime.fromtimestamp(mail.at_s, UTC)))
    yield literal_header("Message-ID", message_id(mail.action_id, mail.sender[1]))
    # RFC 3834: no holiday notice or other robot answers what a robot wrote.
    yield literal_header("Auto-Submitted", "auto-generated")
    yield machine_header("X-Action-Id", mail.action_id)
    if mail.reply_to:
        yield mailbox_header("Reply-To", "", mail.reply_to)
    if mail.unsubscribe:
        yield bracketed_header("List-Unsubscribe", mail.unsubscribe)
        if mail.one_click:
            yield literal_header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
    for name, value in mail.headers.items():
        yield literal_header(name, value)
    for name, value in mail.headers_with_ids.items():
        yield machine_header(name, value)
