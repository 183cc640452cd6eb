"""What runs in the process of a Python model: its messages, and Triton's module."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nbmodel.backends.python_child import triton_python_backend_utils as pb_utils
from nbmodel.backends.python_child.wire import WireError, receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class TestMessages:
    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((0, 3), np.float32),
            np.array(7, np.int64),
            np.array([[True], [False]]),
            np.arange(6, dtype=">i4").reshape(2, 3).T,
            np.array([b"", b"\0a", "é".encode()], object),
            np.array(["a", "é"]),
            np.array([1.5, np.nan, -0.0], np.float16),
        ],
        ids=str,
    )
    def test_arrays_come_as_they_went(self, pair: Pair, array: np.ndarray) -> None:
        ours, theirs = pair
        send(ours, {"key": [1]}, {"x": array})
        head, tensors = receive(theirs)
        assert head["key"] == [1]
        expected = (
            [one.encode() for one in array.tolist()] if array.dtype.kind == "U" else array.tolist()
        )
        assert tensors["x"].shape == array.shape
        assert str(tensors["x"].tolist()) == str(expected)
        assert tensors["x"].flags.writeable

    @pytest.mark.parametrize(
        ("told", "data", "error"),
        [
            ({"datatype": "FP32", "shape": [2], "size": 4}, b"1234", "not those of"),
            ({"datatype": "FP32", "shape": [1], "size": 3}, b"123", "cannot be FP32"),
            ({"datatype": "FP31", "shape": [1], "size": 4}, b"1234", "cannot be FP31"),
            ({"datatype": "FP32", "shape": [-1], "size": 4}, b"1234", "has shape"),
            ({"datatype": "FP32", "shape": [1], "size": -4}, b"", "expected at most"),
            ({"datatype": "FP32", "shape": [1], "size": 1 << 40}, b"", "expected at most"),
            ({"datatype": "BYTES", "shape": [1], "size": 3}, b"123", "cut short"),
            ({"datatype": "BYTES", "shape": [1], "size": 4}, b"\xff\0\0\0", "cut short"),
            ({"shape": [1], "size": 4}, b"1234", "cannot be read"),
            ({"datatype": "FP32", "shape": "x", "size": 4}, b"1234", "cannot be read"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, pair: Pair, told: dict[str, Any], data: bytes, error: str
    ) -> None:
        ours, theirs = pair
        text = json.dumps({"tensors": [{"name": "x", **told}]}).encode()
        ours.sendall(struct.pack("<I", len(text)) + text + data)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(WireError, match=error):
            receive(theirs)

    @pytest.mark.parametrize(
        "data", [b"", b"\1", b"\xff\xff\xff\xff", b"\5\0\0\0{}", b"\2\0\0\0[]"]
    )
    def test_what_is_no_message_is_refused(self, pair: Pair, data: bytes) -> None:
        ours, theirs = pair
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(WireError):
            receive(theirs)

    def test_who_says_nothing_is_not_waited_for(self, pair: Pair) -> None:
        with pytest.raises(TimeoutError):
            receive(pair[0], deadline=0.0)

    def test_more_than_a_buffer_holds_goes_through(self, pair: Pair) -> None:
        ours, theirs = pair
        array = np.arange(1 << 21, dtype=np.float64)
        sender = threading.Thread(target=send, args=(ours, {}, {"x": array}))
        sender.start()
        assert np.array_equal(receive(theirs)[1]["x"], array)
        sender.join()


#: Source: ``enum DataType`` of Triton's ``model_config.proto``.
NUMBERS = {
    "TYPE_BOOL": 1,
    "TYPE_UINT8": 2,
    "TYPE_UINT16": 3,
    "TYPE_UINT32": 4,
    "TYPE_UINT64": 5,
    "TYPE_INT8": 6,
    "TYPE_INT16": 7,
    "TYPE_INT32": 8,
    "TYPE_INT64": 9,
    "TYPE_FP16": 10,
    "TYPE_FP32": 11,
    "TYPE_FP64": 12,
    "TYPE_STRING": 13,
}


class TestTritonsModule:
    @pytest.mark.parametrize(("data_type", "number"), NUMBERS.items())
    def test_types_have_tritons_numbers(self, data_type: str, number: int) -> None:
        dtype = pb_utils.triton_string_to_numpy(data_type)
        assert pb_utils.triton_to_numpy_type(number) is dtype
        assert pb_utils.numpy_to_triton_type(dtype) == number

    @pytest.mark.parametrize("number", [0, 14])
    def test_a_type_that_numpy_lacks_is_named(self, number: int) -> None:
        with pytest.raises(pb_utils.TritonModelException, match=f"number {number}"):
            pb_utils.triton_to_numpy_type(number)
        with pytest.raises(pb_utils.TritonModelException, match="TYPE_BF16"):
            pb_utils.triton_string_to_numpy("TYPE_BF16")

    def test_texts_are_packed_and_unpacked(self) -> None:
        texts = np.array([b"a", b"", b"\0b"], object)
        packed = pb_utils.serialize_byte_tensor(texts)
        assert pb_utils.deserialize_bytes_tensor(packed.item()).tolist() == texts.tolist()

    def test_a_configuration_is_filled_in_and_not_contradicted(self) -> None:
        config = pb_utils.ModelConfig({"max_batch_size": 4, "input": [], "output": []})
        one = {"name": "x", "data_type": "TYPE_FP32", "dims": [2]}
        config.add_input(one)
        config.add_input(one)
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        assert config.as_dict()["input"] == [one]
        assert config.as_dict()["max_batch_size"] == 8
        with pytest.raises(ValueError, match="max_batch_size 8"):
            config.set_max_batch_size(0)
        with pytest.raises(ValueError, match=r"dims \[2\] for input 'x'"):
            config.add_input({**one, "dims": [3]})
        with pytest.raises(ValueError, match="must have 'name', 'data_type' and 'dims'"):
            config.add_output({"name": "y"})

    @pytest.mark.parametrize("name", ["MetricFamily", "PreferredMemory", "load_model"])
    def test_what_it_lacks_says_where_it_is(self, name: str) -> None:
        with pytest.raises(AttributeError, match="Triton server"):
            getattr(pb_utils, name)
        assert not hasattr(pb_utils, name)

    def test_tensors_of_other_libraries_come_in(self) -> None:
        array = np.arange(3, dtype=np.float32)
        tensor = pb_utils.Tensor.from_dlpack("x", pb_utils.Tensor("y", array))
        assert tensor.as_numpy().tolist() == [0, 1, 2]
        assert tensor.triton_dtype() == NUMBERS["TYPE_FP32"]
        assert tensor.shape() == [3]
