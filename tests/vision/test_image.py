"""Pictures as people have them become the arrays that models take."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from nbmodel.core.signature import Normalization, Quantization, Tensor
from nbmodel.errors import DatatypeError, InputError, ShapeError, SignatureError
from nbmodel.vision import image as module
from nbmodel.vision.image import image_layout, image_to_tensor, load_image

# Two rows of three pixels: red, green, blue; white, grey, black.
PIXELS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255] * 3, [128] * 3, [0] * 3]], np.uint8
)
# ITU-R 601 luma, as Pillow's documentation gives it: L = (299 R + 587 G + 114 B) / 1000.
LUMA = np.array([[76, 150, 29], [255, 128, 0]], np.uint8)


def tensor(shape: tuple[int, ...] | None, datatype: str = "UINT8", **facts: Any) -> Tensor:
    return Tensor("image", datatype, shape, **facts)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class TestLoad:
    def test_a_path_bytes_an_image_and_an_array_are_one_picture(self, tmp_path: Path) -> None:
        picture = Image.fromarray(PIXELS)
        file = tmp_path / "picture.png"
        picture.save(file)
        for source in (file, str(file), png(picture), picture, PIXELS):
            assert_array_equal(np.asarray(load_image(source)), PIXELS)

    @pytest.mark.parametrize(
        ("array", "expected"),
        [
            pytest.param(LUMA, LUMA, id="two axes are grey"),
            pytest.param(LUMA[..., None], LUMA, id="one channel is grey"),
            pytest.param(
                np.dstack([PIXELS, np.zeros((2, 3), np.uint8)]), PIXELS, id="alpha is dropped"
            ),
            pytest.param(PIXELS / 255, PIXELS, id="floats are in 0..1"),
            pytest.param(PIXELS.astype(np.int64), PIXELS, id="wide integers are in 0..255"),
            pytest.param(
                LUMA > 100, np.where(LUMA > 100, 255, 0), id="booleans are black or white"
            ),
        ],
    )
    def test_arrays(self, array: np.ndarray, expected: np.ndarray) -> None:
        assert_array_equal(np.asarray(load_image(array)), expected)

    @pytest.mark.parametrize(
        "array",
        [
            pytest.param(np.zeros(5, np.uint8), id="one axis"),
            pytest.param(np.zeros((2, 2, 2), np.uint8), id="two channels"),
            pytest.param(np.zeros((1, 2, 2, 3), np.uint8), id="a batch"),
            pytest.param(np.zeros((0, 2, 3), np.uint8), id="no pixels"),
            pytest.param(np.full((2, 2), 16.0), id="floats above 1"),
            pytest.param(np.full((2, 2), -1), id="negative integers"),
            pytest.param(np.full((2, 2), np.nan), id="not a number"),
            pytest.param(np.array([["a", "b"]]), id="strings"),
        ],
    )
    def test_arrays_that_are_no_pictures_are_refused(self, array: np.ndarray) -> None:
        with pytest.raises(InputError):
            load_image(array)

    def test_a_camera_turned_on_its_side_is_upright(self) -> None:
        image = Image.fromarray(PIXELS)
        exif = image.getexif()
        exif[0x0112] = 6  # orientation: turn right by 90 degrees to show
        buffer = io.BytesIO()
        image.save(buffer, "PNG", exif=exif)
        assert_array_equal(np.asarray(load_image(buffer.getvalue())), np.rot90(PIXELS, -1))

    def test_sixteen_bit_greys_keep_their_upper_half(self) -> None:
        deep = np.array([[0, 0x1234, 0xFFFF]], np.uint16)
        loaded = load_image(png(Image.fromarray(deep)))
        assert_array_equal(np.asarray(loaded), [[0, 0x12, 0xFF]])

    @pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK"])
    def test_every_common_mode_becomes_rgb_or_grey(self, mode: str) -> None:
        loaded = load_image(Image.fromarray(PIXELS).convert(mode))
        assert loaded.mode in ("RGB", "L")
        assert loaded.size == (3, 2)

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            pytest.param("no/such.png", "no such picture", id="a missing file"),
            pytest.param(b"hello", "not a picture", id="text"),
            pytest.param(b"", "not a picture", id="nothing"),
            pytest.param(png(Image.fromarray(PIXELS))[:60], "damaged", id="a truncated file"),
        ],
    )
    def test_what_is_no_picture_is_named(self, source: Any, words: str) -> None:
        with pytest.raises(InputError, match=words):
            load_image(source)

    def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(self) -> None:
        bomb = io.BytesIO()
        Image.new("1", (10_000, 10_000)).save(bomb, "PNG")
        with pytest.raises(InputError, match="pixels"):
            load_image(bomb.getvalue())

    def test_the_limit_lies_below_pillows_warning(self) -> None:
        assert Image.MAX_IMAGE_PIXELS is not None
        assert module.MAX_PIXELS < Image.MAX_IMAGE_PIXELS


class TestLayout:
    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((1, 224, 200, 3), (True, 3, 2, 224, 200)),
            ((-1, -1, -1, 3), (True, 3, 2, -1, -1)),
            ((1, 3, 224, 200), (True, 3, 0, 224, 200)),
            ((-1, 3, -1, -1), (True, 3, 0, -1, -1)),
            ((1, 28, 30, 1), (True, 1, 2, 28, 30)),
            ((1, 1, 28, 30), (True, 1, 0, 28, 30)),
            ((224, 200, 3), (False, 3, 2, 224, 200)),
            ((3, 224, 200), (False, 3, 0, 224, 200)),
            ((1, 28, 30), (True, 1, None, 28, 30)),
            ((-1, 28, 30), (True, 1, None, 28, 30)),
            ((28, 30), (False, 1, None, 28, 30)),
        ],
        ids=str,
    )
    def test_shapes_of_pictures(self, shape: tuple[int, ...], expected: tuple[Any, ...]) -> None:
        layout = image_layout(tensor(shape))
        assert layout is not None
        assert (layout.batch, layout.channels, layout.axis) == expected[:3]
        assert (layout.height, layout.width) == expected[3:]

    @pytest.mark.parametrize(
        "shape",
        [None, (), (64,), (-1, 64), (1, 64), (-1, -1), (1, 28, 28, 2), (1, 2, 3, 4, 5)],
        ids=str,
    )
    def test_shapes_that_no_picture_has(self, shape: tuple[int, ...] | None) -> None:
        assert image_layout(tensor(shape)) is None
        with pytest.raises(ShapeError, match="does not take a picture"):
            image_to_tensor(PIXELS, tensor(shape))


class TestToTensor:
    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            pytest.param((1, 2, 3, 3), PIXELS[None], id="channels last"),
            pytest.param((1, 3, 2, 3), PIXELS.transpose(2, 0, 1)[None], id="channels first"),
            pytest.param((2, 3, 3), PIXELS, id="no batch axis"),
            pytest.param((-1, -1, -1, 3), PIXELS[None], id="any size keeps the picture's"),
            pytest.param((1, 2, 3, 1), LUMA[None, ..., None], id="one channel is luminance"),
            pytest.param((2, 3), LUMA, id="a plain matrix"),
        ],
    )
    def test_layouts(self, shape: tuple[int, ...], expected: np.ndarray) -> None:
        array = image_to_tensor(PIXELS, tensor(shape))
        assert array.dtype == np.uint8
        assert array.flags["C_CONTIGUOUS"]
        assert_array_equal(array, expected)

    def test_no_channel_axis_after_a_batch_axis(self) -> None:
        grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
        assert_array_equal(image_to_tensor(grey, tensor((1, 4, 5))), grey[None])

    def test_floats_are_in_0_to_1_without_a_normalisation(self) -> None:
        array = image_to_tensor(PIXELS, tensor((1, 2, 3, 3), "FP32"))
        assert array.dtype == np.float32
        assert_allclose(array[0], PIXELS / 255, rtol=1e-6)  # one float32 division

    @pytest.mark.parametrize(
        ("mean", "std"),
        [
            pytest.param((127.5,), (127.5,), id="one for all channels"),
            pytest.param((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), id="one a channel"),
        ],
    )
    def test_floats_follow_the_normalisation(
        self, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        given = tensor((1, 3, 2, 3), "FP32", normalization=Normalization(mean, std))
        expected = (PIXELS.astype(np.float64) - mean) / std
        # float32 keeps 7 digits of values up to 3.
        assert_allclose(image_to_tensor(PIXELS, given)[0], expected.transpose(2, 0, 1), atol=1e-6)

    @pytest.mark.parametrize(
        ("scale", "zero"),
        [(1 / 255, -128), (1.0, -128)],
        ids=["real values in 0..1", "real values in 0..255"],
    )
    def test_int8_quantised_and_normalised_spans_the_same_grid_as_pixels(
        self, scale: float, zero: int
    ) -> None:
        spans_unit = scale < 1
        given = tensor(
            (1, 2, 3, 3),
            "INT8",
            normalization=Normalization((0.0,), (255.0 if spans_unit else 1.0,)),
            quantization=Quantization((scale,), (zero,)),
        )
        plain = tensor((1, 2, 3, 3), "INT8")
        expected = PIXELS.astype(np.int16) - 128
        assert_array_equal(image_to_tensor(PIXELS, given)[0], expected)
        assert_array_equal(image_to_tensor(PIXELS, plain)[0], expected)

    def test_int8_saturates(self) -> None:
        given = tensor(
            (1, 2, 3, 3),
            "INT8",
            normalization=Normalization((0.0,), (1.0,)),
            quantization=Quantization((0.5,), (0,)),
        )
        assert image_to_tensor(PIXELS, given).max() == 127

    def test_other_datatypes(self) -> None:
        assert image_to_tensor(PIXELS, tensor((1, 2, 3, 3), "FP16")).dtype == np.float16
        assert image_to_tensor(PIXELS, tensor((1, 2, 3, 3), "INT32")).max() == 255
        with pytest.raises(DatatypeError, match="BOOL"):
            image_to_tensor(PIXELS, tensor((1, 2, 3, 3), "BOOL"))

    def test_a_normalisation_of_the_wrong_length_is_named(self) -> None:
        given = tensor((1, 2, 3, 1), "FP32", normalization=Normalization((1.0, 2.0), (1.0,)))
        with pytest.raises(SignatureError, match="2 means"):
            image_to_tensor(PIXELS, given)

    def test_resizing_keeps_a_flat_colour_and_the_order_of_sides(self) -> None:
        flat = np.full((40, 30, 3), (10, 20, 30), np.uint8)
        array = image_to_tensor(flat, tensor((1, 7, 9, 3)))
        assert array.shape == (1, 7, 9, 3)
        assert_array_equal(array[0].reshape(-1, 3), [[10, 20, 30]] * 63)

    @given(
        height=st.integers(1, 40),
        width=st.integers(1, 40),
        channels=st.sampled_from([1, 3]),
        first=st.booleans(),
    )
    def test_the_array_always_fits_the_tensor(
        self, height: int, width: int, channels: int, first: bool
    ) -> None:
        shape = (1, channels, height, width) if first else (1, height, width, channels)
        given_tensor = tensor(shape, "FP32")
        array = image_to_tensor(PIXELS, given_tensor)
        assert given_tensor.fits(array.shape)
        assert 0 <= array.min() <= array.max() <= 1
