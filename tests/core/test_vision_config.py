"""The eleven attributes of a vision service."""

from __future__ import annotations

from typing import Any

import pytest

from nbmodel.core.vision_config import ATTRIBUTES, VisionConfig

FULL = {
    "mlmodel_name": "detector",
    "remap_input_names": {"serving_default": "image"},
    "remap_output_names": {"Identity": "location", "Identity_1": "score", "n": "how many"},
    "xmin_ymin_xmax_ymax_order": [0, 1, 2, 3],
    "input_image_mean_value": [0.485, 0.456, 0.406, 9],
    "input_image_std_dev": [0.229, 0.224, 0.225],
    "input_image_bgr": True,
    "default_minimum_confidence": 1,
    "label_confidences": {"Dog": 0.8, "cat": 0},
    "label_path": "/labels.txt",
    "camera_name": "front",
}


def test_all_eleven_attributes_are_read() -> None:
    assert set(FULL) == set(ATTRIBUTES)
    assert VisionConfig.read(FULL) == (
        VisionConfig(
            model="detector",
            input_names={"image": "serving_default"},
            output_names={"location": "Identity", "score": "Identity_1"},
            box_order=(0, 1, 2, 3),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            bgr=True,
            minimum_confidence=1.0,
            label_confidences={"dog": 0.8, "cat": 0.0},
            label_path="/labels.txt",
            camera="front",
        ),
        (),
    )


def test_what_is_left_out_is_as_in_viam() -> None:
    config, problems = VisionConfig.read({"mlmodel_name": "m", "label_path": None})
    assert problems == ()
    assert (config.mean, config.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (config.box_order, config.minimum_confidence, config.bgr) == (None, 0.0, False)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        pytest.param({"mlmodel_name": ""}, "mlmodel_name cannot be empty", id="empty name"),
        pytest.param(
            {"mlmodel_name": 7}, "attribute 'mlmodel_name': expected text, found 7", id="no text"
        ),
        pytest.param(
            {"xmin_ymin_xmax_ymax_order": [0, 1, 2]},
            'attribute xmin_ymin_xmax_ymax_order for model "m" must have only 4 entries in the '
            "list. Got [0 1 2]",
            id="three edges",
        ),
        pytest.param(
            {"xmin_ymin_xmax_ymax_order": [0, 1, 2, 2]},
            'attribute xmin_ymin_xmax_ymax_order for model "m" can only have entries 0, 1, 2 and '
            "3, and only one instance of each. Got [0 1 2 2]",
            id="an edge twice",
        ),
        pytest.param(
            {"xmin_ymin_xmax_ymax_order": [False, True, 2, 3]},
            'attribute xmin_ymin_xmax_ymax_order for model "m" can only have entries 0, 1, 2 and '
            "3, and only one instance of each. Got [False True 2 3]",
            id="edges that are no numbers",
        ),
        pytest.param(
            {"input_image_mean_value": [0.5, 0.5]},
            "input_image_mean_value attribute must have at least 3 values, one for each color "
            "channel",
            id="two means",
        ),
        pytest.param(
            {"input_image_std_dev": [1]},
            "input_image_std_dev attribute must have at least 3 values, one for each color channel",
            id="one deviation",
        ),
        pytest.param(
            {"input_image_std_dev": [1, 0, 1]},
            "input_image_std_dev is not allowed to have 0 values, will cause division by 0",
            id="a deviation of 0",
        ),
        pytest.param(
            {"input_image_mean_value": [0.5, "x", 0.5]},
            "attribute 'input_image_mean_value': expected a list of numbers, found [0.5, 'x', 0.5]",
            id="a mean that is text",
        ),
        pytest.param(
            {"input_image_bgr": "yes"},
            "attribute 'input_image_bgr': expected true or false, found 'yes'",
            id="a flag that is text",
        ),
        pytest.param(
            {"default_minimum_confidence": float("nan")},
            "attribute 'default_minimum_confidence': expected a number, found nan",
            id="a confidence that is no number",
        ),
        pytest.param(
            {"label_confidences": {"Dog": 0.5, "dog": 0.6}},
            "label_confidences has label 'dog' twice, letter case apart",
            id="a label twice",
        ),
        pytest.param(
            {"remap_output_names": {"a": "score", "b": "score"}},
            "remap_output_names maps two tensors to 'score': 'a' and 'b'",
            id="two tensors for one",
        ),
        pytest.param(
            {"remap_output_names": {"a": "probabilty"}},
            "remap_output_names maps tensor 'a' to 'probabilty'; did you mean 'probability'?",
            id="a slip",
        ),
        pytest.param(
            {"remap_input_names": []},
            "attribute 'remap_input_names': expected an object, found []",
            id="no object",
        ),
        pytest.param(
            {"lable_path": "x"},
            "attribute 'lable_path' is unknown to a vision service; did you mean 'label_path'?",
            id="an unknown attribute",
        ),
    ],
)
def test_what_is_wrong_is_told(attributes: dict[str, Any], problem: str) -> None:
    assert VisionConfig.read({"mlmodel_name": "m", **attributes})[1] == (problem,)


def test_everything_wrong_is_told_at_once() -> None:
    _, problems = VisionConfig.read(
        {"input_image_std_dev": [0, 0, 0], "input_image_mean_value": [1], "camera_name": 1}
    )
    assert [problem.split()[0] for problem in problems] == [
        "input_image_mean_value",
        "attribute",
        "mlmodel_name",
        "input_image_std_dev",
    ]
