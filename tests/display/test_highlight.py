"""Code in pieces: nothing is lost, and what has a colour is what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.display.card import Card, Code
from nbmodel.display.highlight import MAX_HIGHLIGHTED, pieces
from nbmodel.display.render_html import render_html

LANGUAGES = ("python", "diff", "")


@given(st.text(alphabet=st.sampled_from("aé1 \n\t\"'#%!\\=+-@ifr")), st.sampled_from(LANGUAGES))
def test_the_pieces_are_the_text(text: str, language: str) -> None:
    assert "".join(piece for piece, _ in pieces(text, language)) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("x = 1", [("1", "number")], id="a number"),
        pytest.param("if x:", [("if", "keyword")], id="a keyword"),
        pytest.param("notify = iffy", [], id="names that begin like keywords"),
        pytest.param("x1 = a2", [], id="names with digits"),
        pytest.param("0x1f + 1.5e3", [("0x1f", "number"), ("1.5e3", "number")], id="numbers"),
        pytest.param("# if 1", [("# if 1", "comment")], id="a comment"),
        pytest.param("'# no' # yes", [("'# no'", "text"), ("# yes", "comment")], id="a text first"),
        pytest.param(r"'a\'b'", [(r"'a\'b'", "text")], id="an escaped quote"),
        pytest.param('rb"""a\n"b"""', [('rb"""a\n"b"""', "text")], id="a text of two lines"),
        pytest.param("'open\nx", [("'open", "text")], id="a text that is not closed"),
        pytest.param('"""open\nx', [('"""open\nx', "text")], id="a long one"),
        pytest.param("%%time\nx % y", [("%%time", "magic")], id="a magic, and a remainder"),
        pytest.param(" !ls -l", [(" !ls -l", "magic")], id="a shell command"),
    ],
)
def test_python(code: str, expected: list[tuple[str, str]]) -> None:
    assert [one for one in pieces(code, "python") if one[1]] == expected


def test_a_diff() -> None:
    text = "--- a\n+++ b\n@@ -1 +1 @@\n-old\n+new\n same\n"
    found = [one for one in pieces(text, "diff") if one[1]]
    assert found == [
        ("--- a", "place"),
        ("+++ b", "place"),
        ("@@ -1 +1 @@", "place"),
        ("-old", "removed"),
        ("+new", "added"),
    ]


def test_what_is_long_is_plain() -> None:
    text = "if " * MAX_HIGHLIGHTED
    assert list(pieces(text, "python")) == [(text, "")]


def test_html_has_the_pieces_escaped() -> None:
    html = render_html(Card("", blocks=[Code("if x < '<b>': # &", "python")]))
    assert '<span class="nbm-keyword">if</span> x &lt; ' in html
    assert '<span class="nbm-text">&#x27;&lt;b&gt;&#x27;</span>' in html
    assert '<span class="nbm-comment"># &amp;</span>' in html
    plain = render_html(Card("", blocks=[Code("if x")]))
    assert "<code>if x</code>" in plain
