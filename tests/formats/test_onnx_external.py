"""Weights beside an ONNX model: every file is listed, none outside the folder is accepted."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from nbmodel.errors import FormatError
from nbmodel.formats.bytesource import WINDOW, ByteSource
from nbmodel.formats.onnx import Onnx

onnx = pytest.importorskip("onnx", reason="onnx writes the models")
helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT


def outside(location: str, name: str = "w") -> Any:
    """A tensor whose data is in another file."""
    tensor = onnx.TensorProto(name=name, data_type=FLOAT, dims=[3], data_location=1)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def sparse(location: str) -> Any:
    return onnx.SparseTensorProto(values=outside(location), indices=outside(location), dims=[9])


def model(*nodes: Any, **graph: Any) -> Any:
    made = helper.make_graph(list(nodes), "graph", [], [])
    made.MergeFrom(onnx.GraphProto(**graph))
    return helper.make_model(made)


def node(**attributes: Any) -> Any:
    return helper.make_node("Op", [], ["y"], **attributes)


def external(written: Any) -> tuple[str, ...]:
    content = written.SerializeToString()
    return Onnx()._read(ByteSource(io.BytesIO(content), len(content))).external


def nested(depth: int) -> Any:
    """A node with a graph with a node … with a tensor outside."""
    inner = node(value=outside("deep.bin"))
    for _ in range(depth):
        inner = node(body=helper.make_graph([inner], "g", [], []))
    return inner


def with_function() -> Any:
    written = model()
    written.functions.append(
        helper.make_function("d", "f", [], [], [node(value=outside("f.bin"))], [])
    )
    return written


def with_default_attribute() -> Any:
    written = model()
    default = helper.make_attribute("value", outside("d.bin"))
    written.functions.append(onnx.FunctionProto(name="f", attribute_proto=[default]))
    return written


def with_training() -> Any:
    written = model()
    graph = helper.make_graph([], "train", [], [], [outside("t.bin")])
    written.training_info.append(onnx.TrainingInfoProto(algorithm=graph))
    return written


@pytest.mark.parametrize(
    ("written", "files"),
    [
        pytest.param(model(), (), id="no weights"),
        pytest.param(model(initializer=[numpy_helper.from_array(np.ones(9))]), (), id="weights inside"),
        pytest.param(model(initializer=[outside("w.bin")]), ("w.bin",), id="an initialiser"),
        pytest.param(model(initializer=[outside("b"), outside("a/c"), outside("b")]), ("b", "a/c"), id="each file once, in file order"),
        pytest.param(model(initializer=[outside("./w.bin"), outside("a//b")]), ("w.bin", "a/b"), id="paths are made plain"),
        pytest.param(model(sparse_initializer=[sparse("s.bin")]), ("s.bin",), id="a sparse initialiser"),
        pytest.param(model(node(value=outside("n.bin"))), ("n.bin",), id="a tensor of a node"),
        pytest.param(model(node(values=[outside("1.bin"), outside("2.bin")])), ("1.bin", "2.bin"), id="tensors of a node"),
        pytest.param(model(node(value=sparse("s.bin"))), ("s.bin",), id="a sparse tensor of a node"),
        pytest.param(model(node(body=helper.make_graph([], "g", [], [], [outside("g.bin")]))), ("g.bin",), id="an initialiser of a subgraph"),
        pytest.param(model(nested(10)), ("deep.bin",), id="a tensor ten graphs deep"),
        pytest.param(
            model(node(floats=[0.5] * WINDOW, ints=[1] * WINDOW, value=outside("n.bin"))), ("n.bin",),
            id="a tensor beside more numbers than fit the window",
        ),
        pytest.param(with_function(), ("f.bin",), id="a node of a function"),
        pytest.param(with_default_attribute(), ("d.bin",), id="a default of a function"),
        pytest.param(with_training(), ("t.bin",), id="a training graph"),
    ],
)  # fmt: skip
def test_every_file_is_listed(written: Any, files: tuple[str, ...]) -> None:
    assert external(written) == files


def test_a_location_without_the_external_flag_means_nothing() -> None:
    # As onnx and ONNX Runtime read it: data_location decides.
    tensor = outside("/etc/passwd")
    tensor.ClearField("data_location")
    assert external(model(initializer=[tensor])) == ()


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd", "../secret", "a/../../secret", "a/..", "C:/windows", "a\\..\\b", "", ".", "/",
        "\\\\host\\share", "*/_ORT_MEM_ADDR_/*", "a\0b", "x" * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda tensor: model(initializer=[tensor]), id="in an initialiser"),
        pytest.param(lambda tensor: model(node(value=tensor)), id="in a node"),
    ],
)
def test_a_location_outside_the_folder_is_refused(written: Any, location: str) -> None:
    with pytest.raises(FormatError) as caught:
        external(written(outside(location, "weight_7")))
    assert "tensor 'weight_7' has external data at " in str(caught.value)
    assert repr(location[:200]) in str(caught.value)


def test_graphs_nested_beyond_reason_are_refused() -> None:
    def field(number: int, content: bytes) -> bytes:
        length = len(content)
        size = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])
        return bytes([number << 3 | 2]) + size + content

    graph = b"location"
    for _ in range(3000):
        graph = field(1, field(5, field(6, graph)))
    content = b"\x08\x08" + field(7, graph)
    with pytest.raises(FormatError, match="nested deeper than 100"):
        Onnx()._read(ByteSource(io.BytesIO(content), len(content)))
