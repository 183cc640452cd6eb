"""TFLite metadata: everything a signature has a place for gets there, the rest is kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.signature import Normalization
from nbmodel.errors import FormatError
from nbmodel.formats.base import ModelFacts
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.tflite import Tflite

Write = Callable[..., bytes]
IMAGE: Any = {0: ("i", [1, 4, 4, 3]), 1: ("b", 3), 3: "input"}
SCORES: Any = {0: ("i", [1, 2]), 1: ("b", 0), 3: "Identity"}
NORMALIZATION, CALIBRATION, THRESHOLD = 1, 2, 3


def annotated(
    write: Write, *, image: Any = None, scores: Any = None, graph: Any = None, model: Any = None, files: Any = None
) -> ModelFacts:  # fmt: skip
    """The facts of an image classifier with this said about its tensors."""
    notes = {2: [image or {}], 3: [scores or {}]} | (graph or {})
    metadata = {3: [notes]} | (model or {})
    content = write([IMAGE, SCORES], [0], [1], metadata=metadata, files=files)
    return Tflite()._read(ByteSource(io.BytesIO(content), len(content)))


def unit(kind: int, options: Any) -> Any:
    return {4: [{0: ("B", kind), 1: options}]}


def test_the_model_itself(tflite: Write) -> None:
    facts = annotated(
        tflite,
        model={0: "Cats", 1: "Finds cats.", 2: "v2", 4: "me", 5: "Apache-2.0", 7: "1.5.0"},
    )
    assert facts.description == "Finds cats."
    assert facts.metadata == {
        "name": "Cats",
        "version": "v2",
        "author": "me",
        "license": "Apache-2.0",
        "min_parser_version": "1.5.0",
    }


@pytest.mark.parametrize(
    ("name", "description", "expected"),
    [
        pytest.param("image", "A photo.", "image: A photo.", id="another name goes before it"),
        pytest.param("input", "A photo.", "A photo.", id="the engine's name is not repeated"),
        pytest.param("", "A photo.", "A photo.", id="a description alone"),
        pytest.param("image", "", "image", id="a name alone"),
    ],
)
def test_descriptions(tflite: Write, name: str, description: str, expected: str) -> None:
    facts = annotated(tflite, image={0: name, 1: description})
    tensor = facts.signature.inputs[0]
    assert (tensor.name, tensor.description) == ("input", expected)


@pytest.mark.parametrize(
    ("content", "profile", "extra"),
    [
        pytest.param({0: ("B", 1), 1: {}}, "", {}, id="a feature"),
        pytest.param({0: ("B", 2), 1: {0: ("b", 2)}}, "image", {"color_space": "grayscale"}, id="an image"),
        pytest.param(
            {0: ("B", 3), 1: {0: ("I", [1, 0, 3, 2]), 1: ("b", 1), 2: ("b", 1)}}, "boxes",
            {"box_order": [1, 0, 3, 2], "box_type": "boundaries", "coordinates": "pixel"}, id="boxes",
        ),
        pytest.param({0: ("B", 4), 1: {0: ("I", 16000), 1: ("I", 1)}}, "audio", {"sample_rate": 16000, "channels": 1}, id="audio"),
        pytest.param({0: ("B", 99), 1: {}}, "", {}, id="something from a later schema"),
    ],
)  # fmt: skip
def test_contents(tflite: Write, content: Any, profile: str, extra: dict[str, Any]) -> None:
    facts = annotated(tflite, image={3: content})
    assert facts.signature.inputs[0].profile == profile
    assert facts.metadata.get("tensors", {}).get("input", {}) == extra


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ([127.5], [127.5], Normalization((127.5,), (127.5,))),
        ([1.0, 2.0, 3.0], [4.0], Normalization((1.0, 2.0, 3.0), (4.0, 4.0, 4.0))),
        ([0.0], [1.0, 2.0], Normalization((0.0, 0.0), (1.0, 2.0))),
        ([], [], None),
    ],
)
def test_normalization(
    tflite: Write, mean: list[float], std: list[float], expected: Normalization | None
) -> None:
    facts = annotated(tflite, image=unit(NORMALIZATION, {0: ("f", mean), 1: ("f", std)}))
    assert facts.signature.inputs[0].normalization == expected


@pytest.mark.parametrize(
    ("mean", "std"),
    [([1.0], [0.0]), ([1.0, 2.0], [1.0, 2.0, 3.0]), ([float("nan")], [1.0]), ([1.0], [float("inf")]), ([1.0], [])],
)  # fmt: skip
def test_a_normalization_that_cannot_be_is_an_error(
    tflite: Write, mean: list[float], std: list[float]
) -> None:
    with pytest.raises(FormatError, match=r"input_tensor_metadata\[0\].process_units\[0\].options"):
        annotated(tflite, image=unit(NORMALIZATION, {0: ("f", mean), 1: ("f", std)}))


def test_score_threshold(tflite: Write) -> None:
    facts = annotated(tflite, scores=unit(THRESHOLD, {0: ("f", 0.25)}))
    assert facts.signature.outputs[0].score_threshold == 0.25
    with pytest.raises(FormatError, match="global_score_threshold is nan"):
        annotated(tflite, scores=unit(THRESHOLD, {0: ("f", float("nan"))}))


def test_process_units_without_a_place_are_passed_over(tflite: Write) -> None:
    facts = annotated(tflite, scores=unit(CALIBRATION, {1: ("f", 0.5)}))
    assert facts.signature.outputs[0].score_threshold is None


@pytest.mark.parametrize(("kind", "label_kind"), [(2, "axis"), (3, "value")])
def test_labels(tflite: Write, kind: int, label_kind: str) -> None:
    files = [{0: "readme.md", 2: ("b", 1)}, {0: "labels.txt", 2: ("b", kind)}, {0: "de.txt", 2: ("b", kind)}]  # fmt: skip
    facts = annotated(
        tflite,
        scores={6: files},
        files={"readme.md": b"no labels", "labels.txt": b"cat\ndog\n", "de.txt": b"Katze\nHund\n"},
    )
    (scores,) = facts.signature.outputs
    assert (scores.labels, scores.label_kind) == (("cat", "dog"), label_kind)
    assert facts.model_type == ("classification" if label_kind == "axis" else None)


def test_labels_that_are_not_in_the_file_are_told(tflite: Write) -> None:
    facts = annotated(tflite, scores={6: [{0: "labels.txt", 2: ("b", 2)}]})
    assert facts.signature.outputs[0].labels == ()
    assert facts.metadata["problems"] == [
        "'labels.txt', the labels of 'Identity', is not in the file"
    ]


def test_labels_that_are_no_text_are_an_error(tflite: Write) -> None:
    with pytest.raises(FormatError, match=r"'labels.txt' behind the model: .* found 0xff"):
        annotated(
            tflite, scores={6: [{0: "labels.txt", 2: ("b", 2)}]}, files={"labels.txt": b"\xff\xff?"}
        )


def test_names_groups_dimensions_and_ranges_are_kept(tflite: Write) -> None:
    facts = annotated(
        tflite,
        scores={0: "score", 2: ["batch", "class"], 5: {0: ("f", [1.0]), 1: ("f", [0.0])}},
        graph={8: [{0: "detection result", 1: ["score", "box"]}]},
    )
    assert facts.metadata == {
        "output_groups": [{"name": "detection result", "tensors": ["score", "box"]}],
        "tensors": {
            "Identity": {
                "name": "score",
                "dimensions": ["batch", "class"],
                "max": [1.0],
                "min": [0.0],
            }
        },
    }


def test_metadata_about_other_tensors_is_left_out_and_told(tflite: Write) -> None:
    facts = annotated(tflite, graph={3: [{0: "one"}, {0: "two"}]})
    assert facts.signature.outputs[0].description == ""
    assert facts.metadata["problems"] == [
        "the metadata describes 2 outputs, the model has 1; what it says about them is left out"
    ]


def test_metadata_of_another_schema_is_an_error(flatbuffer: Write, tflite: Write) -> None:
    buffers = [{}, {0: flatbuffer({0: "name"}, b"M999")}]
    content = tflite(
        [IMAGE, SCORES], [0], [1], model={4: buffers, 6: [{0: "TFLITE_METADATA", 1: ("I", 1)}]}
    )
    with pytest.raises(FormatError, match="TFLITE_METADATA: expected b'M001' at offset"):
        Tflite()._read(ByteSource(io.BytesIO(content), len(content)))


# What the files say, as flatc and unzip show it.
def test_a_real_classifier(test_models: Path) -> None:
    facts = Tflite().read(test_models / "mobilenet_v1_0.25_224_quant_with_metadata.tflite")
    (image,), (scores,) = facts.signature.inputs, facts.signature.outputs
    assert facts.model_type == "classification"
    assert facts.metadata["author"] == "TensorFlow"
    assert image.profile == "image"
    assert image.normalization == Normalization((127.5,), (127.5,))
    assert len(scores.labels) == 1001
    assert (scores.labels[0], scores.labels[1], scores.label_kind) == (
        "background",
        "tench",
        "axis",
    )


def test_a_real_detector(test_models: Path) -> None:
    facts = Tflite().read(test_models / "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite")
    assert facts.model_type == "detection"
    boxes, classes, *_ = facts.signature.outputs
    assert boxes.profile == "boxes"
    assert facts.metadata["tensors"][boxes.name]["box_order"] == [1, 0, 3, 2]
    assert (classes.labels[0], len(classes.labels), classes.label_kind) == ("person", 90, "value")
