"""Model types: the words people use, and what tensors tell."""

from __future__ import annotations

import pytest

from nbmodel.core.model_type import MODEL_TYPES, check_model_type, model_type_of
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InputError


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *((name, name) for name in MODEL_TYPES),
        ("Detection", "detection"),
        ("single_label_classification", "classification"),
        ("object_detection", "detection"),
        ("multi_label", "multi_label_classification"),
    ],
)
def test_words_for_a_model_type(given: str, name: str) -> None:
    assert check_model_type(given) == name


def test_another_word_is_refused() -> None:
    with pytest.raises(InputError, match="unknown model type 'detector'") as caught:
        check_model_type("detector")
    assert caught.value.hint is not None
    assert "detection" in caught.value.hint


def outputs(*shapes: tuple[int, ...] | None) -> tuple[Tensor, ...]:
    return tuple(Tensor(f"y{i}", "FP32", shape) for i, shape in enumerate(shapes))


def labelled(shape: tuple[int, ...] | None, count: int, kind: str = "axis") -> Tensor:
    names = tuple(f"label {i}" for i in range(count))
    return Tensor("y", "FP32", shape, labels=names, label_kind="value" if kind == "value" else "axis")  # fmt: skip


@pytest.mark.parametrize(
    ("tensors", "model_type"),
    [
        pytest.param(outputs((1, 10, 4), (1, 10), (1, 10), (1,)), "detection", id="boxes, classes, scores, count"),
        pytest.param(outputs((1,), (1, 10), (1, 10), (1, 10, 4)), "detection", id="the same in another order"),
        pytest.param(outputs((1, 10, 5), (1, 10), (1, 10), (1,)), None, id="boxes have four corners"),
        pytest.param(outputs((1, 10, 4), (1, 10), (1, 10)), None, id="three outputs may be anything"),
        pytest.param(outputs(None, None, None, None), None, id="unknown shapes tell nothing"),
        pytest.param((labelled((1, 3), 3),), "classification", id="a score for each label"),
        pytest.param((labelled((3,), 3),), "classification", id="the same without a batch"),
        pytest.param((labelled((-1, 3), 3), *outputs((1,))), "classification", id="beside another output"),
        pytest.param((labelled((1, 4), 3),), None, id="another number of scores"),
        pytest.param((labelled((1, 3), 3, "value"),), None, id="labels of values"),
        pytest.param((labelled((1, 9, 9, 3), 3),), None, id="scores for every pixel"),
        pytest.param((labelled(None, 3),), None, id="labels of who knows what"),
        pytest.param((labelled((1, 3), 3), labelled((1, 3), 3)), None, id="two labelled outputs"),
        pytest.param(outputs((1, 3)), None, id="numbers without labels"),
        pytest.param((), None, id="no outputs"),
    ],
)  # fmt: skip
def test_what_tensors_tell(tensors: tuple[Tensor, ...], model_type: str | None) -> None:
    assert model_type_of(Signature(outputs=tensors)) == model_type
