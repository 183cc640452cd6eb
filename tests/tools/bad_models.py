"""ONNX models that a device should not serve, for tests: made with onnx, run by real engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import TensorProto, helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
_info = helper.make_tensor_value_info


def truncated(model: bytes) -> bytes:
    """The first half of a file."""
    return model[: len(model) // 2]


def unknown_operator() -> bytes:
    """A model of an operator that no engine has; x FP32[-1,2], y FP32[-1,2]."""
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example.nowhere")
    return _model([node], custom=True)


def memory_eater(mebibytes: int) -> bytes:
    """A model that spreads x over that much memory and sums it up; x FP32[1], y FP32[1]."""
    shape = helper.make_tensor("shape", INT64, [2], [mebibytes, 256 * 1024])
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("Neg", ["wide"], ["negative"]),
        helper.make_node("ReduceSum", ["negative"], ["total"], keepdims=0),
        helper.make_node("Unsqueeze", ["total", "axis"], ["y"]),
    ]
    axis = helper.make_tensor("axis", INT64, [1], [0])
    return _model(nodes, [shape, axis], inner=[1])


def endless() -> bytes:
    """A model that counts for some hundred thousand years; x FP32[1], y FP32[1]."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Add", ["before", "x"], ["after"]),
        ],
        "body",
        [_info("i", INT64, []), _info("go_on", BOOL, []), _info("before", FLOAT, [1])],
        [_info("goes_on", BOOL, []), _info("after", FLOAT, [1])],
    )
    nodes = [helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)]
    return _model(nodes, [helper.make_tensor("trips", INT64, [], [2**62])], inner=[1])


def not_a_number() -> bytes:
    """A model that divides nothing by nothing; x FP32[-1,2], y FP32[-1,2]."""
    nodes = [
        helper.make_node("Sub", ["x", "x"], ["nothing"]),
        helper.make_node("Div", ["nothing", "nothing"], ["y"]),
    ]
    return _model(nodes)


def spread() -> bytes:
    """A model that divides x by its deviation, which is nothing for one row.

    x FP32[-1,2], y FP32[-1,2].
    """
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["x", "mean"], ["apart"]),
        helper.make_node("ReduceSumSquare", ["apart"], ["spread"], axes=[0]),
        helper.make_node("Div", ["apart", "spread"], ["y"]),
    ]
    return _model(nodes)


def picky(rows: int) -> bytes:
    """A model that takes a certain number of rows and says so nowhere; x, y FP32[-1,2]."""
    shape = helper.make_tensor("shape", INT64, [2], [rows, 2])
    return _model([helper.make_node("Reshape", ["x", "shape"], ["y"])], [shape])


def wrong_promise() -> bytes:
    """A model that says FP32[-1,2] of an output that has three columns; x FP32[-1,2]."""
    zero = helper.make_tensor("zero", FLOAT, [1, 3], [0, 0, 0])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=1),
        helper.make_node("Add", ["total", "zero"], ["y"]),
    ]
    return _model(nodes, [zero])


def _model(
    nodes: Sequence[Any],
    constants: Sequence[Any] = (),
    *,
    inner: Sequence[Any] = ("rows", 2),
    custom: bool = False,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "bad",
        [_info("x", FLOAT, list(inner))],
        [_info("y", FLOAT, list(inner))],
        list(constants),
    )
    opsets = [helper.make_opsetid("", 17)]
    if custom:
        opsets.append(helper.make_opsetid("com.example.nowhere", 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    content: bytes = model.SerializeToString()
    return content
