"""A picture becomes the tensor that Viam would send."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import DatatypeError, ShapeError, TensorNameError
from nbmodel.vision.viam.preprocess import PictureInput

# One pixel: red 0, green 127, blue 255.
PIXEL = Image.new("RGB", (1, 1), (0, 127, 255))


def signature(*shape: int, name: str = "image", datatype: str = "FP32") -> Signature:
    return Signature((Tensor(name, datatype, shape),))


def tensor(signature: Signature, image: Image.Image = PIXEL, **config: Any) -> Any:
    return PictureInput.of(signature, VisionConfig("m", **config)).tensor(image)


@pytest.mark.parametrize(
    ("shape", "first", "size"),
    [
        pytest.param((1, 300, 200, 3), False, (200, 300), id="channels last"),
        pytest.param((1, 3, 300, 200), True, (200, 300), id="channels first"),
        pytest.param((3, 300, 200, 3), False, (200, 300), id="a batch of 3"),
        pytest.param((1, 3, 3, 3), True, (3, 3), id="3 everywhere"),
        pytest.param((1, 300, 3, 3), False, (3, 300), id="3 pixels wide"),
        pytest.param((-1, -1, -1, 3), False, (64, 48), id="any size"),
        pytest.param((-1, 3, 20, -1), True, (64, 20), id="any width"),
        pytest.param((1, 30, 20, 3, 1), False, (20, 30), id="five axes"),
    ],
)
def test_the_first_3_decides_where_channels_are(
    shape: tuple[int, ...], first: bool, size: tuple[int, int]
) -> None:
    found = PictureInput.of(signature(*shape), VisionConfig("m"))
    assert (found.channels_first, found.size((64, 48))) == (first, size)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # (0 - .5) / .5; 127/255 = 0.49803922; (1 - .5) / .5
        pytest.param({}, [-1, -0.00392157, 1], id="by default -1 to 1"),
        pytest.param({"bgr": True}, [1, -0.00392157, -1], id="blue first"),
        # Red is 0.1 below its mean, green 0.29803922 above, blue 0.7 above.
        pytest.param(
            {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 2.0)},
            [-0.2, 1.19215686, 0.35],
            id="mean and deviation",
        ),
        # Blue takes the first mean and is 0.9 above it; red is 0.3 below the last.
        pytest.param(
            {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 2.0), "bgr": True},
            [1.8, 1.19215686, -0.15],
            id="mean and deviation, blue first",
        ),
    ],
)
def test_floats_are_normalised(config: dict[str, Any], expected: list[float]) -> None:
    last = tensor(signature(1, 1, 1, 3), **config)
    assert (last.dtype, last.shape) == (np.float32, (1, 1, 1, 3))
    np.testing.assert_allclose(last[0, 0, 0], expected, rtol=1e-6)
    first = tensor(signature(1, 3, 1, 1), **config)
    np.testing.assert_array_equal(first[0, :, 0, 0], last[0, 0, 0])


def test_every_step_is_done_in_32_bits() -> None:
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    found = tensor(signature(1, 16, 16, 3), grey, mean=(0.485,) * 3, std=(0.229,) * 3)
    one = np.float32
    expected = [(one(v) / one(255) - one(0.485)) / one(0.229) for v in range(256)]
    assert found[0, ..., 0].reshape(-1).tolist() == [float(value) for value in expected]


@pytest.mark.parametrize("bgr", [False, True], ids=["red first", "blue first"])
def test_bytes_are_the_pixels_whatever_mean_and_deviation_say(bgr: bool) -> None:
    found = tensor(signature(1, 1, 1, 3, datatype="UINT8"), mean=(9, 9, 9), bgr=bgr)
    assert found.dtype == np.uint8
    assert found.reshape(-1).tolist() == ([255, 127, 0] if bgr else [0, 127, 255])


def test_a_picture_is_stretched_without_a_border() -> None:
    image = Image.new("RGB", (40, 10), (9, 9, 9))
    found = tensor(signature(1, 20, 20, 3, datatype="UINT8"), image)
    assert (found.shape, set(found.reshape(-1).tolist())) == ((1, 20, 20, 3), {9})


@pytest.mark.parametrize(
    ("names", "mapped", "expected"),
    [
        pytest.param(["x"], {}, "x", id="the only one"),
        pytest.param(["a", "image"], {}, "image", id="called so"),
        pytest.param(["a", "image"], {"image": "a"}, "a", id="mapped"),
    ],
)
def test_the_input_is_found(names: list[str], mapped: dict[str, str], expected: str) -> None:
    inputs = tuple(Tensor(name, "FP32", (1, 8, 8, 3)) for name in names)
    found = PictureInput.of(Signature(inputs), VisionConfig("m", input_names=mapped))
    assert found.name == expected


@pytest.mark.parametrize(
    ("inputs", "mapped", "error", "says"),
    [
        pytest.param((), {}, TensorNameError, "no input tensors", id="none"),
        pytest.param(
            (Tensor("a", "FP32", (1, 8, 8, 3)), Tensor("b", "FP32", (1,))),
            {},
            TensorNameError,
            "no input tensor named 'image' among [a FP32[1,8,8,3], b FP32[1]]",
            id="two",
        ),
        pytest.param(
            (Tensor("a", "FP32", (1, 8, 8, 3)),),
            {"image": "b"},
            TensorNameError,
            "remap_input_names has tensor 'b', which the model does not take",
            id="mapped to nothing",
        ),
        pytest.param(
            (Tensor("a", "FP32", (8, 8, 3)),),
            {},
            ShapeError,
            "invalid length of shape array (expected 4, got 3)",
            id="three axes",
        ),
        pytest.param(
            (Tensor("a", "FP32", None),),
            {},
            ShapeError,
            "invalid length of shape array (expected 4, got none)",
            id="any axes",
        ),
        pytest.param(
            (Tensor("a", "INT8", (1, 8, 8, 3)),),
            {},
            DatatypeError,
            "invalid input type of int8. try uint8 or float32",
            id="signed bytes",
        ),
    ],
)
def test_an_input_that_takes_no_picture_is_told(
    inputs: tuple[Tensor, ...], mapped: dict[str, str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        PictureInput.of(Signature(inputs), VisionConfig("m", input_names=mapped))
