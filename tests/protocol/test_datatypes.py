import ml_dtypes
import numpy as np
import pytest
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from nbmodel.core.signature import DATATYPES
from nbmodel.errors import DatatypeError
from nbmodel.protocol.datatypes import from_numpy, to_numpy


@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_datatype_comes_back_from_its_dtype(datatype: str) -> None:
    assert from_numpy(to_numpy(datatype), what="x") == datatype


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BF16"])
def test_the_dtype_is_tritonclients(datatype: str) -> None:
    assert to_numpy(datatype) == triton_to_np_dtype(datatype)
    assert np_to_triton_dtype(to_numpy(datatype)) == datatype


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BYTES"])
def test_an_element_has_the_size_the_protocol_says(datatype: str) -> None:
    assert to_numpy(datatype).itemsize == DATATYPES[datatype]


def test_bf16_is_ml_dtypes() -> None:
    assert to_numpy("BF16") == np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        pytest.param(">f4", "FP32", id="big-endian float"),
        pytest.param("<U5", "BYTES", id="text"),
        pytest.param("S3", "BYTES", id="fixed bytes"),
        pytest.param("O", "BYTES", id="objects"),
    ],
)
def test_what_else_is_understood(dtype: str, datatype: str) -> None:
    assert from_numpy(np.dtype(dtype), what="x") == datatype


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[ns]", [("a", "f4")]])
def test_a_dtype_the_protocol_cannot_carry_is_named(dtype: object) -> None:
    with pytest.raises(DatatypeError, match="input 'x' is an array of"):
        from_numpy(np.dtype(dtype), what="input 'x'")  # type: ignore[call-overload]


def test_an_unknown_datatype_lists_the_known_ones() -> None:
    with pytest.raises(DatatypeError, match=r"'FLOAT'.*FP32"):
        to_numpy("FLOAT")
