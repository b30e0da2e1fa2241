"""The e-mail connector against a mail server with STARTTLS and a login."""

from __future__ import annotations

import json
import re
import socket
import ssl
from base64 import b64encode, urlsafe_b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import default
from email.utils import unquote
from functools import cache
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from connectors.callback import Callback, OutcomeType
from connectors.conformance.bench import NOW_S, Example, Exchange, GenuineCallback, How
from connectors.markup import Markup
from connectors.signature import parse_secrets, signed_headers
from load_tests.servers.providers.smtp import SmtpServer

USER, PASSWORD = "shop", "pa55word-of-the-shop"
LINK_SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
REPORT_SECRET = "whsec_" + b64encode(bytes(range(32, 64))).decode()
ENVIRON = {"SMTP_PASSWORD": PASSWORD, "LINK_SECRET": LINK_SECRET, "REPORT_SECRET": REPORT_SECRET}
CALLBACK_URL = "https://shop.example/v1/outcomes/email"
NO_SUCH_MAILBOX = "5.1.1 The email account that you tried to reach does not exist"
REPLIES = {
    How.REFUSE: {"RCPT": f"550 {NO_SUCH_MAILBOX}"},
    How.RETRY_LATER: {"RCPT": "450 4.2.1 The user is receiving mail too quickly"},
    How.BROKEN: {"DATA": "451 4.3.0 Queue file write error"},
}


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


class SmtpBench(SmtpServer):
    """A mail server that answers as it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(users={USER: PASSWORD}, tls=server_tls())
        self.heard: list[Exchange] = []
        self.refusal = NO_SUCH_MAILBOX
        self.retry_after_s: float | None = None  # SMTP has no word for it.
        self.ca_file = folder / "authority.pem"
        authority().cert_pem.write_to_path(str(self.ca_file))
        self._how = How.OK
        self._refusing_port = 0

    @property
    def base(self) -> str:
        return f"127.0.0.1:{self._refusing_port if self._how is How.GONE else self.port}"

    async def answers(self, how: How) -> None:
        self._how = how
        self.replies = REPLIES.get(how, {})
        self.silent_at = "DATA" if how is How.HANG else ""
        self.users = {USER: "another"} if how is How.BAD_CREDENTIALS else {USER: PASSWORD}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[SmtpBench]:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self._refusing_port = taken.getsockname()[1]
            async with self.served():
                yield self

    def _authenticated(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        result = super()._authenticated(server, session, envelope, mechanism, given)
        reply = {"reply": "235 2.7.0 Authentication successful" if result.success else result.message}
        request = {"encrypted": session.ssl is not None, "auth": f"{mechanism} {given.login.decode()}"}
        self.heard.append(Exchange(request=request, answer=reply, attempt=False))
        return result

    async def answer(self, protocol: SMTP, stage: str, argument: str) -> str | None:
        if stage == self.silent_at:
            self.heard.append(Exchange(request=_request(protocol, argument), answer=None))
        reply = await super().answer(protocol, stage, argument)
        if reply:
            request = _request(protocol, argument if stage == "DATA" else "")
            request |= {"to": [argument]} if stage == "RCPT" else {}
            self.heard.append(Exchange(request=request, answer={"reply": reply}))
        return reply

    def take(self, session: Session, envelope: Envelope) -> str:
        reply = super().take(session, envelope)
        assert isinstance(envelope.content, bytes)
        request = _said(envelope, envelope.content)
        self.heard.append(Exchange(request=request, answer={"reply": reply}))
        return reply


def _request(protocol: SMTP, content: str) -> dict[str, Any]:
    assert protocol.envelope is not None
    return _said(protocol.envelope, content.encode())


def _said(envelope: Envelope, content: bytes) -> dict[str, Any]:
    message = message_from_bytes(content, policy=default)
    parts = [part for part in message.walk() if not part.is_multipart()] if content else []
    return {
        "from": envelope.mail_from,
        "to": envelope.rcpt_tos,
        "headers": {name.lower(): _decoded(value) for name, value in message_from_bytes(content).items()},
        "body": {part.get_content_type(): part.get_content() for part in parts},
    }


def _decoded(value: Any) -> str:
    """Return a header by the library's older reader, which decodes each encoded word once and folds nothing."""
    return str(make_header(decode_header(str(value).replace("\r\n", ""))))


@asynccontextmanager
async def bench() -> AsyncIterator[SmtpBench]:
    with TemporaryDirectory() as folder:
        async with SmtpBench(Path(folder)).serving() as serving:
            yield serving


def settings(bench: Any) -> dict[str, Any]:
    host, _, port = bench.base.partition(":")
    return {
        "host": host,
        "port": int(port),
        "ca_file": str(bench.ca_file),
        "username": USER,
        "password_env": "SMTP_PASSWORD",
        "from_address": "hello@shop.example",
        "from_name": "Zoë's Shop",
        "callback_url": CALLBACK_URL,
        "unsubscribe_secret_env": "LINK_SECRET",
        "unsubscribe_mailto": "leave@shop.example",
        "callback_secret_env": "REPORT_SECRET",
    }


def report(**changes: Any) -> Callback:
    """A report of a bounce as a provider's adapter sends it."""
    written = {"id": "r-1", "type": "message_bounced", "action_id": "7d0c41", "address": "ana@example.com"}
    body = json.dumps(written | changes).encode()
    signed = signed_headers(parse_secrets(REPORT_SECRET), "m-1", NOW_S, body)
    headers = {"content-type": "application/json", **signed}
    return Callback(method="POST", path="/v1/outcomes/email", query="", headers=headers, body=body)


def opened(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request with the ids themselves in links to unsubscribe, and without the hash between its parts."""

    def read(text: str, *, html: bool) -> str:
        def named(token: re.Match[str]) -> str:
            ids = ":".join(json.loads(urlsafe_b64decode(token[1] + "=" * (-len(token[1]) % 4))))
            return escape(ids) if html else ids

        return re.sub(r"(?<=\?u=)([\w-]+)\.[\w-]+", named, re.sub(r'(?<=boundary="=_)[0-9a-f]{32}', "", text))

    parts = {
        part: {name: read(text, html=name == "text/html") for name, text in request[part].items()}
        for part in ("headers", "body")
    }
    name, _, address = parts["headers"]["to"].rpartition(" <")
    return request | parts | {"mailbox": [unquote(name), address.rstrip(">")], "headers": parts["headers"] | {"to": ""}}


EXAMPLE = Example(
    bench=bench,
    settings=settings,
    environ=lambda _bench: ENVIRON,
    kind="email",
    params={
        "to": "ana@bücher.example",
        "to_name": "Ana Müller",
        "subject": "Your basket, 10 % off",
        "html": '<p>Hello Ana, <a href="https://shop.example/b">your basket</a> is here.</p>\n'
        '<p><a href="%unsubscribe_url%">Unsubscribe</a></p>',
        "reply_to": "help@shop.example",
    },
    id_of=lambda request: request["headers"].get("x-action-id", ""),
    markup={"text/html": Markup.HTML},
    opened=opened,
    callbacks=(
        GenuineCallback(callback=report(), outcomes=(OutcomeType.MESSAGE_BOUNCED,)),
        GenuineCallback(callback=report(id="r-2", type="unsubscribed"), outcomes=(OutcomeType.UNSUBSCRIBED,)),
    ),
)
