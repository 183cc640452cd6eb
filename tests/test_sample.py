from __future__ import annotations

import numpy as np
import pytest

from nbmodel.core.signature import DATATYPES, Signature, Tensor, check_inputs
from nbmodel.errors import InputError
from nbmodel.protocol.tensor import datatype_of
from nbmodel.sample import sample_inputs


@pytest.mark.parametrize("datatype", DATATYPES)
def test_what_is_made_up_fits_the_signature(datatype: str) -> None:
    signature = Signature((Tensor("a", datatype, (-1, 3)), Tensor("b", datatype, ())))
    made = sample_inputs(signature)
    given = {name: (datatype_of(array, what=name), array.shape) for name, array in made.items()}
    check_inputs(signature, given)
    assert made["a"].shape == (1, 3)
    again = sample_inputs(signature)
    assert all(again[name].tolist() == array.tolist() for name, array in made.items())


def test_pixels_are_bytes_and_words_are_in_every_table() -> None:
    made = sample_inputs(
        Signature((Tensor("image", "UINT8", (1, 64, 64, 3)), Tensor("ids", "INT64", (-1, 128))))
    )
    assert 100 < made["image"].max() < 128
    assert set(np.unique(made["ids"])) == {0, 1}


def test_variable_dimensions_are_what_is_asked_for() -> None:
    signature = Signature((Tensor("x", "FP32", (-1, 3, -1, -1)), Tensor("n", "INT64", (-1,))))
    made = sample_inputs(signature, rows=2, dimension=32)
    assert made["x"].shape == (2, 3, 32, 32)
    assert made["n"].shape == (2,)
    assert 0 <= made["x"].min() < made["x"].max() <= 1


def test_text_is_digits() -> None:
    made = sample_inputs(Signature((Tensor("words", "BYTES", (50,)),)))
    assert set(made["words"]) == {b"0", b"1"}


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
