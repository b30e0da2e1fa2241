"""A mail server on loopback that takes messages as a submission service does: STARTTLS or TLS, a login, strict reading.

It runs aiosmtpd, so the protocol is a server's own and not our idea of one. Messages are parsed as a receiver would:
what has a defect, a line that is too long or a header missing is refused with 554, as large providers do.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

SIZE_MAX = 1_000_000
LINE_BYTES_MAX = 998
NEEDED_HEADERS = ("From", "To", "Date", "Message-ID", "Subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMail:
    """One message that was taken: its envelope, itself, and how it came."""

    sender: str
    recipient: str
    content: bytes
    message: EmailMessage
    queue_id: str
    encrypted: bool
    user: str


@dataclass(slots=True)
class SmtpServer:
    """The server's rules and what it has taken.

    ``replies`` holds the line that is answered at a stage (AUTH, MAIL, RCPT, DATA) instead of the right one. At
    ``silent_at`` it never answers again, at ``lost_at`` it cuts the connection.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    starttls: bool = True
    utf8: bool = True
    replies: dict[str, str] = field(default_factory=dict)
    silent_at: str = ""
    lost_at: str = ""
    mails: list[ReceivedMail] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)  # stage and argument, as they came
    sessions: int = 0
    port: int = 0
    _protocols: list[SMTP] = field(default_factory=list)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[SmtpServer]:
        """Listen on a free port of loopback until the block ends."""
        implicit = self.tls if self.tls and not self.starttls else None
        server = await asyncio.get_running_loop().create_server(self._protocol, "127.0.0.1", 0, ssl=implicit)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.disconnect()
            await server.wait_closed()

    def disconnect(self) -> None:
        """Cut every connection, as a restart of the server does."""
        for protocol in self._protocols:
            _abort(protocol)
        self._protocols.clear()

    def _protocol(self) -> SMTP:
        self.sessions += 1
        explicit = self.tls if self.starttls else None
        protocol = SMTP(
            _Handler(self),
            hostname="mail.test",
            ident="ESMTP",
            data_size_limit=SIZE_MAX,
            enable_SMTPUTF8=self.utf8,
            tls_context=explicit,
            require_starttls=bool(explicit),
            auth_require_tls=bool(explicit),
            auth_exclude_mechanism=["LOGIN"],
            authenticator=self._authenticated,
            loop=asyncio.get_running_loop(),
        )
        self._protocols.append(protocol)
        return protocol

    def _authenticated(
        self, server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any
    ) -> AuthResult:
        assert isinstance(given, LoginPassword)
        name, password = given.login.decode(), given.password.decode()
        if self.users.get(name) != password:
            reply = self.replies.get("AUTH", "535 5.7.8 Error: authentication failed")
            return AuthResult(success=False, handled=False, message=reply)
        return AuthResult(success=True, auth_data=name)

    async def answer(self, protocol: SMTP, stage: str, argument: str) -> str | None:
        """Keep what was said and return the reply that takes the place of the right one, if any."""
        self.commands.append((stage, argument))
        if self.lost_at == stage:
            _abort(protocol)
        if stage in {self.silent_at, self.lost_at}:
            await asyncio.Event().wait()  # Until the other side leaves, which cancels this session.
        return self.replies.get(stage)

    def take(self, session: Session, envelope: Envelope) -> str:
        """Take a message or return why not."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        message = message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        if trouble := _trouble(content, message, "SMTPUTF8" in envelope.mail_options):
            return f"554 5.6.0 {trouble}"
        queue_id = f"4Fb{len(self.mails) + 1:07X}"
        self.mails.append(
            ReceivedMail(
                sender=envelope.mail_from or "",
                recipient=envelope.rcpt_tos[0],
                content=content,
                message=message,
                queue_id=queue_id,
                encrypted=bool(session.ssl) or (self.tls is not None and not self.starttls),
                user=str(session.auth_data or ""),
            )
        )
        return f"250 2.0.0 Ok: queued as {queue_id}"


class _Handler:
    """What aiosmtpd asks at each stage."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    async def handle_MAIL(
        self, protocol: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self._server.answer(protocol, "MAIL", address):
            return reply
        if self._server.users and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, protocol: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self._server.answer(protocol, "RCPT", address):
            return reply
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, protocol: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        if reply := await self._server.answer(protocol, "DATA", envelope.content.decode("utf-8", "replace")):
            return reply
        return self._server.take(session, envelope)


def _trouble(content: bytes, message: EmailMessage, utf8: bool) -> str:
    """Return why a receiver would not take this message, "" when it would."""
    if re.search(rb"(?<!\r)\n|\r(?!\n)", content):
        return "Bare CR or LF"
    if max(map(len, content.split(b"\r\n"))) > LINE_BYTES_MAX:
        return "Line too long"
    if missing := [name for name in NEEDED_HEADERS if len(message.get_all(name, [])) != 1]:
        return f"Header {missing[0]} is missing or repeated"
    parts = list(message.walk())
    if defects := [defect for part in parts for defect in part.defects]:
        return f"Malformed message: {defects[0]}"
    # The parser knows nothing of RFC 6531, which allows what it complains of.
    if not utf8 and (defects := [defect for value in message.values() for defect in getattr(value, "defects", ())]):
        return f"Malformed header: {defects[0]}"
    return ""


def _abort(protocol: SMTP) -> None:
    if isinstance(protocol.transport, asyncio.WriteTransport):
        protocol.transport.abort()
