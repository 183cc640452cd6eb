"""Class scores out of a classifier's outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import SignatureError
from nbmodel.vision.output import SLACK, label_at, real_values

_SCORE_WORDS = ("prob", "score", "softmax", "sigmoid", "logit", "confidence")


@dataclass(frozen=True, slots=True)
class Classification:
    """One class and how sure the model is of it.

    Attributes:
        label: Its name, or its index as text where there is no name.
        index: Its place in the model's output, from 0; −1 when the model gave only a name.
        score: In 0..1.
    """

    label: str
    index: int
    score: float


def classes(
    outputs: Mapping[str, NDArray[Any]], signature: Signature, *, top: int | None = None
) -> list[Classification]:
    """The classes of one input, best first; of the first row of a batch.

    See ``class_rows`` for how scores are read.

    Raises:
        SignatureError: No output holds class scores.
    """
    rows = class_rows(outputs, signature, top=top)
    return rows[0] if rows else []


def class_rows(
    outputs: Mapping[str, NDArray[Any]], signature: Signature, *, top: int | None = None
) -> list[list[Classification]]:
    """The classes of every row of a batch, best first; ties in order of index.

    The scores are, in this order: the output whose last axis is labelled; the one that
    is literally ``probability`` (Viam's name); the one named like a score; the only one
    that is shaped like scores. A model that gives labels alone (``[N]`` of integers or
    strings) gives one class a row, with score 1.

    Quantised values are turned into real ones first, and 8-bit values without a scale
    divided by their range. Scores that are all within 0..1 stay as they are: they are
    probabilities, of one class of many or of each by itself. Anything else is taken as
    logits, with a softmax over the classes, or a sigmoid where there is but one. Two
    labels over one score make it the second's, with the rest for the first.

    Args:
        outputs: What the model gave, by name.
        signature: Its signature; labels by index come from here. A list that is too
            short, or none, gives the index as the label, from ``"0"`` up.
        top: How many classes a row; None for all.

    Raises:
        SignatureError: No output holds class scores.

    Source: RDK ``ml/classifications.go`` for names and for when a softmax is due.
    """
    name = _scores_output(outputs, signature)
    tensor = _tensor(signature, name) if name is not None else None
    if name is None:
        return _labels_alone(outputs, signature)
    scores = _probabilities(outputs[name], tensor)
    labels = (tensor.labels if tensor is not None else ()) or signature.labels
    if scores.shape[1] == 1 and len(labels) == 2:
        scores = np.concatenate([1 - scores, scores], axis=1)
    return [_sorted(row, labels, top) for row in scores]


def _sorted(
    row: NDArray[np.float64], labels: Sequence[str], top: int | None
) -> list[Classification]:
    order = np.argsort(-row, kind="stable")[:top]
    return [
        Classification(label_at(labels, int(index)), int(index), float(row[index]))
        for index in order
    ]


def _tensor(signature: Signature, name: str) -> Tensor | None:
    return next((tensor for tensor in signature.outputs if tensor.name == name), None)


def _scores_output(outputs: Mapping[str, NDArray[Any]], signature: Signature) -> str | None:
    """The output that holds scores, or None when there are only labels."""
    shaped = [name for name, array in outputs.items() if _is_scores(array)]
    for tensor in signature.outputs:
        if tensor.labels and tensor.label_kind == "axis" and tensor.name in shaped:
            return tensor.name
    if "probability" in shaped:
        return "probability"
    named = [name for name in shaped if any(word in name.lower() for word in _SCORE_WORDS)]
    if named:
        return named[0]
    if len(shaped) == 1:
        return shaped[0]
    if shaped:
        raise SignatureError(
            f"which output holds the class scores? {', '.join(shaped)} could",
            hint="name it 'probability', or give the signature's labels on it",
        )
    return None


def _is_scores(array: NDArray[Any]) -> bool:
    """Numbers along one axis, a row each: [N,C], [C], [1,1,1,C], [1,C,1,1]."""
    is_number = array.dtype.kind in "fV" or array.dtype in (np.uint8, np.int8)
    long_axes = [dim for dim in array.shape[1:] if dim != 1]
    return is_number and array.ndim >= 1 and array.size > 0 and len(long_axes) <= 1


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(1, -1) if array.ndim == 1 else array.reshape(array.shape[0], -1)


def _probabilities(array: NDArray[Any], tensor: Tensor | None) -> NDArray[np.float64]:
    """Scores [N, C] in 0..1; NaN where the model gave NaN."""
    values = _rows(real_values(array, tensor))
    if array.dtype.kind in "iu" and (tensor is None or tensor.quantization is None):
        limits = np.iinfo(array.dtype)
        scaled: NDArray[np.float64] = (values - limits.min) / (limits.max - limits.min)
        return scaled
    if not np.any((values < -SLACK) | (values > 1 + SLACK)):
        clipped: NDArray[np.float64] = np.clip(values, 0, 1)
        return clipped
    with np.errstate(over="ignore", invalid="ignore"):  # infinite logits are the model's
        if values.shape[1] == 1:
            sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(-values))
            return sigmoid
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        softmax: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return softmax


def _labels_alone(
    outputs: Mapping[str, NDArray[Any]], signature: Signature
) -> list[list[Classification]]:
    """One class a row, for a model that gives the predicted label and nothing else."""
    for name, array in outputs.items():
        is_column = array.ndim <= 1 or math.prod(array.shape[1:]) == 1
        if is_column and array.dtype.kind in "iuOSUT":
            tensor = _tensor(signature, name)
            labels = (tensor.labels if tensor is not None else ()) or signature.labels
            return [[_label(value, labels)] for value in array.reshape(-1).tolist()]
    raise SignatureError(
        f"no output holds class scores: the model gives "
        f"{', '.join(f'{name} {list(array.shape)}' for name, array in outputs.items()) or 'none'}"
    )


def _label(value: object, labels: Sequence[str]) -> Classification:
    if isinstance(value, int):
        return Classification(label_at(labels, value), value, 1.0)
    label = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return Classification(label, labels.index(label) if label in labels else -1, 1.0)
