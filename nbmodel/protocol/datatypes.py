"""OIP datatypes and the numpy dtypes that hold them.

Importing this loads numpy, but neither ``ml_dtypes`` nor any engine: BF16, which numpy
does not have, is found when it is first asked for.

Source: Open Inference Protocol v2, "Tensor Data Types"; Triton's binary tensor extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbmodel.core.signature import DATATYPES
from nbmodel.errors import DatatypeError, PluginError

#: Datatype → dtype, of all that numpy has itself. BYTES is an object array of ``bytes``,
#: as in tritonclient; BF16 comes from ``ml_dtypes`` through :func:`to_numpy`.
DATATYPE_TO_NUMPY: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
_NUMPY_TO_DATATYPE = {dtype: datatype for datatype, dtype in DATATYPE_TO_NUMPY.items()}
#: Native dtype → datatype, of all whose elements are numbers or booleans.
NUMBERS: Mapping[np.dtype[Any], str] = {
    dtype: datatype for dtype, datatype in _NUMPY_TO_DATATYPE.items() if datatype != "BYTES"
}


def to_numpy(datatype: str) -> np.dtype[Any]:
    """The dtype of arrays that hold ``datatype``.

    Raises:
        DatatypeError: The protocol has no such datatype.
        PluginError: It is BF16, and ``ml_dtypes`` is not installed.
    """
    dtype = DATATYPE_TO_NUMPY.get(datatype)
    if dtype is not None:
        return dtype
    if datatype == "BF16":
        return _bfloat16()
    raise DatatypeError(f"unknown datatype {datatype!r}: expected one of {', '.join(DATATYPES)}")


def from_numpy(dtype: np.dtype[Any], *, what: str) -> str:
    """The datatype of an array of ``dtype``; byte order does not matter.

    Object, ``str`` and ``bytes`` arrays are BYTES.

    Args:
        dtype: Of the array.
        what: The thing it belongs to, for the message: ``input 'x'``.

    Raises:
        DatatypeError: The protocol cannot carry it, as with complex numbers and dates.
    """
    datatype = _NUMPY_TO_DATATYPE.get(dtype) or _NUMPY_TO_DATATYPE.get(dtype.newbyteorder("="))
    if datatype is not None:
        return datatype
    if dtype.kind in "SUT":
        return "BYTES"
    if dtype.name == "bfloat16":
        return "BF16"
    raise DatatypeError(
        f"{what} is an array of {dtype.name}, which the inference protocol cannot carry: "
        f"expected one of {', '.join(DATATYPES)}"
    )


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError as exc:
        raise PluginError(
            "datatype BF16 needs ml_dtypes, which is not installed",
            hint="pip install ml_dtypes",
        ) from exc
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype
