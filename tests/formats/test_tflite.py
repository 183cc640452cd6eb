"""Reading TFLite: the signature is the interpreter's, and nothing hostile gets through."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.core.signature import Quantization
from nbmodel.errors import FormatError
from nbmodel.formats.base import ModelFacts
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.tflite import DATATYPES, Tflite

Write = Callable[..., bytes]

MODELS = (
    "coco_ssd_mobilenet_v1_1.0_quant_with_metadata",
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_v1_0.25_224_quant_with_metadata",
    "mobilenet_v2_1.0_224_quant",
    "model_invoking_error",
    "movenet_single_pose_lightning_ptq",
)
#: numpy's name of what the interpreter takes → ours, where they differ.
RENAMED = {"float32": "FP32", "float16": "FP16", "float64": "FP64", "bytes_": "BYTES"}


def read(content: bytes) -> ModelFacts:
    return Tflite()._read(ByteSource(io.BytesIO(content), len(content)))


def tensor(name: str = "x", type_: int = 0, shape: tuple[int, ...] = (1, 2), **more: Any) -> Any:
    fields = {0: ("i", list(shape)), 1: ("b", type_), 3: name}
    numbers = {"signature": 7, "has_rank": 8, "quantization": 4}
    return fields | {numbers[key]: value for key, value in more.items()}


def model(write: Write, *, inputs: list[Any] | None = None, outputs: list[Any] | None = None) -> ModelFacts:  # fmt: skip
    """The facts of a model with these tensors."""
    inputs, outputs = inputs or [tensor()], outputs or [tensor("y")]
    places = list(range(len(inputs) + len(outputs)))
    return read(write([*inputs, *outputs], places[: len(inputs)], places[len(inputs) :]))


@pytest.mark.parametrize("name", MODELS)
def test_the_interpreter_reports_the_same_tensors(test_models: Path, name: str) -> None:
    engine = pytest.importorskip("ai_edge_litert.interpreter")
    path = test_models / f"{name}.tflite"
    interpreter = engine.Interpreter(str(path))
    signature = Tflite().read(path).signature
    for side, details, tensors in [
        ("input", interpreter.get_input_details(), signature.inputs),
        ("output", interpreter.get_output_details(), signature.outputs),
    ]:
        for index, (detail, ours) in enumerate(zip(details, tensors, strict=True)):
            assert ours.name == (detail["name"] or f"{side}_{index}")
            dtype = np.dtype(detail["dtype"]).name
            assert ours.datatype == RENAMED.get(dtype, dtype.upper())
            shape = tuple(detail["shape_signature"].tolist())
            # Before it is run, the interpreter says [] of outputs whose shape it does not know.
            assert ours.shape == (shape if shape or side == "input" else None)
            quantization = detail["quantization_parameters"]
            scales = tuple(quantization["scales"].tolist())
            assert (ours.quantization.scale if ours.quantization else ()) == scales
            if ours.quantization:
                assert ours.quantization.zero_point == tuple(quantization["zero_points"].tolist())
    assert Tflite().read(path).metadata.get("signatures", {}) == interpreter.get_signature_list()


def test_every_tensor_type_of_the_schema_has_a_datatype() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    numbers = {name: n for name, n in vars(schema.TensorType).items() if not name.startswith("_")}
    renamed = {
        "FLOAT32": "FP32", "FLOAT16": "FP16", "FLOAT64": "FP64", "BFLOAT16": "BF16", "STRING": "BYTES",
        "FLOAT8_E4M3FN": "FP8E4M3FN", "FLOAT8_E5M2": "FP8E5M2",
    }  # fmt: skip
    for name, number in numbers.items():
        assert DATATYPES[number] == renamed.get(name, name)


def test_a_model_made_with_the_engines_own_schema(tmp_path: Path) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    engine = pytest.importorskip("ai_edge_litert.interpreter")
    flatbuffers = pytest.importorskip("flatbuffers")
    made = schema.ModelT()
    made.version = 3
    made.buffers = [schema.BufferT()]
    made.operatorCodes = [schema.OperatorCodeT()]  # ADD is operator 0
    graph = schema.SubGraphT()
    graph.tensors = []
    for name in ("a", "b", "sum"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.shapeSignature = name, [1, 3], [-1, 3]
        tensor.type = schema.TensorType.INT32
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs = [0, 1], [2]
    add = schema.OperatorT()
    add.inputs, add.outputs = [0, 1], [2]
    graph.operators = [add]
    made.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    path = tmp_path / "add.tflite"
    path.write_bytes(builder.Output())

    details = engine.Interpreter(str(path)).get_input_details()
    signature = Tflite().read(path).signature
    assert [detail["shape_signature"].tolist() for detail in details] == [[-1, 3], [-1, 3]]
    assert [(t.name, t.datatype, t.shape) for t in signature.inputs + signature.outputs] == [
        ("a", "INT32", (-1, 3)), ("b", "INT32", (-1, 3)), ("sum", "INT32", (-1, 3)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "shape"),
    [
        pytest.param(tensor(shape=(1, 2)), (1, 2), id="fixed"),
        pytest.param(tensor(shape=(1, 2), signature=("i", [-1, 2])), (-1, 2), id="the signature wins"),
        pytest.param(tensor(shape=(1, 2), signature=("i", [])), (1, 2), id="an empty signature says nothing"),
        pytest.param(tensor(shape=(), has_rank=("B", 1)), (), id="a scalar"),
        pytest.param(tensor(shape=(0, 4)), (0, 4), id="an empty tensor"),
    ],
)  # fmt: skip
def test_shapes(tflite: Write, written: Any, shape: tuple[int, ...]) -> None:
    signature = model(tflite, inputs=[written], outputs=[written]).signature
    assert (signature.inputs[0].shape, signature.outputs[0].shape) == (shape, shape)


def test_only_an_output_without_rank_is_unknown(tflite: Write) -> None:
    signature = model(tflite, inputs=[tensor(shape=())], outputs=[tensor(shape=())]).signature
    assert (signature.inputs[0].shape, signature.outputs[0].shape) == ((), None)


@pytest.mark.parametrize(
    ("written", "quantization"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({0: ("f", [0.0]), 1: ("f", [6.0])}, None, id="a range alone"),
        pytest.param({2: ("f", [0.0]), 3: ("q", [0])}, None, id="scale 0, a placeholder"),
        pytest.param({2: ("f", [0.5]), 3: ("q", [-128])}, Quantization((0.5,), (-128,)), id="one for the tensor"),
        pytest.param({2: ("f", [0.5])}, Quantization((0.5,), (0,)), id="a scale alone"),
        pytest.param(
            {2: ("f", [0.5, 0.25]), 3: ("q", [0, 1]), 6: ("i", 3)}, Quantization((0.5, 0.25), (0, 1), 3),
            id="one for each channel",
        ),
    ],
)  # fmt: skip
def test_quantization(tflite: Write, written: Any, quantization: Quantization | None) -> None:
    facts = model(tflite, inputs=[tensor(type_=9, quantization=written)])
    assert facts.signature.inputs[0].quantization == quantization


def test_tensors_are_told_apart_when_their_names_do_not(tflite: Write) -> None:
    signature = model(
        tflite, inputs=[tensor(""), tensor("x")], outputs=[tensor("y"), tensor("y"), tensor("")]
    ).signature
    assert [tensor.name for tensor in signature.inputs] == ["input_0", "x"]
    assert [tensor.name for tensor in signature.outputs] == ["y", "y:1", "output_2"]


def test_what_the_model_needs_and_offers(tflite: Write) -> None:
    names = [{0: "image", 1: ("I", 0)}]
    content = tflite(
        [tensor("x")], [0], [0], custom=["MyOp", "MyOp"],
        model={
            3: "MLIR Converted.",
            4: [{}, {0: b"1.14.0" + b"\0" * 10}],
            6: [{0: "min_runtime_version", 1: ("I", 1)}],
            7: [{0: names, 1: [], 2: "serving_default"}],
        },
    )  # fmt: skip
    assert read(content).metadata == {
        "converter": "MLIR Converted.",
        "custom_operators": ["MyOp"],
        "signatures": {"serving_default": {"inputs": ["image"], "outputs": []}},
        "min_runtime_version": "1.14.0",
    }


def test_builtin_operators_need_nothing(tflite: Write) -> None:
    content = tflite(
        [tensor()], [0], [0], model={1: [{0: ("b", 3)}, {0: ("b", 127), 3: ("i", 150)}]}
    )
    assert "custom_operators" not in read(content).metadata


@pytest.mark.parametrize(
    ("name", "description", "model_type"),
    [
        ("Object detector", "", "detection"),
        ("", "Detects what it can classify.", "detection"),
        ("DeepLab segmenter", "Classifies every pixel.", "segmentation"),
        ("Image classifier", "", "classification"),
        ("MobileNet", "Nothing said.", None),
    ],
)
def test_the_model_type_in_words(
    tflite: Write, name: str, description: str, model_type: str | None
) -> None:
    content = tflite([tensor()], [0], [0], metadata={0: name, 1: description})
    assert read(content).model_type == model_type


def test_an_operator_that_only_detectors_have(tflite: Write) -> None:
    content = tflite(
        [tensor()], [0], [0], custom=["TFLite_Detection_PostProcess"], metadata={0: "Classifier"}
    )
    assert read(content).model_type == "detection"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda write: b"hello world, this is text", "expected b'TFL3' at offset 4, starts with b'hello", id="a text"),
        pytest.param(lambda write: b"TFL3", "not a TFLite model", id="four bytes"),
        pytest.param(lambda write: b"\x10\0\0\0TFL3", "the file has 8 bytes", id="eight bytes"),
        pytest.param(lambda write: write([tensor()], [0], [0], model={0: ("I", 2)}), "schema version 2, expected 3", id="another schema version"),
        pytest.param(lambda write: write([tensor()], [0], [0], model={2: []}), "the model has no subgraph", id="no subgraph"),
        pytest.param(lambda write: write([tensor()], [1], [0]), r"subgraphs\[0\].tensors has 1 entries, found index 1", id="an input that does not exist"),
        pytest.param(lambda write: write([tensor()], [0], [-1]), "found index -1", id="an output that does not exist"),
        pytest.param(lambda write: write([tensor(type_=99)], [0], [0]), r"tensors\[0\]: unknown tensor type 99", id="a tensor type that does not exist"),
        pytest.param(lambda write: write([tensor(type_=-1)], [0], [0]), "unknown tensor type -1", id="a negative tensor type"),
        pytest.param(lambda write: write([tensor(shape=(1, -7))], [0], [0]), "negative dimension", id="a negative dimension"),
        pytest.param(lambda write: write([tensor(shape=(1,) * 2000)], [0], [0]), "shape has 2,000 entries, expected ≤ 1,024", id="2,000 dimensions"),
        pytest.param(lambda write: write([tensor(quantization={2: ("f", [1.0]), 3: ("q", [1, 2])})], [0], [0]), "1 scales .* and 2 zero points", id="zero points without scales"),
        pytest.param(lambda write: write([tensor(quantization={2: ("f", [float("nan")])})], [0], [0]), "expected positive scales", id="a scale that is no number"),
        pytest.param(lambda write: write([tensor(quantization={2: ("f", [-1.0])})], [0], [0]), "expected positive scales", id="a negative scale"),
        pytest.param(lambda write: write([tensor()], [0] * 10_001, [0]), "inputs has 10,001 entries", id="countless inputs"),
        pytest.param(lambda write: write([tensor()], [0], [0], model={6: [{0: "x", 1: ("I", 9)}]}), "buffers has 1 entries, found index 9", id="metadata in a buffer that does not exist"),
        pytest.param(lambda write: write([tensor()], [0], [0], model={4: [{1: ("Q", 2**63), 2: ("Q", 9)}], 6: [{0: "x", 1: ("I", 0)}]}), "reaches to offset 9,223,372,036,854,775,817", id="metadata behind the file"),
        pytest.param(lambda write: write([tensor("n" * 100_000)], [0] * 200, [0]), "more than 16,777,216 bytes of names", id="a long name used countless times"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    tflite: Write, tmp_path: Path, make: Callable[[Write], bytes], problem: str
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(make(tflite))
    with pytest.raises(FormatError, match=problem) as caught:
        Tflite().read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_a_damaged_real_model_is_facts_or_a_format_error(test_models: Path, name: str) -> None:
    content = (test_models / f"{name}.tflite").read_bytes()
    for part in range(50):
        with suppress(FormatError):
            read(content[: len(content) * part // 50])
    dice = random.Random(name)
    near_both_ends = [*range(min(len(content), 2000)), *range(-min(len(content), 30_000), 0)]
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(dice.choice([1, 2, 30])):
            damaged[dice.choice(near_both_ends)] = dice.choice([0, 0x7F, 0x80, 0xFF, 1])
        with suppress(FormatError):
            read(bytes(damaged))


def test_every_changed_byte_is_facts_or_a_format_error(tflite: Write) -> None:
    content = tflite(
        [tensor("x", 3, quantization={2: ("f", [0.5]), 3: ("q", [1])}), tensor("y")], [0], [1],
        custom=["Op"], files={"labels.txt": b"cat\ndog\n"},
        metadata={
            0: "name",
            3: [{
                2: [{0: "image", 3: {0: ("B", 2), 1: {0: ("b", 1)}},
                     4: [{0: ("B", 1), 1: {0: ("f", [127.5]), 1: ("f", [127.5])}}]}],
                3: [{0: "score", 5: {0: ("f", [1.0]), 1: ("f", [0.0])}, 6: [{0: "labels.txt", 2: ("b", 2)}]}],
            }],
        },
    )  # fmt: skip
    assert read(content).signature.labels == ("cat", "dog")
    for position in range(len(content)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            with suppress(FormatError):
                read(content[:position] + bytes([value]) + content[position + 1 :])
