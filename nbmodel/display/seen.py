"""What a vision service found in a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbmodel.core.signature import Signature
from nbmodel.display.card import Block
from nbmodel.display.inference import InferenceResult
from nbmodel.display.views.table import view_for
from nbmodel.errors import SignatureError
from nbmodel.vision.classify import Classification
from nbmodel.vision.detect import Detection

if TYPE_CHECKING:
    from PIL.Image import Image
    from typing_extensions import Self


@dataclass(frozen=True, eq=False, repr=False)
class SeenResult(InferenceResult):
    """Boxes or classes as a vision service tells them; there are no tensors.

    Attributes:
        detections: The boxes, best first; empty of a classifier.
        classifications: The classes, best first; empty of a detector.
    """

    detections: tuple[Detection, ...] = ()
    classifications: tuple[Classification, ...] = ()

    @classmethod
    def of(
        cls,
        found: Sequence[Mapping[str, Any]],
        sees: str,
        picture: Image,
        *,
        target: str,
        latency_ms: float,
        threshold: float,
    ) -> Self:
        """The result of an answer over HTTP.

        Args:
            found: What the service told, one object each.
            sees: ``detections`` or ``classifications``.
            picture: What it looked at.
            target: Its name, and that of its runtime.
            latency_ms: From asking to having the answer, in milliseconds.
            threshold: Lowest confidence of a box that is shown.
        """
        ordered = sorted(found, key=lambda one: -float(one["confidence"]))
        names = list(dict.fromkeys(str(one["class_name"]) for one in ordered))
        is_detector = sees == "detections"
        boxes = tuple(_box(one, names) for one in ordered) if is_detector else ()
        classes = () if is_detector else tuple(_class(one, names) for one in ordered)
        return cls(
            outputs={},
            signature=Signature(),
            target=target,
            model_type="detection" if is_detector else "classification",
            latency_ms=latency_ms,
            images=(picture,),
            threshold=threshold,
            detections=boxes,
            classifications=classes,
        )

    def rows(self, top: int | None = 1) -> list[list[Classification]]:
        """The classes of the picture, best first."""
        if self.model_type != "classification":
            raise SignatureError(f"{self.target} detects, and tells no classes of the picture")
        return [list(self.classifications[:top])]

    def classes(self, top: int | None = None) -> list[Classification]:
        """The classes of the picture, best first."""
        return self.rows(top)[0]

    def boxes(self, threshold: float | None = None, *, row: int = 0) -> list[Detection]:
        """The boxes of the picture, best first."""
        del row
        if self.model_type != "detection":
            raise SignatureError(f"{self.target} classifies, and tells no boxes")
        least = self.lowest_score if threshold is None else threshold
        return [one for one in self.detections if one.score >= least]

    def _blocks(self) -> Sequence[Block]:
        view = view_for(self.model_type or "")
        return [] if view is None else view.blocks(self)


def _box(told: Mapping[str, Any], names: Sequence[str]) -> Detection:
    name = str(told["class_name"])
    left, top, right, bottom = (float(told[key]) for key in ("x_min", "y_min", "x_max", "y_max"))
    return Detection(name, names.index(name), float(told["confidence"]), (left, top, right, bottom))


def _class(told: Mapping[str, Any], names: Sequence[str]) -> Classification:
    name = str(told["class_name"])
    return Classification(name, names.index(name), float(told["confidence"]))
