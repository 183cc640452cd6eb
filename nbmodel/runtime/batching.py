"""Rows of several requests in one run of a model: when that is right, and how it is done.

A model has a batch axis where the first dimension of every tensor is one row a sample, and
no row's answer depends on its neighbours. A signature can only hint at the first; whether
both hold is tried out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends import Session
from nbmodel.core.signature import Signature
from nbmodel.errors import ConfigError, InferenceError, NbModelError, ShapeError
from nbmodel.sample import sample_inputs

Tensors = Mapping[str, NDArray[Any]]

#: Two ways to sum the same products differ by this much of the result, and of the largest.
RTOL, ATOL = 1e-4, 1e-5
SHORT_RTOL, SHORT_ATOL = 2e-2, 1e-2  # of 16 bits
_GUESSED_DIMENSION = 32  # of a variable dimension: what strides and windows of images divide
_MAX_ELEMENTS = 4 * 1024 * 1024  # of a made-up tensor


def has_leading_variable(signature: Signature) -> bool:
    """Whether every tensor may have any number of rows: Triton's rule for a batch axis."""
    tensors = (*signature.inputs, *signature.outputs)
    return bool(signature.inputs) and all(
        tensor.shape and tensor.shape[0] == -1 for tensor in tensors
    )


def has_batch_axis(session: Session, sample: Tensors | None) -> bool:
    """Whether a model may be given the rows of several requests in one run.

    Args:
        session: The model, which is run to find out.
        sample: Inputs that it is known to take, or None: then they are made up.
    """
    return (
        session.takes_batches
        and has_leading_variable(session.signature)
        and is_row_by_row(session, sample)
    )


def check_batch_axis(signature: Signature, max_batch_size: int) -> None:
    """Refuse a batch size that a model was given and cannot have.

    Raises:
        ConfigError: A tensor's first dimension does not vary.
    """
    for tensor in (*signature.inputs, *signature.outputs):
        fixed = None if tensor.shape is None else next(iter(tensor.shape), 0)
        if fixed is not None and fixed != -1 and (fixed, max_batch_size) != (1, 1):
            raise ConfigError(
                f"attribute 'max_batch_size' is {max_batch_size}, but tensor {tensor.name!r} of "
                f"the model has the fixed shape {list(tensor.shape or ())}",
                hint="leave it out; or export the model with a variable first dimension",
            )


def rows_of(tensors: Tensors) -> int:
    """How many rows the inputs of a request have.

    Raises:
        ShapeError: They have none, or not the same number.
    """
    rows = -1
    for name, tensor in tensors.items():
        shape = tensor.shape
        if not shape:
            raise ShapeError(f"input {name!r} has no batch dimension: it is a scalar")
        if rows not in (-1, shape[0]):
            raise ShapeError(
                f"input {name!r} batch size does not match other inputs: expected {rows}, "
                f"found {shape[0]}"
            )
        rows = shape[0]
    return rows


def merged(requests: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
    """The rows of several requests with the same names, below one another."""
    return {name: np.concatenate([tensors[name] for tensors in requests]) for name in requests[0]}


def parted(outputs: Tensors, rows: Sequence[int]) -> list[dict[str, NDArray[Any]]]:
    """The rows of each request; the opposite of :func:`merged`.

    Args:
        outputs: Of the run.
        rows: How many each request had.

    Raises:
        InferenceError: An output has not a row for each row of the inputs.
    """
    total = sum(rows)
    for name, output in outputs.items():
        if output.shape[:1] != (total,):
            raise InferenceError(
                f"output {name!r} has shape {list(output.shape)} for {total} rows of input"
            )
    ends = list(accumulate(rows))
    return [
        {name: output[end - count : end] for name, output in outputs.items()}
        for end, count in zip(ends, rows, strict=True)
    ]


def is_row_by_row(session: Session, sample: Tensors | None) -> bool:
    """Whether a model gives each row the same answer alone and beside another one.

    A model that mixes its rows (a softmax over the wrong axis, a quantisation whose scale
    is that of the whole batch) does not, nor does one that is random.

    Args:
        session: The model; every tensor of it has a variable first dimension.
        sample: Inputs that it is known to take, or None: then they are made up.
    """
    try:
        first, second = _two_rows(session.signature, sample)
        alone = [session.infer(first), session.infer(second)]
        together = session.infer(merged([first, second]))
        return all(
            _agree(part, one) for part, one in zip(parted(together, (1, 1)), alone, strict=True)
        )
    except NbModelError:
        return False


def _two_rows(signature: Signature, sample: Tensors | None) -> tuple[Tensors, Tensors]:
    if sample is None:
        first = sample_inputs(signature, dimension=_GUESSED_DIMENSION, most=_MAX_ELEMENTS)
    else:
        first = {name: array[:1] for name, array in sample.items()}
        if any(len(array) != 1 for array in first.values()):
            raise ShapeError("the sample has no row")
    # Same values in another order stay what the model takes; another magnitude shows a model
    # whose quantisation looks at the whole batch.
    second = {
        name: _louder(array.reshape(-1)[::-1].reshape(array.shape)) for name, array in first.items()
    }
    return first, second


def _louder(array: NDArray[Any]) -> NDArray[Any]:
    return array * array.dtype.type(4) if array.dtype.kind == "f" else array


def _agree(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(
        _is_close(found[name], expected[name]) for name in expected
    )


def _is_close(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    if found.shape != expected.shape:
        return False
    if expected.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        return bool(np.array_equal(found, expected))
    is_short = expected.dtype.itemsize == 2
    a, b = found.astype(np.float64), expected.astype(np.float64)
    largest = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
    rtol, atol = (SHORT_RTOL, SHORT_ATOL) if is_short else (RTOL, ATOL)
    return bool(np.allclose(a, b, rtol=rtol, atol=atol * largest, equal_nan=True))
