"""Headers: whatever a value holds, it is read as it was typed, and the bytes have no header but ours."""

from __future__ import annotations

import re
from email.header import decode_header
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from pydantic import TypeAdapter, ValidationError

from connectors.mail_header import (
    bracketed_header,
    literal_header,
    machine_header,
    mailbox_header,
    text_header,
)
from connectors.mail_message import EmailAddress, Mail, OneLine, message_bytes

LINE: TypeAdapter[str] = TypeAdapter(OneLine)
INJECTIONS = [
    "=?utf-8?q?=0d=0aBcc:eve=40evil.example?=",
    "=?utf-8?q?=0d=0aBcc:eve=40evil.example=0d=0aX:?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBldmlsLmV4YW1wbGUNCg0KPGgxPg==?=",
    "=?UTF-8*EN?Q?=0D=0ABcc:eve=40evil.example?= and more",
    "=?utf-8?q?=0a=0a<h1>Hello</h1>?=",
    "=?utf-8?q?a=2Ceve=40evil.example?=",
    "é =?utf-8?q?=0d=0aBcc:eve=40evil.example?=",
    "=?utf-8?q?=?= =?utf-8?q?0d=0aBcc:x?=",
    "=?utf-7?Q?+AA0ACg-Bcc:x?=",
    '", eve@evil.example, "',
    "Ana (comment) <eve@evil.example>",
    "friends: eve@evil.example;",
    'back\\slash\\" <eve@evil.example>',
    "x" * 400,
    "wide " * 80,
    "漢字" * 90,
    "\U0001f44b" * 60,
    "a" * 70 + " " * 100 + "b",
    "Bcc: eve@evil.example",
    ":;<>@,.[]()",
]
#: Texts made of what means something to a parser of mail, and texts of anything.
PIECES = ["=?", "?=", "=?utf-8?q?", "=0d=0a", "Bcc:", "<", ">", "@", ",", ";", '"', "\\", "(", ")", " ", "=", "é", "漢"]
hostile = some.one_of(
    some.sampled_from(INJECTIONS),
    some.lists(some.sampled_from([*PIECES, "x" * 80]), max_size=25).map("".join),
    some.text(max_size=200),
)
lines = hostile.filter(lambda text: not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text)).map(
    str.strip
)


def fields(content: bytes) -> list[tuple[str, str]]:
    """Read headers by the letter of RFC 5322, 2.2, after having looked at their bytes."""
    head, _, _ = content.partition(b"\r\n\r\n")
    assert re.search(rb"(?<!\r)\n|\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]", head) is None
    assert all(line.strip() for line in head.split(b"\r\n"))
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", head).decode("ascii").split("\r\n")
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in unfolded)]


def shown(value: str) -> str:
    """Return what a reader sees of free text (RFC 2047), decoded once."""
    parts = [(part, charset) for part, charset in decode_header(value)]
    return "".join(part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in parts)


def mailbox(value: str) -> tuple[str, str]:
    """Return name and address of a header of one mailbox, read by RFC 5322, 3.4."""
    name, _, address = value.rpartition(" ")
    if quoted := re.fullmatch(r'"((?:[^"\\]|\\.)*)"', name):
        assert "=?" not in name
        return re.sub(r"\\(.)", r"\1", quoted[1]), address.strip("<>")
    assert re.fullmatch(r"[^\"(),:;<>@\[\\\].]*", name), name
    return shown(name) if name else "", address.strip("<>")


@settings(max_examples=300, deadline=None)
@given(text=lines)
@example(text="a" * 69)
@example(text="a" * 70)
def test_text_is_read_as_it_was_typed(text: str) -> None:
    written = text_header("Subject", text)
    assert max(map(len, written.split("\r\n"))) <= 78
    [(name, value)] = fields(written.encode() + b"\r\n")
    assert (name, shown(value)) == ("Subject", text)


@settings(max_examples=300, deadline=None)
@given(label=lines)
def test_a_name_is_read_as_it_was_typed_and_changes_no_address(label: str) -> None:
    written = mailbox_header("To", label, "ana@example.com")
    assert max(map(len, written.split("\r\n"))) <= 78
    [(name, value)] = fields(written.encode() + b"\r\n")
    assert (name, mailbox(value)) == ("To", (label, "ana@example.com"))


@settings(max_examples=100, deadline=None)
@given(text=lines)
def test_what_programs_read_is_as_it_was_or_an_encoded_word(text: str) -> None:
    try:
        written = machine_header("X-Customer", text)
    except ValueError as error:
        assert str(error) == 'header "X-Customer" has a line of more than 998 bytes'
        return
    [(name, value)] = fields(written.encode() + b"\r\n")
    assert (name, shown(value)) == ("X-Customer", text)


CONTROLS = [
    "\r\nBcc: x",
    "a\nb",
    "a\rb",
    "a\0b",
    "a\x0bb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "a\u2029b",
    "a\ud800b",
    "a\udc0ab",
]


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_no_control_character_reaches_a_header(control: str) -> None:
    writers: list[Any] = [
        lambda: text_header("Subject", control),
        lambda: machine_header("X-Customer", control),
        lambda: mailbox_header("To", control, "ana@example.com"),
        lambda: mailbox_header("To", "Ana", f"ana{control}@example.com"),
        lambda: literal_header("X-A", control),
        lambda: bracketed_header("List-Unsubscribe", [control]),
    ]
    for write in writers:
        with pytest.raises(ValueError, match=r'^header "[A-Za-z-]+"'):
            write()


def test_addresses_in_brackets_cannot_leave_them() -> None:
    for address in ("https://a.example/>,<mailto:eve@evil.example", "https://a.example/ b", "https://ä.example"):
        with pytest.raises(ValueError, match=r'^header "List-Unsubscribe": an address is not printable ASCII'):
            bracketed_header("List-Unsubscribe", [address])
    with pytest.raises(ValueError, match=r'^header "List-Unsubscribe" has a line of more than 998 bytes$'):
        bracketed_header("List-Unsubscribe", ["https://a.example/" + "x" * 990])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text_header("Subject", "Your basket, 10 % off"), "Subject: Your basket, 10 % off\r\n"),
        (
            text_header("Subject", "word " * 20 + "end"),
            "Subject: word word word word word word word word word word word word word\r\n"
            " word word word word word word word end\r\n",
        ),
        (mailbox_header("To", "Ana", "ana@example.com"), "To: Ana <ana@example.com>\r\n"),
        (mailbox_header("To", "", "ana@example.com"), "To: ana@example.com\r\n"),
        (mailbox_header("To", 'M. "A" O\\X', "ana@example.com"), 'To: "M. \\"A\\" O\\\\X" <ana@example.com>\r\n'),
        (mailbox_header("To", "Zoë", "ana@example.com"), "To: =?utf-8?q?Zo=C3=AB?= <ana@example.com>\r\n"),
        (mailbox_header("To", "Ana", "अना@example.com"), "To: Ana <अना@example.com>\r\n"),
        (machine_header("X-Id", "7d/" + "c" * 100), f"X-Id: 7d/{'c' * 100}\r\n"),
    ],
)
def test_headers_are_written_as_people_write_them(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    "written",
    [
        "=?utf-8?q?eve=40evil.example=2C?=@example.com",
        "=?utf-8?q?x?=@example.com",
        "an\u200ba\u2028@example.com",
        "an\x85a@example.com",
        "a\ud800@example.com",
        "ana@example.com\0",
        "ana@ex\u2028ample.com",
        "ana@example.com>\r\nRCPT TO:<eve@evil.example",
        "ana(comment)@example.com",
        "friends:ana@example.com;",
        '"ana eve"@example.com',
        "ana@example.com eve@evil.example",
        "ana@example.com> SIZE=1",
        "<ana@example.com>",
        "@relay.example:ana@example.com",
    ],
)
def test_what_could_be_read_as_more_than_one_address_is_refused(written: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(EmailAddress).validate_python(written)


@settings(max_examples=100, deadline=None)
@given(name=lines, subject=lines, customer=hostile, text=some.text(max_size=200), html=some.text(max_size=200))
def test_a_message_has_our_headers_and_no_other(name: str, subject: str, customer: str, text: str, html: str) -> None:
    mail = Mail(
        action_id="7d0c41",
        at_s=1_772_442_000.0,
        sender=(name, "hello@shop.example"),
        recipient=(name, "ana@example.com"),
        subject=subject,
        text=text,
        html=html,
        reply_to="help@shop.example",
        unsubscribe=("https://shop.example/u?u=x", "mailto:leave@shop.example"),
        one_click=True,
        headers={"X-Set": "journey"},
        headers_with_ids={"X-Customer": customer},
    )
    try:
        content = message_bytes(mail)
    except ValueError as error:
        assert "X-Customer" in str(error) or "surrogates not allowed" in str(error)
        return
    read = fields(content)
    assert [key for key, _ in read[:12]] == [
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Action-Id", "Reply-To"),
        *("List-Unsubscribe", "List-Unsubscribe-Post", "X-Set", "X-Customer"),
    ]
    assert {key for key, _ in read[12:]} <= {"Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
    assert mailbox(read[1][1]) == (name, "ana@example.com")
