"""The elements of one tensor ⇄ JSON: numbers, booleans and text, flat or nested.

FP16 and BF16 have no JSON form. Integers must fit; a number too big for FP32 becomes
infinite, as everywhere, but one too big for any float is refused.

Source: Open Inference Protocol v2 (REST), "Tensor Data"; Triton's ``http_server.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.errors import DatatypeError, FormatError, ShapeError
from nbmodel.protocol.datatypes import to_numpy
from nbmodel.protocol.raw import reshape

_MAX_INT64 = 2**63 - 1
_JSON_TYPES: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}


def json_kind(value: object) -> str:
    """What JSON calls a value, for messages."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def from_json(
    what: str,
    datatype: str,
    shape: tuple[int, ...],
    data: object,
    *,
    may_be_infinite: bool = False,
) -> NDArray[Any]:
    """The tensor whose elements JSON has.

    Args:
        what: The tensor, for messages: ``input 'x'``.
        datatype: OIP datatype.
        shape: Row-major, unsigned integers.
        data: The elements as parsed, flat or nested.
        may_be_infinite: Whether the JSON says ``Infinity``; without it an infinite element
            is a number that no float can hold.

    Raises:
        DatatypeError: There is no such datatype, JSON cannot carry it, or an element is none.
        ShapeError: There are more or fewer elements than the shape says.
        FormatError: The data is no array, or rows and values are mixed.
    """
    _check_json_carries(what, datatype)
    dtype = to_numpy(datatype)
    count = _count(what, datatype, shape, dtype.itemsize)
    if not isinstance(data, list):
        raise FormatError(
            f"Unable to parse 'data' of {what}: expected an array, found {json_kind(data)}"
        )
    flat = _flat(data, what)
    if len(flat) != count:
        raise ShapeError(
            f"Unable to parse 'data' of {what}: shape {list(shape)} has {count} "
            f"elements, found {len(flat)}"
        )
    allowed = _JSON_TYPES[dtype.kind]
    if not allowed.issuperset(map(type, flat)):
        wrong = next(item for item in flat if type(item) not in allowed)
        raise DatatypeError(
            f"Unable to parse 'data' of {what}: expected {datatype}, found {json_kind(wrong)}"
        )
    array = _array(what, datatype, dtype, flat)
    if dtype.kind == "f" and not may_be_infinite and np.isinf(array).any():
        _check_finite(what, flat)
    return reshape(array, shape, what)


def _count(what: str, datatype: str, shape: tuple[int, ...], itemsize: int) -> int:
    count = math.prod(shape)
    if count > _MAX_INT64:
        raise ShapeError(
            f"invalid shape for {what}: shape {list(shape)} causes total element count to "
            f"exceed maximum size of {_MAX_INT64}"
        )
    if count * itemsize > _MAX_INT64:
        raise ShapeError(
            f"byte size overflow for {what}: element count ({count}) * data type size "
            f"({itemsize}) exceeds maximum allowed size ({_MAX_INT64}), datatype {datatype}"
        )
    return count


def _check_finite(what: str, flat: list[float]) -> None:
    if any(map(math.isinf, flat)):  # 1e300 may become infinite in FP32; 1e400 is no number
        raise DatatypeError(
            f"Unable to parse 'data' of {what}: number too big to be stored in double"
        )


def _array(what: str, datatype: str, dtype: np.dtype[Any], flat: list[Any]) -> NDArray[Any]:
    if dtype.kind == "O":
        return _texts(what, flat)
    if dtype.kind in "iu" and flat:
        limits = np.iinfo(dtype)
        for value in (min(flat), max(flat)):
            if not limits.min <= value <= limits.max:
                raise DatatypeError(f"Unable to parse 'data' of {what}: {value} is no {datatype}")
    try:
        with np.errstate(over="ignore"):  # 1e300 is infinity in FP32, as everywhere
            return np.array(flat, dtype=dtype)
    except OverflowError as exc:
        raise DatatypeError(f"Unable to parse 'data' of {what}: {exc}") from exc


def _texts(what: str, texts: list[str]) -> NDArray[Any]:
    made = np.empty(len(texts), dtype=np.object_)
    try:
        made[:] = [text.encode() for text in texts]
    except UnicodeEncodeError as exc:  # JSON can escape half of a surrogate pair
        raise DatatypeError(f"Unable to parse 'data' of {what}: not Unicode text: {exc}") from exc
    return made


def _flat(data: list[Any], what: str) -> list[Any]:
    while data and type(data[0]) is list:
        if any(type(item) is not list for item in data):
            raise FormatError(f"Unable to parse 'data' of {what}: rows and values are mixed")
        data = list(chain.from_iterable(data))
    return data


def to_json(what: str, datatype: str, array: NDArray[Any]) -> list[Any]:
    """The elements of a tensor in the protocol's form, flat.

    Args:
        what: The tensor, for messages: ``output 'y'``.
        datatype: Its datatype.
        array: Its elements.

    Raises:
        DatatypeError: JSON cannot carry them.
    """
    _check_json_carries(what, datatype)
    flat: list[Any] = array.reshape(-1).tolist()
    if datatype != "BYTES":
        return flat
    try:
        return [item.decode() for item in flat]
    except UnicodeDecodeError as exc:
        raise DatatypeError(
            f"{what} holds bytes that are not UTF-8, which JSON cannot carry",
            hint="ask for it as binary data",
        ) from exc


def _check_json_carries(what: str, datatype: str) -> None:
    if datatype in ("FP16", "BF16"):
        raise DatatypeError(
            f"sending {datatype} data via JSON is not supported: {what}",
            hint="use the binary data format",
        )
