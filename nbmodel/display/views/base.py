"""What a view is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbmodel.display.card import Block

if TYPE_CHECKING:
    from PIL.Image import Image

    from nbmodel.display.inference import InferenceResult


class View(ABC):
    """Shows the answers of one model type.

    Both methods raise ``SignatureError`` for outputs that are not what the type has;
    the result is then shown as plain tensors, with the reason.
    """

    @abstractmethod
    def blocks(self, result: InferenceResult) -> Sequence[Block]:
        """What there is to see, most telling first; below 200 KB as HTML."""

    def picture(self, result: InferenceResult) -> Image | None:
        """The answer as one picture, on white; None when there is nothing to draw."""
        del result
        return None
