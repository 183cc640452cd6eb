"""How a version was made, as values: what is kept, what is left out, and what comes back."""

from __future__ import annotations

import base64
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.lineage import Lineage
from nbmodel.core.provenance import (
    MAX_CELL,
    MAX_CELLS,
    MAX_DIFF,
    MAX_PACKED,
    MAX_SOURCE,
    CodeCell,
    Fingerprint,
    Machine,
    Provenance,
    Source,
    is_private,
    numbered,
)
from nbmodel.errors import ManifestError

WHOLE = Provenance(
    path="/home/ada/train.ipynb",
    cell_id="1e9aac6b",
    front_end="jupyter",
    nth=3,
    machine=Machine("Neoverse-N1", 4, 8_000_000_000, ("Orin",), "Linux 6.1 aarch64", "3.12.1"),
    seed=-7,
    data={"train": Fingerprint("sha256:" + "a" * 64, "float64 [150, 4]")},
    packed=Source((CodeCell(1, "x = 1"),), 2, "+a\n", True).pack(),
)


def noise(characters: int, seed: int = 0) -> str:
    """Text that cannot be made much shorter."""
    return "".join(
        random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=characters)
    )


@pytest.mark.parametrize("value", [Provenance(), WHOLE], ids=["nothing", "everything"])
def test_a_provenance_comes_back_from_json(value: Provenance) -> None:
    told = json.loads(json.dumps(value.to_json()))
    assert Provenance.from_json(told) == value


def test_a_provenance_is_part_of_a_lineage() -> None:
    lineage = Lineage(provenance=WHOLE)
    assert Lineage.from_json(json.loads(json.dumps(lineage.to_json()))) == lineage


def test_what_is_not_known_is_not_written() -> None:
    assert Provenance().to_json() == {}
    assert Lineage().to_json() == {}


@given(
    st.lists(
        st.builds(CodeCell, st.integers(1, 10_000), st.text(max_size=40), st.booleans()),
        max_size=8,
    ),
    st.text(max_size=80),
)
def test_source_comes_back_from_its_packed_form(cells: list[CodeCell], diff: str) -> None:
    source = Source(tuple(cells), diff=diff)
    assert Source.unpack(source.pack()) == source


def test_the_packed_form_is_zlib_in_base64() -> None:
    packed = Source((CodeCell(2, "fit()"),), diff="+a").pack()
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == {
        "cells": [{"number": 2, "code": "fit()"}],
        "diff": "+a",
    }


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param("no base64!", id="another alphabet"),
        pytest.param(base64.b64encode(b"no zlib").decode(), id="not compressed"),
        pytest.param(base64.b64encode(zlib.compress(b"[")).decode(), id="no JSON"),
        pytest.param(base64.b64encode(zlib.compress(b"[1]")).decode(), id="no object"),
        pytest.param(base64.b64encode(zlib.compress(b'{"cells":[{}]}')).decode(), id="no cell"),
        pytest.param(base64.b64encode(zlib.compress(b'{"cells":7}')).decode(), id="no cells"),
        pytest.param(
            base64.b64encode(zlib.compress(b" " * 40_000_000)).decode(), id="far too much of it"
        ),
        pytest.param(base64.b64encode(zlib.compress(b"{}")[:-3]).decode(), id="cut off"),
    ],
)
def test_what_is_no_source_is_refused(packed: str) -> None:
    with pytest.raises(ManifestError):
        Source.unpack(packed)


@pytest.mark.parametrize(
    "data",
    [
        {"nth": "many"},
        {"seed": []},
        {"data": 7},
        {"data": {"x": {}}},
        {"data": {str(place): {"digest": "", "what": ""} for place in range(2000)}},
        {"machine": 7},
        {"machine": {"cores": []}},
        {"machine": {"gpus": 7}},
        7,
    ],
    ids=str,
)
def test_a_malformed_record_is_refused(data: Any) -> None:
    with pytest.raises(ManifestError):
        Lineage.from_json({"provenance": data})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("# nbmodel: private\nkey = 1", True),
        ("key = 1\n  # nbmodel: private  ", True),
        ("key = 1  # nbmodel: private", False),
        ("# nbmodel: privately", False),
        ("", False),
    ],
)
def test_a_line_of_its_own_makes_a_cell_private(code: str, expected: bool) -> None:
    assert is_private(code) is expected


def test_cells_are_numbered_by_their_execution_count() -> None:
    cells = numbered(["", "a = 1", "  \n", "# nbmodel: private\nb = 2", "c = 3"])
    assert cells == (CodeCell(1, "a = 1"), CodeCell(3, "", is_private=True), CodeCell(4, "c = 3"))
    assert not Source(cells).is_whole
    assert Source(cells[:1]).is_whole


def test_the_end_of_a_long_cell_is_left_out() -> None:
    (cell,) = numbered(["", "x" * (MAX_CELL + 1)])
    assert (len(cell.code), cell.is_cut) == (MAX_CELL, True)
    assert not Source((cell,)).is_whole
    (cell,) = numbered(["", "x" * MAX_CELL])
    assert not cell.is_cut


def test_the_oldest_cells_are_left_out_first() -> None:
    long = tuple(CodeCell(number, "x" * MAX_CELL) for number in range(1, 21))
    kept = Source(long).bounded()
    assert sum(len(cell.code) for cell in kept.cells) <= MAX_SOURCE
    assert kept.cells == long[-len(kept.cells) :]
    assert kept.left_out == 20 - len(kept.cells) > 0
    many = Source(tuple(CodeCell(number, "x") for number in range(1, MAX_CELLS + 3))).bounded()
    assert (len(many.cells), many.left_out) == (MAX_CELLS, 2)


def test_a_long_diff_ends_with_a_line() -> None:
    kept = Source(diff="+line\n" * MAX_DIFF).bounded()
    assert kept.is_diff_cut
    assert len(kept.diff) <= MAX_DIFF
    assert kept.diff.endswith("+line\n")


def test_what_cannot_be_made_short_is_left_out_until_it_fits() -> None:
    cells = tuple(CodeCell(number, noise(20_000, number)) for number in range(1, 21))
    packed = Source(cells, diff=noise(MAX_DIFF)).pack()
    assert len(packed) <= MAX_PACKED
    kept = Source.unpack(packed)
    assert kept.cells == cells[-len(kept.cells) :]
    assert kept.left_out == 20 - len(kept.cells)
    assert (kept.diff, kept.is_diff_cut) == ("", True)


def test_a_notebook_of_some_length_is_kept_as_a_whole() -> None:
    code = "model = train(data, epochs=10)\nplot(model.history)\n" * 30
    source = Source(tuple(CodeCell(number, f"# {number}\n{code}") for number in range(1, 101)))
    assert Source.unpack(source.pack()) == source
