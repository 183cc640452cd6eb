"""An output as its best classes: ``value:index[:label]``, best first.

Source: Triton's classification extension, and ``classification.cc`` for the form of the
values. Unlike there, equal values stay in the order of their index, and NaN comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.errors import InputError
from nbmodel.protocol.datatypes import from_numpy

MAX_ELEMENTS = 1_000_000  # of one row
_DATATYPES = frozenset(
    {"UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"}
)


def classify(
    output: NDArray[Any], count: int, *, labels: Sequence[str] = (), has_batch: bool
) -> NDArray[np.object_]:
    """The best classes of an output.

    Args:
        output: Scores; all dimensions of a row count as one.
        count: How many classes, ≥ 1; fewer where there are fewer.
        labels: Names of classes, in index order; a class without one has no label.
        has_batch: Whether the first dimension is the batch's.

    Returns:
        Of bytes: ``[batch, count]``, or ``[count]`` where there is no batch.

    Raises:
        InputError: The output is of another datatype than an integer, FP32 or FP64, or a
            row has more than 1,000,000 elements.
    """
    datatype = from_numpy(output.dtype, what="the output")
    if datatype not in _DATATYPES:
        raise InputError(
            f"class result not available for output due to unsupported type {datatype!r}"
        )
    is_batch = has_batch and output.ndim > 0 and output.shape[0] > 0
    rows = output.reshape(output.shape[0], -1) if is_batch else output.reshape(1, -1)
    if rows.shape[1] > MAX_ELEMENTS:
        raise InputError("classification output tensor too large")
    kept = min(count, rows.shape[1])
    result = np.empty((rows.shape[0], kept), object)
    for place, row in enumerate(rows):
        for rank, index in enumerate(_best(row, kept)):
            result[place, rank] = _text(row[index], int(index), labels)
    return result if is_batch else result[0]


def _best(row: NDArray[Any], count: int) -> NDArray[np.intp]:
    # Of the reversed row: a stable ascending order, read from its end, keeps equal values in
    # the order of their index; there is no minus sign for what is unsigned.
    order = row.size - 1 - np.argsort(row[::-1], kind="stable")[::-1]
    if row.dtype.kind == "f":  # numpy sorts NaN to the end, which is the beginning here
        is_nan = np.isnan(row[order])
        order = np.concatenate([order[~is_nan], order[is_nan]])
    return order[:count]


def _text(value: Any, index: int, labels: Sequence[str]) -> bytes:
    text = f"{value:f}" if value.dtype.kind == "f" else str(int(value))
    label = labels[index] if index < len(labels) else ""
    return f"{text}:{index}:{label}".encode() if label else f"{text}:{index}".encode()
