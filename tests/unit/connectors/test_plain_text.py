"""What somebody reads who sees a message without its HTML."""

from __future__ import annotations

import pytest

from connectors.plain_text import plain_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two\n  lines</p>", "One\n\nTwo lines"),
        ("One<br>two<br/>three", "One\ntwo\nthree"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b"),
        ("<h1>Title</h1><div><div>deep</div></div>", "Title\n\ndeep"),
        ('<a href="https://x.example/?a=1&amp;b=2">Open</a>', "Open (https://x.example/?a=1&b=2)"),
        ('<a href="https://x.example">https://x.example</a>', "https://x.example"),
        ('<a href="https://x.example"><img alt="Open it" src="i"></a>', "Open it (https://x.example)"),
        ('<a href="https://x.example"><img src="i"></a>', "https://x.example"),
        ('<a href="javascript:x()">Open</a>', "Open"),
        ("<html><head><title>T</title><style>p{}</style></head><body>Hi<script>x</script></body></html>", "Hi"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\n\nc"),
        ("Fish &amp; chips &lt;3 &nbsp; 漢字", "Fish & chips <3 漢字"),
        ("a < b", "a < b"),
        ("</a></style><p>odd</p>", "odd"),
        ("", ""),
    ],
)
def test_html_is_read_as_a_person_would(html: str, text: str) -> None:
    assert plain_text(html) == text
