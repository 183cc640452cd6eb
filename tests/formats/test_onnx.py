"""Reading ONNX: what onnx writes is what the signature says, and nothing hostile gets through."""

from __future__ import annotations

import contextlib
import io
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError
from nbmodel.formats.base import HEAD, ModelFacts
from nbmodel.formats.bytesource import MAX_TEXT, ByteSource
from nbmodel.formats.onnx import DATATYPES, Onnx

onnx = pytest.importorskip("onnx", reason="onnx writes the models")
helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT

#: onnx's name of an element type → ours, where they differ.
RENAMED = {
    "FLOAT": "FP32", "DOUBLE": "FP64", "FLOAT16": "FP16", "BFLOAT16": "BF16", "STRING": "BYTES",
    "FLOAT4E2M1": "FP4E2M1", "FLOAT8E4M3FN": "FP8E4M3FN", "FLOAT8E4M3FNUZ": "FP8E4M3FNUZ",
    "FLOAT8E5M2": "FP8E5M2", "FLOAT8E5M2FNUZ": "FP8E5M2FNUZ", "FLOAT8E8M0": "FP8E8M0",
    "FLOAT6E2M3": "FP6E2M3", "FLOAT6E3M2": "FP6E3M2", "UNDEFINED": "UNKNOWN",
}  # fmt: skip
KINDS = {"sequence_type": "SEQUENCE", "map_type": "MAP", "optional_type": "OPTIONAL"}

Read = Callable[[Any], ModelFacts]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a model, or the bytes of one."""

    def read(model: Any) -> ModelFacts:
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return Onnx().read(path)

    return read


def tensor(name: str, element: int = FLOAT, shape: Sequence[Any] | None = (1, 2), doc: str = "") -> Any:  # fmt: skip
    return helper.make_tensor_value_info(name, element, shape, doc)


def model(
    inputs: Sequence[Any] = (), outputs: Sequence[Any] = (), weights: Sequence[Any] = (), **fields: Any
) -> Any:  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "graph",
        inputs or [tensor("x")],
        outputs or [tensor("y")],
        weights,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **fields
    )


def expected(values: Sequence[Any], leave_out: frozenset[str] = frozenset()) -> list[Any]:
    """(name, datatype, shape) of each value, as onnx itself reads them."""
    found: list[Any] = []
    for value in values:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            found.append((value.name, KINDS[kind], None))
            continue
        type_ = value.type.tensor_type
        element = onnx.TensorProto.DataType.Name(type_.elem_type)
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in type_.shape.dim)
        found.append((value.name, RENAMED.get(element, element), shape if type_.HasField("shape") else None))  # fmt: skip
    return [item for item in found if item[0] not in leave_out]


def actual(tensors: Sequence[Tensor]) -> list[Any]:
    return [(tensor.name, tensor.datatype, tensor.shape) for tensor in tensors]


def test_every_element_type_of_onnx_has_a_datatype() -> None:
    numbers = dict(onnx.TensorProto.DataType.items())
    assert {DATATYPES[number] for number in numbers.values()} == set(DATATYPES)
    assert [RENAMED.get(name, name) for name in numbers] == list(DATATYPES[: len(numbers)])


@pytest.mark.slow
def test_all_node_tests_of_the_standard_are_read_as_onnx_reads_them(read: Read) -> None:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about the infinities that are tested
        cases = collect_testcases(None)
    assert len(cases) > 1000
    for case in cases:
        content = case.model.SerializeToString()
        assert Onnx().sniff(content[:HEAD]), case.name
        signature = read(content).signature
        graph = case.model.graph
        weights = frozenset(weight.name for weight in graph.initializer)
        assert actual(signature.inputs) == expected(graph.input, weights), case.name
        assert actual(signature.outputs) == expected(graph.output), case.name


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((1, 3, 224, 224), id="fixed"),
        pytest.param(("batch", 3, None), id="symbolic and unknown dimensions"),
        pytest.param((), id="a scalar"),
        pytest.param(None, id="unknown rank"),
        pytest.param((0, 4), id="an empty tensor"),
    ],
)
def test_shapes(read: Read, shape: Sequence[Any] | None) -> None:
    written = model([tensor("x", shape=shape)])
    assert actual(read(written).signature.inputs) == expected(written.graph.input)


def test_a_negative_dimension_is_a_variable_one(read: Read) -> None:
    assert read(model([tensor("x", shape=(-1, 3, -7))])).signature.inputs[0].shape == (-1, 3, -1)


def test_sequences_maps_and_optionals_are_told_apart(read: Read) -> None:
    element = helper.make_tensor_type_proto(FLOAT, [1])
    values = [
        helper.make_tensor_sequence_value_info("s", FLOAT, [1]),
        helper.make_value_info("m", helper.make_map_type_proto(onnx.TensorProto.INT64, element)),
        helper.make_value_info("o", helper.make_optional_type_proto(element)),
    ]
    written = model(values)
    assert actual(read(written).signature.inputs) == expected(written.graph.input)
    sparse = helper.make_value_info("x", helper.make_sparse_tensor_type_proto(FLOAT, [2]))
    assert actual(read(model([sparse])).signature.inputs) == [("x", "SPARSE", None)]


def test_weights_listed_as_inputs_are_left_out(read: Read) -> None:
    weight = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", FLOAT, [1], [1.0]), helper.make_tensor("", onnx.TensorProto.INT64, [1], [0]), [4]
    )  # fmt: skip
    written = model([tensor("x"), tensor("w"), tensor("v")], weights=[weight])
    written.graph.sparse_initializer.append(sparse)
    assert actual(read(written).signature.inputs) == [("x", "FP32", (1, 2))]


def test_the_engine_reports_the_same_signature(read: Read, linear_onnx: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(linear_onnx, providers=["CPUExecutionProvider"])
    signature = read(linear_onnx.read_bytes()).signature
    for engine, ours in [
        (session.get_inputs(), signature.inputs),
        (session.get_outputs(), signature.outputs),
    ]:
        assert [(node.name, node.type) for node in engine] == [
            (tensor.name, "tensor(float)") for tensor in ours
        ]
        for node, tensor in zip(engine, ours, strict=True):
            assert tensor.shape == tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)


def test_an_output_without_a_type_is_unknown_and_may_be_told(read: Read) -> None:
    # ONNX Runtime infers such types, so the model can be used.
    signature = read(model(outputs=[onnx.ValueInfoProto(name="y")])).signature
    assert actual(signature.outputs) == [("y", "UNKNOWN", None)]
    told = signature.overridden_by(Signature(outputs=(Tensor("y", "FP32", (1, 2)),)))
    assert actual(told.outputs) == [("y", "FP32", (1, 2))]


def test_an_output_listed_twice_is_one_output(read: Read) -> None:
    written = model(outputs=[tensor("y"), tensor("y")])
    assert actual(read(written).signature.outputs) == [("y", "FP32", (1, 2))]


def test_what_the_model_says_about_itself(read: Read) -> None:
    written = model(
        [tensor("x", doc="pixels")],
        producer_name="pytorch",
        producer_version="2.9",
        doc_string="Tells cats from dogs.",
        model_version=7,
        domain="org.example",
    )
    written.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    written.graph.input[0].type.denotation = "IMAGE"
    helper.set_model_props(written, {"author": "someone", "long": "x" * 5000})
    facts = read(written)
    assert facts.framework == "onnx"
    assert facts.description == "Tells cats from dogs."
    assert facts.signature.inputs[0].description == "pixels"
    assert facts.signature.inputs[0].profile == "image"
    assert facts.metadata == {
        "ir_version": 8,
        "opset": {"ai.onnx": 17, "ai.onnx.ml": 3},
        "producer": "pytorch 2.9",
        "domain": "org.example",
        "model_version": 7,
        "graph": "graph",
        "properties": {"author": "someone", "long": "(5,000 characters, left in the file)"},
    }


def test_the_graph_describes_a_model_that_does_not(read: Read) -> None:
    written = model()
    written.graph.doc_string = "From the graph."
    assert read(written).description == "From the graph."


@pytest.mark.parametrize(
    ("key", "value", "labels"),
    [
        pytest.param("names", "{0: 'cat', 1: \"hot dog\"}", ("cat", "hot dog"), id="Ultralytics' dict"),
        pytest.param("names", "{0: 'it\\'s', 1: 'b', }", ("it's", "b"), id="a quote inside a name"),
        pytest.param("names", "{1: 'b', 3: 'd'}", ("", "b", "", "d"), id="a dict with gaps"),
        pytest.param("names", "['cat', 'dog']", ("cat", "dog"), id="a Python list"),
        pytest.param("labels", '["cat", "dog"]', ("cat", "dog"), id="a JSON list"),
        pytest.param("classes", '{"0": "cat", "1": "dog"}', ("cat", "dog"), id="a JSON map from index"),
        pytest.param("id2label", '{"1": "dog", "0": "cat"}', ("cat", "dog"), id="transformers' id2label"),
        pytest.param("class_names", '{"cat": 0, "dog": 1}', ("cat", "dog"), id="a JSON map to index"),
    ],
)  # fmt: skip
def test_labels_in_the_properties(
    read: Read, key: str, value: str, labels: tuple[str, ...]
) -> None:
    written = model(outputs=[tensor("y", shape=(1, len(labels)))])
    helper.set_model_props(written, {key: value})
    facts = read(written)
    assert facts.signature.outputs[0].labels == labels
    assert facts.model_type == "classification"
    assert "properties" not in facts.metadata


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="nothing"),
        pytest.param("someone's names", id="prose"),
        pytest.param("{0: __import__('os')}", id="code"),
        pytest.param("{0: 'a'", id="cut off"),
        pytest.param("{-1: 'a'}", id="a negative index"),
        pytest.param("{999999999: 'a'}", id="an absurd index"),
        pytest.param('{"a": 0, "b": 0}', id="one index twice"),
        pytest.param('{"a": "b"}', id="a map of texts"),
        pytest.param("[1, 2]", id="a list of numbers"),
        pytest.param("3", id="a number"),
        pytest.param("{0: '\\xzz'}", id="an escape that Python does not have"),
        pytest.param("[" * 100_000, id="deep brackets"),
        pytest.param("{" * 100_000, id="deep braces"),
        pytest.param("{" + "0 : 'a' " * 20_000, id="many items without commas"),
        pytest.param("{" + " " * 200_000 + "x", id="a lot of white space"),
        pytest.param(str([f"{i}" for i in range(200_000)]), id="longer than names are"),
        pytest.param('["cat", "\\ud800"]', id="half a character"),
    ],
)
def test_a_property_that_is_no_list_of_labels_stays_a_property(read: Read, value: str) -> None:
    written = model()
    helper.set_model_props(written, {"names": value})
    facts = read(written)
    assert facts.signature.labels == ()
    assert list(facts.metadata["properties"]) == ["names"]


@pytest.mark.parametrize(
    ("task", "model_type"),
    [
        ("detect", "detection"), ("classify", "classification"), ("segment", "segmentation"),
        ("pose", "keypoints"), ("obb", "detection"), ("something", None),
    ],
)  # fmt: skip
def test_the_task_that_ultralytics_writes(read: Read, task: str, model_type: str | None) -> None:
    written = model()
    helper.set_model_props(written, {"task": task})
    assert read(written).model_type == model_type


def test_fields_may_come_in_any_order(read: Read) -> None:
    # Concatenation is protobuf's merge: here the graph comes before everything else.
    whole = model(producer_name="p")
    graph, rest = onnx.ModelProto(graph=whole.graph), onnx.ModelProto(producer_name="p")
    rest.ir_version = 8
    content = graph.SerializeToString() + rest.SerializeToString()
    assert not Onnx().sniff(content)
    assert read(content).signature == read(whole).signature


def varint(number: int) -> bytes:
    low = bytes([number & 0x7F | (0x80 if number > 0x7F else 0)])
    return low + varint(number >> 7) if number > 0x7F else low


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def a_graph(*fields: bytes) -> bytes:
    return b"\x08\x08" + field(7, b"".join(fields))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"hello world\n" * 9, "not an ONNX model, starts with b'hello world", id="a text"),
        pytest.param(b"<!DOCTYPE html><html>", "starts with .*: a web page", id="a web page"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", id="an LFS pointer"),
        pytest.param(b"\0" * 100, "not an ONNX model", id="zeros"),
        pytest.param(b"\x08\x08", r"not an ONNX model, .* \(no graph\)", id="no graph"),
        pytest.param(field(7, b""), r"not an ONNX model, .* \(no ir_version\)", id="no ir_version"),
        pytest.param(a_graph(field(11, field(1, b"x"))), "input 'x' has no type", id="an input without a type"),
        pytest.param(
            a_graph(field(11, field(1, b"x") + field(2, field(1, b"\x08\x63")))),
            "unknown element type 99", id="an element type that does not exist",
        ),
        pytest.param(
            a_graph(field(11, field(1, b"x") + field(2, field(1, b"\x08\x01"))) * 2),
            "two inputs are named 'x'", id="two inputs of one name",
        ),
        pytest.param(
            a_graph(field(11, field(1, b"\xff") + field(2, field(1, b"\x08\x01")))),
            "input.name at offset 8: expected UTF-8", id="a name that is no text",
        ),
        pytest.param(
            a_graph(field(11, field(1, b"x") + field(2, field(1, b"\x08\x01" + field(2, field(1, b"") * 2000))))),
            "more than 1024 dimensions", id="a shape of 2,000 dimensions",
        ),
        pytest.param(
            a_graph(field(12, field(1, b"x")) * 20_001), "more than 20,000 outputs", id="countless outputs"
        ),
        pytest.param(
            a_graph(*[field(5, field(8, b"n" * 100_000))] * (MAX_TEXT // 100_000 + 1)),
            "more than 16,777,216 bytes of names", id="names without end",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(read: Read, tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem) as caught:
        read(content)
    assert str(tmp_path / "model.onnx") in str(caught.value)


@pytest.mark.parametrize(
    ("head", "is_onnx"),
    [
        pytest.param(b"\x08\x08\x12\x07pytorch\x1a\x032.9:\x10", True, id="version, producer, graph"),
        pytest.param(b"\x08\x08:\x10", True, id="version, graph"),
        pytest.param(b"\x08\x04\x12\x02me(\x80\x01:\x10", True, id="version, producer, model version, graph"),
        pytest.param(b"\x08\x08\x12\x02me2\x90\x4e", True, id="a long description before the graph"),
        pytest.param(b"\x08\x01\x12\xc3\x9f\x01\x0a\x10", False, id="a TensorFlow SavedModel"),
        pytest.param(b"\x08\x08", False, id="nothing but a version"),
        pytest.param(b"\x08", False, id="one byte"),
        pytest.param(b"", False, id="nothing"),
        pytest.param(b"hello world", False, id="a text"),
        pytest.param(b"\x1c\0\0\0TFL3", False, id="a TFLite model"),
    ],
)  # fmt: skip
def test_sniffing(head: bytes, is_onnx: bool) -> None:
    assert Onnx().sniff(head) is is_onnx


def everything() -> bytes:
    """A model with something in every field that is read."""
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["q"], value=numpy_helper.from_array(np.ones(3), "q"))],
        "inner", [], [tensor("q")],
    )  # fmt: skip
    written = model(
        [tensor("x", doc="doc", shape=("batch", 2)), helper.make_tensor_sequence_value_info("s", FLOAT, [1])],
        weights=[numpy_helper.from_array(np.ones((2, 3), np.float32), "w")],
        doc_string="doc", producer_name="p", model_version=3,
    )  # fmt: skip
    written.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner))
    weight = written.graph.initializer.add(name="e", data_type=1, dims=[3], data_location=1)
    weight.external_data.add(key="location", value="w.bin")
    helper.set_model_props(written, {"names": "{0: 'cat', 1: 'dog'}", "author": "me"})
    content: bytes = written.SerializeToString()
    return content


def facts_or_format_error(content: bytes) -> None:
    with contextlib.suppress(FormatError):
        Onnx()._read(ByteSource(io.BytesIO(content), len(content)))


def test_every_truncation_is_facts_or_a_format_error() -> None:
    content = everything()
    for length in range(len(content)):
        facts_or_format_error(content[:length])


def test_every_changed_byte_is_facts_or_a_format_error() -> None:
    content = everything()
    dice = random.Random(7)
    for position in range(len(content)):
        for value in (0, 0x7F, 0x80, 0xFF, dice.randrange(256)):
            facts_or_format_error(content[:position] + bytes([value]) + content[position + 1 :])


def test_a_tree_ensemble_of_a_million_thresholds_is_read(read: Read) -> None:
    # Floats of attributes are not packed: this node is five million bytes of small fields.
    node = field(1, field(5, field(1, b"values") + b"\x3d\0\0\0\0" * 3_000_000))
    value = field(1, b"x") + field(2, field(1, b"\x08\x01"))
    assert actual(read(a_graph(node, field(11, value))).signature.inputs) == [("x", "FP32", None)]
