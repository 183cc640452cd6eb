"""From a classifier's outputs to classes with their scores, by Viam's rules.

Source: viamrobotics/rdk ``ml/classifications.go``, ``vision/classification``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Signature
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import ShapeError, SignatureError, TensorNameError
from nbmodel.vision.output import SLACK, label_at
from nbmodel.vision.viam.scores import confidence, counts, score_values

PROBABILITY = "probability"


@dataclass(frozen=True, slots=True)
class Classification:
    """One class of a picture.

    Attributes:
        class_name: Its label, or its index as text.
        confidence: In 0..1.
    """

    class_name: str
    confidence: float


def classifications(
    outputs: Mapping[str, NDArray[Any]],
    signature: Signature,
    config: VisionConfig,
    labels: Sequence[str],
) -> tuple[Classification, ...]:
    """All classes that count, in the model's order.

    The scores are the output that the config maps to ``probability``, else the one that
    is called so, else the only one. Several scores of which one is outside 0..1 are
    logits and go through a softmax; a single one outside −1..1 goes through a sigmoid.

    Where Viam differs:

    - An output with more than one long axis ([1,84,8400]) is no list of classes, but the
      output of a detector; Viam flattens it into half a million classes.
    - Quantised scores are turned into real ones first.
    - Large logits do not become NaN.
    - A class whose score is NaN is left out.
    - A blank label is the class's index.

    Args:
        outputs: What the model gave, by name, for one picture.
        signature: Of the model; quantisation counts.
        config: Of the service.
        labels: Names of classes; none: their indices, from ``"0"``.

    Raises:
        TensorNameError: No output is meant.
        ShapeError: It is no list of scores.
        SignatureError: There are not as many labels as scores.
    """
    name = _meant(outputs, config)
    array = outputs[name]
    if array.dtype.kind not in "fiubV" or sum(dim > 1 for dim in array.shape) > 1 or not array.size:
        raise ShapeError(
            f"output {name!r} of shape {list(array.shape)} is no list of class probabilities"
        )
    tensor = next((tensor for tensor in signature.outputs if tensor.name == name), None)
    scores = probabilities(score_values(array, tensor).reshape(-1))
    if labels and len(labels) != len(scores):
        raise SignatureError(
            f"length of output ({len(scores)}) expected to be length of label list ({len(labels)})"
        )
    found = (
        Classification(label_at(labels, index), confidence(score))
        for index, score in enumerate(scores.tolist())
        if not math.isnan(score)
    )
    return tuple(one for one in found if counts(config, one.class_name, one.confidence))


def top(found: Sequence[Classification], count: int) -> tuple[Classification, ...]:
    """The best ``count``, best first, equals in the model's order; 0 or less: all, unsorted."""
    if count <= 0:
        return tuple(found)
    return tuple(sorted(found, key=lambda one: -one.confidence)[:count])


def probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [C] as probabilities: through a softmax or a sigmoid where they are logits.

    (What leaves 0..1 by rounding only is no logit. In Viam one such score sends all of
    them through a softmax, which makes them nearly equal.)
    """
    with np.errstate(over="ignore", invalid="ignore"):  # infinite logits are the model's
        if values.size == 1:
            is_logit = bool(values[0] < -1 or values[0] > 1 + SLACK)
            return 1 / (1 + np.exp(-values)) if is_logit else values
        if not np.any((values < -SLACK) | (values > 1 + SLACK)):
            return values
        powers = np.exp(values - np.nanmax(values))
        softmax: NDArray[np.float64] = powers / np.nansum(powers)
        return softmax


def _meant(outputs: Mapping[str, NDArray[Any]], config: VisionConfig) -> str:
    mapped = config.output_names.get(PROBABILITY)
    if mapped is None and PROBABILITY in outputs:
        return PROBABILITY
    if mapped is None and len(outputs) == 1:
        return next(iter(outputs))
    if mapped is None or mapped not in outputs:
        raise TensorNameError(
            f"no tensor named {mapped or PROBABILITY!r} among output tensors "
            f"[{', '.join(outputs)}]",
            hint="say under remap_output_names which one has the probabilities",
        )
    return mapped
