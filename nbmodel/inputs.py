"""From what a person has at hand to the named tensors of a request.

Accepted: arrays and lists, mappings by input name, data frames, PIL images, and paths to
pictures, ``.npy``, ``.npz``, ``.csv`` and ``.json`` files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbmodel.core.signature import Signature, Tensor, describe
from nbmodel.errors import DatatypeError, InputError, ShapeError, TensorNameError
from nbmodel.vision.image import image_layout, image_to_tensor, load_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_TAKEN = (
    "give an array, list, data frame or picture, the path of a picture or of a .npy, .npz, .csv "
    "or .json file, or a mapping of those by input name"
)
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
    An array that lacks only the batch axis gets it. A table whose columns have names goes
    to an input that knows names for its columns in that input's order. A ``uint8`` array
    [height, width] or [height, width, 3], in RGB, is a picture to a model that takes
    pictures of another size. Datatypes are left to the caller.

    Args:
        signature: What the model takes.
        values: What the person gave, at least one.

    Raises:
        InputError: A file cannot be read, or nothing fits the model's inputs.
        TensorNameError, ShapeError, DatatypeError: The values contradict the signature.
    """
    if not values:
        raise InputError("no input given", hint=_takes(signature))
    read = [_pixels(signature, read_value(value)) for value in values]
    if all(is_picture(value) for value in read):
        return _pictures(signature, read, [_name(value) for value in values])
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


def read_value(value: object) -> object:
    """The contents of a file that ``value`` names; any other value as it is.

    Raises:
        InputError: There is no such file, or it cannot be read.
    """
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a PyTorch tensor
        return value.detach().cpu().numpy()
    if not isinstance(value, str | Path):
        return value
    path = Path(value).expanduser()
    if not path.is_file():
        raise InputError(
            f"no such input file: {path}",
            hint="give a file, or in a notebook the name of a variable",
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
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise InputError(
                f"cannot read inputs from {path}: row {number} has {len(row)} cells, "
                f"the first has {len(rows[0])}"
            )
    if _are_numbers(rows[0]):
        numbers = all(_are_numbers(row) for row in rows)
        return np.array(rows, dtype=np.float64 if numbers else object)
    header, *body = rows
    _refuse_twins(header, str(path))
    return _Columns(
        {name: _column([row[index] for row in body]) for index, name in enumerate(header)}
    )


def _are_numbers(cells: Sequence[str]) -> bool:
    try:
        return all(float(cell) is not None for cell in cells)
    except ValueError:
        return False


def _column(cells: Sequence[str]) -> NDArray[Any]:
    return np.array(cells, dtype=np.float64 if _are_numbers(cells) else object)


@dataclass(frozen=True, slots=True)
class _Columns:
    """A table by column name: a data frame without pandas."""

    columns: Mapping[str, NDArray[Any]]


def columns_of(value: Any) -> Mapping[str, NDArray[Any]] | None:
    """The columns of a table by name; None for what is no table, or has no names.

    That is a data frame, or a row of one: a series whose index has the names.
    """
    if isinstance(value, _Columns):
        return value.columns
    if not hasattr(value, "to_numpy"):
        return None
    if hasattr(value, "columns"):
        names = list(value.columns)
        if not _are_names(names):
            return None
        _refuse_twins(names, "the data frame")
        return {name: value[name].to_numpy() for name in names}
    names = list(value.index) if hasattr(value, "index") else []
    if not _are_names(names):
        return None
    _refuse_twins(names, "the series")
    return {name: np.asarray([value[name]]) for name in names}


def _are_names(names: Sequence[object]) -> bool:
    return bool(names) and all(isinstance(name, str) for name in names)


def _refuse_twins(names: Sequence[str], what: str) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise InputError(f"{what} has several columns {twins[0]!r}", hint="give each its own name")


def _name(value: object) -> str:
    """How a person would call a picture that was given."""
    name = value if isinstance(value, str | Path) else getattr(value, "filename", "")
    return Path(name).name if name else f"a {type(value).__name__}"


def _pixels(signature: Signature, value: object) -> object:
    """An array of pixels as a picture, for a model that takes pictures of another size."""
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or len(signature.inputs) != 1:
        return value
    tensor = signature.inputs[0]
    layout = image_layout(tensor)
    if layout is None or layout.axis is None or tensor.fits(_array(tensor, value).shape):
        return value
    may_be = value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3))
    return load_image(value) if may_be else value


def is_picture(value: object) -> bool:
    """Whether it is a PIL image."""
    # A PIL image is known by what it offers, so that Pillow is not imported to ask.
    return hasattr(value, "getexif") and hasattr(value, "convert")


def _pictures(signature: Signature, images: Sequence[Any], names: Sequence[str]) -> Inputs:
    tensor = _picture_input(signature)
    rows = [image_to_tensor(image, tensor) for image in images]
    if len(rows) > 1 and tensor.shape is not None and tensor.shape[:1] != (-1,):
        given = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise ShapeError(
            f"{len(rows)} pictures for input {describe(tensor)}, which takes one at a time: {given}",
            hint=f"give {names[0]} alone, then the next; or export the model with a batch "
            f"axis of any length",
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
    columns = columns_of(value)
    if columns is not None:
        return _from_columns(signature, columns)
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
        item = read_value(item) if isinstance(item, Path) else item
        tensor = known[name]
        arrays[str(name)] = (
            image_to_tensor(item, tensor) if is_picture(item) else _array(tensor, item)  # type: ignore[arg-type] # any PIL image
        )
    return arrays


def _from_columns(
    signature: Signature, columns: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """One input a column where the names say so, else all columns side by side."""
    names = [tensor.name for tensor in signature.inputs]
    if len(names) > 1 or (names[0] in columns and not signature.inputs[0].columns):
        missing = [name for name in names if name not in columns]
        if missing:
            raise TensorNameError(
                f"the data frame has no column {missing[0]!r}",
                hint=f"its columns: {', '.join(columns)}; {_takes(signature)}",
            )
        return {
            tensor.name: _array(
                tensor, _cells(tensor, tensor.name, columns[tensor.name]).reshape(-1, 1)
            )
            for tensor in signature.inputs
        }
    tensor = signature.inputs[0]
    return {tensor.name: _array(tensor, _side_by_side(tensor, columns))}


def _side_by_side(tensor: Tensor, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """A table as rows, with its columns in the order of the input's where that has names."""
    names = tensor.columns or tuple(columns)
    missing = [name for name in names if name not in columns]
    if missing:
        raise TensorNameError(
            f"input {tensor.name!r} takes column {missing[0]!r}, which is not among those "
            f"given: {', '.join(columns)}",
            hint=f"its columns: {', '.join(names)}",
        )
    return np.column_stack([_cells(tensor, name, columns[name]) for name in names])


def _cells(tensor: Tensor, name: str, column: NDArray[Any]) -> NDArray[Any]:
    """A column, of numbers where the input takes numbers."""
    return _numbers(tensor, column, lambda index: f"column {name!r} has {{}} in row {index[0]}")


def _numbers(
    tensor: Tensor, array: NDArray[Any], found: Callable[[tuple[int, ...]], str]
) -> NDArray[Any]:
    """Objects as the numbers that they are; text is never taken for one."""
    if array.dtype.kind not in "OU" or tensor.datatype == "BYTES":
        return array
    others = [
        (index, item)
        for index, item in np.ndenumerate(array)
        if isinstance(item, str | bytes | np.ndarray) or not hasattr(item, "__float__")
    ]
    if others:
        # One cell of a file makes text of its column: that cell is the one to be told.
        index, item = next(
            (one for one in others if not _is_text_of_number(one[1])),
            others[0],
        )
        raise DatatypeError(
            f"{found(index).format(repr(item))}, which is not a number: "
            f"input {tensor.name!r} takes {tensor.datatype}"
        )
    is_whole = all(isinstance(item, int | np.integer) for item in array.flat)
    try:
        return array.astype(np.int64 if is_whole else np.float64)
    except OverflowError:
        return array.astype(np.float64)


def _is_text_of_number(item: object) -> bool:
    return isinstance(item, str) and _are_numbers([item])


def _array(tensor: Tensor, value: object) -> NDArray[Any]:
    columns = columns_of(value)
    if columns is not None:
        value = _side_by_side(tensor, columns)
    try:
        array = np.asarray(value)
    except ValueError as exc:  # rows of different lengths
        raise ShapeError(f"input {tensor.name!r} is not a regular array: {exc}") from exc
    if array.dtype.kind == "O" and not array.ndim and not _is_one_value(value):
        raise DatatypeError(
            f"a value of type {type(value).__name__} is no input: input {tensor.name!r} takes "
            f"{describe(tensor)}",
            hint=_TAKEN,
        )
    if array.dtype.kind == "O":  # text alone is told as the wrong datatype
        array = _numbers(tensor, array, lambda index: f"{{}} is at {list(index)}")
    if tensor.shape is None or tensor.fits(array.shape):
        return array
    with_batch = array[np.newaxis]
    return with_batch if tensor.fits(with_batch.shape) else array


def _is_one_value(value: object) -> bool:
    """Whether it is one element of a tensor."""
    return isinstance(value, str | bytes) or hasattr(value, "__float__") or hasattr(value, "dtype")


def _takes(signature: Signature) -> str:
    return f"the model takes {', '.join(describe(tensor) for tensor in signature.inputs)}"
