"""The table of what a model takes and gives."""

from __future__ import annotations

from nbmodel.core.signature import Signature, Tensor
from nbmodel.display.card import Card
from nbmodel.display.render_text import render_text
from nbmodel.display.tensors import signature_table


def test_an_input_has_columns_and_an_output_labels() -> None:
    signature = Signature(
        inputs=(Tensor("x", "FP32", (-1, 2), labels=("width", "height")),),
        outputs=(Tensor("p", "FP32", (-1, 3), labels=("a", "b", "c")),),
    )
    text = render_text(Card("model", blocks=[signature_table(signature)]))
    assert "2 columns" in text
    assert "3 labels" in text
