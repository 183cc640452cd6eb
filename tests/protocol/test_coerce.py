"""What a notebook's arrays become on their way to a model."""

from __future__ import annotations

import numpy as np
import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import DatatypeError
from nbmodel.protocol.coerce import coerce


def _taking(datatype: str) -> Signature:
    return Signature(inputs=(Tensor("x", datatype, (-1,)),))


@pytest.mark.parametrize(
    ("datatype", "given", "expected"),
    [
        pytest.param("FP32", np.array([0.1, 2.5]), np.float32([0.1, 2.5]), id="float64 rounds"),
        pytest.param("FP32", [1, 2], np.float32([1, 2]), id="a list of ints to floats"),
        pytest.param("FP64", np.float32([0.5]), np.array([0.5]), id="float32 widens"),
        pytest.param("UINT8", [0, 255], np.uint8([0, 255]), id="ints that fit"),
        pytest.param("UINT8", [7.0], np.uint8([7]), id="whole floats that fit"),
        pytest.param("INT64", np.int32([-3]), np.int64([-3]), id="int32 widens"),
        pytest.param("BOOL", [0, 1], np.array([False, True]), id="zeros and ones to booleans"),
        pytest.param("FP32", [float("inf")], np.float32([np.inf]), id="infinity stays"),
    ],
)
def test_values_that_survive_are_cast(datatype: str, given: object, expected: np.ndarray) -> None:
    array = coerce(_taking(datatype), {"x": given})["x"]
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("datatype", "given", "value"),
    [
        pytest.param("UINT8", [1, 256], "256", id="too large"),
        pytest.param("UINT8", np.int8([-1]), "-1", id="negative for unsigned, same width"),
        pytest.param("INT8", np.uint8([200]), "200", id="unsigned beyond signed"),
        pytest.param("INT64", [0.5], "0.5", id="a fraction"),
        pytest.param("INT32", [float("nan")], "nan", id="not a number"),
        pytest.param("BOOL", [2], "2", id="neither 0 nor 1"),
        pytest.param("FP16", [1e6], "1000000.0", id="overflow to infinity"),
    ],
)
def test_a_lost_value_is_named(datatype: str, given: object, value: str) -> None:
    with pytest.raises(DatatypeError, match=rf"'x' is {datatype}, found .* value {value},"):
        coerce(_taking(datatype), {"x": given})


def test_text_becomes_bytes_and_never_numbers() -> None:
    array = coerce(_taking("BYTES"), {"x": ["a", "b"]})["x"]
    assert array.tolist() == [b"a", b"b"]
    with pytest.raises(DatatypeError, match="'x' is FP32, found BYTES"):
        coerce(_taking("FP32"), {"x": ["1.0"]})


def test_equal_datatypes_are_not_copied() -> None:
    given = np.float32([1, 2])
    assert np.shares_memory(coerce(_taking("FP32"), {"x": given})["x"], given)


def test_unknown_names_are_passed_on() -> None:
    assert list(coerce(_taking("FP32"), {"y": [1.0]})) == ["y"]
