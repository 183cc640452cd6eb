"""What an output tensor's numbers mean: real values, and names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Tensor

SLACK = 1e-3  # by which rounding of half-precision and quantised scores may leave 0..1


def real_values(array: NDArray[Any], tensor: Tensor | None) -> NDArray[np.float64]:
    """An output in real units, in float64.

    Integers of a quantised tensor become ``(q - zero_point) * scale``; others, floats
    included, keep their value.

    Args:
        array: What the model gave; numbers or booleans.
        tensor: What the signature says of it, if anything.

    Returns:
        A new array of the same shape.

    Source: TFLite quantisation specification.
    """
    values = array.astype(np.float64)
    if tensor is None or tensor.quantization is None or array.dtype.kind not in "iu":
        return values
    quantization = tensor.quantization
    scale = np.asarray(quantization.scale, np.float64)
    zero = np.asarray(quantization.zero_point, np.float64)
    if quantization.axis is not None and scale.size > 1:
        along = [1] * values.ndim
        along[quantization.axis] = scale.size
        scale, zero = scale.reshape(along), zero.reshape(along)
    real: NDArray[np.float64] = (values - zero) * scale
    return real


def label_at(labels: Sequence[str], index: int) -> str:
    """The label of a class, or its number where the list has none.

    Numbers start at ``"0"``. Total: a list that is too short, or an entry that is blank, never fails.
    """
    if 0 <= index < len(labels) and labels[index].strip():
        return labels[index]
    return str(index)
