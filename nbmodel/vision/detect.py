"""Boxes out of a detector's outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InputError, SignatureError
from nbmodel.vision.image import image_layout
from nbmodel.vision.output import label_at, real_values

#: Which coordinate is at each place of a box where nobody says: ymin, xmin, ymax, xmax.
BOX_ORDER = (1, 0, 3, 2)
# A box that hangs over the picture's edge is still in 0..1 units; one of pixels is not.
_MAX_PROPORTIONAL = 2.0
# What label files have where a model's background class would be.
_BACKGROUND = frozenset({"???", "background"})


@dataclass(frozen=True, slots=True)
class Detection:
    """One object in a picture.

    Attributes:
        label: Name of its class, or the class's index as text where there is no name.
        index: The class as the model numbers it, from 0.
        score: As the model gives it, usually in 0..1.
        xyxy: Left, top, right, bottom in pixels of the picture, from its top left
            corner, within the picture; left ≤ right, top ≤ bottom.
    """

    label: str
    index: int
    score: float
    xyxy: tuple[float, float, float, float]


def boxes(
    outputs: Mapping[str, NDArray[Any]],
    signature: Signature,
    image_size: tuple[int, int],
    threshold: float = 0.0,
    *,
    row: int = 0,
    order: Sequence[int] = BOX_ORDER,
    label_offset: int | None = None,
) -> list[Detection]:
    """The detections of one picture, best score first.

    Outputs are told apart by what is said of them (labels on the classes, a threshold on
    the scores), then by name (Viam's ``location``, ``category``, ``score``, or words like
    box, class, confidence and count), then by shape: boxes [N,K,4], count [N], and of two
    [N,K] the classes are whole numbers; where both are, TFLite's order decides, boxes,
    classes, scores, count. The same outputs always give the same answer. Without classes,
    scores [N,K,C] are one a class, and scores [N,K] are of class 0.

    Rows past the model's count, and rows with a NaN, are left out.

    Args:
        outputs: What the model gave, by name.
        signature: Its signature: labels, quantisation, and the input's size.
        image_size: (width, height) of the original picture, in pixels.
        threshold: Lowest score that counts.
        row: Which picture of a batch.
        order: Which coordinate is at each place of a box: 0 xmin, 1 ymin, 2 xmax, 3 ymax.
            The default is [ymin, xmin, ymax, xmax]; (0, 1, 2, 3) is [xmin, ymin, xmax, ymax].
        label_offset: Added to a class to find its label. None: 1 where the label list
            starts with a background entry (``???``, ``background``) and the model ends
            in TFLite's post-processing, which counts classes without it; else 0, so that
            class 16 is line 16 of the labels file, counted from 0.

    Returns:
        New values. Boxes up to 2 everywhere are proportions of the picture; others are
        pixels of the model's input, scaled back.

    Raises:
        SignatureError: No outputs look like boxes and scores, or their lengths differ.
        InputError: ``order`` is not a permutation of 0..3, or there is no such row.

    Source: RDK ``ml/detections.go`` for names and box order;
    ``TFLite_Detection_PostProcess`` (tensorflow/lite/kernels/detection_postprocess.cc).
    """
    if sorted(order) != [0, 1, 2, 3]:
        raise InputError(f"box order {list(order)} is not a permutation of 0, 1, 2, 3")
    roles = Roles.of(outputs, signature)
    location, category, score = roles.read(outputs, signature, row)
    corners = _pixels(location[:, np.argsort(order)], signature, image_size)
    labels = roles.labels(signature)
    offset = background_offset(labels, roles) if label_offset is None else label_offset
    keep = np.isfinite(corners).all(axis=1) & np.isfinite(category) & (score >= threshold)
    ranked = [int(i) for i in np.argsort(-score, kind="stable") if keep[i]]
    found = []
    for i in ranked:
        index = int(category[i])
        left, top, right, bottom = corners[i].tolist()
        label = label_at(labels, index + offset) if index >= 0 else str(index)
        if index + offset >= len(labels):
            label = str(index)
        found.append(Detection(label, index, float(score[i]), (left, top, right, bottom)))
    return found


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of the outputs that hold each thing; None where the model has no such output.

    Attributes:
        location: The boxes.
        score: Their scores.
        category: Their classes.
        count: How many of them there are.
    """

    location: str
    score: str
    category: str | None
    count: str | None

    @classmethod
    def of(
        cls,
        outputs: Mapping[str, NDArray[Any]],
        signature: Signature,
        given: Mapping[str, str] | None = None,
    ) -> Roles:
        """Tell a detector's outputs apart.

        Args:
            outputs: What the model gave, by name.
            signature: Its signature; notes about outputs and their order count.
            given: ``location``, ``category`` or ``score`` → the output that is known to
                hold it.

        Raises:
            SignatureError: None holds boxes, or none holds scores.
        """
        known = {
            role: (name, outputs[name], _tensor(signature, name))
            for role, name in (given or {}).items()
        }
        claimed = {name for name, _, _ in known.values()}
        left = [entry for entry in _in_order(outputs, signature) if entry[0] not in claimed]
        location = known.get("location") or _take(left, _is_location, ("location", "box"))
        if location is None:
            raise SignatureError(
                f"no output holds boxes [N,K,4]: the model gives {_shapes(outputs)}"
            )
        many = location[1].shape[-2] if location[1].ndim > 1 else 1
        count = _take(left, _is_count, ("count", "num", "n_detections"), named=many == 1)
        category, score = _category_and_score(
            left, count, known.get("category"), known.get("score")
        )
        if score is None:
            raise SignatureError(
                f"no output holds the scores of boxes: the model gives {_shapes(outputs)}"
            )
        return cls(
            location[0],
            score[0],
            None if category is None else category[0],
            None if count is None else count[0],
        )

    def read(
        self, outputs: Mapping[str, NDArray[Any]], signature: Signature, row: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Boxes [K,4], classes [K] and scores [K] of one picture, up to the count."""
        location = _of_row(self.location, outputs, signature, row, rank=2)
        by_class = self.category is None and outputs[self.score].ndim == 3
        score = _of_row(self.score, outputs, signature, row, rank=2 if by_class else 1)
        if by_class:
            category, score = score.argmax(axis=1).astype(np.float64), score.max(axis=1)
        elif self.category is None:
            category = np.zeros_like(score)
        else:
            category = _of_row(self.category, outputs, signature, row, rank=1)
        if not len(location) == len(category) == len(score):
            raise SignatureError(
                f"outputs do not belong together: {len(location)} boxes, "
                f"{len(category)} classes, {len(score)} scores"
            )
        count = self._count(outputs, row, len(location))
        return location[:count], category[:count], score[:count]

    def _count(self, outputs: Mapping[str, NDArray[Any]], row: int, most: int) -> int:
        if self.count is None:
            return most
        counts = outputs[self.count].reshape(-1).astype(np.float64)
        count = counts[min(row, counts.size - 1)]
        return min(max(int(count), 0), most) if math.isfinite(count) else most

    def row_count(self, outputs: Mapping[str, NDArray[Any]], most: int) -> int:
        """How many boxes the model says there are, of ``most``; all when it does not say."""
        return self._count(outputs, 0, most)

    @property
    def is_post_processed(self) -> bool:
        """Whether the model ends as TFLite's post-processing does: it counts and names boxes."""
        return self.count is not None and self.category is not None

    def labels(self, signature: Signature) -> tuple[str, ...]:
        """The labels of the classes."""
        tensor = _tensor(signature, self.category or self.score)
        return (tensor.labels if tensor is not None else ()) or signature.labels


_Named = tuple[str, "NDArray[Any]", "Tensor | None"]


def _in_order(outputs: Mapping[str, NDArray[Any]], signature: Signature) -> list[_Named]:
    """The outputs in the model's own order, whatever order the mapping has."""
    places = {tensor.name: place for place, tensor in enumerate(signature.outputs)}
    names = sorted(outputs, key=lambda name: (places.get(name, len(places)), name))
    return [(name, outputs[name], _tensor(signature, name)) for name in names]


def _tensor(signature: Signature, name: str) -> Tensor | None:
    return next((tensor for tensor in signature.outputs if tensor.name == name), None)


def _take(
    left: list[_Named], fits: Any, words: Sequence[str], *, named: bool = False
) -> _Named | None:
    """Remove and return the output that fits, one with a telling name first.

    With ``named``, the shape alone is not enough.
    """
    fitting = [entry for entry in left if fits(entry[1])]
    telling = [entry for entry in fitting if _is_called(entry, words)]
    found = next(iter(telling or ([] if named else fitting)), None)
    if found is not None:
        left[:] = [entry for entry in left if entry is not found]
    return found


def _is_called(entry: _Named, words: Sequence[str]) -> bool:
    name, _, tensor = entry
    said = f"{name} {tensor.description if tensor is not None else ''}".lower()
    return any(word in said for word in words)


def _is_location(array: NDArray[Any]) -> bool:
    return array.ndim in (2, 3) and array.shape[-1] == 4 and array.dtype.kind in "fiuV"


def _is_count(array: NDArray[Any]) -> bool:
    return array.ndim <= 1 and array.dtype.kind in "fiuV" and array.size >= 1


def _category_and_score(
    left: list[_Named],
    count: _Named | None,
    category: _Named | None,
    score: _Named | None,
) -> tuple[_Named | None, _Named | None]:
    """Which of the outputs that remain are the classes and the scores, where that is not known."""
    left = [entry for entry in left if entry[1].dtype.kind in "fiuV" and entry[1].ndim >= 1]
    most = None if count is None else int(np.nan_to_num(count[1].reshape(-1)[0]))
    for entry in left:
        name, array, tensor = entry
        if score is None and (
            (tensor is not None and tensor.score_threshold is not None)
            or (name.lower() != "category" and _is_called((name, array, None), ("score", "conf")))
        ):
            score = entry
        elif category is None and (
            (tensor is not None and tensor.labels and tensor.label_kind == "value")
            or _is_called((name, array, None), ("categor", "class", "label"))
            or (array.dtype.kind in "iu" and (tensor is None or tensor.quantization is None))
        ):
            category = entry
    rest = [entry for entry in left if entry is not category and entry is not score]
    if category is None and score is None and len(rest) > 1:
        whole = [entry for entry in rest if _is_whole(entry[1], most)]
        category = whole[0] if whole else rest[0]
        rest.remove(category)
    if score is None and rest:
        score = rest.pop(0)
    if category is None and score is not None and score[1].ndim < 3 and rest:
        category = rest[0]
    return category, score


def _is_whole(array: NDArray[Any], most: int | None) -> bool:
    valid = array[..., :most].astype(np.float64)
    return bool(np.all(valid == np.round(valid)))


def _of_row(
    name: str,
    outputs: Mapping[str, NDArray[Any]],
    signature: Signature,
    row: int,
    *,
    rank: int,
) -> NDArray[np.float64]:
    values = real_values(outputs[name], _tensor(signature, name))
    if values.ndim == rank:
        return values
    if values.ndim == rank + 1:
        if not 0 <= row < len(values):
            raise InputError(f"no row {row} in a batch of {len(values)}")
        picked: NDArray[np.float64] = values[row]
        return picked
    raise SignatureError(
        f"output {name!r} has shape {list(values.shape)}: expected {rank} or {rank + 1} axes"
    )


def _pixels(
    corners: NDArray[np.float64], signature: Signature, image_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Boxes [K,4] as xmin, ymin, xmax, ymax of the original picture, clipped to it."""
    if not len(corners):
        return corners
    width, height = image_size
    if are_proportional(corners):
        scale = np.array([width, height] * 2, np.float64)
    else:
        input_width, input_height = _input_size(signature, image_size)
        scale = np.array([width / input_width, height / input_height] * 2)
    limits = np.array([width, height] * 2, np.float64)
    clipped = np.clip(corners * scale, 0, limits)
    low = np.minimum(clipped[:, :2], clipped[:, 2:])
    high = np.maximum(clipped[:, :2], clipped[:, 2:])
    return np.concatenate([low, high], axis=1)


def are_proportional(corners: NDArray[np.float64]) -> bool:
    """Whether boxes look like parts of the picture, not pixels: no coordinate is above 2."""
    finite = corners[np.isfinite(corners)]
    return not finite.size or bool(np.abs(finite).max() <= _MAX_PROPORTIONAL)


def _input_size(signature: Signature, image_size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the picture as the model saw it."""
    for tensor in signature.inputs:
        layout = image_layout(tensor)
        if layout is not None:
            return (
                image_size[0] if layout.width < 1 else layout.width,
                image_size[1] if layout.height < 1 else layout.height,
            )
    return image_size


def background_offset(labels: Sequence[str], roles: Roles) -> int:
    """What is added to a class to find its label: 1 for a list that starts with a background.

    That is a first label like ``???`` where the model ends in TFLite's post-processing,
    which counts classes without a background; else 0.
    """
    starts_with_background = bool(labels) and labels[0].strip().lower() in _BACKGROUND
    return 1 if roles.is_post_processed and starts_with_background else 0


def _shapes(outputs: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items()) or "none"
