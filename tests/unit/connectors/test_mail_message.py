"""Messages: whatever a template brings, they keep to the form that every mail server takes."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import TypeAdapter, ValidationError

from connectors.mail_message import BodyText, EmailAddress, Mail, OneLine, message_bytes, message_id, needs_utf8

ADDRESS: TypeAdapter[str] = TypeAdapter(EmailAddress)
LINE: TypeAdapter[str] = TypeAdapter(OneLine)
TEXT: TypeAdapter[str] = TypeAdapter(BodyText)


def mail(**changes: Any) -> Mail:
    written: dict[str, Any] = {
        "action_id": "7d0c41",
        "at_s": 1_772_442_000.0,
        "sender": ("Shop", "hello@shop.example"),
        "recipient": ("Ana", "ana@example.com"),
        "subject": "Hello",
        "text": "Hello",
    }
    return Mail(**written | changes)


def parsed(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def takes(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


lines = some.text(max_size=150).filter(lambda text: takes(LINE, text)).map(LINE.validate_python)
texts = some.text(max_size=500).filter(lambda text: takes(TEXT, text))


@settings(max_examples=40, deadline=None)
@given(name=lines, subject=lines, text=texts, html=texts)
def test_any_text_makes_a_message_of_the_right_form(name: str, subject: str, text: str, html: str) -> None:
    content = message_bytes(mail(recipient=(name, "ana@example.com"), subject=subject, text=text, html=html))
    message = parsed(content)
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", content) is None
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert [defect for part in message.walk() for defect in part.defects] == []
    assert content.endswith(b"\r\n")
    assert message["To"].addresses[0].addr_spec == "ana@example.com"
    assert sorted(set(message.keys())) == sorted(message.keys())
    assert not {"bcc", "cc"} & {header.lower() for header in message}


@settings(max_examples=40, deadline=None)
@given(subject=lines, text=texts)
def test_what_was_written_is_what_is_read(subject: str, text: str) -> None:
    message = parsed(message_bytes(mail(subject=subject, text=text)))
    # Mail programs fold blanks in headers, and line ends are those of the wire.
    assert str(message["Subject"]).split() == subject.split()
    read = message.get_content().replace("\r\n", "\n")
    assert read.rstrip("\n") == re.sub(r"\r\n?", "\n", text).rstrip("\n")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("ana@example.com", "ana@example.com"),
        (" ana@example.com\n", "ana@example.com"),
        ("ana+tag.x'y=z@sub.example.co.in", "ana+tag.x'y=z@sub.example.co.in"),
        ("ana@bücher.example", "ana@xn--bcher-kva.example"),
        ("ana@उदाहरण.भारत", "ana@xn--p1b6ci4b4b3a.xn--h2brj9c"),
        ("अना@example.com", "अना@example.com"),
    ],
)
def test_addresses_are_taken_with_their_domain_in_ascii(written: str, address: str) -> None:
    assert ADDRESS.validate_python(written) == address


@pytest.mark.parametrize(
    "written",
    [
        "",
        "ana",
        "@example.com",
        "ana@",
        "ana@@example.com",
        "a@b@example.com",
        "Ana <ana@example.com>",
        "ana@example.com, eve@evil.example",
        "ana@example.com\r\nBcc: eve@evil.example",
        "ana@exam ple.com",
        '"ana"@example.com',
        "ana..b@example.com",
        ".ana@example.com",
        "ana@-example.com",
        "ana@example..com",
        "ana@[127.0.0.1]",
        "ana@☃..example",
        "a" * 250 + "@example.com",
        "ana\0@example.com",
    ],
)
def test_what_is_no_address_is_refused(written: str) -> None:
    with pytest.raises(ValidationError, match=r"must be an e-mail address such as ana@example\.com, and"):
        ADDRESS.validate_python(written)


@pytest.mark.parametrize("written", ["a\nb", "a\r\nBcc: x", "a\x0bb", "a\x85b", "a\u2028b", "a\0b", "a\x7fb"])
def test_a_header_is_one_line(written: str) -> None:
    with pytest.raises(ValidationError, match="must be one line without control characters"):
        LINE.validate_python(written)


def test_ids_that_cannot_stand_in_a_message_id_are_hashed() -> None:
    assert message_id("7d0c41", "hello@shop.example") == "<7d0c41@shop.example>"
    assert re.fullmatch(r"<[0-9a-f]{64}@shop.example>", message_id("a b\r\nc", "hello@shop.example"))


def test_a_long_link_to_unsubscribe_is_not_encoded() -> None:
    link = "https://shop.example/v1/outcomes/email?u=" + "x" * 400
    content = message_bytes(mail(unsubscribe=(link, "mailto:leave@shop.example"), one_click=True))
    assert f"List-Unsubscribe: <{link}>,\r\n <mailto:leave@shop.example>\r\n".encode() in content
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in content


def test_utf8_is_needed_for_local_parts_alone() -> None:
    assert not needs_utf8(mail(recipient=("漢字", "ana@xn--bcher-kva.example")))
    assert needs_utf8(mail(recipient=("", "अना@example.com")))
