"""From the line behind the magic to words."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        pytest.param(
            'infer iris X[["petal width (cm)"]]',
            ["infer", "iris", 'X[["petal width (cm)"]]'],
            id="quotes in brackets are Python's",
        ),
        pytest.param('infer net im.convert("L")', ["infer", "net", 'im.convert("L")'], id="a call"),
        pytest.param(
            'log m f --sample np.zeros((1, 28), "uint8")',
            ["log", "m", "f", "--sample", 'np.zeros((1, 28), "uint8")'],
            id="spaces in brackets",
        ),
        pytest.param("infer m X.iloc[:2, ::-1]", ["infer", "m", "X.iloc[:2, ::-1]"], id="a slice"),
        pytest.param(
            'do s@edge {"command": "stats"}',
            ["do", "s@edge", '{"command": "stats"}'],
            id="JSON without quotes around it",
        ),
        pytest.param(
            """infer m 'X[["a b"]]'""", ["infer", "m", 'X[["a b"]]'], id="a quoted expression"
        ),
        pytest.param(
            """infer m d["it's"]""", ["infer", "m", """d["it's"]"""], id="a quote in quotes"
        ),
        pytest.param("describe m --x='a b'", ["describe", "m", "--x=a b"], id="a quote in a word"),
        pytest.param("describe m (half", ["describe", "m", "(half"], id="a bracket left open"),
        pytest.param("pull m a\\ b", ["pull", "m", "a b"], id="an escaped space"),
        pytest.param('upload "my file.onnx"', ["upload", "my file.onnx"], id="a path in quotes"),
    ],
)
def test_a_line_becomes_words(line: str, words: list[str]) -> None:
    assert split_line(line, NAMESPACE) == words


def test_an_open_quote_is_told() -> None:
    with pytest.raises(InputError, match="No closing quotation") as caught:
        split_line("describe digits 'half", NAMESPACE)
    assert caught.value.hint == "close the quote"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="$;{}\r\n"), max_size=12)))
def test_what_a_shell_quotes_comes_back(words: list[str]) -> None:
    assert split_line(shlex.join(words), {}) == words


@given(st.lists(st.from_regex(r"[a-z0-9_@:=./-]+", fullmatch=True)))
def test_plain_words_are_told_apart_by_spaces(words: list[str]) -> None:
    assert split_line("  ".join(words), {}) == words
