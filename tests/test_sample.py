from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nbmodel.core.signature import (
    DATATYPES,
    PROFILES,
    Normalization,
    Signature,
    Tensor,
    check_inputs,
)
from nbmodel.errors import InputError, ShapeError, TensorNameError
from nbmodel.protocol.tensor import datatype_of
from nbmodel.sample import sample_inputs


@pytest.mark.parametrize("datatype", DATATYPES)
def test_what_is_made_up_fits_the_signature(datatype: str) -> None:
    signature = Signature((Tensor("a", datatype, (-1, 3)), Tensor("b", datatype, ())))
    found = sample_inputs(signature)
    given = {name: (datatype_of(array, what=name), array.shape) for name, array in found.items()}
    check_inputs(signature, given)
    assert found["a"].shape == (1, 3)
    again = sample_inputs(signature)
    assert all(again[name].tolist() == array.tolist() for name, array in found.items())


def test_pixels_are_bytes_and_words_are_in_every_table() -> None:
    found = sample_inputs(
        Signature((Tensor("image", "UINT8", (1, 64, 64, 3)), Tensor("ids", "INT64", (-1, 128))))
    )
    assert 100 < found["image"].max() < 128
    assert set(np.unique(found["ids"])) == {0, 1}


def test_variable_dimensions_are_what_is_asked_for() -> None:
    signature = Signature((Tensor("x", "FP32", (-1, 3, -1, -1)), Tensor("n", "INT64", (-1,))))
    found = sample_inputs(signature, rows=2, dimension=32)
    assert found["x"].shape == (2, 3, 32, 32)
    assert found["n"].shape == (2,)
    assert 0 <= found["x"].min() < found["x"].max() <= 1


def test_text_is_digits() -> None:
    found = sample_inputs(Signature((Tensor("words", "BYTES", (50,)),)))
    assert set(found["words"]) == {b"0", b"1"}


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(Tensor("x", "FP32", None), id="an unknown rank"),
        pytest.param(Tensor("x", "COMPLEX64", (1,)), id="a datatype that nothing carries"),
        pytest.param(Tensor("x", "FP32", (10**6, 10**6)), id="a tensor beyond memory"),
    ],
)
def test_what_cannot_be_made_up_is_asked_for(tensor: Tensor) -> None:
    with pytest.raises(InputError, match=r"(input|for) x ") as caught:
        sample_inputs(Signature((tensor,)))
    assert caught.value.hint


def made(tensor: Tensor, **given_: Any) -> NDArray[Any]:
    return sample_inputs(Signature((tensor,)), **given_)[tensor.name]


TENSORS = st.builds(
    Tensor,
    st.just("x"),
    st.sampled_from(list(DATATYPES)),
    st.lists(st.integers(-1, 4), max_size=4).map(tuple),
    labels=st.sampled_from([(), ("a", "b"), ("1", "300", "-5"), ("1.5",), ("",)]),
    label_kind=st.sampled_from(["axis", "value"]),
    profile=st.sampled_from(PROFILES),
    normalization=st.none()
    | st.sampled_from([Normalization((127.5,), (127.5,)), Normalization((1, 2, 3), (4, 5, 6))]),
)


@given(TENSORS, st.integers(0, 2**32), st.integers(1, 3))
def test_whatever_is_said_of_a_tensor_what_is_made_up_fits_it(
    tensor: Tensor, seed: int, rows: int
) -> None:
    array = made(tensor, seed=seed, rows=rows)
    check_inputs(Signature((tensor,)), {"x": (datatype_of(array, what="x"), array.shape)})
    assert array.tolist() == made(tensor, seed=seed, rows=rows).tolist()


def test_another_seed_makes_other_inputs() -> None:
    tensor = Tensor("x", "FP32", (4,))
    assert made(tensor, seed=1).tolist() != made(tensor, seed=2).tolist()


NORMAL = Normalization((127.5,), (127.5,))


@pytest.mark.parametrize(
    ("datatype", "normalization", "low", "high"),
    [
        pytest.param("UINT8", None, 0, 255, id="bytes"),
        pytest.param("INT8", None, -128, 127, id="signed bytes"),
        pytest.param("INT32", None, 0, 255, id="wide integers"),
        pytest.param("FP32", None, 0, 1, id="fractions"),
        pytest.param("FP32", NORMAL, -1, 1, id="normalised"),
        pytest.param("FP16", NORMAL, -1, 1, id="normalised in 16 bits"),
    ],
)
def test_a_picture_has_pixels_as_the_model_takes_them(
    datatype: str, normalization: Normalization | None, low: float, high: float
) -> None:
    tensor = Tensor("x", datatype, (1, 64, 64, 3), profile="image", normalization=normalization)
    array = made(tensor)
    # Of 12,288 pixels one is at either end of 0..255 but for a chance of 1e-21.
    assert (array.min(), array.max()) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (1, 3, 32, 32)], ids=["last", "first"])
def test_each_channel_is_normalised_as_its_own(shape: tuple[int, ...]) -> None:
    normal = Normalization((0, 255, 510), (255, 255, 255))
    array = made(Tensor("x", "FP32", shape, profile="image", normalization=normal))
    axis = shape.index(3)
    others = tuple(one for one in range(4) if one != axis)
    assert np.all(array.min(axis=others).round() == [0, -1, -2])
    assert np.all(array.max(axis=others).round() == [1, 0, -1])


@pytest.mark.parametrize(
    ("datatype", "labels", "expected"),
    [
        pytest.param("BYTES", ("red", "blau"), {b"red", b"blau"}, id="text"),
        pytest.param("INT64", ("3", "7"), {3, 7}, id="numbers"),
        pytest.param("INT64", ("red", "blue"), {0, 1}, id="places"),
        pytest.param("UINT8", ("3", "700"), {3}, id="what the datatype holds"),
        pytest.param("FP32", ("0.5", "2"), {0.5, 2.0}, id="fractions"),
    ],
)
def test_a_category_is_one_of_those_known(
    datatype: str, labels: tuple[str, ...], expected: set[Any]
) -> None:
    tensor = Tensor("x", datatype, (64,), labels=labels, label_kind="value", profile="categorical")
    assert set(made(tensor).tolist()) == expected


def test_names_of_columns_are_no_categories() -> None:
    array = made(Tensor("x", "FP32", (8, 2), labels=("p", "q")))
    assert len(set(array.ravel().tolist())) == 16


def test_text_has_words() -> None:
    assert all(b" " in one for one in made(Tensor("x", "BYTES", (9,), profile="text")))


def test_a_shape_that_is_given_prevails() -> None:
    assert made(Tensor("x", "FP32", (-1, 3, -1)), shapes={"x": (2, 3, 5)}).shape == (2, 3, 5)
    assert made(Tensor("x", "FP32", None), shapes={"x": (4,)}).shape == (4,)


@pytest.mark.parametrize(
    ("shapes", "error", "problem"),
    [
        pytest.param({"z": (1,)}, TensorNameError, r"no input 'z' .* takes x FP32\[-1,3\]", id="a name"),
        pytest.param({"x": (1, 4)}, ShapeError, r"of x FP32\[-1,3\], found \[1, 4\]", id="a dimension"),
        pytest.param({"x": (3,)}, ShapeError, r"found \[3\]", id="a rank"),
        pytest.param({"x": (-1, 3)}, ShapeError, r"found \[-1, 3\]", id="a variable dimension"),
        pytest.param({"x": (10**9, 3)}, InputError, "too large", id="a size"),
    ],
)  # fmt: skip
def test_a_shape_that_the_model_does_not_take_is_refused(
    shapes: dict[str, tuple[int, ...]], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        made(Tensor("x", "FP32", (-1, 3)), shapes=shapes)
