"""Boxes come back in the picture's pixels, whatever the model calls and orders its outputs."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.signature import Quantization, Signature, Tensor
from nbmodel.errors import InputError, SignatureError
from nbmodel.vision.detect import Detection, boxes

SIZE = (200, 100)
INPUT = Tensor("image", "UINT8", (1, 300, 300, 3))
# Three places, two detections: proportions, ymin xmin ymax xmax.
LOCATION = np.array([[[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.4, 0.4]]])
CATEGORY = np.array([[2.0, 0.0, 7.0]])
SCORE = np.array([[0.6, 0.9, 0.8]])
COUNT = np.array([2.0])
LABELS = ("person", "bicycle", "car")
FIRST = Detection("car", 2, 0.6, (40.0, 10.0, 120.0, 50.0))
SECOND = Detection("person", 0, 0.9, (0.0, 0.0, 200.0, 100.0))
TFLITE = ("post", "post:1", "post:2", "post:3")


def signature(*names: str, labels: tuple[str, ...] = LABELS) -> Signature:
    """Outputs of those names in that order; the labels are on the second."""
    tensors = [
        Tensor(name, "FP32", None, labels=labels if place == 1 else (), label_kind="value")
        for place, name in enumerate(names)
    ]
    return Signature((INPUT,), tuple(tensors))


def outputs(*names: str) -> dict[str, np.ndarray]:
    return dict(zip(names, (LOCATION, CATEGORY, SCORE, COUNT), strict=False))


def test_tflite_outputs_become_boxes_in_the_pictures_pixels_best_first() -> None:
    assert boxes(outputs(*TFLITE), signature(*TFLITE), SIZE) == [SECOND, FIRST]


def test_what_is_below_the_threshold_is_left_out() -> None:
    assert boxes(outputs(*TFLITE), signature(*TFLITE), SIZE, 0.7) == [SECOND]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("location", "category", "score", "n_detections"), id="Viam's names"),
        pytest.param(("boxes", "classes", "scores", "num_detections"), id="plain words"),
        pytest.param(("detection_boxes", "detection_classes", "detection_scores", "num"), id="TF"),
        pytest.param(("a", "b", "c", "d"), id="names that say nothing"),
    ],
)
def test_outputs_are_told_apart_without_labels_and_in_any_order(names: tuple[str, ...]) -> None:
    expected = [("0", 0, 0.9), ("2", 2, 0.6)]
    tensors = Signature((INPUT,), tuple(Tensor(name, "FP32", None) for name in names))
    for order in permutations(outputs(*names).items()):
        found = boxes(dict(order), tensors, SIZE)
        assert [(entry.label, entry.index, entry.score) for entry in found] == expected


def test_whole_numbers_in_both_fall_back_on_tflites_order() -> None:
    given_outputs = {**outputs(*TFLITE), "post:1": np.zeros((1, 3)), "post:2": np.ones((1, 3))}
    found = boxes(given_outputs, signature(*TFLITE, labels=()), SIZE)
    assert [(entry.index, entry.score) for entry in found] == [(0, 1.0), (0, 1.0)]


def test_without_a_count_every_place_is_a_detection() -> None:
    found = boxes(outputs(*TFLITE[:3]), signature(*TFLITE[:3]), SIZE)
    assert [entry.index for entry in found] == [0, 7, 2]


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        pytest.param(9.0, ("9", 9), id="beyond the labels: its number"),
        pytest.param(-3.0, ("-3", -3), id="negative: its number"),
    ],
)
def test_one_bad_class_fails_nothing(category: float, expected: tuple[str, int]) -> None:
    given_outputs = {**outputs(*TFLITE), "post:1": np.array([[category, 0.0, 0.0]])}
    found = boxes(given_outputs, signature(*TFLITE), SIZE)
    assert [(entry.label, entry.index) for entry in found] == [("person", 0), expected]


@pytest.mark.parametrize("place", range(3), ids=["box", "class", "score"])
def test_a_nan_leaves_out_its_own_detection_alone(place: int) -> None:
    given_outputs = {name: array.copy() for name, array in outputs(*TFLITE).items()}
    given_outputs[TFLITE[place]][0, 0] = np.nan
    assert boxes(given_outputs, signature(*TFLITE), SIZE) == [SECOND]


@pytest.mark.parametrize(
    ("labels", "offset", "expected"),
    [
        pytest.param(("a", "b", "c"), None, ["a", "c"], id="class ids are lines from 0"),
        pytest.param(("???", "a", "b", "c"), None, ["a", "c"], id="a placeholder shifts by one"),
        pytest.param(("background", "a", "b", "c"), None, ["a", "c"], id="so does a background"),
        pytest.param(("???", "a", "b", "c"), 0, ["???", "b"], id="an offset that is given wins"),
        pytest.param(("x", "a", "b", "c"), 1, ["a", "c"], id="classes that count from 1"),
    ],
)
def test_label_offset(labels: tuple[str, ...], offset: int | None, expected: list[str]) -> None:
    found = boxes(outputs(*TFLITE), signature(*TFLITE, labels=labels), SIZE, label_offset=offset)
    assert [entry.label for entry in found] == expected


def test_pixels_of_the_models_input_are_scaled_back() -> None:
    given_outputs = {**outputs(*TFLITE), "post": LOCATION * 300}
    found = boxes(given_outputs, signature(*TFLITE), SIZE)
    assert found[0] == SECOND
    assert found[1].xyxy == pytest.approx(FIRST.xyxy)


def test_boxes_are_clipped_to_the_picture() -> None:
    given_outputs = {**outputs(*TFLITE), "post": LOCATION * 1.4 - 0.2}
    for found in boxes(given_outputs, signature(*TFLITE), SIZE):
        left, top, right, bottom = found.xyxy
        assert 0 <= left <= right <= 200
        assert 0 <= top <= bottom <= 100


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_any_order_of_coordinates(order: tuple[int, ...]) -> None:
    xyxy = np.array([[0.2, 0.1, 0.6, 0.5]])
    given_outputs = {"boxes": xyxy[:, list(order)][None], "scores": np.array([[0.9]])}
    found = boxes(given_outputs, Signature((INPUT,)), SIZE, order=order)
    assert found[0].xyxy == pytest.approx((40, 10, 120, 50))


def test_scores_a_class_give_the_best_class() -> None:
    given_outputs = {
        "location": LOCATION[:, :2],
        "score": np.array([[[0.1, 0.7, 0.2], [0.5, 0.1, 0.1]]]),
    }
    found = boxes(given_outputs, Signature((INPUT,)), SIZE)
    assert [(entry.index, entry.score) for entry in found] == [(1, 0.7), (0, 0.5)]


def test_quantised_outputs_are_made_real() -> None:
    quantization = Quantization((1 / 256,), (0,))
    tensors = (
        Tensor("location", "UINT8", None, quantization=quantization),
        Tensor("score", "UINT8", None, quantization=quantization),
    )
    given_outputs = {
        "location": np.array([[[64, 0, 128, 128]]], np.uint8),
        "score": np.array([[192]], np.uint8),
    }
    assert boxes(given_outputs, Signature((INPUT,), tensors), SIZE) == [
        Detection("0", 0, 0.75, (0.0, 25.0, 100.0, 50.0))
    ]


def test_a_picture_of_a_batch() -> None:
    twice = {name: np.concatenate([array, array]) for name, array in outputs(*TFLITE).items()}
    twice["post:3"][1] = 1
    assert boxes(twice, signature(*TFLITE), SIZE, row=1) == [FIRST]
    with pytest.raises(InputError, match="no row 2"):
        boxes(twice, signature(*TFLITE), SIZE, row=2)


def test_no_detections_are_an_empty_list() -> None:
    empty = {**outputs(*TFLITE), "post:3": np.array([0.0])}
    assert boxes(empty, signature(*TFLITE), SIZE) == []
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "scores": np.zeros(0)}
    assert boxes(nothing, Signature((INPUT,)), SIZE) == []


@pytest.mark.parametrize(
    ("given_outputs", "words"),
    [
        pytest.param({}, "no output holds boxes", id="nothing"),
        pytest.param({"y": np.zeros((1, 10))}, r"boxes \[N,K,4\].*y \[1, 10\]", id="no boxes"),
        pytest.param({"boxes": LOCATION}, "scores of boxes", id="boxes alone"),
        pytest.param(
            {"boxes": LOCATION, "scores": np.array([[0.5, 0.5]])},
            "3 boxes, 2 classes, 2 scores",
            id="different lengths",
        ),
    ],
)
def test_outputs_of_no_detector_are_named(given_outputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        boxes(given_outputs, Signature((INPUT,)), SIZE)


def test_an_order_that_is_no_permutation_is_refused() -> None:
    with pytest.raises(InputError, match="permutation"):
        boxes(outputs(*TFLITE), signature(*TFLITE), SIZE, order=(0, 0, 1, 2))


@given(
    st.lists(
        st.tuples(*[st.floats(0, 1)] * 4, st.integers(0, 90), st.floats(0, 1)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 3000),
    st.integers(1, 3000),
)
def test_proportions_times_the_size_are_pixels(
    rows: list[tuple[float, ...]], width: int, height: int
) -> None:
    array = np.array(rows)
    given_outputs = {
        "location": array[None, :, :4],
        "category": array[None, :, 4],
        "score": array[None, :, 5],
    }
    found = boxes(given_outputs, Signature(), (width, height))
    assert [entry.score for entry in found] == sorted(array[:, 5], reverse=True)
    for entry in found:
        left, top, right, bottom = entry.xyxy
        back = sorted([left / width, right / width]) + sorted([top / height, bottom / height])
        assert any(
            np.allclose(back, sorted([row[1], row[3]]) + sorted([row[0], row[2]])) for row in rows
        )


@pytest.mark.parametrize(
    ("picture", "expected"),
    [("cat_720p.jpg", {"cat"}), ("kite_and_cold.jpg", {"kite", "person"})],
)
def test_the_coco_detector_sees_what_is_there(
    test_models: Path, picture: str, expected: set[str]
) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    from nbmodel.formats import read_model
    from nbmodel.vision.image import image_to_tensor, load_image

    model = test_models / "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite"
    facts = read_model(model).signature
    engine = interpreter.Interpreter(str(model))
    engine.allocate_tensors()
    image = load_image(test_models / picture)
    engine.set_tensor(
        engine.get_input_details()[0]["index"], image_to_tensor(image, facts.inputs[0])
    )
    engine.invoke()
    arrays = {
        tensor.name: engine.get_tensor(detail["index"])
        for tensor, detail in zip(facts.outputs, engine.get_output_details(), strict=True)
    }
    found = boxes(arrays, facts, image.size, 0.5)
    assert {entry.label for entry in found} == expected
