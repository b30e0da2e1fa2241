"""Mail submission as connectors use it (RFC 5321, 6409): pooled sessions, and one table from a reply to a ``Receipt``.

====================================  =========  =====================================================
what happened                         result     why
====================================  =========  =====================================================
2xx to the message                    DELIVERED  the server took it; the reference is its queue id
4xx to sender, recipient or message   RETRY      it says "not now" (greylisting, a full mailbox, 421)
5xx to sender, recipient or message   REFUSED    the same message will never be taken
no connection, greeting, TLS or slot  RETRY      nothing was written, and this message was not judged
5xx to our name and password          REFUSED    as a 401 is: repeating would lock the account; redrive
                                                 sends all of them once the password has been mended
loss or silence before the message    RETRY      the server has no message to take
loss or silence after it              UNKNOWN    it may have been taken
====================================  =========  =====================================================
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace

import aiosmtplib

from connectors.callback import OutcomeType
from connectors.protocol import Finding, Receipt, Result
from connectors.smtp_session import DETAIL_CHARS_MAX, Endpoint, NoSession, drop, open_session, said, say_farewell

REFERENCE_CHARS_MAX = 200
#: Many servers close a session that says nothing for half a minute or more; we close first.
IDLE_SESSION_S = 20.0

_LINE_START_DOT = re.compile(rb"(?m)^\.")
_ENHANCED_STATUS = re.compile(r"^[245]\.\d{1,3}\.\d{1,3}\s+")
#: Bad mailbox, bad domain, bad syntax, moved without a new address, a domain that takes no mail, a disabled mailbox.
_DEAD_STATUSES = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_DEAD_CODES = frozenset({550, 551, 553})
_DEAD_WORDS = re.compile(
    r"(unknown|no such|invalid|non-?existent) (local |virtual )?(user|recipient|mailbox|address|account)"
    r"|(user|recipient|mailbox|address|account) (is )?(unknown|not found|does not exist|doesn't exist)"
    r"|no mailbox",
    re.IGNORECASE,
)
_QUEUE_IDS = (
    re.compile(r"queued as\s+<?([^\s<>;,]+)", re.IGNORECASE),  # Postfix and those that speak like it
    re.compile(r"\bid=([^\s<>;,]+)"),  # Exim
    re.compile(r"^(\S+) Message accepted for delivery", re.IGNORECASE),  # Sendmail
    re.compile(r"^ok:?\s+(\S{12,})$", re.IGNORECASE),  # Amazon SES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One message for one recipient; ``message`` has CRLF line ends. ``utf8`` asks for SMTPUTF8."""

    sender: str
    recipient: str
    message: bytes
    utf8: bool = False


class SmtpSender:
    """Hands in messages over pooled sessions. Never raises for what the network or the server did."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._slots = asyncio.Semaphore(endpoint.sessions_max)
        self._idle: list[tuple[aiosmtplib.SMTP, float]] = []  # with the moment of its last use; the latest is last
        self._closed = False

    async def send(self, envelope: Envelope) -> Receipt:
        """Make one attempt within ``timeout_s``. Safe to call concurrently."""
        progress = _Progress(self._endpoint.host)
        try:
            async with asyncio.timeout(self._endpoint.timeout_s), self._slots:
                return await self._attempt(envelope, progress)
        except NoSession as error:
            return error.receipt
        except TimeoutError:
            return progress.receipt(f"no answer within {self._endpoint.timeout_s:g} s")
        except (aiosmtplib.SMTPException, OSError) as error:
            return progress.receipt(said(error))

    async def check(self) -> str | None:
        """Return None when a session can be opened and the password is taken, else what to mend."""
        host = self._endpoint.host
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                client = await open_session(self._endpoint)
                await say_farewell(client)
        except NoSession as error:
            detail = error.receipt.detail
        except TimeoutError:
            detail = f"no connection to {host}: no answer within {self._endpoint.timeout_s:g} s"
        else:
            return None
        return detail if detail.endswith(".") else f"{detail}. Check host, port, security and that {host} is running."

    async def close(self) -> None:
        """End the idle sessions; those in use end with their attempt."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(say_farewell(client) for client, _ in idle))

    async def _attempt(self, envelope: Envelope, progress: _Progress) -> Receipt:
        if client := self._idle_session():
            receipt = await self._transaction(client, envelope, progress, kept=True)
            if receipt is not None:
                return receipt
        client = await open_session(self._endpoint)
        receipt = await self._transaction(client, envelope, progress, kept=False)
        assert receipt is not None
        return receipt

    def _idle_session(self) -> aiosmtplib.SMTP | None:
        now_s = asyncio.get_running_loop().time()
        while self._idle:
            client, used_at_s = self._idle.pop()
            if client.is_connected and now_s - used_at_s < IDLE_SESSION_S:
                return client
            drop(client)
        return None

    async def _transaction(
        self, client: aiosmtplib.SMTP, envelope: Envelope, progress: _Progress, *, kept: bool
    ) -> Receipt | None:
        """Hand in one message. None when a kept session turned out to be over, before the message was written."""
        usable = False
        try:
            if kept and not await _ready_again(client):
                return None
            receipt = await _handed_in(client, envelope, progress)
            if kept and receipt.status == aiosmtplib.SMTPStatus.domain_unavailable and not progress.writing:
                return None
            # A reply that was none leaves it open what the next one belongs to.
            usable = client.is_connected and receipt.status is not None and not self._closed
            return receipt
        except aiosmtplib.SMTPServerDisconnected:
            if kept and not progress.writing:
                return None
            raise
        finally:
            if usable:
                self._idle.append((client, asyncio.get_running_loop().time()))
            else:
                drop(client)


class _Progress:
    """How far a message got: it decides what its loss means."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.writing = False

    def receipt(self, trouble: str) -> Receipt:
        trouble = trouble[:DETAIL_CHARS_MAX]
        if self.writing:
            return Receipt(result=Result.UNKNOWN, detail=f"the message to {self._host} was written, then: {trouble}")
        return Receipt(result=Result.RETRY, detail=f"no connection to {self._host}: {trouble}")


async def _ready_again(client: aiosmtplib.SMTP) -> bool:
    """Forget what was left of the transaction before; False when the session turns out to be over."""
    try:
        await client.rset()
    except (aiosmtplib.SMTPException, OSError):
        return False
    return True


async def _handed_in(client: aiosmtplib.SMTP, envelope: Envelope, progress: _Progress) -> Receipt:
    """Run one mail transaction."""
    encoding = "utf-8" if envelope.utf8 else "ascii"
    if envelope.utf8 and not client.supports_extension("smtputf8"):
        detail = "the server takes no address with characters outside ASCII before the @ (it does not offer SMTPUTF8)"
        return Receipt(result=Result.REFUSED, detail=detail)
    options = ["SMTPUTF8"] * envelope.utf8
    if client.supports_extension("size"):
        options.append(f"SIZE={len(envelope.message)}")
    try:
        await client.mail(envelope.sender, options=options, encoding=encoding)
        await client.rcpt(envelope.recipient, encoding=encoding)
        ready = await client.execute_command(b"DATA")
    except aiosmtplib.SMTPRecipientRefused as refusal:
        receipt = _reply_receipt(refusal.code, refusal.message, progress)
        return replace(receipt, finding=dead_mailbox(refusal.code, refusal.message))
    except aiosmtplib.SMTPResponseException as refusal:
        return _reply_receipt(refusal.code, refusal.message, progress)
    if ready.code != aiosmtplib.SMTPStatus.start_input or client.protocol is None:
        return _reply_receipt(ready.code, ready.message, progress)
    progress.writing = True
    client.protocol.write(_LINE_START_DOT.sub(b"..", envelope.message) + b".\r\n")
    reply = await client.protocol.read_response()
    return _reply_receipt(reply.code, reply.message, progress)


def _reply_receipt(code: int, text: str, progress: _Progress) -> Receipt:
    """Return what a reply means (the table above)."""
    text = " ".join(text.split())
    detail = f"{code} {text}"[:DETAIL_CHARS_MAX]
    if progress.writing and 200 <= code < 300:
        return Receipt(result=Result.DELIVERED, status=code, reference=queue_id(text))
    if 400 <= code < 500:
        return Receipt(result=Result.RETRY, status=code, detail=detail)
    if 500 <= code < 600:
        return Receipt(result=Result.REFUSED, status=code, detail=detail)
    return progress.receipt(f"it answered {detail}, which is out of place here")


def dead_mailbox(code: int, text: str) -> Finding | None:
    """Return that the address takes no mail at all, where the reply to it says so; None where it may be for a policy.

    The enhanced status (RFC 3463) settles it where there is one; else the words do, for 550 alone says too little.
    """
    if not 500 <= code < 600:
        return None
    status = _ENHANCED_STATUS.match(text)
    dead = status[0].strip() in _DEAD_STATUSES if status else bool(code in _DEAD_CODES and _DEAD_WORDS.search(text))
    return Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="unknown_address", error_code=code) if dead else None


def queue_id(text: str) -> str:
    """Return the server's name for a message that it took, from its reply; the reply's text where it names none."""
    text = _ENHANCED_STATUS.sub("", text)
    found = next((match for pattern in _QUEUE_IDS if (match := pattern.search(text))), None)
    return (found[1].rstrip(".") if found else text)[:REFERENCE_CHARS_MAX]
