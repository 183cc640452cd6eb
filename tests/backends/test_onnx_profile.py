"""The sizes that TensorRT builds for: tables."""

from __future__ import annotations

import pytest

from nbmodel.backends.onnx_profile import Profile, Range, has_shapes, profile_of
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import InferenceError, ShapeError


def signature(**shapes):
    return Signature(
        tuple(Tensor(name=name, datatype="FP32", shape=shape) for name, shape in shapes.items())
    )


PROFILES = {
    "fixed sizes need none": (signature(x=(1, 3, 224, 224)), {}, {}),
    "rows, as many as a batch has": (
        signature(x=(-1, 3, 224, 224)),
        {},
        {
            "trt_profile_min_shapes": "x:1x3x224x224",
            "trt_profile_opt_shapes": "x:4x3x224x224",
            "trt_profile_max_shapes": "x:4x3x224x224",
        },
    ),
    "a sample tells the other sizes": (
        signature(x=(-1, 3, -1, -1)),
        {"x": (1, 3, 480, 640)},
        {
            "trt_profile_min_shapes": "x:1x3x480x640",
            "trt_profile_opt_shapes": "x:4x3x480x640",
            "trt_profile_max_shapes": "x:4x3x480x640",
        },
    ),
    "a sample of many rows": (
        signature(x=(-1, 3)),
        {"x": (9, 3)},
        {
            "trt_profile_min_shapes": "x:1x3",
            "trt_profile_opt_shapes": "x:9x3",
            "trt_profile_max_shapes": "x:9x3",
        },
    ),
    "only what varies is told": (
        signature(x=(-1, 3), size=(2,), y=(-1,)),
        {},
        {
            "trt_profile_min_shapes": "x:1x3,y:1",
            "trt_profile_opt_shapes": "x:4x3,y:4",
            "trt_profile_max_shapes": "x:4x3,y:4",
        },
    ),
    "no rank, and a sample": (
        signature(x=None),
        {"x": (1, 7)},
        {
            "trt_profile_min_shapes": "x:1x7",
            "trt_profile_opt_shapes": "x:4x7",
            "trt_profile_max_shapes": "x:4x7",
        },
    ),
    "text, which stays on the CPU": (
        Signature((Tensor(name="words", datatype="BYTES", shape=(-1, -1)),)),
        {},
        {},
    ),
}


@pytest.mark.parametrize(("model", "sample", "expected"), PROFILES.values(), ids=PROFILES)
def test_a_model_is_built_for_these_sizes(model, sample, expected):
    assert profile_of(model, sample).options() == expected


REFUSALS = {
    "another size than rows": (signature(x=(-1, -1)), {}, r"input 'x', which is \[-1, -1\]"),
    "no rank": (signature(x=None), {}, "input 'x', which has no known rank"),
    "a sample of another rank": (signature(x=(-1, -1)), {"x": (1, 2, 3)}, r"which is \[-1, -1\]"),
    "a colon in the name": (signature(**{"in:0": (-1, 3)}), {}, "a colon or a comma"),
}


@pytest.mark.parametrize(("model", "sample", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_known_is_asked_for(model, sample, words):
    with pytest.raises(InferenceError, match=words) as caught:
        profile_of(model, sample)
    assert caught.value.hint


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (4, 3)], ids=str)
def test_a_request_within_is_taken(shape):
    profile_of(signature(x=(-1, 3)), {}).check({"x": shape, "other": ()})


@pytest.mark.parametrize("shape", [(5, 3), (0, 3), (1, 4), (3,)], ids=str)
def test_a_request_outside_says_what_it_was_built_for(shape):
    with pytest.raises(ShapeError, match=r"expected \[1–4, 3\]") as caught:
        profile_of(signature(x=(-1, 3)), {}).check({"x": shape})
    assert f"input 'x' is {list(shape)}" in str(caught.value)
    assert "max_batch_size" in str(caught.value.hint)


def test_what_is_not_built_for_sizes_takes_any():
    Profile().check({"x": (1, 2, 3)})
    assert str(Range("x", (1, 2), (1, 5))) == "[1, 2–5]"


def test_sizes_may_be_given():
    assert has_shapes({"trt_profile_min_shapes": "x:1x3"})
    assert not has_shapes({"trt_fp16_enable": "True"})
