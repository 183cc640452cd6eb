from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbmodel.core.signature import Signature, Tensor, describe
from nbmodel.errors import DatatypeError, InputError, TensorNameError
from nbmodel.observe import observe_inputs, observe_outputs, with_columns_of

UNKNOWN = Tensor("x", "UNKNOWN", None)


def described(sample: object, *known: Tensor) -> list[str]:
    return [describe(tensor) for tensor in observe_inputs(sample, known).tensors]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (6, 4)).save(path)
    return path


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        pytest.param(np.zeros((2, 4), np.float32), ["input FP32[-1,4]"], id="an array"),
        pytest.param([[1, 2], [3, 4]], ["input INT64[-1,2]"], id="a list"),
        pytest.param(["a", "b"], ["input BYTES[-1]"], id="texts"),
        pytest.param(np.float64(3), ["input FP64[]"], id="a number"),
        pytest.param(
            {"ids": np.zeros((1, 8), np.int64), "on": [[True]]},
            ["ids INT64[-1,8]", "on BOOL[-1,1]"],
            id="a mapping",
        ),
        pytest.param(Image.new("L", (6, 4)), ["input UINT8[-1,4,6]"], id="a grey picture"),
        pytest.param([Image.new("RGB", (6, 4))] * 2, ["input UINT8[-1,4,6,3]"], id="pictures"),
    ],
)
def test_inputs_are_what_the_sample_is(sample: object, expected: list[str]) -> None:
    assert described(sample) == expected


def test_a_picture_in_a_file_is_one(picture: Path) -> None:
    for sample in (picture, str(picture), {"input": picture}):
        (tensor,) = observe_inputs(sample).tensors
        assert (describe(tensor), tensor.profile) == ("input UINT8[-1,4,6,3]", "image")


def test_a_tensor_of_a_framework_is_an_array() -> None:
    class Torchlike:
        """What of torch.Tensor is asked for, which is not installed where the tests run."""

        def detach(self) -> Torchlike:
            return self

        cpu = detach

        def numpy(self) -> np.ndarray[Any, Any]:
            return np.zeros((1, 3), np.float32)

    assert described(Torchlike(), UNKNOWN) == ["x FP32[-1,3]"]


def test_the_model_s_names_and_order_are_kept() -> None:
    known = (UNKNOWN, Tensor("n", "INT64", ()))
    observed = observe_inputs({"n": 3, "x": [[1.0]]}, known)
    assert list(map(describe, observed.tensors)) == ["x FP64[-1,1]", "n INT64[]"]
    assert list(observed.arrays) == ["x", "n"]
    assert described([[1.0]], UNKNOWN) == ["x FP64[-1,1]"]


def frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(
        {
            "size": [1.5, 2.5],
            "colour": pandas.Categorical(["red", "blue"], categories=["blue", "green", "red"]),
            "note": ["a", "b"],
            "old": [True, False],
        }
    )


def test_a_data_frame_is_an_input_a_column_with_its_categories() -> None:
    size, colour, note, old = observe_inputs(frame()).tensors
    assert [describe(one) for one in (size, colour, note, old)] == [
        "size FP64[-1,1]", "colour BYTES[-1,1]", "note BYTES[-1,1]", "old BOOL[-1,1]",
    ]  # fmt: skip
    assert [one.profile for one in (size, colour, note, old)] == ["numerical", "categorical", "text", ""]  # fmt: skip
    assert (colour.labels, colour.label_kind) == (("blue", "green", "red"), "value")
    assert size.labels == note.labels == ()


def test_the_columns_of_a_data_frame_lie_side_by_side_in_the_only_input() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"p": [1.0], "q": [2.0]})
    (tensor,) = observe_inputs(table, [UNKNOWN]).tensors
    assert (describe(tensor), tensor.columns) == ("x FP64[-1,2]", ("p", "q"))


@pytest.mark.parametrize(
    ("sample", "known", "error", "problem"),
    [
        pytest.param(np.zeros((0, 3)), [], InputError, "has no rows", id="no rows"),
        pytest.param({}, [], InputError, "the sample is empty", id="nothing"),
        pytest.param({"z": [1]}, [UNKNOWN], TensorNameError, "has input 'z', the model takes x", id="another name"),
        pytest.param({"x": [1]}, [UNKNOWN, Tensor("w", "UNKNOWN", None)], TensorNameError, "has no input 'w'", id="one missing"),
        pytest.param([1], [UNKNOWN, Tensor("w", "UNKNOWN", None)], TensorNameError, "one unnamed input given, the model takes 2", id="one for two"),
        pytest.param({"x": object()}, [], DatatypeError, "input 'x' of the sample", id="an object"),
        pytest.param("missing.npy", [], InputError, "no such input file", id="no file"),
    ],
)  # fmt: skip
def test_a_sample_that_tells_nothing_is_refused(
    sample: object, known: list[Tensor], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        observe_inputs(sample, known)


def test_outputs_are_what_the_answers_are() -> None:
    answers = {"y": np.zeros((2, 3), np.float32), "total": np.float64(1), "table": np.zeros((5, 2))}
    tensors = observe_outputs({name: np.asarray(one) for name, one in answers.items()}, rows=2)
    assert list(map(describe, tensors)) == ["y FP32[-1,3]", "total FP64[]", "table FP64[5,2]"]


def test_what_a_data_frame_tells_is_added_to_what_a_file_says() -> None:
    by_column = Signature((Tensor("colour", "BYTES", (-1, 1)), Tensor("size", "FP32", (-1, 1))))
    colour, size = with_columns_of(by_column, frame()).inputs
    assert (colour.profile, colour.labels) == ("categorical", ("blue", "green", "red"))
    assert (size.profile, size.datatype) == ("numerical", "FP32")
    said = Signature((Tensor("colour", "BYTES", (-1, 1), profile="text"), *by_column.inputs[1:]))
    assert with_columns_of(said, frame()).inputs[0].profile == "text"
    side_by_side = Signature((Tensor("x", "FP32", (-1, 4)),))
    assert with_columns_of(side_by_side, frame()).inputs[0].columns == tuple(frame().columns)
    assert with_columns_of(side_by_side, np.zeros((1, 4))) == side_by_side
