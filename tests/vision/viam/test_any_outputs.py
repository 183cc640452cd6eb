"""Whatever a model gives, the answer is boxes or classes, or a sentence that says why not."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import SignatureError
from nbmodel.vision.viam.classifications import classifications
from nbmodel.vision.viam.detections import BoxNotes, detections

_NAMES = st.sampled_from(
    ("location", "category", "score", "probability", "boxes", "classes", "count", "a", "b")
)
_DTYPES = st.sampled_from(("f4", "f8", "f2", "i8", "i4", "u1", "i1", "?", "O", "u8"))


@st.composite
def _array(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    dtype = draw(_DTYPES)
    rank = draw(st.integers(0, 4))
    shape = tuple(draw(st.sampled_from((0, 1, 2, 3, 4, 5))) for _ in range(rank))
    if dtype == "O":
        return np.full(shape, b"cat", object)
    array: np.ndarray[Any, Any] = draw(arrays.arrays(np.dtype(dtype), shape))
    return array


@pytest.mark.filterwarnings("error")
@settings(deadline=None, max_examples=150)
@given(
    outputs=st.dictionaries(_NAMES, _array(), max_size=4),
    mapped=st.dictionaries(
        st.sampled_from(("location", "score", "probability")), _NAMES, max_size=1
    ),
    labels=st.sampled_from(((), ("???", "cat"), ("cat", "", "dog"))),
    input_size=st.sampled_from(((1, 1), (10, 20))),
)
def test_no_output_breaks_the_decoding(
    outputs: dict[str, Any],
    mapped: dict[str, str],
    labels: tuple[str, ...],
    input_size: tuple[int, int],
) -> None:
    signature = Signature((), tuple(Tensor(name, "FP32", None) for name in outputs))
    config = VisionConfig("m", output_names=mapped)

    def boxes() -> None:
        for one in detections(
            outputs,
            signature,
            config,
            labels,
            notes=BoxNotes(),
            image_size=(30, 40),
            input_size=input_size,
        ):
            assert 0 <= one.x_min <= one.x_max <= 29
            assert 0 <= one.y_min <= one.y_max <= 39
            assert 0 <= one.confidence < math.inf

    def classes() -> None:
        for one in classifications(outputs, signature, config, labels):
            assert 0 <= one.confidence < math.inf

    for decode in (boxes, classes):
        _answers_or_says_why_not(decode)


def _answers_or_says_why_not(decode: Callable[[], None]) -> None:
    with suppress(SignatureError):
        decode()
