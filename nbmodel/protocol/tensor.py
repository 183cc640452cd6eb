"""Arrays as tensors of the protocol: one form for every datatype, whatever came in.

In that form an array has the dtype of ``datatypes.to_numpy``, native byte order and C
order, and BYTES is an object array of ``bytes``. Wire formats are not here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nbmodel.errors import DatatypeError
from nbmodel.protocol.datatypes import NUMBERS, from_numpy

MAX_RANK = 32  # dimensions of an array, in numpy before 2.0


def to_tensor(value: ArrayLike, *, what: str) -> NDArray[Any]:
    """``value`` in the protocol's form; the same array when it has that form already.

    Args:
        value: An array, or anything numpy makes one of. Text becomes BYTES in UTF-8.
        what: The thing it belongs to, for messages: ``input 'x'``.

    Returns:
        An array of the same shape; a view or the argument itself where no element changes.

    Raises:
        DatatypeError: The protocol cannot carry the dtype, or an object array holds
            something else than text and bytes.
    """
    try:
        array = np.asarray(value)
    except ValueError as exc:  # rows of unequal length
        raise DatatypeError(f"{what} is not an array: {exc}") from exc
    if from_numpy(array.dtype, what=what) == "BYTES":
        return _to_bytes(array, what)
    if array.dtype.isnative and array.flags.c_contiguous:
        return array
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def with_datatype(value: ArrayLike, *, what: str) -> tuple[NDArray[Any], str]:
    """``value`` in the protocol's form, and its datatype.

    Raises:
        DatatypeError: As ``to_tensor``.
    """
    if type(value) is np.ndarray and value.flags.c_contiguous:
        datatype = NUMBERS.get(value.dtype)
        if datatype is not None:  # nothing to do, for nearly every tensor there is
            return value, datatype
    array = to_tensor(value, what=what)
    return array, datatype_of(array, what=what)


def datatype_of(tensor: NDArray[Any], *, what: str) -> str:
    """The datatype of an array.

    Raises:
        DatatypeError: The protocol cannot carry it.
    """
    return from_numpy(tensor.dtype, what=what)


def _to_bytes(array: NDArray[Any], what: str) -> NDArray[Any]:
    if array.dtype == object and all(type(item) is bytes for item in array.flat):
        return np.asarray(array, order="C")
    result = np.empty(array.shape, dtype=object)
    # An array of rank 0 has no rows to assign to; its flat view has its one element.
    flat = result.reshape(-1)
    for position, item in enumerate(array.flat):
        if isinstance(item, str):
            flat[position] = item.encode()
        elif isinstance(item, bytes):
            flat[position] = bytes(item)
        else:
            index = [int(i) for i in np.unravel_index(position, array.shape)]
            raise DatatypeError(
                f"{what} holds {type(item).__name__} at {index}: expected text or bytes"
            )
    return result
