"""Signatures: what a person says about a model's tensors, and what a request may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import (
    DATATYPES,
    FOREIGN_DATATYPES,
    Normalization,
    Quantization,
    Signature,
    Tensor,
    check_inputs,
    describe,
)
from nbmodel.errors import (
    DatatypeError,
    ManifestError,
    ShapeError,
    SignatureError,
    TensorNameError,
)

CATS = ("cat", "dog")


def outputs(*tensors: Tensor) -> Signature:
    return Signature(outputs=tensors)


# -- tensors


def test_a_tensor_of_an_unknown_datatype_is_refused() -> None:
    with pytest.raises(DatatypeError, match="unknown datatype 'float32' for tensor 'x'"):
        Tensor("x", "float32", (1,))


def test_a_tensor_of_a_negative_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"negative dimension in shape \(-2,\) of tensor 'x'"):
        Tensor("x", "FP32", (-2,))


@pytest.mark.parametrize(
    ("mine", "theirs", "fits"),
    [
        pytest.param((1, 2), (1, 2), True, id="the same"),
        pytest.param((-1, 2), (7, 2), True, id="a variable dimension fits any"),
        pytest.param((-1, 2), (7, 3), False, id="a fixed dimension does not"),
        pytest.param((1, 2), (1, 2, 1), False, id="another rank does not fit"),
        pytest.param((), (), True, id="a scalar fits a scalar"),
        pytest.param((), (1,), False, id="a vector of one is no scalar"),
        pytest.param(None, (5, 5, 5), True, id="anything fits an unknown rank"),
        pytest.param((0, 3), (0, 3), True, id="nothing fits nothing"),
        pytest.param((0, 3), (1, 3), False, id="0 is a fixed dimension"),
    ],
)
def test_shapes_that_fit(mine: tuple[int, ...] | None, theirs: tuple[int, ...], fits: bool) -> None:
    assert Tensor("x", "FP32", mine).fits(theirs) is fits


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor("x", "FP32", (-1, 64)), "x FP32[-1,64]"),
        (Tensor("n", "INT64", ()), "n INT64[]"),
        (Tensor("y", "SEQUENCE", None), "y SEQUENCE[?]"),
    ],
)
def test_a_tensor_in_one_word(tensor: Tensor, text: str) -> None:
    assert describe(tensor) == text


# -- JSON

_NUMBERS = st.lists(st.floats(allow_nan=False, width=32), max_size=3).map(tuple)
_TENSORS = st.builds(
    Tensor,
    name=st.text(max_size=5),
    datatype=st.sampled_from([*DATATYPES, *sorted(FOREIGN_DATATYPES)]),
    shape=st.none() | st.lists(st.integers(-1, 9), max_size=4).map(tuple),
    description=st.text(max_size=5),
    labels=st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple),
    label_kind=st.sampled_from(["axis", "value"]),
    profile=st.sampled_from(["", "image"]),
    quantization=st.none()
    | st.builds(
        Quantization,
        scale=_NUMBERS,
        zero_point=st.lists(st.integers(), max_size=3).map(tuple),
        axis=st.none() | st.integers(0, 3),
    ),
    normalization=st.none() | st.builds(Normalization, mean=_NUMBERS, std=_NUMBERS),
    score_threshold=st.none() | st.floats(0, 1),
)


@given(st.lists(_TENSORS, max_size=3), st.lists(_TENSORS, max_size=3))
def test_a_signature_comes_back_from_json(inputs: list[Tensor], outputs: list[Tensor]) -> None:
    import json

    signature = Signature(tuple(inputs), tuple(outputs))
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"inputs": [{"datatype": "FP32"}]}, id="a tensor without a name"),
        pytest.param({"inputs": [{"name": "x"}]}, id="a tensor without a datatype"),
        pytest.param({"inputs": ["x"]}, id="a tensor that is a text"),
        pytest.param({"inputs": 3}, id="inputs that are a number"),
        pytest.param({"inputs": [{"name": "x", "datatype": "FP32", "shape": ["a"]}]}, id="a shape of letters"),
        pytest.param({"inputs": [{"name": "x", "datatype": "FP32", "shape": [float("inf")]}]}, id="a shape without end"),
        pytest.param({"inputs": [{"name": "x", "datatype": "FP32", "quantization": {}}]}, id="quantisation without a scale"),
    ],
)  # fmt: skip
def test_malformed_json_is_a_manifest_error(data: Any) -> None:
    with pytest.raises(ManifestError, match="malformed"):
        Signature.from_json(data)


# -- labels

AXIS = Tensor("p", "FP32", (1, 2))
OTHER = Tensor("features", "FP32", (1, 512))
CLASS = Tensor("classes", "FP32", (1, 10))
INDEX = Tensor("output", "INT64", (1,))


@pytest.mark.parametrize(
    ("tensors", "chosen", "kind"),
    [
        pytest.param((OTHER, AXIS), 1, "axis", id="the output whose last axis is as long as the list"),
        pytest.param((OTHER, replace(OTHER, name="x", labels=("a",), label_kind="value")), 1, "value", id="an output that has labels already"),
        pytest.param((AXIS, replace(OTHER, labels=("a",))), 1, "axis", id="labels there win over a length that fits"),
        pytest.param((OTHER, CLASS), 1, "value", id="an output named like a class"),
        pytest.param((OTHER, INDEX), 1, "value", id="an output of whole numbers"),
        pytest.param((INDEX,), 0, "axis", id="the only output"),
        pytest.param((OTHER, Tensor("more", "FP32", None)), 0, "axis", id="the first, if nothing tells"),
    ],
)  # fmt: skip
def test_labels_go_to_the_output_whose_classes_they_name(
    tensors: tuple[Tensor, ...], chosen: int, kind: str
) -> None:
    labelled = outputs(*tensors).with_labels(CATS)
    assert labelled.labels == CATS
    assert (labelled.outputs[chosen].labels, labelled.outputs[chosen].label_kind) == (CATS, kind)
    unchanged = [i for i in range(len(tensors)) if i != chosen]
    assert [labelled.outputs[i] for i in unchanged] == [tensors[i] for i in unchanged]


def test_a_single_label_does_not_go_to_an_axis_of_one() -> None:
    count = Tensor("count", "FP32", (1,))
    labelled = outputs(count, replace(CLASS, name="category")).with_labels(["person"])
    assert labelled.outputs[1].labels == ("person",)


def test_a_model_without_outputs_has_no_labels() -> None:
    assert Signature().with_labels(CATS) == Signature()
    assert Signature().labels == ()


# -- a signature given by hand

READ = Signature(
    inputs=(Tensor("x", "FP32", (-1, 3)), Tensor("k", "INT64", (), description="read")),
    outputs=(Tensor("y", "FP32", None, labels=CATS, score_threshold=0.0),),
)


def test_what_is_given_goes_on_top() -> None:
    given = Signature(
        inputs=(Tensor("x", "FP32", (8, 3), description="given", profile="numerical"),),
        outputs=(Tensor("y", "FP32", (1, 2), labels=("a", "b"), label_kind="value"),),
    )
    assert READ.overridden_by(given) == Signature(
        inputs=(given.inputs[0], READ.inputs[1]),
        outputs=(replace(given.outputs[0], score_threshold=0.0),),
    )


def test_what_is_not_given_stays() -> None:
    assert READ.overridden_by(Signature()) == READ
    bare = Signature(
        inputs=tuple(Tensor(t.name, t.datatype, None) for t in READ.inputs),
        outputs=(Tensor("y", "FP32", None),),
    )
    assert READ.overridden_by(bare) == READ


def test_the_order_is_the_models() -> None:
    given = Signature(inputs=tuple(reversed(READ.inputs)))
    assert READ.overridden_by(given).inputs == READ.inputs


def test_an_unknown_datatype_may_be_told() -> None:
    read = outputs(Tensor("y", "UNKNOWN", None))
    given = outputs(Tensor("y", "INT8", (4,)))
    assert read.overridden_by(given) == given


@pytest.mark.parametrize(
    ("given", "error", "problem"),
    [
        pytest.param(Signature(inputs=(Tensor("z", "FP32", None),)), TensorNameError, "the given signature has input 'z', the model has 'x', 'k'", id="an input the model does not have"),
        pytest.param(outputs(Tensor("x", "FP32", None)), TensorNameError, "the given signature has output 'x', the model has 'y'", id="an input given as output"),
        pytest.param(Signature(inputs=(Tensor("x", "FP64", None),)), DatatypeError, "input 'x' is FP32 in the model, FP64 in the given", id="another datatype"),
        pytest.param(Signature(inputs=(Tensor("x", "FP32", (-1, 4)),)), ShapeError, r"input 'x' has shape \(-1, 3\) in the model, \(-1, 4\)", id="another dimension"),
        pytest.param(Signature(inputs=(Tensor("x", "FP32", (3,)),)), ShapeError, "input 'x' has shape", id="another rank"),
        pytest.param(Signature(inputs=(Tensor("x", "FP32", (-1, -1)),)), ShapeError, "input 'x' has shape", id="a fixed dimension made variable"),
    ],
)  # fmt: skip
def test_a_contradiction_names_the_tensor(
    given: Signature, error: type[SignatureError], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        READ.overridden_by(given)


# -- requests

X, K = ("FP32", (5, 3)), ("INT64", ())


@pytest.mark.parametrize(
    ("given", "error", "problem"),
    [
        pytest.param({"x": X, "k": K}, None, "", id="everything as it should be"),
        pytest.param({"k": K, "x": X}, None, "", id="in any order"),
        pytest.param({"x": X}, TensorNameError, "missing input 'k'", id="an input too few"),
        pytest.param({"x": X, "k": K, "z": K}, TensorNameError, "unexpected input 'z'", id="an input too many"),
        pytest.param({"x": ("FP64", (5, 3)), "k": K}, DatatypeError, "input 'x' is FP32, found FP64", id="a wrong datatype"),
        pytest.param({"x": ("FP32", (5, 4)), "k": K}, ShapeError, r"input 'x' has shape \[-1, 3\], found \[5, 4\]", id="a wrong dimension"),
        pytest.param({"x": X, "k": ("INT64", (1,))}, ShapeError, r"input 'k' has shape \[\], found \[1\]", id="a vector for a scalar"),
        pytest.param({"x": ("FP64", (5,)), "k": K}, DatatypeError, r"is FP32, found FP64; input 'x' has shape \[-1, 3\], found \[5\]", id="all that is wrong is told"),
        pytest.param({}, TensorNameError, "missing input 'x'; missing input 'k'", id="nothing at all"),
    ],
)  # fmt: skip
def test_requests_are_checked(
    given: dict[str, tuple[str, tuple[int, ...]]], error: type[SignatureError] | None, problem: str
) -> None:
    if error is None:
        check_inputs(READ, given)
        return
    with pytest.raises(error, match=problem) as caught:
        check_inputs(READ, given)
    assert caught.value.hint == "the model takes x FP32[-1,3], k INT64[]"


def test_names_of_columns_are_the_only_input_s() -> None:
    rows = Tensor("x", "FP32", (-1, 2))
    scores = Tensor("y", "FP32", (-1, 2))
    named = Signature((rows,), (scores,)).with_columns(["a", "b"])
    assert named.inputs[0].labels == ("a", "b")
    assert named.labels == ()  # those of classes
    assert Signature.from_json(named.to_json()) == named
    assert model_type_of(named) is None
    for other in (Signature((rows, rows)), Signature((Tensor("x", "FP32", None),))):
        assert other.with_columns(["a", "b"]) == other
    assert Signature((rows,)).with_columns(["a"]) == Signature((rows,))
