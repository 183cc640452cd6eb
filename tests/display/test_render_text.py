"""Plain text: columns line up, whatever is in them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.display.card import Bar, Card, Chip, Code, Facts, Fold, Mono, Note, Swatch, Table
from nbmodel.display.printable import printable
from nbmodel.display.render_text import block_text, cell_text, render_text, width


def test_a_whole_card() -> None:
    card = Card(
        "digits:3",
        [Chip("onnx"), Chip("latest", "good")],
        [
            Facts([("size", "14 MB"), ("nothing", ""), ("digest", Mono("sha256:ab"))]),
            Table(("name", ">size"), [("a", "1"), ("long name", "1000")], title="files"),
            Fold("10 labels", [Code("0\n1")], "0, 1, …"),
            Note("done"),
        ],
    )
    assert render_text(card) == (
        "digits:3  onnx · latest\n"
        "  size    14 MB\n"
        "  digest  sha256:ab\n"
        "\n"
        "files\n"
        "  name       size\n"
        "  ─────────  ────\n"
        "  a             1\n"
        "  long name  1000\n"
        "\n"
        "10 labels: 0, 1, …\n"
        "done"
    )


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        pytest.param(1.0, "█" * 20, id="the whole"),
        pytest.param(0.5, "█" * 10, id="half"),
        pytest.param(0.525, "█" * 10 + "▌", id="an eighth of a block matters"),
        pytest.param(0.0001, "▏", id="nearly nothing leaves a mark"),
        pytest.param(0.0, "", id="nothing"),
        pytest.param(7.0, "█" * 20, id="more than the whole"),
        pytest.param(-1.0, "", id="less than nothing"),
        pytest.param(math.nan, "", id="not a number"),
    ],
)
def test_bars(share: float, expected: str) -> None:
    assert cell_text(Bar(share)) == expected


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("é", 1), ("e\u0301", 1), ("猫", 2), ("ﾈｺ", 2), ("", 0)],
    ids=["ascii", "composed", "combining", "wide", "half width", "nothing"],
)
def test_width_in_columns(text: str, columns: int) -> None:
    assert width(text) == columns


def test_wide_characters_do_not_shift_the_next_column() -> None:
    lines = block_text(Table(("name", "x"), [("猫", "|"), ("cat", "|")])).split("\n")
    assert {width(line.partition("|")[0]) for line in lines[2:]} == {2 + 4 + 2}


@given(st.lists(st.tuples(st.text(max_size=100), st.text(max_size=100)), min_size=1, max_size=5))
def test_every_line_of_a_table_fits_the_rule_under_its_headers(rows: list[tuple[str, str]]) -> None:
    text = block_text(Table(("first", ">second"), rows))
    _, rule, *lines = text.split("\n") if text.count("\n") > 1 else ["", "", ""]
    assert all(width(line) <= width(rule) for line in lines)
    if any(a or b for a, b in rows):
        assert len(lines) == len(rows)


@given(st.text())
def test_printable_text_is_obeyed_by_nothing_and_stays_the_same_twice(text: str) -> None:
    shown = printable(text)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)
    assert printable(shown) == shown
    shown.encode()


def test_what_may_stay_stays() -> None:
    assert printable("a\tb\n\x07", keep_lines=True) == "a\tb\n\\x07"
    assert printable("👩\u200d🔬 naïve") == "👩\u200d🔬 naïve"


def test_long_cells_are_cut_but_what_is_copied_is_not() -> None:
    assert len(cell_text("x" * 500)) == 72
    assert cell_text("x" * 500).endswith("…")
    assert cell_text(Mono("x" * 500)) == "x" * 500
    assert cell_text((Swatch((1, 2, 3)), "a", Chip("b"))) == "a b"


def test_columns_in_which_nothing_is_are_left_out() -> None:
    table = Table(("a", "b", "c"), [("1", "", Mono("")), ("2", (), "")])
    assert block_text(table) == "  a\n  ─\n  1\n  2"
