"""Golden samples whose answers come with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nbmodel.answered import part_sample
from nbmodel.core.golden import Golden
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import (
    DatatypeError,
    GoldenSampleError,
    NbModelError,
    NoCompatibleBackendError,
    ShapeError,
    TensorNameError,
)
from nbmodel.golden import GoldenSample
from nbmodel.local import upload_source
from tests.tools.python_models import scaling_py

X = np.array([[1, 2], [3, 4]], np.float32)
CONFIG = """
backend: "python"
input [{ name: "x" data_type: TYPE_FP32 dims: [-1, 2] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1, 2] }]
"""


@pytest.fixture
def for_triton(tmp_path: Path) -> Path:
    """A model that Triton alone runs: ``y = 2 x``."""
    folder = tmp_path / "doubling"
    folder.mkdir()
    (folder / "model.py").write_bytes(scaling_py(2))
    (folder / "config.pbtxt").write_text(CONFIG)
    return folder


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """An ONNX model: ``y = x + x``."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    path = tmp_path / "doubling.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path


def golden_of(path: Path, sample: object) -> GoldenSample:
    source, notes = upload_source([path], None, None, sample=sample, golden=Golden())
    assert not notes
    assert source.golden is not None
    data = source.files[source.golden.path]
    assert isinstance(data, bytes)
    return GoldenSample.from_bytes(data)


@pytest.mark.parametrize("as_file", [True, False], ids=["a file", "a mapping"])
def test_answers_that_come_along_are_the_golden_ones_where_nothing_runs_the_model(
    for_triton: Path, tmp_path: Path, *, as_file: bool
) -> None:
    sample: Any = {"x": X, "y": (X * 2).tolist()}
    if as_file:
        np.savez(tmp_path / "golden.npz", **sample)
        sample = tmp_path / "golden.npz"
    golden = golden_of(for_triton, sample)
    assert golden.inputs["x"].tolist() == X.tolist()
    assert golden.outputs["y"].tolist() == (X * 2).tolist()
    assert golden.outputs["y"].dtype == np.float32


def test_a_sample_without_answers_is_told_to_bring_them(for_triton: Path) -> None:
    with pytest.raises(
        NoCompatibleBackendError, match=r"answers of model\.py to the sample are not"
    ) as caught:
        golden_of(for_triton, {"x": X})
    assert "arrays named as the outputs: y FP32[-1,2]" in str(caught.value.hint)


def test_answers_that_come_along_are_compared_where_the_model_runs(doubling: Path) -> None:
    golden = golden_of(doubling, {"x": X, "y": X * 2.0002})
    assert golden.outputs["y"].tolist() == (X * np.float32(2.0002)).tolist()
    with pytest.raises(GoldenSampleError, match="expected 3, found 2"):
        golden_of(doubling, {"x": X[:1, :], "y": [[3, 4]]})


#: What is wrong with the answers → the error, and its words.
WRONG: dict[str, tuple[dict[str, Any], type[NbModelError], str]] = {
    "another shape": ({"y": [[1, 2, 3]]}, ShapeError, r"answer 'y'.*y FP32\[-1,2\].*\[1, 3\]"),
    "text": ({"y": [["a", "b"]]}, DatatypeError, "answer 'y' is FP32, found BYTES"),
    "rows of two lengths": ({"y": [[1], [1, 2]]}, ShapeError, "answer 'y' is not a regular array"),
    "another input": ({"y": X, "z": X}, TensorNameError, "unexpected input 'z'"),
    "an input of another shape": ({"x": X.T[:, :1], "y": X[:1]}, ShapeError, "'x'"),
}


@pytest.mark.parametrize(("given", "error", "words"), WRONG.values(), ids=WRONG)
def test_answers_are_held_against_the_signature(
    for_triton: Path, given: dict[str, Any], error: type[NbModelError], words: str
) -> None:
    with pytest.raises(error, match=words):
        golden_of(for_triton, {"x": X, **given})


def test_all_outputs_are_answered_or_none() -> None:
    signature = Signature(
        (Tensor("x", "FP32", (-1, 2)),),
        (Tensor("y", "FP32", (-1,)), Tensor("z", "FP32", (-1,))),
    )
    with pytest.raises(TensorNameError, match=r"the answer 'y' and not z FP32\[-1\]"):
        part_sample(signature, {"x": X, "y": [1, 2]})
    assert part_sample(signature, {"x": X}).answers == {}
    assert part_sample(signature, X).inputs is X


def test_a_row_gets_the_axis_that_it_lacks(for_triton: Path) -> None:
    assert golden_of(for_triton, {"x": X[0], "y": X[0] * 2}).outputs["y"].shape == (1, 2)
