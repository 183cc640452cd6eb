"""From what a person has at hand to the named tensors of a request.

Accepted: arrays and lists, mappings by input name, data frames, PIL images, and paths to
pictures, ``.npy``, ``.npz``, ``.csv`` and ``.json`` files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbmodel.core.signature import Signature, Tensor, describe
from nbmodel.errors import InputError, ShapeError, TensorNameError
from nbmodel.vision.image import image_to_tensor, load_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_TEXT_FILE = 256 * 1024 * 1024  # bytes of a .csv or .json file


@dataclass(frozen=True, slots=True)
class Inputs:
    """The tensors of a request, and the pictures they were made from.

    Attributes:
        tensors: Input name → array with the rank the model takes.
        images: The pictures as given, one a row of the batch; empty for plain numbers.
    """

    tensors: Mapping[str, NDArray[Any]]
    images: tuple[Image, ...] = ()


def inputs_for(signature: Signature, values: Sequence[object]) -> Inputs:
    """The request that ``values`` mean to a model.

    Several values are a batch of pictures, or one value an input in the model's order.
    An array that lacks only the batch axis gets it. Datatypes are left to the caller.

    Args:
        signature: What the model takes.
        values: What the person gave, at least one.

    Raises:
        InputError: A file cannot be read, or nothing fits the model's inputs.
        TensorNameError, ShapeError: The values contradict the signature.
    """
    if not values:
        raise InputError("no input given", hint=_takes(signature))
    read = [_read(value) for value in values]
    if all(_is_picture(value) for value in read):
        return _pictures(signature, read)
    if len(read) == 1:
        return Inputs(_tensors(signature, read[0]))
    if len(read) != len(signature.inputs):
        raise TensorNameError(
            f"{len(read)} inputs given, the model takes {len(signature.inputs)}",
            hint=_takes(signature),
        )
    named = {tensor.name: value for tensor, value in zip(signature.inputs, read, strict=True)}
    return Inputs(_tensors(signature, named))


def draw_rows(request: Inputs, size: tuple[int, int]) -> Inputs:
    """The same request, with a picture of every row of numbers.

    A row of ``height * width`` numbers becomes a grey picture, one of three times as many
    a coloured one; the request's smallest number is black, its largest white.

    Args:
        request: One whose first input has the rows.
        size: Height and width in pixels.

    Raises:
        ShapeError: A row has another number of elements.
    """
    from PIL import Image

    height, width = size
    name, array = next(iter(request.tensors.items()))
    rows = np.asarray(array, np.float64).reshape(array.shape[0] if array.ndim else 1, -1)
    if rows.shape[1] not in (height * width, height * width * 3):
        raise ShapeError(
            f"cannot draw {rows.shape[1]} numbers of input {name!r} as {height}x{width} pixels"
        )
    low, high = rows.min(initial=0.0), rows.max(initial=0.0)
    pixels = ((rows - low) / ((high - low) or 1) * 255).astype(np.uint8)
    shape = (height, width) if rows.shape[1] == height * width else (height, width, 3)
    return Inputs(request.tensors, tuple(Image.fromarray(row.reshape(shape)) for row in pixels))


def _read(value: object) -> object:
    """The contents of a file that ``value`` names; any other value as it is."""
    if not isinstance(value, str | Path):
        return value
    path = Path(value).expanduser()
    if not path.is_file():
        raise InputError(
            f"no such input file: {path}", hint="give a file, or the name of a kernel variable"
        )
    if path.suffix.lower() in PICTURES:
        return load_image(path)
    try:
        return _read_numbers(path)
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot read inputs from {path}: {exc}") from exc


def _read_numbers(path: Path) -> object:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".json") and path.stat().st_size > MAX_TEXT_FILE:
        raise InputError(f"{path} is larger than {MAX_TEXT_FILE} bytes", hint="use .npy")
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    if suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if suffix == ".csv":
        return _read_csv(path)
    raise InputError(
        f"cannot read inputs from {path}: unknown suffix {suffix!r}",
        hint=f"one of {', '.join(sorted(PICTURES))}, .npy, .npz, .csv, .json",
    )


def _read_csv(path: Path) -> object:
    """Numbers without a header as a table, with one as columns by name."""
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        raise InputError(f"{path} is empty")
    try:
        return np.array([[float(cell) for cell in row] for row in rows])
    except ValueError:
        header, *body = rows
    columns = {name: _column([row[index] for row in body]) for index, name in enumerate(header)}
    return _Columns(columns)


def _column(cells: Sequence[str]) -> NDArray[Any]:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        return np.array(cells, dtype=object)


@dataclass(frozen=True, slots=True)
class _Columns:
    """A table by column name: a data frame without pandas."""

    columns: Mapping[str, NDArray[Any]]


def _is_picture(value: object) -> bool:
    # A PIL image is known by what it offers, so that Pillow is not imported to ask.
    return hasattr(value, "getexif") and hasattr(value, "convert")


def _pictures(signature: Signature, images: Sequence[Any]) -> Inputs:
    tensor = _picture_input(signature)
    rows = [image_to_tensor(image, tensor) for image in images]
    if len(rows) > 1 and tensor.shape is not None and tensor.shape[:1] != (-1,):
        raise ShapeError(
            f"{len(rows)} pictures for input {describe(tensor)}, which takes one",
            hint="infer them one by one",
        )
    array = np.concatenate(rows) if len(rows) > 1 else rows[0]
    return Inputs({tensor.name: array}, tuple(images))


def _picture_input(signature: Signature) -> Tensor:
    if len(signature.inputs) == 1:
        return signature.inputs[0]
    fitting = [
        tensor
        for tensor in signature.inputs
        if tensor.profile == "image" or (tensor.shape is not None and len(tensor.shape) == 4)
    ]
    if len(fitting) != 1:
        raise InputError(
            "a picture fits none or several of the model's inputs",
            hint=f"give a mapping by name; {_takes(signature)}",
        )
    return fitting[0]


def _tensors(signature: Signature, value: object) -> dict[str, NDArray[Any]]:
    if isinstance(value, Mapping):
        return _named(signature, value)
    if isinstance(value, _Columns):
        return _from_columns(signature, value.columns)
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):  # a data frame
        frame: Any = value
        return _from_columns(signature, {str(name): frame[name].to_numpy() for name in frame})
    if len(signature.inputs) != 1:
        raise TensorNameError(
            f"one unnamed input given, the model takes {len(signature.inputs)}",
            hint=f"give a mapping by name; {_takes(signature)}",
        )
    tensor = signature.inputs[0]
    return {tensor.name: _array(tensor, value)}


def _named(signature: Signature, value: Mapping[Any, object]) -> dict[str, NDArray[Any]]:
    known = {tensor.name: tensor for tensor in signature.inputs}
    arrays = {}
    for name, item in value.items():
        if name not in known:
            raise TensorNameError(f"unexpected input {name!r}", hint=_takes(signature))
        item = _read(item) if isinstance(item, Path) else item
        tensor = known[name]
        arrays[str(name)] = (
            image_to_tensor(item, tensor) if _is_picture(item) else _array(tensor, item)  # type: ignore[arg-type] # any PIL image
        )
    return arrays


def _from_columns(
    signature: Signature, columns: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """One input a column where the names say so, else all columns side by side."""
    names = [tensor.name for tensor in signature.inputs]
    if len(names) > 1 or names[0] in columns:
        missing = [name for name in names if name not in columns]
        if missing:
            raise TensorNameError(
                f"the data frame has no column {missing[0]!r}",
                hint=f"its columns: {', '.join(columns)}; {_takes(signature)}",
            )
        return {
            tensor.name: _array(tensor, columns[tensor.name].reshape(-1, 1))
            for tensor in signature.inputs
        }
    tensor = signature.inputs[0]
    return {tensor.name: _array(tensor, np.column_stack(list(columns.values())))}


def _array(tensor: Tensor, value: object) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as exc:  # rows of different lengths
        raise ShapeError(f"input {tensor.name!r} is not a regular array: {exc}") from exc
    if tensor.shape is None or tensor.fits(array.shape):
        return array
    with_batch = array[np.newaxis]
    return with_batch if tensor.fits(with_batch.shape) else array


def _takes(signature: Signature) -> str:
    return f"the model takes {', '.join(describe(tensor) for tensor in signature.inputs)}"
