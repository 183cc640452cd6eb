from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nbmodel.core.signature import DATATYPES
from nbmodel.errors import DatatypeError, FormatError, NbModelError, ShapeError
from nbmodel.protocol.datatypes import to_numpy
from nbmodel.protocol.json_tensor import from_json, json_kind, to_json

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
NUMBERS = [name for name in DATATYPES if name not in ("BYTES", "FP16", "BF16")]


@given(st.data(), st.sampled_from(NUMBERS))
def test_every_number_comes_back(data: st.DataObject, datatype: str) -> None:
    array = data.draw(hnp.arrays(to_numpy(datatype), SHAPES))
    text = json.dumps(to_json("x", datatype, array))
    read = from_json("x", datatype, array.shape, json.loads(text), may_be_infinite=True)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


@given(st.lists(st.text(max_size=4), max_size=4))
def test_every_text_comes_back(texts: list[str]) -> None:
    read = from_json("x", "BYTES", (len(texts),), texts)
    assert to_json("x", "BYTES", read) == texts


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "error"),
    [
        pytest.param("UINT8", (1,), [256], DatatypeError, id="too large"),
        pytest.param("UINT64", (1,), [-1], DatatypeError, id="negative"),
        pytest.param("INT32", (1,), [1.0], DatatypeError, id="a fraction for an integer"),
        pytest.param("INT32", (1,), [True], DatatypeError, id="a boolean for an integer"),
        pytest.param("BOOL", (1,), [1], DatatypeError, id="a number for a boolean"),
        pytest.param("FP32", (1,), ["1"], DatatypeError, id="text for a number"),
        pytest.param("FP32", (1,), [None], DatatypeError, id="null"),
        pytest.param("FP64", (1,), [10**400], DatatypeError, id="an endless integer"),
        pytest.param("FP64", (1,), [float("inf")], DatatypeError, id="1e400"),
        pytest.param("BYTES", (1,), ["\ud800"], DatatypeError, id="half of a character"),
        pytest.param("FP16", (1,), [1], DatatypeError, id="FP16"),
        pytest.param("FP8", (1,), [1], DatatypeError, id="no datatype"),
        pytest.param("FP32", (2,), [1], ShapeError, id="too few"),
        pytest.param("FP32", (2**32, 2**32), [1], ShapeError, id="too many to count"),
        pytest.param("FP64", (2**62,), [1], ShapeError, id="too many bytes"),
        pytest.param("FP32", (2,), [[1], 2], FormatError, id="rows and values"),
        pytest.param("FP32", (1,), 1, FormatError, id="no array"),
    ],
)
def test_what_is_no_such_tensor_is_refused(
    datatype: str, shape: tuple[int, ...], data: Any, error: type[NbModelError]
) -> None:
    with pytest.raises(error):
        from_json("input 'x'", datatype, shape, data)


def test_what_is_too_big_for_fp32_is_infinite() -> None:
    assert from_json("x", "FP32", (2,), [1e300, 1]).tolist() == [np.inf, 1]


def test_values_are_called_as_json_calls_them() -> None:
    values: tuple[object, ...] = ({}, [], "", True, None, 1, 0.5)
    assert [json_kind(value) for value in values] == [
        *("an object", "an array", "a string", "a boolean", "null", "a number", "a number")
    ]
