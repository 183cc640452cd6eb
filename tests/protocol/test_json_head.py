from __future__ import annotations

import json
from typing import Any

import pytest

from nbmodel.errors import FormatError
from nbmodel.protocol.inference import Region, RequestedOutput, SharedTensor
from nbmodel.protocol.json_head import Entry, parse_object, read_head

REQUEST: dict[str, Any] = {
    "id": "7",
    "parameters": {"timeout": 5, "binary_data_output": True},
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
        {
            "name": "b",
            "datatype": "INT8",
            "shape": [3],
            "parameters": {"binary_data_size": 3},
        },
        {
            "name": "c",
            "datatype": "INT8",
            "shape": [],
            "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 1},
        },
    ],
    "outputs": [{"name": "y", "parameters": {"classification": 2}}],
}


def test_all_that_a_request_says_is_read() -> None:
    head = read_head(json.dumps(REQUEST).encode())
    assert (head.id, head.parameters, head.binary_outputs) == ("7", {"timeout": 5}, True)
    assert head.outputs == (RequestedOutput("y", classification=2),)
    assert head.tensors == (
        Entry("a", "FP32", (1, 2), None, [1, 2], False),
        Entry("b", "INT8", (3,), 3, None, False),
    )
    assert head.shared == {"c": SharedTensor("INT8", (), Region("r", 1))}


def test_what_is_short_is_remembered_and_what_is_long_is_not() -> None:
    short = json.dumps(REQUEST).encode()
    long = short + b" " * 5000
    assert read_head(short) is read_head(short)
    assert read_head(long) is not read_head(long)
    assert read_head(long) == read_head(short)


def test_infinity_is_noticed() -> None:
    entry = {"name": "a", "datatype": "FP32", "shape": [1], "data": [float("inf")]}
    (read,) = read_head(json.dumps({"inputs": [entry]}).encode()).tensors
    assert read.may_be_infinite


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(b"", "failed to parse the request JSON buffer", id="nothing"),
        pytest.param(b"[]", "expected an object, found an array", id="an array"),
        pytest.param(b'{"a":1,"a":1}', "'a' is given twice", id="a key twice"),
        pytest.param(b'{"a":' + b"[" * 101 + b"]" * 101 + b"}", "100 levels", id="deep"),
        pytest.param(b"[" * 99999, "100 levels", id="endless"),
        pytest.param(b"\xff", "failed to parse", id="no text"),
    ],
)
def test_what_is_no_object_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        parse_object(text, "request")
