"""The gRPC codec against the official messages."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nbmodel.errors import DatatypeError, FormatError, NbModelError, ShapeError, TensorNameError
from nbmodel.protocol.grpc_request import decode_request, request_id
from nbmodel.protocol.grpc_response import (
    encode_response,
    encode_stream_error,
    encode_stream_response,
)
from nbmodel.protocol.inference import (
    InferResponse,
    Region,
    RequestedOutput,
    SharedTensor,
)

pb = pytest.importorskip("tritonclient.grpc.service_pb2", reason="pip install 'nbmodel[triton]'")

TYPED: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-(2**15), 2**15 - 1]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 2**16 - 1]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "FP32": ("fp32_contents", [0.5, -1.5]),
    "FP64": ("fp64_contents", [0.1, -1.7e308]),
    "BYTES": ("bytes_contents", [b"", b"\x00\xff"]),
}


def request(*inputs: tuple[str, str, list[int]], **fields: Any) -> Any:
    """A request for model ``m``; inputs are name, datatype and shape."""
    made = pb.ModelInferRequest(model_name="m", **fields)
    for name, datatype, shape in inputs:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
    return made


def decoded(made: Any) -> Any:
    return decode_request(made.SerializeToString())


def test_a_request_is_read() -> None:
    made = request(
        ("a", "INT32", [1, 2]),
        ("b", "FP32", [1]),
        model_version="3",
        id="é7",
        raw_input_contents=[struct.pack("<2i", 1, -2), struct.pack("<f", 0.5)],
    )
    made.outputs.add(name="y")
    made.outputs.add(name="z").parameters["classification"].int64_param = 3
    made.parameters["priority"].uint64_param = 2
    made.parameters["sequence_id"].string_param = "one"
    made.parameters["own"].double_param = 1.5
    read = decoded(made)
    assert (read.model, read.version, read.id) == ("m", "3", "é7")
    assert read.inputs["a"].tolist() == [[1, -2]]
    assert read.inputs["b"].tolist() == [0.5]
    assert read.outputs == (RequestedOutput("y", True), RequestedOutput("z", True, 3))
    assert read.parameters == {"priority": 2, "sequence_id": "one", "own": 1.5}


def test_a_large_tensor_is_not_copied() -> None:
    for padding in range(8):  # somewhere among them the tensor is aligned
        made = request(
            ("x" * (padding + 1), "FP32", [4]), raw_input_contents=[np.zeros(4, "<f4").tobytes()]
        )
        data = made.SerializeToString()
        (array,) = decode_request(data).inputs.values()
        place = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
        if place <= array.__array_interface__["data"][0] < place + len(data):
            return
    pytest.fail("every tensor was copied")


def test_requests_that_differ_in_id_and_tensor_only_are_told_apart() -> None:
    for number in (1, 2, 3):
        made = request(
            ("x", "INT32", [1]), id=str(number), raw_input_contents=[struct.pack("<i", number)]
        )
        read = decoded(made)
        assert (read.id, read.inputs["x"].tolist()) == (str(number), [number])


def test_requests_of_one_length_are_told_apart() -> None:
    raw = struct.pack("<4b", 1, 2, 3, -4)
    shapes = ([4, 1], [1, 4], [2, 2])
    for name, datatype, shape in [
        *(("x", "INT8", shape) for shape in shapes),
        *(("z", "INT8", shape) for shape in shapes),
        ("x", "FP32", [1, 1]),
        ("x", "BOOL", [1, 4]),
    ] * 2:
        made = request((name, datatype, shape), raw_input_contents=[raw])
        ((found, array),) = decoded(made).inputs.items()
        assert (found, list(array.shape)) == (name, shape)
        assert array.dtype == {"INT8": np.int8, "FP32": np.float32, "BOOL": bool}[datatype]
        if datatype == "INT8":
            assert array.reshape(-1).tolist() == [1, 2, 3, -4]


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_are_read(datatype: str) -> None:
    field, values = TYPED[datatype]
    made = request(("x", datatype, [2, 1]))
    getattr(made.inputs[0].contents, field).extend(values)
    for _ in range(2):
        read = decoded(made).inputs["x"]
        assert read.tolist() == [[value] for value in values]
        assert read.shape == (2, 1)


def test_the_fields_may_come_in_any_order() -> None:
    raw = pb.ModelInferRequest(raw_input_contents=[b"\x01\x00\x00\x00"]).SerializeToString()
    head = request(("x", "INT32", [1])).SerializeToString()
    id_ = pb.ModelInferRequest(id="7").SerializeToString()
    unknown = b"\xf8\x3f\x01" + b"\xfd\x3f1234" + b"\xf9\x3f12345678" + b"\xfa\x3f\x02ab"
    for data in (raw + head + id_, id_ + raw + head, unknown + raw + id_ + unknown + head):
        read = decode_request(data)
        assert (read.model, read.id, read.inputs["x"].tolist()) == ("m", "7", [1])


def test_shared_memory_takes_no_raw_contents() -> None:
    made = request(
        ("a", "INT32", [1]), ("b", "INT32", [1]), raw_input_contents=[struct.pack("<i", 5)]
    )
    parameters = made.inputs[0].parameters
    parameters["shared_memory_region"].string_param = "r"
    parameters["shared_memory_byte_size"].int64_param = 4
    parameters["shared_memory_offset"].int64_param = 8
    parameters = made.outputs.add(name="y").parameters
    parameters["shared_memory_region"].string_param = "r"
    parameters["shared_memory_byte_size"].int64_param = 4
    read = decoded(made)
    assert read.shared_inputs == {"a": SharedTensor("INT32", (1,), Region("r", 4, 8))}
    assert read.inputs["b"].tolist() == [5]
    assert read.outputs[0].region == Region("r", 4)


def _no_data() -> Any:
    return request(("x", "INT32", [1]))


def _too_much() -> Any:
    return request(("x", "INT32", [1]), raw_input_contents=[b"1234", b"1234"])


def _mixed() -> Any:
    made = request(("x", "INT32", [1]), raw_input_contents=[b"1234"])
    made.inputs[0].contents.int_contents.append(1)
    return made


def _typed(datatype: str, field: str, *values: Any) -> Any:
    made = request(("x", datatype, [1]))
    getattr(made.inputs[0].contents, field).extend(values)
    return made


def _two_fields() -> Any:
    made = _typed("INT32", "int_contents", 1)
    made.inputs[0].contents.fp32_contents.append(1)
    return made


def _raw(datatype: str, shape: list[int], data: bytes) -> Any:
    return request(("x", datatype, shape), raw_input_contents=[data])


def _twice() -> Any:
    return request(("x", "INT8", [1]), ("x", "INT8", [1]), raw_input_contents=[b"1", b"1"])


def _parameter(name: str, **choice: Any) -> Any:
    made = request(("x", "INT8", [1]), raw_input_contents=[b"1"])
    for kind, value in choice.items():
        setattr(made.parameters[name], kind, value)
    if not choice:
        made.parameters[name].SetInParent()
    return made


def _input_parameter(**choices: Any) -> Any:
    made = request(("x", "INT8", [1]))
    for name, value in choices.items():
        kind = "int64_param" if isinstance(value, int) else "string_param"
        setattr(made.inputs[0].parameters[name], kind, value)
    return made


def _output_parameter(**choices: Any) -> Any:
    made = request(("x", "INT8", [1]), raw_input_contents=[b"1"])
    made.outputs.add(name="y")
    for name, value in choices.items():
        kind = "int64_param" if isinstance(value, int) else "string_param"
        setattr(made.outputs[0].parameters[name], kind, value)
    return made


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        pytest.param(
            _no_data(), FormatError, "unable to find data for input tensor 'x'", id="none"
        ),
        pytest.param(_too_much(), FormatError, "additional raw_input_contents", id="too much"),
        pytest.param(_mixed(), FormatError, "must not be specified when using raw", id="mixed"),
        pytest.param(_two_fields(), FormatError, "already supplied", id="two fields"),
        pytest.param(
            _typed("FP16", "fp32_contents", 1),
            FormatError,
            "of type 'FP32', expected datatype 'FP16'",
            id="typed FP16",
        ),
        pytest.param(
            _typed("INT64", "int_contents", 1),
            FormatError,
            "of type 'INT32', expected datatype 'INT64'",
            id="another field",
        ),
        pytest.param(
            _typed("INT8", "int_contents", 128), DatatypeError, "128 is no INT8", id="out of range"
        ),
        pytest.param(
            _typed("INT32", "int_contents", 1, 2), ShapeError, "1 elements, got 2", id="count"
        ),
        pytest.param(_raw("INT32", [2], b"1234"), ShapeError, "Expected 8, got 4", id="short"),
        pytest.param(_raw("INT32", [-1], b"1234"), ShapeError, "found -1", id="negative"),
        pytest.param(_raw("INT32", [1] * 33, b"1234"), ShapeError, "33 dimensions", id="rank"),
        pytest.param(_raw("INT32", [2**62, 4], b""), ShapeError, "exceed", id="overflow"),
        pytest.param(_raw("INT5", [1], b"1"), DatatypeError, "INT5", id="datatype"),
        pytest.param(
            _raw("BYTES", [1], b"\x09\x00\x00\x00a"), FormatError, "incomplete", id="string"
        ),
        pytest.param(_twice(), TensorNameError, "already exists", id="twice"),
        pytest.param(
            _parameter("sequence_start", int64_param=1),
            FormatError,
            "'sequence_start' parameter, expected bool_param",
            id="sequence_start",
        ),
        pytest.param(
            _parameter("sequence_id", double_param=1),
            FormatError,
            "expected int64_param or string_param",
            id="sequence_id",
        ),
        pytest.param(
            _parameter("timeout", string_param="1"), FormatError, "'timeout'", id="timeout"
        ),
        pytest.param(
            _parameter("priority", int64_param=-1), FormatError, "value >= 0", id="priority"
        ),
        pytest.param(_parameter("triton_x", int64_param=1), FormatError, "reserved", id="reserved"),
        pytest.param(_parameter("own"), FormatError, "invalid value type for 'own'", id="unset"),
        pytest.param(
            _input_parameter(shared_memory_region="r"),
            FormatError,
            "'shared_memory_byte_size' must be specified",
            id="region without size",
        ),
        pytest.param(
            _input_parameter(shared_memory_offset=1),
            FormatError,
            "without 'shared_memory_region'",
            id="offset without region",
        ),
        pytest.param(
            _input_parameter(shared_memory_region=1, shared_memory_byte_size=1),
            FormatError,
            "expected string_param",
            id="region of another type",
        ),
        pytest.param(
            _input_parameter(shared_memory_region="r", shared_memory_byte_size=-1),
            FormatError,
            ">= 0",
            id="negative size",
        ),
        pytest.param(
            _output_parameter(classification=0), FormatError, "'classification'", id="no classes"
        ),
        pytest.param(
            _output_parameter(classification="3"), FormatError, "int64_param", id="text classes"
        ),
        pytest.param(
            _output_parameter(
                classification=1, shared_memory_region="r", shared_memory_byte_size=1
            ),
            FormatError,
            "can't set both",
            id="classes in shared memory",
        ),
    ],
)
def test_a_contradiction_is_refused(made: Any, kind: type[NbModelError], message: str) -> None:
    with pytest.raises(kind, match=message):
        decoded(made)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x0a\x05ab", id="cut off in a field"),
        pytest.param(b"\x0a", id="cut off before a length"),
        pytest.param(b"\x0b", id="a group"),
        pytest.param(b"\xff" * 11, id="a number without end"),
        pytest.param(b"\x1a\x01\xff", id="an id that is no text"),
        pytest.param(b"\x0a\x01\xff", id="a name that is no text"),
        pytest.param(b"\x2a\x01\xff", id="an input that is none"),
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"not a inference\.ModelInferRequest"):
        decode_request(data)


def test_an_empty_request_has_nothing_in_it() -> None:
    read = decode_request(b"")
    assert (read.model, read.inputs, read.outputs) == ("", {}, ())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(NbModelError):
        decode_request(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_request_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(
        _mixed().SerializeToString() + _typed("INT8", "int_contents", 1).SerializeToString()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NbModelError):
        decode_request(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


ARRAYS: dict[str, NDArray[Any]] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([255], np.uint8),
    "INT64": np.array(-5, np.int64),
    "FP16": np.array([[0.5]], np.float16),
    "FP32": np.arange(300, dtype=np.float32).reshape(2, 150),
    "BF16": np.array([0.5, -1], ml_dtypes.bfloat16),
    "BYTES": np.array([b"", b"abc"], object),
}


@pytest.mark.parametrize("datatype", ARRAYS)
def test_an_answer_is_the_official_message(datatype: str) -> None:
    array = ARRAYS[datatype]
    read = pb.ModelInferResponse.FromString(
        encode_response(InferResponse("m", "3", {"y": array}, id="é7"))
    )
    assert (read.model_name, read.model_version, read.id) == ("m", "3", "é7")
    (output,) = read.outputs
    assert (output.name, output.datatype, tuple(output.shape)) == ("y", datatype, array.shape)
    expected = b"\x00\x00\x00\x00\x03\x00\x00\x00abc" if datatype == "BYTES" else array.tobytes()
    assert list(read.raw_output_contents) == [expected]


def test_every_output_has_its_raw_contents() -> None:
    shared = {"z": SharedTensor("INT32", (1, 2), Region("r", 8))}
    response = InferResponse("m", "1", {"y": np.zeros((0, 2), np.int8)}, shared_outputs=shared)
    read = pb.ModelInferResponse.FromString(encode_response(response))
    assert [output.name for output in read.outputs] == ["y", "z"]
    assert list(read.outputs[1].shape) == [1, 2]
    assert list(read.raw_output_contents) == [b"", b""]


def test_parameters_keep_their_kinds() -> None:
    given = {"b": True, "i": -1, "u": 2**64 - 1, "d": 1.5, "s": "größe"}
    read = pb.ModelInferResponse.FromString(
        encode_response(InferResponse("m", "1", {}, parameters=given))
    )
    kinds = {name: one.WhichOneof("parameter_choice") for name, one in read.parameters.items()}
    assert kinds == {
        "b": "bool_param",
        "i": "int64_param",
        "u": "uint64_param",
        "d": "double_param",
        "s": "string_param",
    }
    assert {name: getattr(read.parameters[name], kind) for name, kind in kinds.items()} == given


def test_an_answer_of_a_stream_is_wrapped() -> None:
    response = InferResponse("m", "1", {"y": np.zeros(100, np.float64)}, id="7")
    read = pb.ModelStreamInferResponse.FromString(encode_stream_response(response))
    assert read.error_message == ""
    assert read.infer_response.SerializeToString() == encode_response(response)


@pytest.mark.parametrize("id_", ["", "7"])
def test_an_error_of_a_stream_names_its_request(id_: str) -> None:
    read = pb.ModelStreamInferResponse.FromString(encode_stream_error("größe", id_))
    assert (read.error_message, read.infer_response.id) == ("größe", id_)


def test_the_id_of_a_refused_request_is_found() -> None:
    assert request_id(pb.ModelInferRequest(id="7").SerializeToString()) == "7"
    assert request_id(b"\xff") == ""
