"""A classifier's scores become classes as in Viam, where Viam is right."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from nbmodel.core.signature import Quantization, Signature, Tensor
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import ShapeError, SignatureError, TensorNameError
from nbmodel.vision.viam.classifications import Classification, classifications, top

NONE = Signature()


def found(
    scores: Any,
    labels: tuple[str, ...] = (),
    signature: Signature = NONE,
    name: str = "y",
    **config: Any,
) -> list[tuple[str, float]]:
    array = np.asarray(scores)
    answer = classifications({name: array}, signature, VisionConfig("m", **config), labels)
    return [(one.class_name, one.confidence) for one in answer]


def confidences(scores: Any) -> list[float]:
    return [round(score, 6) for _, score in found(scores)]


# e^1 = 2.718282, e^2 = 7.389056, e^3 = 20.085537; their sum is 30.192875.
@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([[0.2, 0.9, 0.4]], [0.2, 0.9, 0.4], id="within 0..1 as they are"),
        pytest.param([[0.0, 1.0]], [0.0, 1.0], id="0 and 1 are within"),
        pytest.param([[1.0, 2.0, 3.0]], [0.090031, 0.244728, 0.665241], id="above 1: softmax"),
        # e^-1 = 0.367879, e^0 = 1: 0.268941 and 0.731059
        pytest.param([[-1.0, 0.0]], [0.268941, 0.731059], id="below 0: softmax"),
        pytest.param([[0.7]], [0.7], id="one within -1..1 as it is"),
        pytest.param([[-0.7]], [0.0], id="one below 0 is nothing"),
        # One over 1 + e^-2, and over 1 + e^2.
        pytest.param([[2.0]], [0.880797], id="one above 1: sigmoid"),
        pytest.param([[-2.0]], [0.119203], id="one below -1: sigmoid"),
        pytest.param([[[[0.25]], [[0.75]]]], [0.25, 0.75], id="four axes, one long"),
        pytest.param([0.25, 0.75], [0.25, 0.75], id="no batch"),
        pytest.param([[1000.0, 0.0]], [1.0, 0.0], id="large logits are no NaN"),
        pytest.param([[1.0000001, 0.0]], [1.0, 0.0], id="rounding makes no logits"),
    ],
)
def test_scores_are_read_as_probabilities_or_logits(scores: Any, expected: list[float]) -> None:
    assert confidences(scores) == expected


def test_a_class_without_a_score_is_left_out() -> None:
    assert found([[0.5, math.nan, 0.25]]) == [("0", 0.5), ("2", 0.25)]


def test_bytes_without_a_scale_are_parts_of_their_range() -> None:
    assert found(np.array([[0, 51, 255]], np.uint8)) == [("0", 0.0), ("1", 0.2), ("2", 1.0)]
    assert found(np.array([[-128, 127]], np.int8)) == [("0", 0.0), ("1", 1.0)]


def test_quantised_scores_are_real_ones_first() -> None:
    tensor = Tensor("y", "UINT8", (1, 2), quantization=Quantization((0.25,), (1,)))
    scores = np.array([[1, 3]], np.uint8)
    assert found(scores, signature=Signature((), (tensor,))) == [("0", 0.0), ("1", 0.5)]


def test_labels_name_the_classes_and_a_blank_one_keeps_its_index() -> None:
    assert found([[0.1, 0.2, 0.3]], ("cat", "", "dog")) == [("cat", 0.1), ("1", 0.2), ("dog", 0.3)]


@pytest.mark.parametrize("count", [2, 4])
def test_as_many_labels_as_scores_are_expected(count: int) -> None:
    says = re.escape(f"length of output (3) expected to be length of label list ({count})")
    with pytest.raises(SignatureError, match=says):
        found([[0.1, 0.2, 0.3]], ("a", "b", "c", "d")[:count])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({}, ["Cat", "dog", "eel"], id="no filter"),
        pytest.param({"minimum_confidence": 0.5}, ["dog", "eel"], id="minimum, itself included"),
        pytest.param({"label_confidences": {"cat": 0.1}}, ["Cat"], id="in any letter case"),
        pytest.param({"label_confidences": {"cat": 0.3, "dog": 0.5}}, ["dog"], id="label by label"),
        pytest.param(
            {"label_confidences": {"cat": 0.0}, "minimum_confidence": 0.9},
            ["Cat"],
            id="labels replace the minimum",
        ),
    ],
)
def test_classes_are_filtered(config: dict[str, Any], expected: list[str]) -> None:
    answer = found([[0.25, 0.5, 0.75]], ("Cat", "dog", "eel"), **config)
    assert [name for name, _ in answer] == expected


def test_the_mapped_output_is_taken_then_probability_then_the_only_one() -> None:
    outputs = {"probability": np.array([[0.1, 0.2]]), "other": np.array([[0.3, 0.4]])}
    mapped = VisionConfig("m", output_names={"probability": "other"})
    assert classifications(outputs, NONE, mapped, ())[0].confidence == 0.3
    assert classifications(outputs, NONE, VisionConfig("m"), ())[0].confidence == 0.1
    assert found([[0.5, 0.5]], name="whatever")[0] == ("0", 0.5)


@pytest.mark.parametrize(
    ("names", "mapped", "says"),
    [
        pytest.param(
            ["a", "b"],
            {},
            "no tensor named 'probability' among output tensors [a, b]",
            id="two outputs",
        ),
        pytest.param(
            ["a"],
            {"probability": "c"},
            "no tensor named 'c' among output tensors [a]",
            id="mapped to nothing",
        ),
    ],
)
def test_an_output_that_is_not_there_is_told(
    names: list[str], mapped: dict[str, str], says: str
) -> None:
    outputs = {name: np.zeros((1, 2)) for name in names}
    with pytest.raises(TensorNameError, match=re.escape(says)):
        classifications(outputs, NONE, VisionConfig("m", output_names=mapped), ())


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.zeros((1, 84, 8400)), id="a detector's"),
        pytest.param(np.zeros((1, 0)), id="nothing"),
        pytest.param(np.array([b"cat"], object), id="text"),
    ],
)
def test_what_is_no_list_of_scores_is_refused(array: Any) -> None:
    with pytest.raises(ShapeError, match="is no list of class probabilities"):
        found(array)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(-1, "abcd"), (0, "abcd"), (1, "b"), (3, "bdc"), (9, "bdca")],
)
def test_the_best_come_first_unless_all_are_asked_for(count: int, expected: str) -> None:
    scores = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.4}
    given = [Classification(name, score) for name, score in scores.items()]
    assert "".join(one.class_name for one in top(given, count)) == expected
