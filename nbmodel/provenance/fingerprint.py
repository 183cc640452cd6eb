"""Fingerprints of data: a digest that is the same wherever the same values are.

A file's is that of its bytes. An object's is made of what it is and of its values, in C order
and little-endian, so that it depends neither on the machine nor on how the object lies in
memory. Column names, categories and the index of a data frame count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nbmodel.core.provenance import Fingerprint
from nbmodel.errors import InputError

_BLOCK = 1024 * 1024  # bytes of a file at a time
_MAX_DEPTH = 8  # of mappings in mappings
_TAKEN = "a file, an array, a data frame, a mapping of these, or a JSON value"


def fingerprints(data: Mapping[str, object]) -> dict[str, Fingerprint]:
    """The fingerprints of data by name.

    Args:
        data: Name → a file's path, an array, data frame, mapping of these, or JSON value. Text
            is the path of a file.

    Raises:
        InputError: A file cannot be read, or a value is of another kind.
    """
    return {name: _fingerprint(name, value) for name, value in data.items()}


def _fingerprint(name: str, value: object) -> Fingerprint:
    if not name:
        raise InputError("data need a name, found an empty one", hint="--data train=X_train")
    if isinstance(value, str | os.PathLike):
        return _of_file(name, Path(value).expanduser())
    hashed = hashlib.sha256()
    try:
        what = _feed(hashed.update, name, value, 0)
    except InputError:
        raise
    except Exception as exc:  # whatever the object's own methods raise
        raise InputError(
            f"data {name!r}: cannot read the values of {type(value).__name__}: {exc}"
        ) from exc
    return Fingerprint(f"sha256:{hashed.hexdigest()}", what)


def _of_file(name: str, file: Path) -> Fingerprint:
    hashed, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                hashed.update(block)
                size += len(block)
    except OSError as exc:
        raise InputError(f"data {name!r}: cannot read {file}: {exc.strerror}") from exc
    return Fingerprint(f"sha256:{hashed.hexdigest()}", f"{file.name}, {size} bytes")


def _feed(
    update: Callable[[bytes | memoryview], None], name: str, value: object, depth: int
) -> str:
    """Feed a value to a digest; gives what it is in words."""
    if depth > _MAX_DEPTH:
        raise InputError(f"data {name!r} has more than {_MAX_DEPTH} levels of mappings")
    if isinstance(value, bytes | bytearray | memoryview):
        _parts(update, [b"bytes", bytes(value)])
        return f"{len(bytes(value))} bytes"
    if hasattr(value, "columns") and hasattr(value, "__getitem__"):
        return _feed_frame(update, name, value)
    if isinstance(value, Mapping):
        _parts(update, [b"mapping", str(len(value)).encode()])
        for key in sorted(value, key=str):
            _parts(update, [str(key).encode("utf-8", "backslashreplace")])
            _feed(update, f"{name}.{key}", value[key], depth + 1)
        return f"mapping of {len(value)}"
    if hasattr(value, "__array__") or hasattr(value, "detach"):
        return _feed_array(update, name, value)
    try:
        _parts(update, [b"json", json.dumps(value, sort_keys=True, allow_nan=False).encode()])
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"data {name!r}: expected {_TAKEN}, found {type(value).__name__}") from exc
    return type(value).__name__


def _feed_array(update: Callable[[bytes | memoryview], None], name: str, value: Any) -> str:
    import numpy as np

    if hasattr(value, "detach"):  # a tensor of PyTorch, which may be on a GPU
        value = value.detach().cpu()
    array = np.asarray(value)
    shape = list(array.shape)
    if array.dtype.kind in "OUST" or array.dtype.hasobject:
        _parts(update, [b"array", b"text", json.dumps(shape).encode()])
        _texts(update, name, array.reshape(-1).tolist())
        return f"text {shape}"
    if array.dtype.kind == "V":
        raise InputError(f"data {name!r}: expected an array of numbers, found {array.dtype}")
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    _parts(update, [b"array", array.dtype.str.encode(), json.dumps(shape).encode()])
    update(array.reshape(-1).view(np.uint8).data)
    return f"{array.dtype.name} {shape}"


def _feed_frame(update: Callable[[bytes | memoryview], None], name: str, frame: Any) -> str:
    """A data frame of pandas, Polars or the like, column by column."""
    columns = list(frame.columns)
    _parts(update, [b"frame", str(len(columns)).encode()])
    for place, column in enumerate(columns):
        _parts(update, [str(column).encode("utf-8", "backslashreplace")])
        # By place in pandas: two columns may have one name.
        values = frame.iloc[:, place] if hasattr(frame, "iloc") else frame[column]
        _feed_column(update, f"{name}.{column}", values)
    if hasattr(frame, "iloc"):
        _feed_column(update, f"{name} (index)", frame.index)
    return f"{len(frame)} rows × {len(columns)} columns"


def _feed_column(update: Callable[[bytes | memoryview], None], name: str, values: Any) -> None:
    categories = getattr(getattr(values, "dtype", None), "categories", None)
    if categories is not None:
        _parts(update, [b"categories"])
        _texts(update, name, list(categories))
    array = values.to_numpy() if hasattr(values, "to_numpy") else values
    _feed_array(update, name, array)


def _texts(
    update: Callable[[bytes | memoryview], None], name: str, values: Iterable[object]
) -> None:
    for value in values:
        if isinstance(value, bytes):
            _parts(update, [b"b", value])
        elif value is None or isinstance(value, str | int | float):
            kind = type(value).__name__
            _parts(update, [kind.encode(), str(value).encode("utf-8", "backslashreplace")])
        elif type(value).__repr__ is object.__repr__:  # tells an address in memory
            raise InputError(
                f"data {name!r}: expected {_TAKEN}, found {type(value).__name__} in it"
            )
        else:
            _parts(update, [b"o", repr(value).encode("utf-8", "backslashreplace")])


def _parts(update: Callable[[bytes | memoryview], None], parts: Iterable[bytes]) -> None:
    """Feed pieces, each with its length: no two rows of pieces look alike."""
    for part in parts:
        update(len(part).to_bytes(8, "big"))
        update(part)
