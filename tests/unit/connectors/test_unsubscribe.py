"""Unsubscribe links: only ours work, opening one changes nothing, and what one click means."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest

from connectors.callback import Callback, CallbackRefused, Outcome, OutcomeType
from connectors.unsubscribe import UnsubscribeLinks, UnsubscribeReader

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
URL = "https://shop.example/v1/outcomes/email"
NOW_S = 1_772_442_000.0
FORM = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = (
    b'--b0\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b0--\r\n',
    {"content-type": "multipart/form-data; boundary=b0"},
)


def links(*keys: bytes) -> UnsubscribeLinks:
    return UnsubscribeLinks(URL, keys or (NEW,))


def reader(*keys: bytes, at_s: float = NOW_S, purposes: tuple[str, ...] = ()) -> UnsubscribeReader:
    return UnsubscribeReader(links(*keys), "Zoë & Co", lambda: at_s, purposes)


def click(link: str, body: bytes = b"List-Unsubscribe=One-Click") -> Callback:
    parts = urlsplit(link)
    return Callback(method="POST", path=parts.path, query=parts.query, headers=FORM, body=body)


def test_one_click_names_the_customer_and_the_action() -> None:
    link = links().link("c 漢字", "7d0c41")
    reading = reader().read(click(link))
    [outcome] = reading.outcomes
    assert outcome == Outcome(
        id=outcome.id,
        type=OutcomeType.UNSUBSCRIBED,
        action_id="7d0c41",
        customer_id="c 漢字",
        at_ms=1_772_442_000_000,
        properties={"channel": "email", "reason": "one_click"},
    )
    assert (reading.status, reading.media_type) == (200, "text/html; charset=utf-8")
    assert "You are unsubscribed" in reading.body.decode()


def test_a_form_of_either_kind_is_a_click() -> None:
    body, headers = MULTIPART
    [outcome] = reader().read(replace(click(links().link("c1", "a1")), body=body, headers=headers)).outcomes
    assert outcome.customer_id == "c1"


def test_a_click_repeated_at_once_is_one_and_a_later_one_another() -> None:
    """Somebody who subscribed again in between must be able to leave by the same link."""
    link = links().link("c1", "a1")
    ids = [reader(at_s=NOW_S + later_s).read(click(link)).outcomes[0].id for later_s in (0, 5, 90)]
    assert ids[0] == ids[1] != ids[2]
    assert reader().read(click(links().link("c2", "a1"))).outcomes[0].id != ids[0]


@pytest.mark.parametrize(
    ("purposes", "closed", "told"),
    [
        ((), {}, "You will get no more e-mail from Zoë & Co."),
        (
            ("marketing", "product_news"),
            {"purposes": ["marketing", "product_news"]},
            "You will get no more messages from Zoë & Co for marketing or product news, by e-mail or otherwise. "
            "Messages for other purposes still come.",
        ),
    ],
)
def test_a_click_closes_what_the_settings_say_and_the_page_tells_which(
    purposes: tuple[str, ...], closed: dict[str, list[str]], told: str
) -> None:
    """The link is the same as ever, so that those in old mail close what the settings say now."""
    callback = click(links().link("c1", "a1"))
    asked = reader(purposes=purposes).read(replace(callback, method="GET"))
    done = reader(purposes=purposes).read(callback)
    assert done.outcomes[0].properties == {"channel": "email", "reason": "one_click", **closed}
    assert f"If you unsubscribe: {told}" in Page(asked.body.decode()).text
    assert told in Page(done.body.decode()).text


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_opening_the_link_changes_nothing_and_shows_a_button(method: str) -> None:
    link = links().link("c1", "a1")
    reading = reader().read(replace(click(link), method=method))
    assert reading.outcomes == ()
    page = Page(reading.body.decode())
    assert page.attributes("html")["lang"] == "en"
    assert "Zoë & Co" in page.text
    form = page.attributes("form")
    assert (form["method"], urlsplit(form["action"] or "").query) == ("post", urlsplit(link).query)
    hidden = page.attributes("input")
    pressed = f"{hidden['name']}={hidden['value']}".encode()
    assert reader().read(replace(click(URL + (form["action"] or "")), body=pressed)).outcomes[0].customer_id == "c1"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", FORM),
        (b"List-Unsubscribe=Two-Clicks", FORM),
        (b"One-Click", {}),
        (b"List-Unsubscribe=One-Click&" + b"x" * 10_000, FORM),
        (b"no multipart", MULTIPART[1]),
    ],
)
def test_a_post_that_does_not_say_so_is_no_click(body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(CallbackRefused, match="POST the form List-Unsubscribe=One-Click") as caught:
        reader().read(replace(click(links().link("c1", "a1"), body), headers=headers))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1],
        lambda token: token.partition(".")[0],
        lambda token: "." + token.partition(".")[2],
        lambda token: "WyJjMiIsImExIl0" + token[token.index(".") :],
        lambda token: token + "é",
        lambda token: "",
    ],
)
def test_a_link_that_is_not_ours_is_refused(spoil: object) -> None:
    token = urlsplit(links().link("c1", "a1")).query.removeprefix("u=")
    assert callable(spoil)
    forged = replace(click(URL), query="u=" + spoil(token))
    for method in ("GET", "POST"):
        with pytest.raises(CallbackRefused) as caught:
            reader().read(replace(forged, method=method))
        assert caught.value.status == 403


def test_a_key_is_replaced_without_losing_the_links_in_old_mail() -> None:
    link = links(OLD).link("c1", "a1")
    assert reader(NEW, OLD).read(click(link)).outcomes[0].customer_id == "c1"
    with pytest.raises(CallbackRefused):
        reader(NEW).read(click(link))


def test_the_link_holds_no_more_than_ids_and_keeps_the_query_of_its_url() -> None:
    assert links().link("c1", "a1") == links().link("c1", "a1")
    assert UnsubscribeLinks(URL + "?w=1", (NEW,)).link("c1", "a1").startswith(URL + "?w=1&u=")


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self._tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> dict[str, str | None]:
        [found] = [attributes for name, attributes in self._tags if name == tag]
        return found
