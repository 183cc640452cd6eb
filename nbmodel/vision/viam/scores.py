"""What scores and labels mean, for detections and classifications alike.

Source: viamrobotics/rdk ``vision/object.go`` (``NormalizeScore``),
``vision/objectdetection/postprocessor.go``, ``vision/classification/postprocessor.go``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Tensor
from nbmodel.core.vision_config import VisionConfig
from nbmodel.vision.output import SLACK, real_values


def score_values(array: NDArray[Any], tensor: Tensor | None) -> NDArray[np.float64]:
    """Scores in real units: dequantised, or 8-bit values without a scale over their range.

    (Viam takes the integers of a quantised model for the scores themselves.)
    """
    values = real_values(array, tensor)
    if array.dtype in (np.uint8, np.int8) and (tensor is None or tensor.quantization is None):
        limits = np.iinfo(array.dtype)
        scaled: NDArray[np.float64] = (values - limits.min) / (limits.max - limits.min)
        return scaled
    return values


def confidence(score: float) -> float:
    """A score as a confidence in 0..1: none is negative, and more than 1 is a percentage.

    (What passes 1 by rounding only is 1. In Viam it becomes 0.01.)
    """
    if score < 0:
        return 0.0
    if score > 1:
        return 1.0 if score <= 1 + SLACK else score / 100
    return score


def counts(config: VisionConfig, label: str, score: float) -> bool:
    """Whether something found is told about.

    With ``label_confidences``, when its label is there, in whatever letter case, and its
    score reaches what is said for it; ``minimum_confidence`` is of no effect then. Else
    when its score reaches ``minimum_confidence``, if that is not 0.
    """
    if config.label_confidences:
        least = config.label_confidences.get(label.lower())
        return least is not None and score >= least
    return config.minimum_confidence == 0 or score >= config.minimum_confidence
