"""Inputs made up from a signature, where nobody gave any: to measure a model, or try it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import DATATYPES, Signature, Tensor, describe
from nbmodel.errors import InputError, ShapeError, TensorNameError
from nbmodel.protocol.datatypes import to_numpy

MAX_ELEMENTS = 64 * 1024 * 1024  # of a tensor; a quarter of a gigabyte of FP32
_WORDS = (b"a red apple", b"the first of May", b"it works as it should", b"never again")


def sample_inputs(
    signature: Signature,
    *,
    rows: int = 1,
    dimension: int = 1,
    most: int = MAX_ELEMENTS,
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, NDArray[Any]]:
    """An input of each name; the same at each call with the same seed.

    What a tensor is said to hold says what is in it: of categories one that is known, in a
    picture pixels 0..255, normalised as the model wants them and else in 0..1 where they are
    floating point; text in words. Where nothing is said, floating point is in 0..1; 8-bit
    integers are in 0..127, as pixels; wider ones 0 or 1, which every table of words or
    categories has; text is one of those digits.

    Args:
        signature: What the model takes.
        rows: What a variable first dimension is, ≥ 1.
        dimension: What every other variable dimension is, ≥ 1.
        most: Elements that one input may have.
        seed: Another one makes other inputs, ≥ 0.
        shapes: Whole shapes of inputs by name; they prevail.

    Raises:
        InputError: An input's datatype or rank leaves open what it could be, or it is too
            large.
        TensorNameError, ShapeError: A shape given is of no input, or none that it takes.
    """
    given = dict(shapes or {})
    _check_shapes(signature, given)
    random = np.random.default_rng(seed)
    return {
        tensor.name: _made(
            tensor, _shape(tensor, given.get(tensor.name), rows, dimension, most), random
        )
        for tensor in signature.inputs
    }


def _check_shapes(signature: Signature, shapes: Mapping[str, Sequence[int]]) -> None:
    known = {tensor.name: tensor for tensor in signature.inputs}
    for name, shape in shapes.items():
        if name not in known:
            takes = ", ".join(map(describe, signature.inputs))
            raise TensorNameError(f"no input {name!r} to give a shape to: the model takes {takes}")
        if any(dim < 0 for dim in shape) or not known[name].fits(shape):
            raise ShapeError(f"expected a shape of {describe(known[name])}, found {list(shape)}")


def _shape(
    tensor: Tensor, given: Sequence[int] | None, rows: int, dimension: int, most: int
) -> tuple[int, ...]:
    if (tensor.shape is None and given is None) or tensor.datatype not in DATATYPES:
        raise InputError(
            f"no input can be made up for {describe(tensor)}", hint="give one of your own"
        )
    shape = (
        tuple(given)
        if given is not None
        else tuple(
            dim if dim != -1 else dimension if axis else rows
            for axis, dim in enumerate(tensor.shape or ())
        )
    )
    if math.prod(shape) > most:
        raise InputError(
            f"input {describe(tensor)} is too large to be made up", hint="give one that is smaller"
        )
    return shape


def _made(tensor: Tensor, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    if tensor.profile == "categorical" or (tensor.labels and tensor.label_kind == "value"):
        values = _categories(tensor)
        if values is not None:
            return _drawn(values, shape, random)
    if tensor.datatype == "BYTES":
        words = _WORDS if tensor.profile == "text" else (b"0", b"1")
        return _drawn(_texts(words), shape, random)
    dtype = to_numpy(tensor.datatype)
    if tensor.profile in ("image", "video") and dtype.kind != "b":
        return _pixels(tensor, shape, random).astype(dtype)
    if dtype.kind in "iu":
        highest = 128 if dtype.itemsize == 1 else 2
        return np.asarray(random.integers(0, highest, shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(random.integers(0, 2, shape)).astype(dtype)
    source = np.float64 if dtype == np.float64 else np.float32
    return np.asarray(random.random(shape, source)).astype(dtype)


def _drawn(
    values: NDArray[Any], shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[Any]:
    return values[random.integers(0, len(values), math.prod(shape))].reshape(shape)


def _categories(tensor: Tensor) -> NDArray[Any] | None:
    """The values that an element may have; None where that is not known.

    Those of numbers are the labels where these are numbers, else their places.
    """
    labels = tensor.labels if tensor.label_kind == "value" else ()
    if not labels or tensor.datatype == "BOOL":
        return None
    if tensor.datatype == "BYTES":
        return _texts([label.encode() for label in labels])
    dtype = to_numpy(tensor.datatype)
    try:
        values = np.array([float(label) for label in labels])
    except ValueError:
        values = np.arange(len(labels), dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        held = values.astype(dtype)
    fitting = held[held.astype(np.float64) == values]
    return fitting if fitting.size else None


def _texts(words: Sequence[bytes]) -> NDArray[Any]:
    texts = np.empty(len(words), object)
    texts[:] = words
    return texts


def _pixels(tensor: Tensor, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    """Pixels as the model takes them; see ``vision.image.image_to_tensor``."""
    pixels: NDArray[Any] = np.asarray(random.integers(0, 256, shape), np.float32)
    if tensor.datatype == "INT8":
        return np.asarray(pixels - 128)
    if tensor.datatype.startswith(("INT", "UINT")):
        return pixels
    normal = tensor.normalization
    if normal is None:
        return np.asarray(pixels / np.float32(255))
    axis = _channels(shape, len(normal.mean))
    if axis is None:
        mean, std = sum(normal.mean) / len(normal.mean), sum(normal.std) / len(normal.std)
        return np.asarray((pixels - np.float32(mean)) / np.float32(std))
    each = [1] * len(shape)
    each[axis] = len(normal.mean)
    means, stds = (np.array(one, np.float32).reshape(each) for one in (normal.mean, normal.std))
    return np.asarray((pixels - means) / stds)


def _channels(shape: tuple[int, ...], count: int) -> int | None:
    """The axis of a picture's channels, as many as there are means; None where none is."""
    order = (len(shape) - 1, *range(len(shape) - 1))
    return next((axis for axis in order if shape[axis] == count), None) if shape else None
