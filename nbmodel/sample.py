"""Inputs made up from a signature, where nobody gave any: to measure a model, or try it out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import DATATYPES, Signature, Tensor, describe
from nbmodel.errors import InputError
from nbmodel.protocol.datatypes import to_numpy

MAX_ELEMENTS = 64 * 1024 * 1024  # of a tensor; a quarter of a gigabyte of FP32


def sample_inputs(
    signature: Signature, *, rows: int = 1, dimension: int = 1, most: int = MAX_ELEMENTS
) -> dict[str, NDArray[Any]]:
    """An input of each name; the same at each call.

    Floating point is in 0..1; 8-bit integers are in 0..127, as pixels; wider ones 0 or 1,
    which every table of words or categories has; text is one of those digits.

    Args:
        signature: What the model takes.
        rows: What a variable first dimension is, ≥ 1.
        dimension: What every other variable dimension is, ≥ 1.
        most: Elements that one input may have.

    Raises:
        InputError: An input's datatype or rank leaves open what it could be, or it is too
            large.
    """
    random = np.random.default_rng(0)
    return {
        tensor.name: _made(tensor, _shape(tensor, rows, dimension, most), random)
        for tensor in signature.inputs
    }


def _shape(tensor: Tensor, rows: int, dimension: int, most: int) -> tuple[int, ...]:
    if tensor.shape is None or tensor.datatype not in DATATYPES:
        raise InputError(
            f"no input can be made up for {describe(tensor)}",
            hint="give one: `bench TARGET INPUT`",
        )
    shape = tuple(
        dim if dim != -1 else dimension if axis else rows for axis, dim in enumerate(tensor.shape)
    )
    if math.prod(shape) > most:
        raise InputError(
            f"input {describe(tensor)} is too large to be made up", hint="give one that is smaller"
        )
    return shape


def _made(tensor: Tensor, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[Any]:
    if tensor.datatype == "BYTES":
        digits = np.asarray(random.integers(0, 2, shape))
        return np.array([b"%d" % digit for digit in digits.flat], object).reshape(shape)
    dtype = to_numpy(tensor.datatype)
    if dtype.kind in "iu":
        highest = 128 if dtype.itemsize == 1 else 2
        return np.asarray(random.integers(0, highest, shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(random.integers(0, 2, shape)).astype(dtype)
    source = np.float64 if dtype == np.float64 else np.float32
    return np.asarray(random.random(shape, source)).astype(dtype)
