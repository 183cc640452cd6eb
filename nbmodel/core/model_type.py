"""Model types: what a model is for, and how to tell from its signature.

Source: Viam's ``ModelType`` enumeration, and the tasks its vision service knows.
"""

from __future__ import annotations

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InputError

#: Name → one line for people.
MODEL_TYPES = {
    "classification": "one class of many (Viam: single_label_classification)",
    "multi_label_classification": "any number of classes",
    "detection": "boxes with a class and a score (Viam: object_detection)",
    "segmentation": "a class for every pixel",
    "keypoints": "points of a body or object",
    "regression": "numbers",
    "embedding": "a vector to compare with others",
    "anomaly": "how unusual the input is",
    "text": "text in, text out",
    "audio": "sound in",
    "other": "anything else",
}
_ALIASES = {
    "single_label_classification": "classification",
    "object_detection": "detection",
    "multi_label": "multi_label_classification",
}


def check_model_type(text: str) -> str:
    """The model type that ``text`` names; Viam's words are accepted.

    Raises:
        InputError: No such type.
    """
    name = _ALIASES.get(text.lower(), text.lower())
    if name not in MODEL_TYPES:
        raise InputError(f"unknown model type {text!r}", hint=f"one of {', '.join(MODEL_TYPES)}")
    return name


def model_type_of(signature: Signature) -> str | None:
    """What a model is for, as far as its tensors tell; None when they do not.

    Only shapes that one task has are read: TFLite's post-processed detector (boxes
    [1,N,4], classes [1,N], scores [1,N], count [1]), and one labelled axis of classes.
    """
    shapes = [tensor.shape for tensor in signature.outputs]
    if len(shapes) == 4 and _is_detection(signature.outputs):
        return "detection"
    labelled = [tensor for tensor in signature.outputs if tensor.labels]
    if len(labelled) == 1 and labelled[0].label_kind == "axis":
        shape = labelled[0].shape
        if shape and len(shape) <= 2 and shape[-1] == len(labelled[0].labels):
            return "classification"
    return None


def _is_detection(outputs: tuple[Tensor, ...]) -> bool:
    ranks = sorted(len(tensor.shape) for tensor in outputs if tensor.shape is not None)
    return ranks == [1, 2, 2, 3] and any(
        tensor.shape is not None and len(tensor.shape) == 3 and tensor.shape[-1] == 4
        for tensor in outputs
    )
