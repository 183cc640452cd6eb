from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbmodel.backends import Session
from nbmodel.backends.onnx_cpu import OnnxCpu
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import ConfigError, InferenceError, ShapeError
from nbmodel.runtime.batching import (
    check_batch_axis,
    has_leading_variable,
    is_row_by_row,
    merged,
    parted,
    rows_of,
)

FLOAT = TensorProto.FLOAT


def signature(inputs: Sequence[Any], outputs: Sequence[Any]) -> Signature:
    def tensors(side: str, shapes: Sequence[Any]) -> tuple[Tensor, ...]:
        return tuple(Tensor(f"{side}{n}", "FP32", shape) for n, shape in enumerate(shapes))

    return Signature(tensors("x", inputs), tensors("y", outputs))


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Session]:
    def make(*nodes: Any, y: Sequence[Any] = ("rows", 4), constants: Sequence[Any] = ()) -> Session:
        graph = helper.make_graph(
            list(nodes),
            "g",
            [helper.make_tensor_value_info("x", FLOAT, ["rows", 4])],
            [helper.make_tensor_value_info("y", FLOAT, list(y))],
            list(constants),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return OnnxCpu().load({"model_path": str(path)})

    return make


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        pytest.param([(-1, 2)], [(-1,)], True, id="all vary"),
        pytest.param([(-1, 2), (3, 2)], [(-1,)], False, id="an input does not"),
        pytest.param([(-1, 2)], [(1, 2)], False, id="an output does not"),
        pytest.param([(-1, 2)], [()], False, id="a scalar"),
        pytest.param([(-1, 2)], [None], False, id="an unknown rank"),
        pytest.param([], [(-1,)], False, id="no input"),
    ],
)
def test_a_signature_hints_at_a_batch_axis(inputs: Any, outputs: Any, expected: bool) -> None:
    assert has_leading_variable(signature(inputs, outputs)) is expected


@pytest.mark.parametrize(
    ("node", "options", "expected"),
    [
        pytest.param(("Relu", ["x"], {}), {}, True, id="row by row"),
        pytest.param(("Softmax", ["x"], {"axis": 1}), {}, True, id="softmax of a row"),
        pytest.param(("Softmax", ["x"], {"axis": 0}), {}, False, id="softmax over the rows"),
        pytest.param(("CumSum", ["x", "zero"], {}), {}, False, id="a sum over the rows"),
        pytest.param(
            ("RandomUniformLike", ["x"], {"low": 0.0, "high": 1.0}), {}, False, id="random"
        ),
        pytest.param(("Transpose", ["x"], {}), {"y": (4, "rows")}, False, id="rows as columns"),
        pytest.param(
            ("ReduceMax", ["x"], {"axes": [0]}), {"y": ("one", 4)}, False, id="all rows to one"
        ),
        pytest.param(
            ("Reshape", ["x", "shape"], {}), {"y": ("n", 8)}, False, id="two rows in one row"
        ),
    ],
)
def test_a_model_shows_whether_its_rows_are_alone(
    load: Callable[..., Session], node: Any, options: Any, expected: bool
) -> None:
    kind, inputs, attributes = node
    constants = [
        numpy_helper.from_array(np.array(0, np.int64), "zero"),
        numpy_helper.from_array(np.array([-1, 8], np.int64), "shape"),
    ]
    used = [constant for constant in constants if constant.name in inputs]
    session = load(helper.make_node(kind, inputs, ["y"], **attributes), constants=used, **options)
    assert is_row_by_row(session, None) is expected
    sample = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
    assert is_row_by_row(session, sample) is expected


def test_a_quantisation_over_the_whole_batch_is_found_out(load: Callable[..., Session]) -> None:
    session = load(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    )
    assert has_leading_variable(session.signature)
    assert not is_row_by_row(session, None)


def test_rows_come_apart_as_they_were_put_together() -> None:
    requests = [
        {"x": np.full((rows, 2), rows, np.float32), "s": np.array([b"%d" % rows] * rows, object)}
        for rows in (1, 3, 2)
    ]
    together = merged(requests)
    assert together["x"].shape == (6, 2)
    for part, request in zip(parted(together, (1, 3, 2)), requests, strict=True):
        assert part.keys() == request.keys()
        for name, array in request.items():
            np.testing.assert_array_equal(part[name], array)


@pytest.mark.parametrize("shape", [(), (1, 2), (7, 2)])
def test_outputs_without_a_row_for_each_row_do_not_come_apart(shape: tuple[int, ...]) -> None:
    with pytest.raises(InferenceError, match="for 3 rows of input"):
        parted({"y": np.zeros(shape)}, (1, 2))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        pytest.param([()], "input 'x0' has no batch dimension", id="a scalar"),
        pytest.param(
            [(2, 1), (3, 1)], "input 'x1' batch size does not match.*expected 2, found 3", id="two"
        ),
    ],
)
def test_inputs_of_unequal_rows_are_refused(shapes: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        rows_of({f"x{n}": np.zeros(shape) for n, shape in enumerate(shapes)})


@pytest.mark.parametrize(
    ("shape", "size", "is_fine"),
    [
        pytest.param((-1, 2), 8, True, id="variable"),
        pytest.param(None, 8, True, id="unknown"),
        pytest.param((1, 2), 1, True, id="one, and one is asked for"),
        pytest.param((1, 2), 8, False, id="one"),
        pytest.param((), 1, False, id="a scalar"),
    ],
)
def test_a_batch_size_that_cannot_be_is_refused(shape: Any, size: int, is_fine: bool) -> None:
    given = signature([(-1, 2)], [shape])
    if is_fine:
        check_batch_axis(given, size)
    else:
        with pytest.raises(ConfigError, match=f"'max_batch_size' is {size}, but tensor 'y0'"):
            check_batch_axis(given, size)
