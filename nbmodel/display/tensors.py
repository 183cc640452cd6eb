"""Tensors as rows of a table: signatures, and the arrays that a model gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor
from nbmodel.display.card import Cell, Mono, Table
from nbmodel.display.quantity import count, listed, number

_SHOWN = 6  # values of an array


def shape_text(shape: Sequence[int] | None) -> str:
    """``[1, 224, 224, 3]``; ``[?]`` for an unknown rank."""
    return "[?]" if shape is None else f"[{', '.join(map(str, shape))}]"


def signature_table(signature: Signature) -> Table:
    """Inputs and outputs, one a row."""
    rows = [("input", tensor) for tensor in signature.inputs]
    rows += [("output", tensor) for tensor in signature.outputs]
    return Table(
        ("", "tensor", "datatype", "shape", "about"),
        [
            (
                side,
                Mono(tensor.name),
                tensor.datatype,
                shape_text(tensor.shape),
                _about(tensor, label_noun(side, tensor)),
            )
            for side, tensor in rows
        ],
    )


def label_noun(side: str, tensor: Tensor) -> str:
    """What the labels of a tensor are called: an ``input`` has columns, or known values."""
    if side != "input":
        return "label"
    return "column" if tensor.label_kind == "axis" else "known value"


def _about(tensor: Tensor, noun: str) -> str:
    """What else is known of a tensor, shortest first."""
    facts = [tensor.profile] if tensor.profile else []
    if tensor.labels:
        facts.append(count(len(tensor.labels), noun))
        if noun == "known value":
            facts[-1] += f" ({listed(tensor.labels)})"
    if tensor.normalization is not None:
        mean = ", ".join(map(number, tensor.normalization.mean))
        std = ", ".join(map(number, tensor.normalization.std))
        facts.append(f"(pixel − {mean}) / {std}")
    if tensor.quantization is not None and len(tensor.quantization.scale) == 1:
        scale, zero = tensor.quantization.scale[0], tensor.quantization.zero_point[0]
        facts.append(f"quantised, scale {number(scale)}, zero {zero}")
    elif tensor.quantization is not None:
        facts.append("quantised by channel")
    if tensor.score_threshold is not None:
        facts.append(f"threshold {number(tensor.score_threshold)}")
    if tensor.description:
        facts.append(tensor.description)
    return "; ".join(facts)


def array_table(arrays: Mapping[str, NDArray[Any]], signature: Signature) -> Table:
    """What a model gave: datatype, shape, statistics and first values of each output."""
    datatypes = {tensor.name: tensor.datatype for tensor in signature.outputs}
    return Table(
        ("tensor", "datatype", "shape", ">min", ">mean", ">max", "first values"),
        [
            (
                Mono(name),
                datatypes.get(name) or array.dtype.name,
                shape_text(array.shape),
                *_statistics(array),
                _first(array),
            )
            for name, array in arrays.items()
        ],
    )


def _statistics(array: NDArray[Any]) -> tuple[Cell, Cell, Cell]:
    if array.dtype.kind not in "biufV" or not array.size:
        return "", "", ""
    # Wider than any output, so that sums do not overflow; NaN is told, not hidden.
    values = array.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        low, mean, high = float(values.min()), float(values.mean()), float(values.max())
    if array.dtype.kind in "biu":
        return str(int(low)), number(mean), str(int(high))
    return number(low), number(mean), number(high)


def _first(array: NDArray[Any]) -> str:
    values = array.reshape(-1)[:_SHOWN].tolist()
    more = ", …" if array.size > _SHOWN else ""
    return ", ".join(map(_value, values)) + more


def _value(value: object) -> str:
    if isinstance(value, bytes):
        return value[:40].decode(errors="replace")
    if isinstance(value, bool | str):
        return str(value)[:40]
    return number(value) if isinstance(value, int | float) else str(value)[:40]
