"""An answer is shown as what it is: bars, boxes on the picture, or tensors."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbmodel.core.signature import Signature, Tensor
from nbmodel.display.card import Block
from nbmodel.display.inference import InferenceResult
from nbmodel.display.views.base import View
from nbmodel.display.views.table import VIEWS
from nbmodel.errors import InputError, TensorNameError
from nbmodel.vision.draw import COLOURS

DIGITS = Signature(
    (Tensor("x", "FP32", (-1, 64)),),
    (
        Tensor("label", "INT64", (-1,)),
        Tensor("probabilities", "FP32", (-1, 3), labels=("nought", "one", "two")),
    ),
)
DETECTOR = Signature(
    (Tensor("image", "UINT8", (1, 300, 300, 3)),),
    (
        Tensor("location", "FP32", (1, 2, 4)),
        Tensor("category", "FP32", (1, 2), labels=("person", "kite"), label_kind="value"),
        Tensor("score", "FP32", (1, 2), score_threshold=0.3),
        Tensor("count", "FP32", (1,)),
    ),
)
BOXES = {
    "location": np.array([[[0.1, 0.2, 0.5, 0.6], [0.6, 0.6, 0.9, 0.9]]], np.float32),
    "category": np.array([[1.0, 0.0]], np.float32),
    "score": np.array([[0.9, 0.4]], np.float32),
    "count": np.array([2.0], np.float32),
}


def digits(*rows: list[float], **facts: Any) -> InferenceResult:
    scores = np.array(rows, np.float32)
    outputs = {"label": scores.argmax(1), "probabilities": scores}
    return InferenceResult(outputs, DIGITS, "digits@pi", **facts)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """The picture that compresses worst."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_outputs_by_name() -> None:
    result = digits([0.1, 0.7, 0.2])
    assert result["label"].tolist() == [1]
    assert list(result) == ["label", "probabilities"]
    assert len(result) == 2
    with pytest.raises(TensorNameError, match="scores"):
        result["scores"]


def test_one_input_is_bars_with_the_best_first() -> None:
    result = digits([0.1, 0.7, 0.2], latency_ms=3.2, version="digits:2")
    assert [found.label for found in result.classes()] == ["one", "two", "nought"]
    assert [found.label for found in result.classes(1)] == ["one"]
    lines = result.text().split("\n")
    assert lines[0] == "digits@pi  digits:2 · 3.2 ms"
    shown = [line.split() for line in lines[4:]]
    assert [words[0] for words in shown] == ["one", "two", "nought"]
    assert [words[-2:] for words in shown] == [["70.0", "%"], ["20.0", "%"], ["10.0", "%"]]


def test_of_many_classes_only_those_that_say_something_are_shown() -> None:
    scores = np.zeros((1, 1001), np.float32)
    scores[0, [89, 7]] = 0.9, 0.1
    signature = Signature(outputs=(Tensor("y", "FP32", (1, 1001)),))
    result = InferenceResult({"y": scores}, signature, model_type="classification")
    assert [line.split()[0] for line in result.text().split("\n")[4:]] == ["89", "7"]


def test_a_batch_with_pictures_is_a_grid_and_without_a_table() -> None:
    rows = [[0.1, 0.7, 0.2], [0.9, 0.1, 0.0], [0.0, 0.4, 0.6]]
    pictures = [Image.new("L", (8, 8), 40 * place) for place in range(3)]
    grid = digits(*rows, images=pictures)
    assert [row[0].label for row in grid.rows()] == ["one", "nought", "two"]
    assert "one · 70.0 %  nought · 90.0 %  two · 60.0 %" in grid.text()
    assert grid.html().count("<img") == 3
    table = digits(*rows)
    assert [line.split()[:2] for line in table.text().split("\n")[4:]] == [
        ["0", "one"],
        ["1", "nought"],
        ["2", "two"],
    ]


def test_boxes_are_in_the_pictures_pixels_and_drawn_on_it() -> None:
    result = InferenceResult(
        BOXES, DETECTOR, "eye@pi", images=[Image.new("RGB", (200, 100))], model_type="detection"
    )
    assert result.lowest_score == 0.3  # the model's own
    assert [found.label for found in result.boxes()] == ["kite", "person"]
    assert [found.label for found in result.boxes(0.5)] == ["kite"]
    assert result.boxes()[0].xyxy == pytest.approx((40, 10, 120, 50))
    picture = result.picture()
    assert picture is not None
    assert picture.size == (200, 100)
    assert picture.getpixel((40, 45)) == COLOURS[1]
    assert result.html().count("data:image/jpeg") == 1
    assert 'alt="picture with 2 detections: 1 kite, 1 person"' in result.html()


def test_a_threshold_that_is_given_wins() -> None:
    result = InferenceResult(BOXES, DETECTOR, model_type="detection", threshold=0.95)
    assert result.boxes() == []
    assert "no detection scores 0.95 or more" in result.text()


def test_a_detector_without_a_threshold_of_its_own_shows_what_is_likely() -> None:
    bare = Signature(outputs=tuple(Tensor(name, "FP32", None) for name in BOXES))
    assert InferenceResult(BOXES, bare, model_type="detection").lowest_score == 0.5


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        pytest.param(DIGITS, "classification", id="a labelled axis"),
        pytest.param(DETECTOR, "detection", id="the shapes of a detector"),
        pytest.param(
            Signature(outputs=(Tensor("output_probability", "FP32", (-1, 3)),)),
            "classification",
            id="a name",
        ),
        pytest.param(Signature(), "other", id="nothing"),
    ],
)
def test_the_model_type_is_told_by_the_signature(signature: Signature, expected: str) -> None:
    assert InferenceResult({}, signature).model_type == expected


def test_anything_else_is_a_table_of_tensors() -> None:
    result = InferenceResult(
        {
            "y": np.array([[1.0, 2.0, 6.0]], np.float32),
            "text": np.array([b"caf\xc3\xa9", "plain"], object),
            "empty": np.zeros((0, 4), np.float32),
            "flag": np.array([True, False]),
        },
        Signature(outputs=(Tensor("y", "FP32", (-1, 3)),)),
    )
    lines = [re.split(r"\s{2,}", line.strip()) for line in result.text().split("\n")[4:]]
    assert lines == [
        ["y", "FP32", "[1, 3]", "1.0", "3.0", "6.0", "1.0, 2.0, 6.0"],
        ["text", "object", "[2]", "café, plain"],
        ["empty", "float32", "[0, 4]"],
        ["flag", "bool", "[2]", "0", "0.5", "1", "True, False"],
    ]


def test_outputs_that_contradict_the_model_type_are_shown_with_the_reason() -> None:
    result = InferenceResult({"y": np.zeros((1, 3))}, Signature(), model_type="detection")
    assert "not shown as detection: no output holds boxes" in result.text()
    assert "[1, 3]" in result.text()
    assert result.picture() is None
    with pytest.raises(InputError):
        result.save("answer.png")
    assert "no output holds boxes" in result.to_json()["problem"]


def test_nan_and_infinity_break_nothing() -> None:
    result = digits([np.nan, np.inf, 0.5])
    assert "nan" in result.html()
    json.dumps(result.to_json(), allow_nan=False)


def test_json_has_the_arrays_and_what_they_say() -> None:
    data = digits([0.25, 0.75, 0.0]).to_json()
    assert data["outputs"][1] == {
        "name": "probabilities",
        "shape": [1, 3],
        "data": [0.25, 0.75, 0.0],
    }
    assert data["classes"][0][0] == {"label": "one", "index": 1, "score": 0.75}
    found = InferenceResult(BOXES, DETECTOR).to_json()["boxes"]
    assert [box["label"] for box in found] == ["kite", "person"]


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(digits([0.1, 0.7, 0.2], images=[noise(1920, 1080)]), id="bars"),
        pytest.param(
            digits(*[[0.1, 0.7, 0.2]] * 200, images=[noise(320, 240, seed) for seed in range(200)]),
            id="a grid",
        ),
        pytest.param(InferenceResult(BOXES, DETECTOR, images=[noise(1920, 1080)]), id="boxes"),
        pytest.param(
            InferenceResult(
                {name: np.repeat(array, 8, axis=0) for name, array in BOXES.items()},
                DETECTOR,
                images=[noise(640, 480, seed) for seed in range(8)],
            ),
            id="boxes on several pictures",
        ),
        pytest.param(digits(*[[0.1, 0.7, 0.2]] * 5000), id="a long batch"),
    ],
)
def test_a_cell_stays_below_250_kb_even_with_noise(result: InferenceResult) -> None:
    assert len(result.html().encode()) + len(result.text().encode()) < 250_000


def test_a_picture_of_few_pixels_is_kept_sharp_and_without_loss() -> None:
    html = digits([0.1, 0.7, 0.2], images=[Image.new("L", (8, 8), 9)]).html()
    assert "data:image/jpeg" not in html


def test_every_view_of_the_table_is_one() -> None:
    for name in VIEWS.names():
        assert issubclass(VIEWS.load(name), View)


def test_a_view_of_ones_own_is_a_class() -> None:
    class Loud(View):
        def blocks(self, result: InferenceResult) -> list[Block]:
            return []

    assert Loud().picture(digits([1.0, 0.0, 0.0])) is None
