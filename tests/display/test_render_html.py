"""What of a card's words becomes markup of a page."""

from __future__ import annotations

import pytest

from nbmodel.display.card import Card, Note
from nbmodel.display.render_html import render_html


@pytest.mark.parametrize(
    ("words", "page"),
    [
        pytest.param(
            "`pull` brings `digits:3`",
            '<code class="nbm-mono">pull</code> brings <code class="nbm-mono">digits:3</code>',
            id="what is to be typed",
        ),
        pytest.param("5` of rope", "5` of rope", id="one alone"),
        pytest.param(
            "`<script>` here",
            '<code class="nbm-mono">&lt;script&gt;</code> here',
            id="what somebody else wrote",
        ),
        pytest.param("`a\nb`", "`a<br>b`", id="two lines"),
    ],
)
def test_words_between_backticks_of_a_note_are_code(words: str, page: str) -> None:
    assert f">{page}</p>" in render_html(Card("card", blocks=[Note(words)]))
