"""Points of a body on the picture, with a table that is their legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import ImageDraw

from nbmodel.display.card import Bar, Block, Swatch, Table
from nbmodel.display.pictures import shown_picture
from nbmodel.display.quantity import number, percent
from nbmodel.display.views.base import View
from nbmodel.errors import SignatureError
from nbmodel.vision.draw import MAX_SIDE, class_colour, fitted
from nbmodel.vision.output import label_at, real_values

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from nbmodel.display.inference import InferenceResult

_MAX_ROWS = 40
_PICTURE_BYTES = 140_000


class PointsView(View):
    """The first input's points; those with a low score are rings."""

    def blocks(self, result: InferenceResult) -> Sequence[Block]:
        """The picture with the points, and where each is."""
        points, labels = _points(result)
        height, width = (
            (result.images[0].height, result.images[0].width) if result.images else (1, 1)
        )
        unit = round if result.images else number  # pixels, or proportions without a picture
        table = Table(
            ("", "point", ">y", ">x", "", ">score"),
            [
                (
                    Swatch(class_colour(index)),
                    label_at(labels, index),
                    str(unit(float(y) * height)),
                    str(unit(float(x) * width)),
                    Bar(float(score)),
                    percent(float(score)),
                )
                for index, (y, x, score) in enumerate(points[:_MAX_ROWS])
            ],
            left_out=max(0, len(points) - _MAX_ROWS),
        )
        drawn = _drawn(result, points, MAX_SIDE)
        if drawn is None:
            return [table]
        sure = int((points[:, 2] >= result.lowest_score).sum())
        alt = f"picture with {len(points)} points, {sure} of them at {number(result.lowest_score)} or more"
        return [shown_picture(drawn, alt=alt, side=MAX_SIDE, max_bytes=_PICTURE_BYTES), table]

    def picture(self, result: InferenceResult) -> Image | None:
        """The first input with its points, at its own size."""
        return _drawn(result, _points(result)[0], None)


def _points(result: InferenceResult) -> tuple[NDArray[np.float64], Sequence[str]]:
    """Rows of y, x (both 0..1) and score of the first input, and the labels."""
    tensors = {tensor.name: tensor for tensor in result.signature.outputs}
    for name, array in result.outputs.items():
        is_points = array.ndim in (3, 4) and array.shape[-1] == 3 and array.size
        if is_points and array.dtype.kind in "iuf":
            tensor = tensors.get(name)
            values = real_values(array, tensor)[0].reshape(-1, array.shape[-2], 3)[0]
            if np.isfinite(values).all():
                return values, (tensor.labels if tensor else ()) or result.signature.labels
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in result.outputs.items())
    raise SignatureError(f"expected points [1,1,N,3] of y, x and score, found {shapes}")


def _drawn(result: InferenceResult, points: NDArray[np.float64], side: int | None) -> Image | None:
    if not result.images:
        return None
    canvas = result.images[0].convert("RGB")
    canvas = canvas if side is None else fitted(canvas, side)
    draw = ImageDraw.Draw(canvas)
    radius = max(3, round(max(canvas.size) / 160))
    for index, (y, x, score) in enumerate(points):
        across, down = float(x) * canvas.width, float(y) * canvas.height
        box = (across - radius, down - radius, across + radius, down + radius)
        if score >= result.lowest_score:
            draw.ellipse(box, fill=class_colour(index), outline="black")
        else:
            draw.ellipse(box, outline=class_colour(index), width=max(1, radius // 3))
    return canvas
