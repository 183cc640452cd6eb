"""Class scores are found, made probabilities where they are not, and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nbmodel.core.signature import Quantization, Signature, Tensor
from nbmodel.errors import SignatureError
from nbmodel.vision.classify import Classification, class_rows, classes


def signature(*outputs: Tensor) -> Signature:
    return Signature(outputs=outputs)


def scores(name: str = "scores", **facts: Any) -> Tensor:
    return Tensor(name, "FP32", (-1, 3), **facts)


ABC = signature(scores(labels=("a", "b", "c")))


def test_probabilities_stay_as_they_are_best_first() -> None:
    found = classes({"scores": np.array([[0.2, 0.7, 0.1]])}, ABC)
    assert found == [
        Classification("b", 1, 0.7),
        Classification("a", 0, 0.2),
        Classification("c", 2, 0.1),
    ]


def test_sigmoid_scores_of_several_labels_are_not_softened() -> None:
    found = classes({"scores": np.array([[0.9, 0.8, 0.7]])}, ABC)
    assert [entry.score for entry in found] == [0.9, 0.8, 0.7]


def test_logits_get_a_softmax() -> None:
    # softmax([ln 1, ln 2, ln 5]) is [1, 2, 5] / 8.
    found = classes({"scores": np.log([[1.0, 2.0, 5.0]])}, ABC)
    assert [entry.label for entry in found] == ["c", "b", "a"]
    assert [entry.score for entry in found] == pytest.approx([5 / 8, 2 / 8, 1 / 8])


def test_huge_logits_do_not_overflow() -> None:
    assert classes({"scores": np.array([[1e30, 0.0, -1e30]])}, ABC)[0].score == 1.0


def test_one_logit_gets_a_sigmoid() -> None:
    found = classes({"y": np.array([[np.log(3.0)]])}, signature(Tensor("y", "FP32", (1, 1))))
    assert found == [Classification("0", 0, pytest.approx(0.75))]


def test_one_probability_under_two_labels_is_the_seconds() -> None:
    given_signature = signature(Tensor("y", "FP32", (1, 1), labels=("no", "yes")))
    found = classes({"y": np.array([[0.75]])}, given_signature)
    assert found == [Classification("yes", 1, 0.75), Classification("no", 0, 0.25)]


@pytest.mark.parametrize(
    ("array", "quantization"),
    [
        pytest.param(
            np.array([[0, 64, 128]], np.uint8), Quantization((1 / 256,), (0,)), id="uint8 scaled"
        ),
        pytest.param(
            np.array([[-128, -64, 0]], np.int8), Quantization((1 / 256,), (-128,)), id="int8 scaled"
        ),
    ],
)
def test_quantised_scores_are_made_real(array: np.ndarray, quantization: Quantization) -> None:
    found = classes({"scores": array}, signature(scores(quantization=quantization)))
    assert [(entry.label, entry.score) for entry in found] == [("2", 0.5), ("1", 0.25), ("0", 0.0)]


def test_bytes_without_a_scale_are_shares_of_their_range() -> None:
    found = classes({"scores": np.array([[0, 51, 255]], np.uint8)}, ABC)
    assert [entry.score for entry in found] == [1.0, 0.2, 0.0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param((), ["1", "0", "2"], id="no labels: numbers from 0"),
        pytest.param(("a",), ["1", "a", "2"], id="a list that is too short"),
        pytest.param(("a", "", "c"), ["1", "a", "c"], id="a blank entry"),
        pytest.param(("a", "b", "c", "d", "e"), ["b", "a", "c"], id="a list that is too long"),
    ],
)
def test_labels_never_fail_the_call(labels: tuple[str, ...], expected: list[str]) -> None:
    outputs = {"scores": np.array([[0.3, 0.6, 0.1]])}
    found = classes(outputs, signature(scores(labels=labels)))
    assert [entry.label for entry in found] == expected


@pytest.mark.parametrize(
    ("outputs", "given_signature"),
    [
        pytest.param(
            {"other": np.ones((1, 5)), "x": np.array([[0.1, 0.9]])},
            signature(
                Tensor("other", "FP32", (1, 5)), Tensor("x", "FP32", (1, 2), labels=("a", "b"))
            ),
            id="the labelled one",
        ),
        pytest.param(
            {"features": np.ones((1, 5)), "probability": np.array([[0.1, 0.9]])},
            Signature(),
            id="Viam's name",
        ),
        pytest.param(
            {"features": np.ones((1, 5)), "output_probability": np.array([[0.1, 0.9]])},
            Signature(),
            id="a name with prob in it",
        ),
        pytest.param({"anything": np.array([[0.1, 0.9]])}, Signature(), id="the only one"),
        pytest.param(
            {"label": np.array([1]), "scores": np.array([[0.1, 0.9]])},
            Signature(),
            id="not the predicted label",
        ),
        pytest.param({"y": np.array([[[[0.1]], [[0.9]]]])}, Signature(), id="trailing ones"),
        pytest.param({"y": np.array([0.1, 0.9])}, Signature(), id="no batch axis"),
    ],
)
def test_the_output_with_the_scores_is_found(
    outputs: dict[str, np.ndarray], given_signature: Signature
) -> None:
    best = classes(outputs, given_signature)[0]
    assert (best.index, best.score) == (1, 0.9)


def test_labels_alone_are_classes_of_score_1() -> None:
    assert class_rows({"label": np.array([1, 0])}, ABC) == [
        [Classification("b", 1, 1.0)],
        [Classification("a", 0, 1.0)],
    ]
    named = {"label": np.array([b"c", b"zebra"], object)}
    assert class_rows(named, ABC) == [
        [Classification("c", 2, 1.0)],
        [Classification("zebra", -1, 1.0)],
    ]


@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"map": np.zeros((1, 20, 20))}, id="a segmentation map"),
        pytest.param({"a": np.zeros((1, 3)), "b": np.zeros((1, 4))}, id="two that could be"),
    ],
)
def test_outputs_without_scores_are_named(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(SignatureError):
        classes(outputs, Signature())


def test_nan_scores_come_last_and_fail_nothing() -> None:
    found = classes({"scores": np.array([[np.nan, 0.5, 0.2]])}, ABC)
    assert [entry.label for entry in found] == ["b", "c", "a"]


@given(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(2, 50))
)
def test_a_batch_of_logits_is_its_rows_one_by_one(logits: np.ndarray) -> None:
    together = class_rows({"y": logits}, Signature())
    alone = [classes({"y": row[None]}, Signature()) for row in logits]
    assert together == alone
    assert all(sum(entry.score for entry in row) == pytest.approx(1) for row in together)


@given(st.permutations(range(6)))
def test_a_permutation_of_the_scores_permutes_the_indices(order: list[int]) -> None:
    values = np.array([0.05, 0.1, 0.15, 0.2, 0.22, 0.28])
    found = classes({"y": values[order][None]}, Signature())
    assert [order[entry.index] for entry in found] == [5, 4, 3, 2, 1, 0]


def test_the_parrot_is_a_macaw(test_models: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    from nbmodel.core.labels import parse_labels
    from nbmodel.formats import read_model
    from nbmodel.vision.image import image_to_tensor

    model = test_models / "mobilenet_v2_1.0_224_quant.tflite"
    labels = parse_labels((test_models / "imagenet_labels.txt").read_bytes())
    facts = read_model(model).signature.with_labels(labels)
    engine = interpreter.Interpreter(str(model))
    engine.allocate_tensors()
    array = image_to_tensor(test_models / "parrot.jpg", facts.inputs[0])
    engine.set_tensor(engine.get_input_details()[0]["index"], array)
    engine.invoke()
    output = engine.get_tensor(engine.get_output_details()[0]["index"])
    best = classes({facts.outputs[0].name: output}, facts)[0]
    assert (best.index, best.label) == (89, "macaw")
    assert best.score > 0.9
