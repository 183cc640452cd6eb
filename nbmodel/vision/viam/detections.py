"""From a detector's outputs to boxes on the picture, by Viam's rules.

Source: viamrobotics/rdk ``ml/detections.go``, ``services/vision/mlvision/detector.go``,
``vision/objectdetection/detector.go``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import DatatypeError, ShapeError, TensorNameError
from nbmodel.vision.detect import BOX_ORDER, Roles, are_proportional, background_offset
from nbmodel.vision.output import label_at, real_values
from nbmodel.vision.viam.scores import confidence, counts, score_values

_ROLES = ("location", "category", "score")


@dataclass(frozen=True, slots=True)
class Detection:
    """One object in a picture.

    Attributes:
        x_min: Pixels from the left edge, ≤ ``x_max``.
        y_min: Pixels from the top edge, ≤ ``y_max``.
        x_max: At most the picture's width − 1.
        y_max: At most the picture's height − 1.
        x_min_normalized: In 0..1, 1 being the last column of pixels.
        y_min_normalized: In 0..1, 1 being the last row of pixels.
        x_max_normalized: As ``x_min_normalized``.
        y_max_normalized: As ``y_min_normalized``.
        confidence: In 0..1.
        class_name: Its label, or its class as text.
    """

    x_min: int
    y_min: int
    x_max: int
    y_max: int
    x_min_normalized: float
    y_min_normalized: float
    x_max_normalized: float
    y_max_normalized: float
    confidence: float
    class_name: str


@dataclass(frozen=True, slots=True)
class BoxNotes:
    """What a model says about its boxes, where it says anything.

    Attributes:
        order: As ``VisionConfig.box_order``, or None.
        proportional: Whether coordinates are parts of the picture, not pixels of the
            input; None: to be told from the numbers.
    """

    order: tuple[int, ...] | None = None
    proportional: bool | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> BoxNotes:
        """What a model's metadata says; whatever makes no sense counts as not said.

        (Viam takes the order only as 32-bit integers, which nothing that comes over gRPC
        is, so it never finds one.)

        Args:
            metadata: Of a manifest, or of a file's facts: TFLite's notes on boxes are
                under ``tensors``.
        """
        tensors = metadata.get("tensors")
        notes = tensors.values() if isinstance(tensors, Mapping) else ()
        for note in notes:
            # Other kinds of boxes (centre and size) have no such order of edges.
            if isinstance(note, Mapping) and note.get("box_type") == "boundaries":
                return cls(
                    _order(note.get("box_order")),
                    {"ratio": True, "pixel": False}.get(str(note.get("coordinates"))),
                )
        return cls()


def detections(
    outputs: Mapping[str, NDArray[Any]],
    signature: Signature,
    config: VisionConfig,
    labels: Sequence[str],
    *,
    notes: BoxNotes,
    image_size: tuple[int, int],
    input_size: tuple[int, int],
) -> tuple[Detection, ...]:
    """The objects that count, in the model's order.

    Boxes, classes and scores are the outputs that the config maps to ``location``,
    ``category`` and ``score``, else those called so, else those that notes, names, shapes
    and datatypes tell apart (``vision.detect.Roles``). Without classes, or where boxes and
    scores are known and classes are not, scores [1,N,C] are one a class. Edges are cut to
    the picture; pixels are the normalised edge times width (or height) − 1, cut to whole
    ones.

    Where Viam differs:

    - It guesses outputs in random order; the same model always gets the same answer here.
    - A model of two outputs with the right names needs no remapping.
    - A class without a label is its index. In Viam it makes the whole call fail.
    - Scores [1,C,N] are read along their classes, not across them.
    - Whether boxes are proportions is the model's own word, else taken from all boxes:
      they are where no coordinate is above 2. Viam looks at the first box only, whose four
      must sum up to less than 4.
    - Boxes past the model's own count, and those with a NaN, are left out.
    - Labels that start with a background (``???``) are shifted where the model counts
      without it, as TFLite's post-processing does.
    - Quantised scores are turned into real ones first.
    - Normalised edges are the model's own, not pixels divided by the picture's size.

    Args:
        outputs: What the model gave, by name, for one picture.
        signature: Of the model; notes about outputs, their order and quantisation count.
        config: Of the service.
        labels: Names of classes; none: their indices, from ``"0"``.
        notes: What the model says about its boxes.
        image_size: (width, height) of the picture.
        input_size: (width, height) of the picture as the model saw it.

    Raises:
        TensorNameError: The config maps an output that there is not.
        SignatureError: No outputs look like boxes and scores.
        ShapeError: Their sizes contradict each other.
    """
    known = _known(outputs, config)
    roles = Roles.of(_telling(outputs, known), signature, known)
    boxes, category, score = _rows(outputs, signature, roles)
    order = config.box_order or notes.order or BOX_ORDER
    edges = normalized(boxes[:, np.argsort(order)], input_size, notes.proportional)
    offset = background_offset(labels, roles)
    keep = np.isfinite(boxes).all(axis=1) & np.isfinite(category) & np.isfinite(score)
    found = []
    for row in np.flatnonzero(keep).tolist():
        name = _name(labels, category[row], offset)
        sure = confidence(float(score[row]))
        if counts(config, name, sure):
            found.append(_detection(edges[row].tolist(), image_size, sure, name))
    return tuple(found)


def normalized(
    boxes: NDArray[np.float64], input_size: tuple[int, int], proportional: bool | None
) -> NDArray[np.float64]:
    """Boxes [N,4] (xmin, ymin, xmax, ymax) as parts of the picture, cut to it.

    Args:
        boxes: Parts of the picture, or pixels of the model's input.
        input_size: (width, height) of the model's input.
        proportional: Which of both; None: parts where no coordinate is above 2.
    """
    if proportional is None:
        proportional = are_proportional(boxes)
    if proportional:
        return np.clip(boxes, 0, 1)
    last = np.array([max(size - 1, 1) for size in input_size] * 2, np.float64)
    return np.clip(boxes, 0, last) / last


def _known(outputs: Mapping[str, NDArray[Any]], config: VisionConfig) -> dict[str, str]:
    """Role → output, of those that the config maps or that are called so."""
    known = {role: config.output_names[role] for role in _ROLES if role in config.output_names}
    for role, name in known.items():
        if name not in outputs:
            raise TensorNameError(
                f"could not find the output tensor {name!r}, mapped to {role!r}, "
                f"among [{', '.join(outputs)}]"
            )
    taken = set(known.values())
    return {**{role: role for role in _ROLES if role in outputs and role not in taken}, **known}


def _telling(
    outputs: Mapping[str, NDArray[Any]], known: Mapping[str, str]
) -> Mapping[str, NDArray[Any]]:
    """The outputs among which the unknown ones are: no classes where scores are one a class."""
    if known.keys() == {"location", "score"} and outputs[known["score"]].ndim == 3:
        return {name: outputs[name] for name in known.values()}
    return outputs


def _rows(
    outputs: Mapping[str, NDArray[Any]], signature: Signature, roles: Roles
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Boxes [N,4], classes [N] and scores [N], up to the model's count."""
    tensors = {tensor.name: tensor for tensor in signature.outputs}
    for name in (roles.location, roles.score, roles.category):
        if name is not None and outputs[name].dtype.kind not in "fiubV":
            raise DatatypeError(f"output {name!r} holds no numbers, but {outputs[name].dtype}")
    location = _edges(real_values(outputs[roles.location], tensors.get(roles.location)))
    score, category = _scores(outputs[roles.score], tensors.get(roles.score), len(location) // 4)
    if roles.category is not None:
        category = real_values(outputs[roles.category], tensors.get(roles.category)).reshape(-1)
        score = score_values(outputs[roles.score], tensors.get(roles.score)).reshape(-1)
    if len(category) != len(score) or 4 * len(score) != len(location):
        raise ShapeError(
            "output tensor sizes did not match each other as expected. "
            f"score: {len(score)}, category: {len(category)}, location: {len(location)}"
        )
    count = roles.row_count(outputs, len(score))
    return location.reshape(-1, 4)[:count], category[:count], score[:count]


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates box by box, in one row; [1,4,N] is turned."""
    if values.ndim == 3 and values.shape[1] == 4 != values.shape[2]:
        values = values.transpose(0, 2, 1)
    return values.reshape(-1)


def _scores(
    array: NDArray[Any], tensor: Tensor | None, many: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores [N] and classes [N] of a model without a tensor of classes."""
    values = score_values(array, tensor)
    if values.ndim != 3 or not values.size:
        return values.reshape(-1), np.zeros(values.size)
    by_box = values[0] if values.shape[2] != many or values.shape[1] == many else values[0].T
    return by_box.max(axis=1), by_box.argmax(axis=1).astype(np.float64)


def _name(labels: Sequence[str], category: float, offset: int) -> str:
    index = int(max(category, 0))
    return label_at(labels, index + offset) if index + offset < len(labels) else str(index)


def _detection(
    edges: Sequence[float], image_size: tuple[int, int], confidence: float, class_name: str
) -> Detection:
    (left, right), (top, bottom) = sorted(edges[::2]), sorted(edges[1::2])
    width, height = image_size
    return Detection(
        x_min=int(left * (width - 1)),
        y_min=int(top * (height - 1)),
        x_max=int(right * (width - 1)),
        y_max=int(bottom * (height - 1)),
        x_min_normalized=left,
        y_min_normalized=top,
        x_max_normalized=right,
        y_max_normalized=bottom,
        confidence=confidence,
        class_name=class_name,
    )


def _order(given: object) -> tuple[int, ...] | None:
    """A box order as a value; numbers may have come through JSON or protobuf as floats."""
    if not isinstance(given, list | tuple) or not all(isinstance(i, int | float) for i in given):
        return None
    return tuple(int(i) for i in given) if sorted(given) == [0, 1, 2, 3] else None
