"""The same values have the same fingerprint, however they lie in memory; others have another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.errors import InputError
from nbmodel.provenance.fingerprint import fingerprints


def digest(value: object) -> str:
    return fingerprints({"x": value})["x"].digest


GRID = np.arange(12, dtype=np.float64).reshape(3, 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(GRID, GRID.copy(), id="a copy"),
        pytest.param(GRID, np.asfortranarray(GRID), id="another order in memory"),
        pytest.param(GRID, np.repeat(GRID, 2, axis=1)[:, ::2], id="a view with gaps"),
        pytest.param(GRID, GRID.astype(">f8"), id="another order of bytes"),
        pytest.param({"a": 1, "b": GRID}, {"b": GRID, "a": 1}, id="a mapping in another order"),
        pytest.param([1, {"a": 2}], [1, {"a": 2}], id="JSON values"),
        pytest.param(np.array(["a", "b"]), np.array(["a", "b"], object), id="text"),
        pytest.param(b"raw", bytearray(b"raw"), id="bytes"),
    ],
)
def test_equal_values(one: object, other: object) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(GRID, GRID + np.eye(3, 4) * 1e-12, id="the last bit of a number"),
        pytest.param(GRID, GRID.reshape(4, 3), id="another shape"),
        pytest.param(GRID, GRID.astype(np.float32), id="another datatype"),
        pytest.param(np.zeros(0), np.zeros((0, 4)), id="nothing, of another shape"),
        pytest.param(np.array(["ab", "c"]), np.array(["a", "bc"]), id="text cut elsewhere"),
        pytest.param(np.array(["1"]), np.array([1]), id="a text and a number"),
        pytest.param({"a": GRID}, {"b": GRID}, id="another name in a mapping"),
        pytest.param({"a": GRID}, GRID, id="a mapping of one"),
        pytest.param([1, 2], [2, 1], id="a list in another order"),
        pytest.param([True], [1], id="true and one"),
    ],
)
def test_other_values(one: object, other: object) -> None:
    assert digest(one) != digest(other)


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "iris.csv"
    file.write_bytes(b"a,b\n1,2\n" * 300_000)
    found = fingerprints({"train": str(file), "again": file})
    assert found["train"].digest == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["train"] == found["again"]
    assert found["train"].what == "iris.csv, 2400000 bytes"


def frames() -> list[Any]:
    modules = []
    for name in ("pandas", "polars"):
        try:
            modules.append(__import__(name))
        except ImportError:
            continue
    return modules


COLUMNS = {"width": [1.5, 2.5, 3.5], "kind": ["a", None, "c"], "count": [1, 2, 3]}


@pytest.mark.parametrize("library", frames(), ids=lambda one: str(one.__name__))
def test_a_data_frame(library: Any) -> None:
    frame = library.DataFrame(COLUMNS)
    found = fingerprints({"x": frame})["x"]
    assert found.what == "3 rows × 3 columns"
    assert digest(library.DataFrame(COLUMNS)) == found.digest
    for other in (
        {**COLUMNS, "count": [1, 2, 4]},
        {**COLUMNS, "kind": ["a", "None", "c"]},
        {**COLUMNS, "count": [1.0, 2.0, 3.0]},
        {"height" if name == "width" else name: column for name, column in COLUMNS.items()},
        dict(reversed(COLUMNS.items())),
    ):
        assert digest(library.DataFrame(other)) != found.digest


def test_index_categories_and_columns_of_one_name_count() -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame(COLUMNS)
    assert digest(frame) != digest(frame.set_axis(["p", "q", "r"]))
    two = pandas.Series(["a", "b"], dtype=pandas.CategoricalDtype(["a", "b"])).to_frame()
    three = pandas.Series(["a", "b"], dtype=pandas.CategoricalDtype(["a", "b", "c"])).to_frame()
    assert digest(two) != digest(three)
    twice = pandas.DataFrame([[1, 2]], columns=["x", "x"])
    assert digest(twice) != digest(pandas.DataFrame([[1, 3]], columns=["x", "x"]))
    assert digest(pandas.Series([1.0, 2.0])) == digest(np.array([1.0, 2.0]))


class Address:
    """Something whose text is where it is in memory."""


class Refusing:
    columns = ("a",)

    def __getitem__(self, name: str) -> object:
        raise RuntimeError("not here")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(Address(), "expected a file, an array", id="any object"),
        pytest.param([Address()], "expected a file, an array", id="a list of any"),
        pytest.param(np.array([Address()]), "found Address in it", id="an array of any"),
        pytest.param({"a": {"b": Address()}}, r"data 'x\.a\.b'", id="deep in a mapping"),
        pytest.param([float("nan")], "expected a file, an array", id="no JSON number"),
        pytest.param("/nowhere/x.csv", "cannot read /nowhere/x.csv", id="no file"),
        pytest.param(Refusing(), "not here", id="what refuses to be read"),
        pytest.param(np.zeros(2, "i4,f8"), "expected an array of numbers", id="records"),
    ],
)
def test_what_has_no_fingerprint_is_told_by_its_name(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fingerprints({"x": value})


def test_data_need_names_and_mappings_an_end() -> None:
    with pytest.raises(InputError, match="need a name"):
        fingerprints({"": GRID})
    deep: dict[str, object] = {}
    deep["again"] = deep
    with pytest.raises(InputError, match="levels"):
        fingerprints({"x": deep})


@pytest.mark.parametrize(
    "make",
    [
        lambda torch: torch.arange(6.0).reshape(2, 3),
        lambda torch: torch.ones(2, requires_grad=True),
    ],
    ids=["a tensor", "one with a gradient"],
)
def test_tensors_of_pytorch(make: Callable[[Any], Any]) -> None:
    torch = pytest.importorskip("torch", reason="pip install torch")
    tensor = make(torch)
    assert digest(tensor) == digest(tensor.detach().numpy())
