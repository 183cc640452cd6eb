from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from nbmodel.core.signature import DATATYPES
from nbmodel.errors import DatatypeError, FormatError, NbModelError, ShapeError
from nbmodel.protocol.datatypes import to_numpy
from nbmodel.protocol.raw import decode_raw, encode_raw
from nbmodel.protocol.tensor import datatype_of

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def _arrays() -> st.SearchStrategy[NDArray[np.generic]]:
    numbers = st.sampled_from([name for name in DATATYPES if name not in ("BYTES", "BF16")])
    return st.one_of(
        numbers.flatmap(lambda name: hnp.arrays(to_numpy(name), SHAPES)),
        hnp.arrays(np.object_, SHAPES, elements=st.binary(max_size=5), fill=st.nothing()),
    )


@given(_arrays())
def test_every_tensor_comes_back(array: NDArray[np.generic]) -> None:
    datatype = datatype_of(array, what="x")
    data = bytes(encode_raw(array))
    read = decode_raw("x", datatype, array.shape, memoryview(data))
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    assert bytes(encode_raw(read)) == data


@pytest.mark.parametrize("shape", [(), (2,), (0, 3)])
def test_bfloat16_comes_back(shape: tuple[int, ...]) -> None:
    array = np.full(shape, 1.5, ml_dtypes.bfloat16)
    data = encode_raw(array)
    read = decode_raw("x", "BF16", shape, memoryview(bytes(data)))
    assert (read.dtype, read.tolist()) == (array.dtype, array.tolist())


def test_numbers_are_little_endian() -> None:
    assert bytes(encode_raw(np.array([1, 256], np.int16))) == b"\x01\x00\x00\x01"
    assert bytes(encode_raw(np.array([b"", b"ab"], object))) == b"\0\0\0\0\x02\0\0\0ab"


def test_nothing_is_copied_that_need_not_be() -> None:
    array = np.arange(4, dtype=np.float32)
    assert np.shares_memory(np.frombuffer(encode_raw(array), np.uint8), array)
    body = bytearray(16)
    read = decode_raw("x", "FP32", (4,), memoryview(body))
    read[0] = 1
    assert body[3] == 0x3F


def test_a_misaligned_tensor_is_copied() -> None:
    read = decode_raw("x", "INT64", (1,), memoryview(bytearray(9))[1:])
    assert read.flags.aligned


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "error"),
    [
        pytest.param("FP32", (2,), b"1234", ShapeError, id="too short"),
        pytest.param("FP32", (1,), b"12345", ShapeError, id="too long"),
        pytest.param("FP32", (0, 2**62), b"", ShapeError, id="an impossible shape"),
        pytest.param("BYTES", (0, 2**62), b"", ShapeError, id="an impossible shape of text"),
        pytest.param("BYTES", (1,), b"", ShapeError, id="no element"),
        pytest.param("BYTES", (1,), b"\1\0\0\0a" * 2, ShapeError, id="an element too much"),
        pytest.param("BYTES", (1,), b"\1\0\0", FormatError, id="a length cut off"),
        pytest.param("BYTES", (1,), b"\2\0\0\0a", FormatError, id="an element cut off"),
        pytest.param("BYTES", (1,), b"\xff\xff\xff\xff", FormatError, id="a huge length"),
        pytest.param("FP8", (1,), b"1", DatatypeError, id="no datatype"),
        pytest.param("COMPLEX64", (1,), b"12345678", DatatypeError, id="a foreign datatype"),
    ],
)
def test_bytes_that_are_no_such_tensor_are_refused(
    datatype: str, shape: tuple[int, ...], data: bytes, error: type[NbModelError]
) -> None:
    with pytest.raises(error):
        decode_raw("x", datatype, shape, memoryview(data))
