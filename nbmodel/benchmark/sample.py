"""Inputs made up from a signature, for measuring how fast a model is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import DATATYPES, Signature, Tensor, describe
from nbmodel.errors import InputError
from nbmodel.protocol.datatypes import to_numpy

_MAX_ELEMENTS = 64 * 1024 * 1024  # a quarter of a gigabyte of FP32
_TEXT = b"nbmodel"


def sample_inputs(signature: Signature) -> dict[str, NDArray[Any]]:
    """An input of each name; the same at each call.

    Variable dimensions are 1. Floating point is in 0..1; 8-bit integers are in 0..127,
    as pixels; wider ones 0 or 1, which every table of words or categories has.

    Args:
        signature: What the model takes.

    Raises:
        InputError: An input's datatype or rank leaves open what it could be.
    """
    random = np.random.default_rng(0)
    return {tensor.name: _made(tensor, random) for tensor in signature.inputs}


def _made(tensor: Tensor, random: np.random.Generator) -> NDArray[Any]:
    if tensor.shape is None or tensor.datatype not in DATATYPES:
        raise InputError(
            f"no input can be made up for {describe(tensor)}",
            hint="give one: `bench TARGET INPUT`",
        )
    shape = tuple(1 if dim == -1 else dim for dim in tensor.shape)
    if math.prod(shape) > _MAX_ELEMENTS:
        raise InputError(
            f"input {describe(tensor)} is too large to be made up", hint="give one that is smaller"
        )
    if tensor.datatype == "BYTES":
        return np.full(shape, _TEXT, dtype=object)
    dtype = to_numpy(tensor.datatype)
    if dtype.kind in "iu":
        highest = 128 if dtype.itemsize == 1 else 2
        return random.integers(0, highest, shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    return random.random(shape).astype(dtype)
