"""A class for every pixel: colours over the picture, with each class's share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from nbmodel.display.card import Bar, Block, Swatch, Table
from nbmodel.display.pictures import shown_picture
from nbmodel.display.quantity import percent
from nbmodel.display.views.base import View
from nbmodel.errors import SignatureError
from nbmodel.vision.draw import MAX_SIDE, class_colour, fitted
from nbmodel.vision.output import label_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbmodel.display.inference import InferenceResult

_MAX_ROWS = 20
_OPACITY = 0.55
_PICTURE_BYTES = 140_000
_NOTHING = {"background", "__background__", "unlabeled", "unlabelled", "void"}


class SegmentsView(View):
    """The first input's class map over its picture, and the share of each class."""

    def blocks(self, result: InferenceResult) -> Sequence[Block]:
        """The picture in colours and the legend, largest class first."""
        found, labels = _class_map(result)
        numbers, counts = np.unique(found, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        rows = [(int(numbers[place]), int(counts[place]) / found.size) for place in order]
        alt = ", ".join(f"{label_at(labels, index)} {percent(share)}" for index, share in rows[:5])
        return [
            shown_picture(
                _painted(result, found, labels, MAX_SIDE),
                alt=f"class map: {alt}",
                side=MAX_SIDE,
                max_bytes=_PICTURE_BYTES,
            ),
            Table(
                ("", "class", "", ">share"),
                [
                    (
                        "" if _is_nothing(index, labels) else Swatch(class_colour(index)),
                        label_at(labels, index),
                        Bar(share),
                        percent(share),
                    )
                    for index, share in rows[:_MAX_ROWS]
                ],
                left_out=max(0, len(rows) - _MAX_ROWS),
            ),
        ]

    def picture(self, result: InferenceResult) -> Image.Image | None:
        """The first input in the colours of its classes, at its own size."""
        return _painted(result, *_class_map(result), None)


def _class_map(result: InferenceResult) -> tuple[NDArray[np.int64], Sequence[str]]:
    """Class numbers [H,W] of the first input, and the labels."""
    for name, array in result.outputs.items():
        seen = _numbers(array)
        if seen is not None:
            tensors = (tensor for tensor in result.signature.outputs if tensor.name == name)
            own = next((tensor.labels for tensor in tensors), ())
            return seen, own or result.signature.labels
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in result.outputs.items())
    raise SignatureError(f"expected class numbers [1,H,W] or scores [1,H,W,C], found {shapes}")


def _numbers(array: NDArray[Any]) -> NDArray[np.int64] | None:
    if array.dtype.kind not in "iufb" or array.ndim not in (3, 4) or not array.size:
        return None
    first = array[0]
    if first.ndim == 3 and 1 not in (first.shape[0], first.shape[2]):
        channels = 0 if first.shape[0] < first.shape[2] else 2
        best: NDArray[np.int64] = first.argmax(axis=channels).astype(np.int64)
        return best
    if first.ndim == 3:
        first = first[0] if first.shape[0] == 1 else first[:, :, 0]
    whole = np.isfinite(first).all() and (first == np.round(first)).all() and (first >= 0).all()
    numbers: NDArray[np.int64] = first.astype(np.int64)
    return numbers if whole else None


def _is_nothing(index: int, labels: Sequence[str]) -> bool:
    """Class 0 where it is the background, which the labels say; without labels it is."""
    return index == 0 and (not labels or labels[0].strip().lower() in _NOTHING)


def _painted(
    result: InferenceResult, found: NDArray[np.int64], labels: Sequence[str], side: int | None
) -> Image.Image:
    size = (found.shape[1], found.shape[0])
    base = result.images[0].convert("RGB") if result.images else Image.new("RGB", size, "white")
    base = base if side is None else fitted(base, side)
    colours = np.zeros((*found.shape, 4), np.uint8)
    for index in map(int, np.unique(found)):
        if not _is_nothing(index, labels):
            colours[found == index] = (*class_colour(index), round(255 * _OPACITY))
    over = Image.fromarray(colours).resize(base.size, Image.Resampling.NEAREST)
    base.paste(over.convert("RGB"), mask=over.getchannel("A"))
    return base
