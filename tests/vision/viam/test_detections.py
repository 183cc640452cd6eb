"""A detector's outputs become boxes as in Viam, where Viam is right."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.signature import Quantization, Signature, Tensor
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import DatatypeError, ShapeError, SignatureError, TensorNameError
from nbmodel.vision.viam.detections import BoxNotes, Detection, detections

SIZE = (101, 51)  # of the picture: 100 and 50 from the first to the last pixel
INPUT = (11, 21)  # of the model's input
# ymin, xmin, ymax, xmax: Viam's default order.
BOX = [0.2, 0.1, 0.8, 0.5]


def found(
    outputs: Mapping[str, Any],
    labels: tuple[str, ...] = (),
    *,
    signature: Signature | None = None,
    notes: BoxNotes | None = None,
    **config: Any,
) -> tuple[Detection, ...]:
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    if signature is None:
        signature = Signature((), tuple(Tensor(name, "FP32", None) for name in arrays))
    return detections(
        arrays,
        signature,
        VisionConfig("m", **config),
        labels,
        notes=notes or BoxNotes(),
        image_size=SIZE,
        input_size=INPUT,
    )


def one_box(box: list[float], **config: Any) -> Detection:
    outputs = {"location": [[box]], "category": [[0.0]], "score": [[0.5]]}
    (detection,) = found(outputs, **config)
    return detection


def pixels(detection: Detection) -> tuple[int, int, int, int]:
    return (detection.x_min, detection.y_min, detection.x_max, detection.y_max)


def parts(detection: Detection) -> list[float]:
    return [
        detection.x_min_normalized,
        detection.y_min_normalized,
        detection.x_max_normalized,
        detection.y_max_normalized,
    ]


def names(found: tuple[Detection, ...]) -> list[str]:
    return [detection.class_name for detection in found]


# Boxes


@pytest.mark.parametrize(
    ("box", "expected", "normalized"),
    [
        pytest.param(BOX, (10, 10, 50, 40), [0.1, 0.2, 0.5, 0.8], id="parts of the picture"),
        # 0.999 of 100 is 99.9, of 50 it is 49.95
        pytest.param(
            [0.0, 0.0, 0.999, 0.999], (0, 0, 99, 49), [0, 0, 0.999, 0.999], id="pixels are cut"
        ),
        pytest.param([-0.1, 0.5, 1.2, 1.05], (50, 0, 100, 50), [0.5, 0, 1, 1], id="over the edges"),
        # Of an input of 11 by 21 the last pixels are 10 and 20.
        pytest.param([5, 2, 15, 8], (20, 12, 80, 37), [0.2, 0.25, 0.8, 0.75], id="pixels"),
        pytest.param([0, -3, 25, 11], (0, 0, 100, 50), [0, 0, 1, 1], id="pixels over the edges"),
        pytest.param(
            [0.8, 0.5, 0.2, 0.1], (10, 10, 50, 40), [0.1, 0.2, 0.5, 0.8], id="the wrong way round"
        ),
    ],
)
def test_a_box_is_placed_on_the_picture(
    box: list[float], expected: tuple[int, ...], normalized: list[float]
) -> None:
    detection = one_box(box)
    assert pixels(detection) == expected
    np.testing.assert_allclose(parts(detection), normalized, rtol=1e-12)


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_the_order_says_which_edge_is_at_each_place(order: tuple[int, ...]) -> None:
    edges = [0.1, 0.2, 0.5, 0.8]  # xmin, ymin, xmax, ymax
    placed = [edges[edge] for edge in order]
    assert parts(one_box(placed, box_order=order)) == edges


_PLACES = st.floats(0, 1, allow_subnormal=False)


@given(
    order=st.permutations(range(4)),
    boxes=st.lists(st.tuples(_PLACES, _PLACES, _PLACES, _PLACES), min_size=1, max_size=5),
)
def test_any_order_of_edges_gives_the_same_boxes(
    order: list[int], boxes: list[tuple[float, float, float, float]]
) -> None:
    def look(order: tuple[int, ...]) -> list[list[float]]:
        placed = [[box[edge] for edge in order] for box in boxes]
        many = len(boxes)
        outputs = {"location": [placed], "category": [[0.0] * many], "score": [[1.0] * many]}
        return [parts(one) for one in found(outputs, box_order=order)]

    assert look(tuple(order)) == look((0, 1, 2, 3))


def test_the_model_says_its_order_unless_the_config_does() -> None:
    notes = BoxNotes(order=(0, 1, 2, 3))
    box = [0.1, 0.2, 0.5, 0.8]
    assert parts(one_box(box, notes=notes)) == [0.1, 0.2, 0.5, 0.8]
    assert parts(one_box(box, notes=notes, box_order=(1, 0, 3, 2))) == [0.2, 0.1, 0.8, 0.5]
    assert parts(one_box(box)) == [0.2, 0.1, 0.8, 0.5]


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        pytest.param(
            {"box_order": [0, 1, 2, 3], "box_type": "boundaries", "coordinates": "pixel"},
            BoxNotes((0, 1, 2, 3), False),
            id="all of it",
        ),
        pytest.param(
            {"box_order": [1.0, 0.0, 3.0, 2.0], "box_type": "boundaries", "coordinates": "ratio"},
            BoxNotes((1, 0, 3, 2), True),
            id="numbers that came through protobuf",
        ),
        pytest.param(
            {"box_order": [0, 0, 1, 2], "box_type": "boundaries"}, BoxNotes(), id="no order"
        ),
        pytest.param({"box_order": "0123", "box_type": "boundaries"}, BoxNotes(), id="text"),
        pytest.param({"box_order": [0, 1, 2, 3], "box_type": "center"}, BoxNotes(), id="centres"),
    ],
)
def test_notes_on_boxes_are_read(note: dict[str, Any], expected: BoxNotes) -> None:
    assert BoxNotes.of({"tensors": {"other": {"min": [0]}, "location": note}}) == expected


def test_without_notes_there_are_none() -> None:
    assert BoxNotes.of({}) == BoxNotes.of({"tensors": []}) == BoxNotes()


def test_all_boxes_decide_whether_they_are_pixels_not_the_first() -> None:
    outputs = {
        "location": [[[0, 0, 0, 0], [5, 2, 15, 8]]],
        "category": [[0.0, 0.0]],
        "score": [[0.1, 0.9]],
    }
    assert [pixels(one) for one in found(outputs)] == [(0, 0, 0, 0), (20, 12, 80, 37)]


def test_a_first_box_in_the_corner_is_still_a_part() -> None:
    # Viam adds up 0.99 + 0.99 + 1.02 + 1.02 = 4.02 and takes every box for pixels.
    outputs = {
        "location": [[[0.99, 0.99, 1.02, 1.02], BOX]],
        "category": [[0.0, 0.0]],
        "score": [[0.1, 0.9]],
    }
    assert pixels(found(outputs)[1]) == (10, 10, 50, 40)


def test_the_models_own_word_on_pixels_is_taken() -> None:
    box = [1.0, 0.0, 2.0, 1.0]
    assert pixels(one_box(box, notes=BoxNotes(proportional=False))) == (0, 2, 10, 5)
    assert pixels(one_box(box)) == (0, 50, 100, 50)


# Classes and scores


def test_confidences_are_never_negative_and_percents_are_parts() -> None:
    scores = [-0.5, 0.25, 1.0, 1.0000002, 75.0]
    many = len(scores)
    outputs = {"location": [[BOX] * many], "category": [[0.0] * many], "score": [scores]}
    assert [one.confidence for one in found(outputs)] == [0.0, 0.25, 1.0, 1.0, 0.75]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param((), ["0", "2", "7", "0"], id="no labels"),
        pytest.param(("cat", "dog", "eel"), ["cat", "eel", "7", "cat"], id="one is missing"),
        pytest.param(("cat", "dog", ""), ["cat", "2", "7", "cat"], id="one is blank"),
        pytest.param(("???", "cat", "dog"), ["???", "dog", "7", "???"], id="background, no count"),
    ],
)
def test_a_class_without_a_label_is_its_number(
    labels: tuple[str, ...], expected: list[str]
) -> None:
    outputs = {
        "location": [[BOX] * 4],
        "category": [[0.0, 2.0, 7.0, -1.0]],
        "score": [[0.9, 0.8, 0.7, 0.6]],
    }
    assert names(found(outputs, labels)) == expected


def test_labels_with_a_background_are_shifted_for_models_that_count_without() -> None:
    outputs = {"location": [[BOX]], "category": [[1.0]], "score": [[0.9]], "count": [1.0]}
    assert names(found(outputs, ("???", "cat", "dog"))) == ["dog"]


@pytest.mark.parametrize(
    ("scores", "shape", "expected"),
    [
        pytest.param([[0.1, 0.9], [0.8, 0.2], [0.3, 0.4]], (1, 3, 2), "101", id="last axis"),
        pytest.param([[0.1, 0.8, 0.3], [0.9, 0.2, 0.4]], (1, 2, 3), "101", id="middle axis"),
        pytest.param([[0.5], [0.6], [0.7]], (1, 3, 1), "000", id="one class"),
        pytest.param([[0.1, 0.9, 0], [0, 0.8, 0.2], [0.3, 0, 0]], (1, 3, 3), "110", id="a square"),
        pytest.param([0.5, 0.6, 0.7], (1, 3), "000", id="scores alone"),
    ],
)
def test_without_classes_the_best_score_says_the_class(
    scores: Any, shape: tuple[int, ...], expected: str
) -> None:
    outputs = {"location": [[BOX] * 3], "score": np.array(scores).reshape(shape)}
    answer = found(outputs)
    assert "".join(names(answer)) == expected
    by_class = np.array(scores)
    best = by_class if by_class.ndim == 1 else by_class.max(axis=0 if shape[1] == 2 else 1)
    assert [one.confidence for one in answer] == best.tolist()


def test_scores_by_class_need_no_classes_though_the_model_gives_more() -> None:
    outputs = {
        "boxes": [[BOX, BOX]],
        "scores": [[[0.1, 0.9], [0.8, 0.2]]],
        "class_features": np.zeros((1, 2, 7)),
        "ids": np.array([[11, 12]]),
    }
    answer = found(outputs, output_names={"location": "boxes", "score": "scores"})
    assert [(one.class_name, one.confidence) for one in answer] == [("1", 0.9), ("0", 0.8)]


def test_rows_past_the_count_and_rows_of_nan_are_left_out() -> None:
    outputs = {
        "location": [[BOX, [math.nan] * 4, BOX, BOX, BOX]],
        "category": [[0.0, 1.0, math.nan, 3.0, 4.0]],
        "score": [[0.9, 0.8, 0.7, 0.6, 0.5]],
        "num_detections": [4.0],
    }
    assert names(found(outputs)) == ["0", "3"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({}, ["Cat", "dog", "eel"], id="no filter"),
        pytest.param({"minimum_confidence": 0.5}, ["dog", "eel"], id="minimum, itself included"),
        pytest.param({"label_confidences": {"cat": 0.1, "eel": 0.8}}, ["Cat"], id="labels"),
        pytest.param(
            {"label_confidences": {"cat": 0.0}, "minimum_confidence": 0.9},
            ["Cat"],
            id="labels replace the minimum",
        ),
    ],
)
def test_boxes_are_filtered(config: dict[str, Any], expected: list[str]) -> None:
    outputs = {
        "location": [[BOX] * 3],
        "category": [[0.0, 1.0, 2.0]],
        "score": [[0.25, 0.5, 0.75]],
    }
    assert names(found(outputs, ("Cat", "dog", "eel"), **config)) == expected


def test_quantised_scores_are_real_ones_first() -> None:
    signature = Signature(
        (),
        (
            Tensor("location", "FP32", (1, 1, 4)),
            Tensor("score", "UINT8", (1, 1), quantization=Quantization((0.25,), (1,))),
        ),
    )
    outputs = {"location": [[BOX]], "score": np.array([[3]], np.uint8)}
    assert found(outputs, signature=signature)[0].confidence == 0.5


# Which output is which

CLASSES, SCORES = [[3.0, 5.0]], [[0.75, 0.5]]


@pytest.mark.parametrize(
    ("outputs", "mapped"),
    [
        pytest.param(
            {"location": [[BOX, BOX]], "category": CLASSES, "score": SCORES}, {}, id="called so"
        ),
        pytest.param(
            {"a": SCORES, "b": [[BOX, BOX]], "c": CLASSES},
            {"score": "a", "location": "b", "category": "c"},
            id="mapped",
        ),
        pytest.param(
            {"score": CLASSES, "location": [[BOX, BOX]], "category": SCORES},
            {"score": "category", "category": "score"},
            id="mapped crosswise",
        ),
        pytest.param(
            {"a": SCORES, "b": [[BOX, BOX]], "c": CLASSES}, {"score": "a"}, id="partly mapped"
        ),
        pytest.param({"n": [2.0], "s": SCORES, "c": CLASSES, "b": [[BOX, BOX]]}, {}, id="by shape"),
        pytest.param(
            {"s": [[1.0, 0.0]], "c": np.array([[3, 5]]), "b": [[BOX, BOX]]},
            {},
            id="by datatype, whole scores",
        ),
        pytest.param(
            {
                "PostProcess": [[BOX, BOX]],
                "PostProcess:1": [[3.0, 5.0]],
                "PostProcess:2": [[0.0, 0.0]],
                "PostProcess:3": [2.0],
            },
            {},
            id="TFLite's order, all whole",
        ),
    ],
)
def test_outputs_are_told_apart_the_same_way_every_time(
    outputs: dict[str, Any], mapped: dict[str, str]
) -> None:
    signature = Signature((), tuple(Tensor(name, "FP32", None) for name in outputs))
    for shuffled in permutations(outputs.items()):
        answer = found(dict(shuffled), signature=signature, output_names=mapped)
        assert names(answer) == ["3", "5"]


def test_location_and_score_alone_need_no_mapping() -> None:
    (one,) = found({"score": [[0.5]], "location": [[BOX]]})
    assert (one.class_name, one.confidence) == ("0", 0.5)


@pytest.mark.parametrize(
    ("outputs", "mapped", "error", "says"),
    [
        pytest.param(
            {"location": [[BOX]], "score": [[0.5]]},
            {"location": "boxes"},
            TensorNameError,
            "could not find the output tensor 'boxes', mapped to 'location', "
            "among [location, score]",
            id="mapped to nothing",
        ),
        pytest.param(
            {"probability": [[0.5, 0.1, 0.4]]},
            {},
            SignatureError,
            "no output holds boxes",
            id="none",
        ),
        pytest.param(
            {"location": [[BOX]]}, {}, SignatureError, "no output holds the scores", id="no scores"
        ),
        pytest.param(
            {"location": [[BOX]], "category": [[0.0, 1.0]], "score": [[0.5, 0.5]]},
            {},
            ShapeError,
            "output tensor sizes did not match each other as expected. "
            "score: 2, category: 2, location: 4",
            id="too few boxes",
        ),
        pytest.param(
            {
                "location": [[BOX]],
                "category": np.array([[b"cat"]], object),
                "score": [[0.5]],
            },
            {},
            DatatypeError,
            "output 'category' holds no numbers",
            id="classes that are text",
        ),
    ],
)
def test_outputs_that_make_no_detector_are_told(
    outputs: dict[str, Any], mapped: dict[str, str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        found(outputs, output_names=mapped)
