"""Viam's tensor messages, against the messages of Viam's own SDK."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import DatatypeError, FormatError, NbModelError, ShapeError
from nbmodel.protocol.viam import (
    check_carried,
    decode_flat_tensors,
    decode_infer_request,
    encode_infer_response,
    metadata,
    named_as_model,
)
from nbmodel.protocol.wire import key_of, varint

DTYPES = [
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
]
SHAPES = [(), (1,), (3,), (2, 3, 5), (0,), (2, 0, 3)]


def extremes(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of ``shape`` with the smallest and largest values of ``dtype`` in turn."""
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    values = np.array([info.min, info.max, 1, 0, info.max // 3], dtype)
    return np.resize(values, shape).astype(dtype)


@pytest.fixture(scope="module")
def sdk() -> Any:
    """The modules of Viam's SDK: messages, and its codec."""
    pytest.importorskip("viam", reason="pip install 'nbmodel[viam]'")
    from viam.proto.service import mlmodel
    from viam.services.mlmodel import utils

    class Sdk:
        messages = mlmodel
        codec = utils

    return Sdk


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstTheSdk:
    def test_what_the_sdk_sends_is_read_as_it_was(
        self, sdk: Any, dtype: str, shape: tuple[int, ...]
    ) -> None:
        array = extremes(dtype, shape)
        message = sdk.messages.InferRequest(
            name="m", input_tensors=sdk.codec.ndarrays_to_flat_tensors({"x": array})
        )
        request = decode_infer_request(message.SerializeToString())
        assert request.name == "m"
        assert list(request.inputs) == ["x"]
        assert request.inputs["x"].dtype == array.dtype
        assert request.inputs["x"].flags.aligned
        np.testing.assert_array_equal(request.inputs["x"], array, strict=True)

    def test_bytes_sent_are_those_the_sdk_would_send(
        self, sdk: Any, dtype: str, shape: tuple[int, ...]
    ) -> None:
        array = extremes(dtype, shape)
        message = sdk.messages.InferResponse(
            output_tensors=sdk.codec.ndarrays_to_flat_tensors({"y": array})
        )
        assert encode_infer_response({"y": array}) == message.SerializeToString()

    def test_the_sdk_reads_what_is_sent(self, sdk: Any, dtype: str, shape: tuple[int, ...]) -> None:
        array = extremes(dtype, shape)
        message = sdk.messages.InferResponse.FromString(encode_infer_response({"y": array}))
        found = sdk.codec.flat_tensors_to_ndarrays(message.output_tensors)
        np.testing.assert_array_equal(found["y"], array, strict=True)


# Tensors are the third field of a request as of an answer.
def test_several_tensors_keep_their_order_and_names() -> None:
    tensors = {"b": np.float32([1]), "ä": np.int64([2]), "": np.uint8([3])}
    found = decode_infer_request(encode_infer_response(tensors)).inputs
    assert list(found) == ["b", "ä", ""]
    assert [array.item() for array in found.values()] == [1.0, 2, 3]


def test_an_array_in_another_order_and_byte_order_goes_out_row_by_row() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    found = decode_infer_request(encode_infer_response({"y": array})).inputs
    np.testing.assert_array_equal(found["y"], [[0, 3], [1, 4], [2, 5]])


def test_large_tensors_are_views_when_they_lie_well() -> None:
    array = np.zeros(1000, np.uint8)
    (found,) = decode_infer_request(encode_infer_response({"x": array})).inputs.values()
    assert not found.flags.owndata


def _tensor(field: str, content: str, *, shape: str = "") -> bytes:
    """``FlatTensors`` with one tensor ``x`` from hexadecimal parts."""
    data = bytes.fromhex(content)
    tensor = bytes.fromhex(shape) + bytes.fromhex(field) + varint(len(data)) + data
    return key_of(1, len(tensor) + len(key_of(2, len(tensor))) + 3) + (
        b"\x0a\x01x" + key_of(2, len(tensor)) + tensor
    )


TWO, THREE = "0a08 0200000000000000", "0a08 0300000000000000"
INT16, UINT16, FLOAT = "22", "2a", "52"


@pytest.mark.parametrize(
    ("field", "content", "shape", "expected"),
    [
        pytest.param(INT16, "0a08 feffffff 03000000", TWO, [-2, 3], id="signs extended"),
        pytest.param(INT16, "0a08 feff0000 03000000", TWO, [-2, 3], id="upper halves zero"),
        pytest.param(INT16, "0a04 feff0300", TWO, [-2, 3], id="two to an entry"),
        pytest.param(INT16, "0a08 feff0300 05000000", THREE, [-2, 3, 5], id="two to an entry, odd"),
        pytest.param(UINT16, "0a08 feff0000 03000000", TWO, [65534, 3], id="without signs"),
        pytest.param(FLOAT, "0d0000803f 0d00000040", TWO, [1, 2], id="floats unpacked"),
        pytest.param(
            FLOAT, "0a08 0000803f00000040", "09 0200000000000000", [1, 2], id="shape unpacked"
        ),
    ],
)
def test_other_ways_to_write_a_tensor_are_understood(
    field: str, content: str, shape: str, expected: list[int]
) -> None:
    data = _tensor(field, content, shape=shape)
    found = decode_flat_tensors(memoryview(data))["x"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        pytest.param(
            _tensor(UINT16, "0a08 00000100 03000000", shape=TWO),
            DatatypeError,
            "input 'x' is uint16, found the entry 65,536, which has more than 16 bits",
            id="an entry of 17 bits",
        ),
        pytest.param(
            _tensor(FLOAT, "0a04 0000803f", shape=TWO),
            ShapeError,
            r"input 'x' has shape \[2\], so 2 elements, found 1",
            id="too few elements",
        ),
        pytest.param(
            _tensor(FLOAT, "0a08 0000803f00000040"),
            ShapeError,
            r"input 'x' has shape \[\], so 1 elements, found 2",
            id="no shape",
        ),
        pytest.param(
            _tensor(FLOAT, "", shape="0a10 0000000000000000 ffffffffffffffff"),
            ShapeError,
            "input 'x' has a shape that no array has",
            id="nothing times infinity",
        ),
        pytest.param(
            _tensor(
                FLOAT,
                "0a04 0000803f",
                shape="0a8802" + "0100000000000000" * 33,
            ),
            ShapeError,
            "input 'x' has 33 dimensions, expected at most 32",
            id="too many dimensions",
        ),
        pytest.param(
            b"\x0a\x03\x0a\x01x",
            DatatypeError,
            "input 'x' has no data in any of the types",
            id="a tensor without data",
        ),
        pytest.param(b"\x0a\x04\x0a\x02\xff\xfe", FormatError, "not UTF-8", id="a name of bytes"),
        pytest.param(b"\x0a\x05\x0a\x01x", FormatError, "truncated", id="a piece cut off"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused_by_name(
    data: bytes, error: type[NbModelError], message: str
) -> None:
    with pytest.raises(error, match=message):
        decode_flat_tensors(memoryview(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(NbModelError):
        decode_infer_request(data)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_request_with_one_byte_changed_is_read_or_refused(place: int, byte: int) -> None:
    data = bytearray(
        b"\x0a\x01m"
        + encode_infer_response({"x": np.arange(60, dtype=np.float32), "y": np.int16([1, -2])})
    )
    data[place % len(data)] = byte
    with contextlib.suppress(NbModelError):
        decode_infer_request(bytes(data))


@pytest.mark.slow
def test_two_hundred_thousand_damaged_requests_are_each_read_or_refused() -> None:
    rng = np.random.default_rng(3)
    tensors = {
        "x": np.arange(12, dtype=np.float32).reshape(3, 4),
        "ü": np.int16([1, -2]),
        "z": np.uint8([[7]]),
    }
    whole = np.frombuffer(b"\x0a\x01m" + encode_infer_response(tensors), np.uint8)
    read = 0
    for _ in range(200_000):
        data = whole[: rng.choice([whole.size, rng.integers(1, whole.size)])].copy()
        places = rng.integers(0, data.size, rng.integers(0, 4))
        data[places] = rng.integers(0, 256, places.size)
        with contextlib.suppress(NbModelError):
            decode_infer_request(data.tobytes())
            read += 1
    assert 20_000 < read < 180_000


@pytest.mark.parametrize(
    ("array", "word"),
    [
        pytest.param(np.float16([1]), "float16", id="half floats"),
        pytest.param(np.array([True]), "bool", id="booleans"),
        pytest.param(np.array([b"a"], object), "object", id="text"),
    ],
)
def test_an_output_of_another_datatype_is_refused_by_name(array: NDArray[Any], word: str) -> None:
    with pytest.raises(DatatypeError, match=f"output 'y' is {word}, which flat tensors cannot"):
        encode_infer_response({"y": array})


def test_a_model_whose_tensors_cannot_be_carried_is_refused_with_all_their_names() -> None:
    floats = Tensor("b", "FP32", (1,))
    signature = Signature(
        inputs=(Tensor("a", "BOOL", (1,)), floats),
        outputs=(Tensor("c", "BYTES", (1,)), floats, Tensor("d", "BF16", (1,))),
    )
    with pytest.raises(DatatypeError) as caught:
        check_carried(signature, model="m")
    assert "input 'a' is bool; output 'c' is string; output 'd' is bfloat16" in str(caught.value)
    check_carried(Signature((floats,), (floats,)), model="m")


ONE = Signature(inputs=(Tensor("serving_default_x:0", "FP32", (1,)),))
OTHERS = Signature(inputs=(Tensor("a", "FP32", (1,)), Tensor("b", "FP32", (1,))))


@pytest.mark.parametrize(
    ("given_names", "signature", "expected"),
    [
        pytest.param(["image"], ONE, ["serving_default_x:0"], id="one for one: that one"),
        pytest.param(["image"], OTHERS, ["image"], id="one for two: left alone"),
        pytest.param(["a", "b"], ONE, ["a", "b"], id="two for one: left alone"),
        pytest.param([], ONE, [], id="none"),
        pytest.param(["x"], Signature(), ["x"], id="a model that is not loaded"),
    ],
)
def test_a_single_input_may_be_called_anything(
    given_names: list[str], signature: Signature, expected: list[str]
) -> None:
    inputs = {name: np.float32([1]) for name in given_names}
    assert list(named_as_model(inputs, signature)) == expected


class TestMetadata:
    SIGNATURE = Signature(
        inputs=(Tensor("image", "UINT8", (1, -1, -1, 3), description="RGB"),),
        outputs=(
            Tensor("category", "INT64", (1, 10), labels=("cat", "dog"), label_kind="value"),
            Tensor("score", "FP32", (1, 2), labels=("cat", "dog")),
            Tensor("flags", "BOOL", None),
            Tensor("half", "FP16", (2**40,)),
        ),
    )

    def test_tensors_are_told_in_the_models_order_and_in_viams_words(self) -> None:
        found = metadata(self.SIGNATURE, name="m", model_type="detection", description="d")
        assert (found["name"], found["type"], found["description"]) == ("m", "object_detector", "d")
        assert found["input_info"] == [
            {"name": "image", "description": "RGB", "data_type": "uint8", "shape": [1, -1, -1, 3]}
        ]
        told = [(info["name"], info["data_type"], info["shape"]) for info in found["output_info"]]
        assert told == [
            ("category", "int64", [1, 10]),
            ("score", "float32", [1, 2]),
            ("flags", "bool", []),
            ("half", "float16", [-1]),
        ]

    def test_labels_are_associated_files_and_their_path_is_on_every_output(self) -> None:
        found = metadata(self.SIGNATURE, name="m", model_type=None, label_path="/a/classes.txt")
        category, score, flags, _ = found["output_info"]
        assert category["associated_files"] == [
            {
                "name": "classes.txt",
                "description": "names of the 2 classes, in index order",
                "label_type": 1,
            }
        ]
        assert score["associated_files"][0]["label_type"] == 2
        assert "associated_files" not in flags
        assert [info["extra"] for info in found["output_info"]] == [
            {"labels": "/a/classes.txt"}
        ] * 4
        assert "extra" not in found["input_info"][0]

    def test_labels_without_a_file_still_name_one(self) -> None:
        found = metadata(self.SIGNATURE, name="m", model_type=None)
        assert found["output_info"][0]["associated_files"][0]["name"] == "labels.txt"
        assert "extra" not in found["output_info"][0]
