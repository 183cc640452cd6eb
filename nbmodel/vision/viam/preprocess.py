"""From a picture to the tensor of a model's input, by Viam's rules.

Source: viamrobotics/rdk ``services/vision/mlvision/detector.go`` and ``classifier.go``,
``rimage/image_file.go`` (``ImageToUInt8Buffer``, ``ImageToFloatBuffer``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nbmodel.core.signature import Signature, Tensor, describe
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import DatatypeError, ShapeError, TensorNameError
from nbmodel.vision.viam.picture import pixels_of

IMAGE = "image"
_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class PictureInput:
    """The input of a model that takes the picture.

    Attributes:
        name: Of the tensor.
        datatype: ``UINT8`` or ``FP32``.
        channels_first: Whether the tensor is [1,3,H,W], not [1,H,W,3].
        height: Pixels; −1 for the picture's own.
        width: Pixels; −1 for the picture's own.
        bgr: Whether blue comes first.
        mean: Of a channel, in 0..1, in the order of the tensor's channels.
        std: As ``mean``.
    """

    name: str
    datatype: str
    channels_first: bool
    height: int
    width: int
    bgr: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, signature: Signature, config: VisionConfig) -> PictureInput:
        """The input that takes the picture.

        It is the one that the config maps to ``image``, else the one that is called so,
        else the only one. (Viam looks at the first input's shape whichever it fills, and
        sends a tensor called ``image`` to models that have none.)

        The first dimension of 3, where it is the second, means channels first.

        Raises:
            TensorNameError: No input is meant.
            ShapeError: Its shape is not a picture's.
            DatatypeError: It is neither ``UINT8`` nor ``FP32``.
        """
        tensor = _meant(signature, config)
        shape = tensor.shape
        if shape is None or len(shape) < 4:
            found = "none" if shape is None else len(shape)
            raise ShapeError(f"invalid length of shape array (expected 4, got {found})")
        if tensor.datatype not in ("UINT8", "FP32"):
            raise DatatypeError(
                f"invalid input type of {tensor.datatype.lower()}. try uint8 or float32"
            )
        is_first = _CHANNELS in shape and shape.index(_CHANNELS) == 1
        height, width = shape[2:4] if is_first else shape[1:3]
        return cls(
            name=tensor.name,
            datatype=tensor.datatype,
            channels_first=is_first,
            height=height,
            width=width,
            bgr=config.bgr,
            mean=config.mean,
            std=config.std,
        )

    def size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the picture as the model sees it.

        Args:
            image_size: (width, height) of the picture.
        """
        width, height = image_size
        return (width if self.width < 0 else self.width, height if self.height < 0 else self.height)

    def tensor(self, image: Image.Image) -> NDArray[Any]:
        """The picture as the tensor, [1,H,W,3] or [1,3,H,W].

        Stretched to the tensor's size without a letterbox. UINT8 has the levels as they
        are, whatever mean and deviation say; FP32 has ``(level / 255 - mean) / std``,
        always, so −1 to 1 where the config says nothing.

        Raises:
            InputError: The picture is too large.
        """
        width, height = self.size(image.size)
        levels = pixels_of(image, width, height)
        if self.bgr:
            levels = levels[..., ::-1]
        values = levels if self.datatype == "UINT8" else _normalized(levels, self.mean, self.std)
        if self.channels_first:
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[np.newaxis])


def _meant(signature: Signature, config: VisionConfig) -> Tensor:
    inputs = {tensor.name: tensor for tensor in signature.inputs}
    mapped = config.input_names.get(IMAGE)
    if mapped is not None and mapped not in inputs:
        raise TensorNameError(
            f"remap_input_names has tensor {mapped!r}, which the model does not take"
        )
    if mapped is None and IMAGE in inputs:
        mapped = IMAGE
    if mapped is None and len(inputs) == 1:
        (mapped,) = inputs
    if mapped is None:
        takes = ", ".join(describe(tensor) for tensor in signature.inputs)
        raise TensorNameError(
            f"no input tensor named 'image' among [{takes}]" if takes else "no input tensors",
            hint="say under remap_input_names which one takes the picture",
        )
    return inputs[mapped]


def _normalized(
    levels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.float32]:
    """``(level / 255 - mean) / std`` a channel, every step in 32 bits as Viam's."""
    steps = np.arange(256, dtype=np.float32) / np.float32(255)
    values = np.empty(levels.shape, np.float32)
    for channel in range(_CHANNELS):
        table = (steps - np.float32(mean[channel])) / np.float32(std[channel])
        values[..., channel] = table[levels[..., channel]]
    return values
