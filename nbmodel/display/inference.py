"""The answer of a model, as it is best seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Signature
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Fold, Note
from nbmodel.display.quantity import count, duration
from nbmodel.display.tensors import array_table
from nbmodel.display.views.table import view_for
from nbmodel.errors import SignatureError, TensorNameError
from nbmodel.vision.classify import Classification, class_rows, classes
from nbmodel.vision.detect import Detection, boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

DEFAULT_THRESHOLD = 0.5  # of boxes, where neither the caller nor the model says
_TOP_JSON = 10


@dataclass(frozen=True, eq=False, repr=False)
class InferenceResult(Result):
    """Named arrays that a model gave, and what they say: classes, boxes, or numbers.

    ``result["probabilities"]`` is an array; ``result.classes()`` and ``result.boxes()``
    read the arrays by the model's signature. Shown as bars, boxes on the picture, or a
    table of tensors, by the model type.

    Attributes:
        outputs: Output name → array, as the model gave them.
        signature: What the model says about its tensors.
        target: Where it ran: ``digits@pi``, or the reference ``digits:3``.
        model_type: What the model is for; None: told by the signature.
        version: What ran there, when the target does not say.
        latency_ms: From asking to having the answer, in milliseconds; None when unknown.
        images: The input pictures, one a row of the batch; empty for plain numbers.
        threshold: Lowest score of a box; None: the model's own, else 0.5.
    """

    outputs: Mapping[str, NDArray[Any]]
    signature: Signature
    target: str = ""
    model_type: str | None = None
    version: str = ""
    latency_ms: float | None = None
    images: Sequence[Image] = ()
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.model_type is None:
            object.__setattr__(self, "model_type", _told_by(self.signature))

    @property
    def lowest_score(self) -> float:
        """The score below which a box is not shown."""
        if self.threshold is not None:
            return self.threshold
        given = (tensor.score_threshold for tensor in self.signature.outputs)
        return next((value for value in given if value is not None), DEFAULT_THRESHOLD)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The output of that name.

        Raises:
            TensorNameError: The model gave no such output.
        """
        try:
            return self.outputs[name]
        except KeyError:
            raise TensorNameError(
                f"no output {name!r}", hint=f"the model gave {', '.join(self.outputs)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def classes(self, top: int | None = None) -> list[Classification]:
        """The classes of the first row, best first.

        Args:
            top: How many; None for all.

        Raises:
            SignatureError: No output holds class scores.
        """
        return classes(self.outputs, self.signature, top=top)

    def rows(self, top: int | None = 1) -> list[list[Classification]]:
        """The classes of every row of a batch, best first.

        Raises:
            SignatureError: No output holds class scores.
        """
        return class_rows(self.outputs, self.signature, top=top)

    def boxes(self, threshold: float | None = None, *, row: int = 0) -> list[Detection]:
        """The detections of one picture, best first, in its own pixels.

        Without a picture, boxes are in proportions: 0..1.

        Args:
            threshold: Lowest score; None: the result's own.
            row: Which picture of a batch.

        Raises:
            SignatureError: The outputs are not those of a detector.
            InputError: There is no such row.
        """
        size = self.images[row].size if row < len(self.images) else (1, 1)
        least = self.lowest_score if threshold is None else threshold
        return boxes(self.outputs, self.signature, size, least, row=row)

    def card(self) -> Card:
        """What the model said, where it ran, how long it took."""
        chips = [Chip(self.version)] if self.version else []
        if self.latency_ms is not None:
            chips.append(Chip(duration(self.latency_ms / 1000)))
        return Card(self.target or "inference", chips, self._blocks(), kind="inference result")

    def _blocks(self) -> Sequence[Block]:
        tensors = array_table(self.outputs, self.signature)
        view = view_for(self.model_type or "")
        if view is None:
            return [tensors]
        try:
            seen = view.blocks(self)
        except SignatureError as exc:
            return [Note(f"not shown as {self.model_type}: {exc}", "warn"), tensors]
        return [*seen, Fold(count(len(self.outputs), "tensor"), [tensors])]

    def picture(self) -> Image | None:
        """Boxes on the picture, or bars; None where there is nothing to draw."""
        view = view_for(self.model_type or "")
        try:
            return None if view is None else view.picture(self)
        except SignatureError:
            return None  # the text and HTML forms say why

    def to_json(self) -> dict[str, Any]:
        """Every array in full, and what it says; NaN and infinities become null."""
        data: dict[str, Any] = {
            "target": self.target,
            "model_type": self.model_type,
            "latency_ms": self.latency_ms,
            "outputs": [
                {
                    "name": name,
                    "shape": list(array.shape),
                    "data": _plain(array.reshape(-1).tolist()),
                }
                for name, array in self.outputs.items()
            ],
        }
        try:
            if self.model_type == "detection":
                data["boxes"] = [_plain(asdict(found)) for found in self.boxes()]
            elif self.model_type in ("classification", "multi_label_classification"):
                data["classes"] = [
                    [_plain(asdict(found)) for found in row] for row in self.rows(_TOP_JSON)
                ]
        except SignatureError as exc:
            data["problem"] = str(exc)
        return data

    __repr__ = Result.__str__


def _told_by(signature: Signature) -> str:
    """The model type that the tensors tell; ``other`` when they do not."""
    known = model_type_of(signature)
    if known is not None:
        return known
    names = " ".join(tensor.name.lower() for tensor in signature.outputs)
    return "classification" if "probabilit" in names else "other"


def _plain(value: Any) -> Any:
    """JSON values: bytes as text, no NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if isinstance(value, float) and not math.isfinite(value) else value
