"""Arrays in the protocol's own form."""

from __future__ import annotations

import numpy as np
import pytest

from nbmodel.errors import DatatypeError
from nbmodel.protocol.tensor import to_tensor


def test_an_array_in_that_form_is_not_copied():
    array = np.ones((2, 3), np.float32)
    assert to_tensor(array, what="x") is array
    texts = np.array([b"a"], object)
    assert to_tensor(texts, what="x") is texts


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.array([1, 2], ">i4"), [1, 2]),
        (np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
        ([[1.5], [2.5]], [[1.5], [2.5]]),
        (np.array(7), 7),
        (np.zeros((0, 3)), []),
    ],
    ids=["big endian", "transposed", "a list", "a scalar", "no rows"],
)
def test_numbers_keep_value_and_shape(given, expected):
    tensor = to_tensor(given, what="x")
    assert tensor.shape == np.shape(given)
    assert tensor.tolist() == expected
    assert tensor.flags.c_contiguous
    assert tensor.dtype.isnative


@pytest.mark.parametrize(
    "given",
    [
        np.array([["é", "b"]]),
        np.array([["é".encode(), b"b"]]),
        np.array([["é", b"b"]], object),
        [["é", "b"]],
    ],
    ids=["str", "bytes", "both", "a list"],
)
def test_text_becomes_bytes_in_utf_8(given):
    tensor = to_tensor(given, what="x")
    assert tensor.dtype == object
    assert tensor.tolist() == [["é".encode(), b"b"]]


def test_a_scalar_of_text_stays_a_scalar():
    tensor = to_tensor(np.array("a"), what="x")
    assert tensor.shape == ()
    assert tensor.item() == b"a"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array(["a", None], object), r"input 'x' holds NoneType at \[1\]: expected text"),
        (np.array([[1], [{}]], object), r"input 'x' holds int at \[0, 0\]"),
        (np.zeros(2, complex), "input 'x' is an array of complex128"),
        (np.zeros(2, "M8[s]"), "input 'x' is an array of datetime64"),
        ([[1.0], [1.0, 2.0]], "input 'x' is not an array"),
    ],
    ids=["nothing", "objects", "complex", "dates", "ragged"],
)
def test_what_nothing_carries_is_refused(given, message):
    with pytest.raises(DatatypeError, match=message):
        to_tensor(given, what="input 'x'")
