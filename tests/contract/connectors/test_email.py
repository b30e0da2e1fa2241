"""The e-mail connector beyond the suite: every reply of a mail server, sessions, TLS, and what a message says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from email.header import decode_header, make_header
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest

from connectors.callback import Callback, CallbackRefused, OutcomeType
from connectors.conformance.bench import DELIVERY_ID, LOOPBACK, NAME, NOW_S
from connectors.connector_type import Surroundings
from connectors.errors import ConnectorMisconfigured
from connectors.mail_parameters import EMAIL
from connectors.protocol import Connector, Delivery, Finding, Receipt, Result
from connectors.reach import Reach
from connectors.registry import build
from connectors.smtp import dead_mailbox, queue_id
from load_tests.servers.providers.smtp import SmtpServer
from tests.contract.connectors.example_email import (
    ENVIRON,
    EXAMPLE,
    LINK_SECRET,
    PASSWORD,
    REPORT_SECRET,
    USER,
    SmtpBench,
    authority,
    bench,
    report,
    server_tls,
    settings,
)

ANA = "ana@xn--bcher-kva.example"
INJECTIONS = [
    "=?utf-8?q?=0d=0aBcc:eve=40evil.example=0d=0aX:?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBldmlsLmV4YW1wbGUNCg0KPGgxPg==?=",
    "é =?utf-8?q?=0a=0a<h1>Hello</h1>?=",
    '", eve@evil.example, "',
    "friends: eve@evil.example;",
    "漢字" * 60 + "x" * 80,
]


def delivery(**params: Any) -> Delivery:
    given = {name: value for name, value in {**EXAMPLE.params, **params}.items() if value is not None}
    return Delivery(id=DELIVERY_ID, customer_id="c1", kind="email", params=given, decided_at_ms=int(NOW_S * 1000))


@asynccontextmanager
async def opened(written: dict[str, Any], reach: Reach = LOOPBACK) -> AsyncIterator[Connector]:
    connector = build(NAME, {"type": "email", **written}, environ=ENVIRON, now_s=lambda: NOW_S, reach=reach)
    try:
        yield connector
    finally:
        await connector.close()


@asynccontextmanager
async def desk(**changes: Any) -> AsyncIterator[tuple[SmtpBench, Connector]]:
    """A mail server and a connector to it, with ``changes`` of the example's settings."""
    async with bench() as server, opened(settings(server) | changes) as connector:
        yield server, connector


def plain(port: int, **changes: Any) -> dict[str, Any]:
    """Settings for a server on loopback without TLS or login."""
    return {"host": "127.0.0.1", "port": port, "security": "none", "from_address": "hello@shop.example"} | changes


@asynccontextmanager
async def talking(lines: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve bytes, for what no proper mail server would say; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await lines(reader, writer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


# ------------------------------------------------------------------------------------------------- replies


@pytest.mark.parametrize(
    ("stage", "reply", "result"),
    [
        ("MAIL", "421 4.7.0 Try again later, closing connection", Result.RETRY),
        ("MAIL", "452 4.3.1 Insufficient system storage", Result.RETRY),
        ("MAIL", "550 5.7.1 Sender address rejected", Result.REFUSED),
        ("MAIL", "552 5.3.4 Message size exceeds fixed limit", Result.REFUSED),
        ("RCPT", "450 4.2.0 Greylisted, see https://mail.test/grey", Result.RETRY),
        ("RCPT", "452 4.2.2 The mailbox is full", Result.RETRY),
        ("RCPT", "550 5.1.1 No such user here", Result.REFUSED),
        ("DATA", "421 4.3.2 Service shutting down", Result.RETRY),
        ("DATA", "451 4.7.1 Please try again later", Result.RETRY),
        ("DATA", "552 5.2.2 Mailbox over quota", Result.REFUSED),
        ("DATA", "554 5.7.1 This message looks like spam", Result.REFUSED),
    ],
)
async def test_each_reply_has_its_receipt(stage: str, reply: str, result: Result) -> None:
    async with desk() as (server, connector):
        server.replies = {stage: reply}
        receipt = await connector.send(delivery())
        server.replies = {}
        after = await connector.send(delivery())
    dead = Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="unknown_address", error_code=550)
    finding = dead if reply == "550 5.1.1 No such user here" else None
    assert receipt == Receipt(result=result, status=int(reply[:3]), detail=reply, recipient=ANA, finding=finding)
    assert after.result is Result.DELIVERED


@pytest.mark.parametrize(
    ("code", "text", "dead"),
    [
        (550, "5.1.1 <ana@example.com>: Recipient address rejected: User unknown in virtual mailbox table", True),
        (550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", True),
        (550, "5.2.1 The email account that you tried to reach is inactive", True),
        (550, "5.7.1 Service unavailable; client host blocked: no such user here, they say", False),
        (550, "5.2.2 Mailbox full", False),
        (550, "No such user here", True),
        (550, "Unknown recipient", True),
        (553, "sorry, that recipient does not exist", True),
        (550, "Requested action not taken: mailbox unavailable", False),
        (550, "Administrative prohibition", False),
        (554, "No such user", False),
        (450, "4.1.1 User unknown for now", False),
        (450, "User unknown", False),
    ],
)
def test_an_address_is_dead_where_the_reply_leaves_no_doubt(code: int, text: str, dead: bool) -> None:
    finding = Finding(type=OutcomeType.MESSAGE_BOUNCED, reason="unknown_address", error_code=code)
    assert dead_mailbox(code, text) == (finding if dead else None)


async def test_the_reference_is_the_servers_queue_id() -> None:
    async with desk() as (server, connector):
        receipt = await connector.send(delivery())
        [mail] = server.mails
    assert receipt == Receipt(result=Result.DELIVERED, status=250, reference=mail.queue_id, recipient=ANA)
    assert (mail.sender, mail.recipient, mail.encrypted, mail.user) == ("hello@shop.example", ANA, True, USER)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("2.0.0 Ok: queued as 4XyZ1k2Lz3", "4XyZ1k2Lz3"),
        ("OK id=1rAbCd-0004Hk-2f", "1rAbCd-0004Hk-2f"),
        ("2.0.0 42JDbQ7e012345 Message accepted for delivery", "42JDbQ7e012345"),
        ("Ok 0100018c2b1d-4f3a-000000", "0100018c2b1d-4f3a-000000"),
        (
            "2.0.0 OK  1772442000 d9443c01a7336-1d5c2f sor.1 - gsmtp",
            "OK  1772442000 d9443c01a7336-1d5c2f sor.1 - gsmtp",
        ),
        ("Great success", "Great success"),
    ],
)
def test_queue_ids_are_read_as_servers_write_them(text: str, reference: str) -> None:
    assert queue_id(text) == reference


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("MAIL", Receipt(result=Result.RETRY, detail="no connection to 127.0.0.1: ")),
        ("RCPT", Receipt(result=Result.RETRY, detail="no connection to 127.0.0.1: ")),
        ("DATA", Receipt(result=Result.UNKNOWN, detail="the message to 127.0.0.1 was written, then: ")),
    ],
)
class TestALostConnection:
    async def test_means_what_had_been_written(self, stage: str, expected: Receipt) -> None:
        async with desk() as (server, connector):
            server.lost_at = stage
            receipt = await connector.send(delivery())
        assert (receipt.result, receipt.status) == (expected.result, None)
        assert receipt.detail.startswith(expected.detail)

    async def test_and_so_does_silence(self, stage: str, expected: Receipt) -> None:
        async with desk(timeout_s=0.5) as (server, connector):
            await connector.send(delivery())
            server.silent_at = stage
            receipt = await connector.send(delivery())
        assert receipt == replace(expected, detail=expected.detail + "no answer within 0.5 s", recipient=ANA)


async def test_a_connection_lost_before_the_message_is_asked_for_is_to_be_retried() -> None:
    async def leave_at_data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")
        for reply in (b"250 mail.test\r\n", b"250 Ok\r\n", b"250 Ok\r\n"):
            await reader.readline()
            writer.write(reply)
        await reader.readline()
        writer.transport.abort()

    async with talking(leave_at_data) as port, opened(plain(port)) as connector:
        receipt = await connector.send(delivery(html="<p>Hello</p>"))
    assert receipt.result is Result.RETRY


@pytest.mark.parametrize(
    ("greeting", "detail"),
    [
        (b"554 5.3.2 No mail service here\r\n", "it answered 554 5.3.2 No mail service here"),
        (b"421 4.7.0 Too many connections\r\n", "it answered 421 4.7.0 Too many connections"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "it answered -1 Malformed SMTP response line: SSH-2.0-OpenSSH_9.6"),
    ],
)
async def test_a_greeting_that_is_none_is_to_be_retried(greeting: bytes, detail: str) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)

    async with talking(greet) as port, opened(plain(port)) as connector:
        receipt = await connector.send(delivery(html="<p>Hello</p>"))
        advice = await connector.check()
    assert (receipt.result, receipt.detail) == (Result.RETRY, f"no connection to 127.0.0.1: {detail}")
    assert advice == f"{receipt.detail}. Check host, port, security and that 127.0.0.1 is running."


async def test_a_server_that_never_greets_is_given_up() -> None:
    async def keep_silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        pass

    async with talking(keep_silent) as port, opened(plain(port, timeout_s=0.2)) as connector:
        receipt = await connector.send(delivery(html="<p>Hello</p>"))
        advice = await connector.check()
    expected = "no connection to 127.0.0.1: no answer within 0.2 s"
    assert (receipt.result, receipt.detail) == (Result.RETRY, expected)
    assert advice == f"{expected}. Check host, port, security and that 127.0.0.1 is running."


# ------------------------------------------------------------------------------------------- TLS and login


async def test_tls_from_the_start_is_spoken_too() -> None:
    async with (
        bench() as paths,
        SmtpServer(users={USER: PASSWORD}, tls=server_tls(), starttls=False).served() as server,
        opened(settings(paths) | {"security": "tls", "port": server.port}) as connector,
    ):
        assert await connector.check() is None
        assert (await connector.send(delivery())).result is Result.DELIVERED
    assert (server.mails[0].encrypted, server.mails[0].user) == (True, USER)


@pytest.mark.parametrize("starttls", [True, False])
async def test_a_certificate_that_nobody_vouches_for_is_not_believed(starttls: bool) -> None:
    async with SmtpServer(users={USER: PASSWORD}, tls=server_tls(), starttls=starttls).served() as server:
        written = {"host": "127.0.0.1", "port": server.port, "from_address": "hello@shop.example"}
        async with opened(written | {"security": "starttls" if starttls else "tls"}) as connector:
            receipt = await connector.send(delivery(html="<p>Hello</p>"))
    assert receipt.result is Result.RETRY
    assert "certificate verify failed" in receipt.detail
    assert server.commands == []


async def test_a_server_that_hides_starttls_gets_no_password() -> None:
    async with (
        bench() as paths,
        SmtpServer(users={USER: PASSWORD}).served() as server,
        opened(settings(paths) | {"port": server.port}) as connector,
    ):
        receipt = await connector.send(delivery())
    assert receipt == Receipt(
        result=Result.RETRY,
        detail="no connection to 127.0.0.1: it does not offer STARTTLS. "
        "Set security to tls if its port speaks TLS from the start",
        recipient=ANA,
    )
    assert server.commands == []


async def test_a_refused_login_is_a_refusal_with_its_remedy() -> None:
    async with desk() as (server, connector):
        server.users = {USER: "another"}
        receipt = await connector.send(delivery())
        advice = await connector.check()
    assert (receipt.result, receipt.status) == (Result.REFUSED, 535)
    assert receipt.detail == advice
    assert advice == (
        "127.0.0.1 refused the login: 535 5.7.8 Error: authentication failed. "
        "Check username and password_env of this connector."
    )


async def test_a_login_that_cannot_be_judged_now_is_to_be_retried() -> None:
    async with desk() as (server, connector):
        server.users, server.replies = {}, {"AUTH": "454 4.7.0 Temporary authentication failure"}
        receipt = await connector.send(delivery())
    assert (receipt.result, receipt.status) == (Result.RETRY, 454)


async def test_a_server_without_a_login_says_so() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")
        await reader.readline()
        writer.write(b"250 mail.test\r\n")

    login = {"username": USER, "password_env": "SMTP_PASSWORD"}
    async with talking(greet) as port, opened(plain(port, **login)) as connector:
        receipt = await connector.send(delivery(html="<p>Hello</p>"))
    assert (receipt.result, receipt.detail) == (
        Result.REFUSED,
        "127.0.0.1 offers neither AUTH PLAIN nor LOGIN. Check port and security, or leave username out.",
    )


async def test_a_private_address_is_reached_only_where_that_is_permitted() -> None:
    async with SmtpServer().served() as server, opened(plain(server.port), Reach()) as connector:
        receipt = await connector.send(delivery(html="<p>Hello</p>"))
    assert receipt.result is Result.RETRY
    assert "127.0.0.1 is not a public address" in receipt.detail
    assert server.sessions == 0


# ------------------------------------------------------------------------------------------------ sessions


async def test_a_session_is_used_again() -> None:
    async with desk() as (server, connector):
        for number in range(3):
            await connector.send(replace(delivery(), id=f"id-{number}"))
        assert (server.sessions, len(server.mails)) == (1, 3)


async def test_a_refused_recipient_does_not_end_the_session() -> None:
    async with desk() as (server, connector):
        server.replies = {"RCPT": "550 5.1.1 No such user here"}
        await connector.send(delivery())
        server.replies = {}
        await connector.send(delivery())
        assert (server.sessions, len(server.mails)) == (1, 1)


async def test_sessions_are_bounded() -> None:
    async with desk(connections_max=2) as (server, connector):
        receipts = await asyncio.gather(*(connector.send(replace(delivery(), id=f"id-{n}")) for n in range(20)))
        assert server.sessions == 2
    assert [receipt.result for receipt in receipts] == [Result.DELIVERED] * 20


async def test_a_session_that_the_server_ended_is_opened_anew_within_the_attempt() -> None:
    async with desk() as (server, connector):
        await connector.send(delivery())
        server.disconnect()
        receipt = await connector.send(delivery())
        assert (receipt.result, server.sessions) == (Result.DELIVERED, 2)


async def test_a_session_that_has_had_its_share_of_messages_is_opened_anew_within_the_attempt() -> None:
    async with desk() as (server, connector):
        await connector.send(delivery())
        kept = server.sessions

        async def answer(protocol: Any, stage: str, argument: str) -> str | None:
            return "421 4.7.0 Too many messages in this session" if server.sessions == kept else None

        server.answer = answer  # type: ignore[method-assign]
        receipt = await connector.send(delivery())
        assert (receipt.result, server.sessions) == (Result.DELIVERED, 2)


# ------------------------------------------------------------------------------------------------- message


async def sent(server: SmtpServer, connector: Connector, **params: Any) -> Any:
    receipt = await connector.send(delivery(**params))
    assert (receipt.result, receipt.detail) == (Result.DELIVERED, "")
    return server.mails[-1].message


async def test_a_message_has_html_and_a_text_made_of_it() -> None:
    async with desk() as (server, connector):
        message = await sent(server, connector)
    link = re.search(r"<(https://[^>]+)>", message["List-Unsubscribe"])
    assert link is not None
    text, html = message.iter_parts()
    assert [part.get_content_type() for part in (message, text, html)] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    assert text.get_content().splitlines() == [
        "Hello Ana, your basket (https://shop.example/b) is here.",
        "",
        f"Unsubscribe ({link[1]})",
    ]
    assert f'<a href="{link[1]}">' in html.get_content()


async def test_the_texts_of_the_writer_are_kept() -> None:
    async with desk() as (server, connector):
        both = await sent(server, connector, text="In short: .\n.\nFrom here\n漢字")
        alone = await sent(server, connector, text="Only text", html=None)
    assert next(both.iter_parts()).get_content() == "In short: .\n.\nFrom here\n漢字\n".replace("\n", "\r\n")
    assert (alone.get_content_type(), alone.get_content()) == ("text/plain", "Only text\r\n")


async def test_a_repeat_can_be_recognised_and_is_the_same_to_the_byte() -> None:
    async with desk() as (server, connector):
        await sent(server, connector)
        await sent(server, connector)
        first, second = server.mails
    assert first.message["Message-ID"] == f"<{DELIVERY_ID}@shop.example>"
    assert first.message["X-Action-Id"] == DELIVERY_ID
    assert first.content == second.content


async def test_robots_are_told_not_to_answer_and_people_where_to() -> None:
    async with desk(reply_to="desk@shop.example", return_path="bounces@shop.example") as (server, connector):
        own = await sent(server, connector)
        common = await sent(server, connector, reply_to=None)
        assert {mail.sender for mail in server.mails} == {"bounces@shop.example"}
    assert own["Auto-Submitted"] == "auto-generated"
    assert (own["Reply-To"], common["Reply-To"]) == ("help@shop.example", "desk@shop.example")


async def test_one_click_is_offered_only_with_a_link() -> None:
    nothing = {"callback_url": None, "unsubscribe_secret_env": ""}
    params = {"html": "<p>Hello</p>"}
    async with desk() as (server, connector):
        both = await sent(server, connector, **params)
    async with desk(**nothing) as (server, connector):
        by_mail = await sent(server, connector, **params)
    async with desk(**nothing, unsubscribe_mailto=None) as (server, connector):
        neither = await sent(server, connector, **params)
    assert both["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert by_mail["List-Unsubscribe"] == "<mailto:leave@shop.example?subject=unsubscribe>"
    assert [message["List-Unsubscribe-Post"] for message in (by_mail, neither)] == [None, None]
    assert neither["List-Unsubscribe"] is None


async def test_a_link_that_cannot_be_made_is_not_left_out_silently() -> None:
    async with desk(callback_url=None, unsubscribe_secret_env="") as (server, connector):
        receipt = await connector.send(delivery())
    assert receipt == Receipt(
        result=Result.REFUSED,
        detail="the message holds %unsubscribe_url%, but this connector makes no such links. "
        "Set callback_url and unsubscribe_secret_env.",
        recipient=ANA,
    )
    assert server.mails == []


async def test_headers_of_the_settings_can_carry_the_ids() -> None:
    headers = {"X-PM-Metadata-action": "{action_id}/{customer_id}", "X-SES-CONFIGURATION-SET": "journey"}
    async with desk(headers=headers) as (server, connector):
        message = await sent(server, connector)
        split = await connector.send(replace(delivery(), customer_id="c1\r\nBcc: eve@evil.example"))
    assert (message["X-PM-Metadata-action"], message["X-SES-CONFIGURATION-SET"]) == (f"{DELIVERY_ID}/c1", "journey")
    assert split.result is Result.REFUSED
    control = "header \"X-PM-Metadata-action\" has the control character '\\r'"
    assert split.detail == f"the message cannot be written: {control}"
    assert len(server.mails) == 1


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        (
            {"subject": "Hello\r\nBcc: eve@evil.example"},
            'param "subject": must be one line without control characters. It is: Subject, one line.',
        ),
        (
            {"to_name": "Ana\nX: y"},
            'param "to_name": must be one line without control characters. It is: Name shown beside it.',
        ),
        (
            {"to": "ana@example.com, eve@evil.example"},
            'param "to": must be an e-mail address such as ana@example.com, and nothing else. '
            "It is: Address to write to, such as ana@example.com.",
        ),
        (
            {"html": "<p>\0</p>"},
            'param "html": holds a NUL character, which no message can carry. It is: The message as HTML.',
        ),
    ],
)
async def test_what_would_break_a_message_is_refused_unsent(params: dict[str, Any], detail: str) -> None:
    async with desk() as (server, connector):
        receipt = await connector.send(delivery(**params))
        assert server.commands == []
    assert receipt == Receipt(result=Result.REFUSED, detail=detail)


@pytest.mark.parametrize("typed", INJECTIONS)
async def test_what_a_customer_types_changes_neither_headers_nor_envelope_at_a_mail_server(typed: str) -> None:
    async with desk(headers={"X-Customer": "{customer_id}"}) as (server, connector):
        expected = list(dict.fromkeys((await sent(server, connector)).keys()))
        before = [stage for stage, _ in server.commands]
        named = delivery(to_name=typed, subject=typed, text=f"{typed}\r\n.\r\nMAIL FROM:<eve@evil.example>\n.\n{typed}")
        receipt = await connector.send(replace(named, customer_id=typed[:80]))
        first, mail = server.mails
    assert receipt.result is Result.DELIVERED
    assert mail.message.keys() == expected
    assert (mail.sender, mail.recipient) == (first.sender, first.recipient)
    assert [stage for stage, _ in server.commands] == before + before[-3:]
    raw = HeaderParser().parsestr(mail.content.decode("ascii"))
    for header, value in (("Subject", typed), ("X-Customer", typed[:80])):
        assert str(make_header(decode_header(raw[header].replace("\r\n", "")))) == value
    assert mail.message["To"].addresses[0].addr_spec == ANA
    assert len(mail.message["To"].addresses) == 1


@pytest.mark.parametrize(
    "to",
    [
        "ana@example.com>\r\nRCPT TO:<eve@evil.example",
        "ana@example.com> SIZE=1 <",
        "ana@example.com\nDATA",
        "=?utf-8?q?eve=40evil.example=2C?=@example.com",
        "ana@example.com\ud800",
    ],
    ids=ascii,
)
async def test_an_address_is_no_place_for_commands(to: str) -> None:
    async with desk() as (server, connector):
        receipt = await connector.send(delivery(to=to))
        reply = await connector.send(delivery(reply_to=to))
        assert server.commands == []
    assert (receipt.result, reply.result) == (Result.REFUSED, Result.REFUSED)
    assert (receipt.detail[:11], reply.detail[:17]) == ('param "to":', 'param "reply_to":')


@pytest.mark.parametrize("param", ["to_name", "subject", "html", "text"])
async def test_half_a_character_is_refused_unsent(param: str) -> None:
    async with desk() as (server, connector):
        receipt = await connector.send(delivery(**{param: "Ana \ud83d"}))
        assert server.commands == []
    assert receipt.result is Result.REFUSED


@pytest.mark.parametrize("utf8", [True, False])
async def test_an_address_beyond_ascii_needs_a_server_that_takes_it(utf8: bool) -> None:
    async with desk() as (server, connector):
        server.utf8 = utf8
        receipt = await connector.send(delivery(to="अना@bücher.example"))
        taken = [mail.recipient for mail in server.mails]
    if utf8:
        assert (receipt.result, taken) == (Result.DELIVERED, ["अना@xn--bcher-kva.example"])
    else:
        assert (receipt.result, taken) == (Result.REFUSED, [])
        assert receipt.detail == (
            "the server takes no address with characters outside ASCII before the @ (it does not offer SMTPUTF8)"
        )


async def test_email_carries_emails_alone() -> None:
    async with desk() as (_, connector):
        receipt = await connector.send(replace(delivery(), kind="sms"))
    assert receipt == Receipt(result=Result.REFUSED, detail='kind "sms" is not an email')


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"security": "none", "host": "mail.example.com"},
            'setting "security" may be none only when "host" is on this machine (127.0.0.1, localhost)',
        ),
        ({"password_env": ""}, 'settings "username" and "password_env" are needed both or neither'),
        (
            {"callback_url": None},
            'setting "unsubscribe_secret_env" needs "callback_url", which its links begin with',
        ),
        (
            {"host": "smtp://mail.example.com"},
            'setting "host": must be the name or address of a mail server, without a scheme or port',
        ),
        ({"headers": {"Subject": "x"}}, 'setting "headers": header "Subject" is set by the connector itself'),
        (
            {"headers": {"X-A": "b\r\nBcc: eve@evil.example"}},
            'setting "headers": header "X-A" is not one line of printable ASCII',
        ),
        (
            {"from_name": "Shop\r\nBcc: eve@evil.example"},
            'setting "from_name": must be one line without control characters',
        ),
    ],
)
async def test_settings_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    async with bench() as server:
        written = {"type": "email", **settings(server), **changes}
    with pytest.raises(ConnectorMisconfigured) as caught:
        build(NAME, written, environ=ENVIRON)
    assert [problem.message for problem in caught.value.problems] == [message]


async def test_files_and_secrets_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    async with bench() as server:
        written = {"type": "email", **settings(server)}
    with pytest.raises(ConnectorMisconfigured, match=r'setting "ca_file": .*empty\.pem cannot be read as certificates'):
        build(NAME, written | {"ca_file": str(tmp_path / "empty.pem")}, environ=ENVIRON)
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for setting, variable in (("unsubscribe_secret_env", "LINK_SECRET"), ("callback_secret_env", "REPORT_SECRET")):
        with pytest.raises(ConnectorMisconfigured) as caught:
            build(NAME, written | {"ca_file": str(tmp_path / "ca.pem")}, environ=ENVIRON | {variable: "short"})
        said = f'a secret must be whsec_ followed by base64 (in the environment variable "{variable}")'
        assert caught.value.problems[0].message == f'setting "{setting}": {said}'


# ----------------------------------------------------------------------------------------------- callbacks


def reader(**changes: Any) -> Any:
    written = {
        "host": "127.0.0.1",
        "from_address": "hello@shop.example",
        "callback_url": "https://shop.example/v1/outcomes/email",
        "unsubscribe_secret_env": "LINK_SECRET",
        "callback_secret_env": "REPORT_SECRET",
    } | changes
    assert EMAIL.callbacks is not None
    surroundings = Surroundings(
        environ={"LINK_SECRET": LINK_SECRET, "REPORT_SECRET": REPORT_SECRET}, now_s=lambda: NOW_S
    )
    return EMAIL.callbacks(NAME, EMAIL.parameters.model_validate(written), surroundings)


async def test_the_link_of_a_message_unsubscribes_its_customer() -> None:
    async with desk() as (server, connector):
        message = await sent(server, connector)
    link = re.search(r"<https://shop.example(/v1/outcomes/email)\?([^>]+)>", message["List-Unsubscribe"])
    assert link is not None
    form = {"content-type": "application/x-www-form-urlencoded"}
    one_click = Callback(
        method="POST", path=link[1], query=link[2], headers=form, body=message["List-Unsubscribe-Post"].encode()
    )
    [outcome] = reader().read(one_click).outcomes
    assert (outcome.type, outcome.customer_id, outcome.action_id) == (OutcomeType.UNSUBSCRIBED, "c1", DELIVERY_ID)


@pytest.mark.parametrize(
    ("changes", "callback", "detail"),
    [
        (
            {"callback_secret_env": ""},
            report(),
            "this connector takes no reports: set callback_secret_env",
        ),
        (
            {"unsubscribe_secret_env": ""},
            replace(report(), query="u=x"),
            "this connector makes no unsubscribe links: set unsubscribe_secret_env",
        ),
    ],
)
def test_what_the_settings_do_not_provide_for_is_refused(
    changes: dict[str, Any], callback: Callback, detail: str
) -> None:
    with pytest.raises(CallbackRefused, match=f"^{re.escape(detail)}$") as caught:
        reader(**changes).read(callback)
    assert caught.value.status == 403
