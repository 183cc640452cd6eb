"""From the dtype a person has to the one a model takes, when no value is lost by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nbmodel.core.signature import DATATYPES, Signature, Tensor
from nbmodel.errors import DatatypeError
from nbmodel.protocol.datatypes import to_numpy
from nbmodel.protocol.tensor import datatype_of, to_tensor


def coerce(signature: Signature, arrays: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """Arrays in the datatypes that a signature's inputs have.

    Numbers become floating point with its rounding (a notebook's float64 goes to an FP32
    input), but not infinite. They become integers or booleans when each is one exactly
    and fits. Text becomes BYTES. Arrays of other names are passed on as they are: that
    they are wrong is told with the names and shapes.

    Args:
        signature: What the model takes.
        arrays: Name → array or nested list.

    Returns:
        New arrays where the datatype differs, else the arrays themselves.

    Raises:
        DatatypeError: A value would be lost; names the tensor and the first such value.
    """
    known = {tensor.name: tensor for tensor in signature.inputs}
    coerced = {}
    for name, value in arrays.items():
        what = f"input {name!r}"
        coerced[name] = (
            coerce_tensor(known[name], value, what=what)
            if name in known
            else to_tensor(value, what=what)
        )
    return coerced


def coerce_tensor(tensor: Tensor, value: ArrayLike, *, what: str) -> NDArray[Any]:
    """One array in the datatype of a signature's tensor, as ``coerce`` makes it.

    Args:
        tensor: What it is to be.
        value: An array or nested list.
        what: It is called in an error: ``input 'x'``.

    Raises:
        DatatypeError: A value would be lost; names the first such value.
    """
    array = to_tensor(value, what=what)
    found = datatype_of(array, what=what)
    if found == tensor.datatype or tensor.datatype not in DATATYPES:
        return array
    if "BYTES" in (found, tensor.datatype):
        raise DatatypeError(f"{what} is {tensor.datatype}, found {found}")
    dtype = to_numpy(tensor.datatype)
    # Casting out-of-range values warns or wraps; what came of it is compared below.
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(dtype)
    lost = _lost(array, cast, is_float=tensor.datatype.startswith(("FP", "BF")))
    if lost.any():
        first = array.reshape(-1)[int(np.argmax(lost.reshape(-1)))]
        raise DatatypeError(
            f"{what} is {tensor.datatype}, found {found} with the value {first}, "
            f"which {tensor.datatype} cannot hold"
        )
    return np.asarray(cast, order="C")


def _lost(array: NDArray[Any], cast: NDArray[Any], *, is_float: bool) -> NDArray[np.bool_]:
    """Where a cast changed a value by more than floating point's rounding."""
    if is_float:
        lost: NDArray[np.bool_] = np.isinf(cast.astype(np.float64)) & np.isfinite(array)
        return lost
    with np.errstate(invalid="ignore", over="ignore"):
        # There and back: a value that wrapped or lost its fraction comes back another.
        changed: NDArray[np.bool_] = cast.astype(array.dtype) != array
    if array.dtype.kind in "iu" and cast.dtype.kind in "iu":
        changed |= (cast < 0) != (array < 0)  # int8 -1 -> uint8 255 -> int8 -1
    return changed
