"""From the line behind the magic to words."""

from __future__ import annotations

from typing import Any

import pytest

from nbmodel.errors import InputError
from nbmodel.magics.words import split_line

pytest.importorskip("IPython", reason="needs nbmodel[notebook]")

NAMESPACE: dict[str, Any] = {"name": "digits", "accuracy": 0.97531, "folder": "my models"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("list", ["list"], id="one word"),
        pytest.param("list ;", ["list"], id="a semicolon is for IPython"),
        pytest.param("list;", ["list"], id="also without a space"),
        pytest.param("pin {name}:3 --why 'a b'", ["pin", "digits:3", "--why", "a b"], id="quotes"),
        pytest.param("show $name", ["show", "digits"], id="a dollar"),
        pytest.param("-m acc={accuracy:.3f}", ["-m", "acc=0.975"], id="a format"),
        pytest.param("-m acc={accuracy*100:.0f}", ["-m", "acc=98"], id="an expression"),
        pytest.param(
            "pull digits {folder}", ["pull", "digits", "my models"], id="spaces in a value"
        ),
        pytest.param("""do s '{"a":1}'""", ["do", "s", '{"a":1}'], id="JSON is left alone"),
        pytest.param("do s '[1, 2]'", ["do", "s", "[1, 2]"], id="a JSON list too"),
        pytest.param("show {unknown}", ["show", "{unknown}"], id="what is no value stays"),
        pytest.param("infer d X[:4]", ["infer", "d", "X[:4]"], id="brackets are words"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_a_line_becomes_words(line: str, words: list[str]) -> None:
    assert split_line(line, NAMESPACE) == words


def test_an_open_quote_is_told() -> None:
    with pytest.raises(InputError, match="No closing quotation") as caught:
        split_line("describe digits 'half", NAMESPACE)
    assert caught.value.hint == "close the quote"
