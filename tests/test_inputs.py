"""From what a person has at hand to named tensors."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import DatatypeError, InputError, NbModelError, ShapeError, TensorNameError
from nbmodel.inputs import draw_rows, inputs_for

ROWS = Signature(inputs=(Tensor("x", "FP32", (-1, 3)),))
NAMED = Signature(inputs=(Tensor("x", "FP32", (-1, 3), labels=("p", "q", "r")),))
TWO = Signature(inputs=(Tensor("a", "FP32", (-1, 1)), Tensor("b", "FP32", (-1, 1))))
PICTURE = Signature(inputs=(Tensor("image", "UINT8", (1, 2, 2, 3)),))
PICTURES = Signature(inputs=(Tensor("image", "UINT8", (-1, 2, 2, 3)),))
RED = Image.new("RGB", (2, 2), (255, 0, 0))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(np.ones((2, 3)), np.ones((2, 3)), id="an array as it is"),
        pytest.param([1, 2, 3], [[1, 2, 3]], id="one row gets the batch axis"),
        pytest.param([[1, 2, 3]], [[1, 2, 3]], id="nested lists"),
        pytest.param({"x": [4, 5, 6]}, [[4, 5, 6]], id="a mapping by name"),
    ],
)
def test_numbers_become_the_one_input(value: object, expected: object) -> None:
    np.testing.assert_array_equal(inputs_for(ROWS, [value]).tensors["x"], expected)


def test_several_values_are_the_inputs_in_order() -> None:
    tensors = inputs_for(TWO, [[[1.0]], [[2.0]]]).tensors
    assert {name: array.tolist() for name, array in tensors.items()} == {"a": [[1.0]], "b": [[2.0]]}


def test_a_data_frame_goes_by_column_or_side_by_side() -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame({"b": [3.0, 4.0], "a": [1.0, 2.0]})
    by_name = inputs_for(TWO, [frame]).tensors
    assert by_name["a"].tolist() == [[1.0], [2.0]]
    assert by_name["b"].tolist() == [[3.0], [4.0]]
    table = pandas.DataFrame({"p": [1.0], "q": [2.0], "r": [3.0]})
    assert inputs_for(ROWS, [table]).tensors["x"].tolist() == [[1.0, 2.0, 3.0]]


def test_pictures_are_a_batch_and_are_kept_for_display() -> None:
    request = inputs_for(PICTURES, [RED, RED])
    assert request.tensors["image"].shape == (2, 2, 2, 3)
    assert request.tensors["image"][0, 0, 0].tolist() == [255, 0, 0]
    assert len(request.images) == 2


def _write(folder: Path, name: str) -> Path:
    path = folder / name
    rows = np.arange(6, dtype=np.float64).reshape(2, 3)
    if name.endswith(".npy"):
        np.save(path, rows)
    elif name.endswith(".npz"):
        np.savez(path, x=rows)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows.tolist()))
    elif name == "header.csv":
        path.write_text("p,q,r\n0,1,2\n3,4,5\n")
    else:
        path.write_text("0,1,2\n3,4,5\n")
    return path


@pytest.mark.parametrize("name", ["rows.npy", "rows.npz", "rows.json", "rows.csv", "header.csv"])
def test_files_of_numbers_are_read(tmp_path: Path, name: str) -> None:
    tensors = inputs_for(ROWS, [_write(tmp_path, name)]).tensors
    np.testing.assert_array_equal(tensors["x"], [[0, 1, 2], [3, 4, 5]])


def test_a_picture_file_is_read_and_resized(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    RED.resize((40, 30)).save(path)
    request = inputs_for(PICTURE, [str(path)])
    assert request.tensors["image"].shape == (1, 2, 2, 3)
    assert request.images[0].size == (40, 30)


def _pickled(folder: Path) -> Path:
    path = folder / "evil.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return path


def _unknown(folder: Path) -> Path:
    path = folder / "x.bin"
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("signature", "make", "message"),
    [
        pytest.param(ROWS, lambda _: "absent.npy", "no such input file", id="no file"),
        pytest.param(ROWS, _pickled, "evil.npy", id="a pickle is never read"),
        pytest.param(ROWS, _unknown, r"unknown suffix '\.bin'", id="an unknown suffix"),
        pytest.param(ROWS, lambda _: {"y": [1]}, "unexpected input 'y'", id="a wrong name"),
        pytest.param(ROWS, lambda _: [[1, 2], [3]], "not a regular array", id="ragged rows"),
        pytest.param(TWO, lambda _: [1.0], "takes 2", id="one value for two inputs"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, signature: Signature, make: Any, message: str
) -> None:
    with pytest.raises(NbModelError, match=message):
        inputs_for(signature, [make(tmp_path)])


def test_several_pictures_for_a_model_that_takes_one() -> None:
    one = Signature(inputs=(Tensor("image", "UINT8", (2, 2, 3)),))
    with pytest.raises(NbModelError, match="2 pictures for input image") as caught:
        inputs_for(one, [RED, RED])
    assert caught.value.hint is not None


def test_the_pictures_that_are_too_many_are_named(tmp_path: Path) -> None:
    for name in ("cat.png", "dog.png"):
        RED.save(tmp_path / name)
    paths = [str(tmp_path / "cat.png"), tmp_path / "dog.png"]
    with pytest.raises(ShapeError, match=r"one at a time: cat\.png, dog\.png") as caught:
        inputs_for(PICTURE, paths)
    assert "give cat.png alone" in str(caught.value.hint)


def test_a_table_goes_by_the_names_of_the_input_s_columns(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame({"r": [3.0], "extra": ["x"], "q": [2.0], "p": [1.0]})
    csv = tmp_path / "rows.csv"
    frame.to_csv(csv, index=False)
    row = frame.drop(columns="extra").iloc[0]
    for value in (frame, csv, row, {"x": frame}):
        assert inputs_for(NAMED, [value]).tensors["x"].tolist() == [[1, 2, 3]]


def test_a_table_without_a_column_that_the_input_takes_is_refused(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame({"p": [1.0], "q": [2.0], "other": [3.0]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    for value in (frame, tmp_path / "rows.csv", frame.iloc[0], {"x": frame}):
        with pytest.raises(TensorNameError, match="takes column 'r', which is not among"):
            inputs_for(NAMED, [value])


def test_a_table_without_names_goes_by_position() -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    for value in (pandas.DataFrame([[1, 2, 3]]), np.array([[1, 2, 3]]), [1, 2, 3]):
        assert inputs_for(NAMED, [value]).tensors["x"].tolist() == [[1, 2, 3]]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    path = tmp_path / "rows.csv"
    path.write_text("p,p,q\n1,2,3\n")
    for value in (path, pandas.DataFrame([[1, 2, 3]], columns=["p", "p", "q"])):
        with pytest.raises(InputError, match="several columns 'p'"):
            inputs_for(ROWS, [value])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("p,q,r\n1,2,3\n4,abc,6\n", "column 'q' has 'abc' in row 1", id="a header"),
        pytest.param("1,2,3\n4,abc,6\n", r"'abc' is at \[1, 1\]", id="no header"),
        pytest.param("1,2,3\n4,5\n", "row 2 has 2 cells, the first has 3", id="a short row"),
        pytest.param("p,q,r\n4,5\n", "row 2 has 2 cells, the first has 3", id="short of header"),
    ],
)
def test_a_cell_that_is_no_number_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(NbModelError, match=message):
        inputs_for(ROWS, [path])


def test_objects_that_are_numbers_become_them() -> None:
    values = np.array([[Decimal("1.5"), 2, True]], object)
    assert inputs_for(ROWS, [values]).tensors["x"].tolist() == [[1.5, 2, 1]]
    whole = inputs_for(ROWS, [np.array([[2**60 + 1, 2, 3]], object)]).tensors["x"]
    assert whole.tolist() == [[2**60 + 1, 2, 3]]
    with pytest.raises(DatatypeError, match=r"None is at \[0, 1\], which is not a number"):
        inputs_for(ROWS, [[[1, None, 2]]])


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6), (4, 6, 1)])
@pytest.mark.parametrize("takes", [(1, 2, 2, 3), (-1, 3, 2, 2), (1, 2, 2, 1), (2, 2, 3)])
def test_pixels_of_another_size_are_a_picture(
    shape: tuple[int, ...], takes: tuple[int, ...]
) -> None:
    signature = Signature(inputs=(Tensor("image", "FP32", takes),))
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    picture = Image.fromarray(pixels[..., 0] if shape[-1] == 1 else pixels)
    request = inputs_for(signature, [pixels])
    expected = inputs_for(signature, [picture]).tensors["image"]
    np.testing.assert_array_equal(request.tensors["image"], expected)
    assert request.images[0].size == (6, 4)


def test_pixels_that_fit_and_numbers_stay_as_they_are() -> None:
    fitting = np.ones((2, 2, 3), np.uint8)
    request = inputs_for(PICTURE, [fitting])
    assert request.tensors["image"].tolist() == [fitting.tolist()]
    assert not request.images
    for other in (np.ones((4, 6, 3), np.float32), np.ones((4, 6, 5), np.uint8)):
        assert inputs_for(PICTURE, [other]).tensors["image"].shape == other.shape
    table = Signature(inputs=(Tensor("x", "FP32", (-1, 64, 12)),))  # no axis of colours
    assert inputs_for(table, [np.ones((9, 9), np.uint8)]).tensors["x"].shape == (9, 9)


def test_no_input_says_what_the_model_takes() -> None:
    with pytest.raises(InputError) as caught:
        inputs_for(ROWS, [])
    assert caught.value.hint == "the model takes x FP32[-1,3]"


def test_rows_of_numbers_are_drawn_as_pictures() -> None:
    rows = np.array([[0, 1, 2, 3], [3, 3, 3, 3]], np.float32)
    drawn = draw_rows(inputs_for(Signature(inputs=(Tensor("x", "FP32", (-1, 4)),)), [rows]), (2, 2))
    assert np.asarray(drawn.images[0]).tolist() == [[0, 85], [170, 255]]
    assert np.asarray(drawn.images[1]).min() == 255


def test_rows_of_another_size_cannot_be_drawn() -> None:
    with pytest.raises(NbModelError, match="cannot draw 3 numbers of input 'x' as 2x2 pixels"):
        draw_rows(inputs_for(ROWS, [[1, 2, 3]]), (2, 2))
