from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmodel.core.contract import TYPES, example_of, signature_of
from nbmodel.core.signature import (
    DATATYPES,
    FOREIGN_DATATYPES,
    PROFILES,
    Normalization,
    Quantization,
    Signature,
    Tensor,
)
from nbmodel.errors import InputError

X = Tensor("x", "FP32", (-1, 4))
LABELLED = Tensor("y", "INT64", (-1,), "which it is", ("no", "yes"), "value", "categorical")

SPELLINGS: dict[str, tuple[object, Signature]] = {
    "a text": ({"inputs": {"x": "float32[-1,4]"}}, Signature((X,))),
    "spaces": ({"inputs": {"x": " FP32 [ -1, 4 ] "}}, Signature((X,))),
    "no dimension": ({"inputs": {"x": "int64[]"}}, Signature((Tensor("x", "INT64", ()),))),
    "any rank": ({"inputs": {"x": "int64[?]"}}, Signature((Tensor("x", "INT64", None),))),
    "a type alone": ({"inputs": {"x": "string"}}, Signature((Tensor("x", "BYTES", None),))),
    "dtype": ({"inputs": {"x": {"dtype": "float32", "shape": [-1, 4]}}}, Signature((X,))),
    "type": ({"inputs": {"x": {"type": "single", "shape": (-1, 4)}}}, Signature((X,))),
    "datatype": ({"inputs": {"x": {"datatype": "FP32", "shape": [-1, 4]}}}, Signature((X,))),
    "a class of Python": (
        {"inputs": {"x": {"dtype": float, "shape": "scalar"}}},
        Signature((Tensor("x", "FP64", ()),)),
    ),
    "the file's own type": (
        {"inputs": {"x": {"profile": "image"}}},
        Signature((Tensor("x", "UNKNOWN", None, profile="image"),)),
    ),
    "all of it": (
        {
            "outputs": {
                "y": {
                    "dtype": "int",
                    "shape": [-1],
                    "description": "which it is",
                    "labels": {"yes": 1, "no": 0},
                    "label_kind": "value",
                    "profile": "nominal",
                }
            }
        },
        Signature(outputs=(LABELLED,)),
    ),
    "a list": ({"inputs": [{"name": "x", "type": "float32", "shape": [-1, 4]}]}, Signature((X,))),
    "values in a list": ({"inputs": [X], "outputs": [LABELLED]}, Signature((X,), (LABELLED,))),
    "a contract": (
        {"contract": {"name": "predict", "inputs": {"x": "float32[-1,4]"}}},
        Signature((X,)),
    ),
    "a named signature": ({"infer": {"inputs": {"x": "float32[-1,4]"}}}, Signature((X,))),
    "a named one in a contract": (
        {"contract": {"tokenize": {"inputs": {"x": "float32[-1,4]"}, "outputs": None}}},
        Signature((X,)),
    ),
    "a model contract of the protocol": (
        {
            "model_name": "m",
            "predict": {
                "signature_name": "predict",
                "inputs": [
                    {"name": "x", "dtype": "DT_FLOAT", "shape": {"dims": [-1, 4]}},
                    {"name": "s", "dtype": "DT_STRING", "shape": {}, "profile": "TEXT"},
                    {"name": "d", "dtype": "DT_DOUBLE", "shape": {"dim": [{"size": -1}]}},
                    {"name": "a", "dtype": "DT_ANY", "profile": "NONE"},
                ],
            },
        },
        Signature(
            (
                X,
                Tensor("s", "BYTES", (), profile="text"),
                Tensor("d", "FP64", (-1,)),
                Tensor("a", "UNKNOWN", None),
            )
        ),
    ),
    "numeric": (
        {"inputs": {"x": {"type": "qint8", "shape": "scalar", "profile": "numeric"}}},
        Signature((Tensor("x", "INT8", (), profile="numerical"),)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_signature_can_be_spelt(said: object, expected: Signature) -> None:
    assert signature_of(said) == expected


# Names and values of the table in hydrosdk/data/types.py of hydro-serving-sdk 3.0.3.
@pytest.mark.parametrize(
    ("word", "datatype"),
    [
        ("string", "BYTES"), ("str", "BYTES"), ("bool", "BOOL"), ("half", "FP16"),
        ("single", "FP32"), ("float", "FP64"), ("double", "FP64"), ("byte", "INT8"),
        ("short", "INT16"), ("int32", "INT32"), ("int", "INT64"), ("ubyte", "UINT8"),
        ("ushort", "UINT16"), ("uint32", "UINT32"), ("quint8", "UINT8"), ("qint32", "INT32"),
        ("complex64", "COMPLEX64"), ("DT_HALF", "FP16"), ("DT_QUINT16", "UINT16"),
        ("DT_MAP", "MAP"), ("BF16", "BF16"), ("bfloat16", "BF16"), ("Float32", "FP32"),
    ],
)  # fmt: skip
def test_a_type_may_be_called_as_others_call_it(word: str, datatype: str) -> None:
    (tensor,) = signature_of({"inputs": {"x": word}}).inputs
    assert tensor.datatype == datatype


def test_every_datatype_has_its_own_name() -> None:
    for name in (*DATATYPES, *FOREIGN_DATATYPES):
        assert TYPES[name.lower()] == name


WRONG: dict[str, tuple[object, str, str]] = {
    "no mapping": ([1], r"signature: expected a mapping, found list", "float32"),
    "nothing": ({}, "expected one signature with inputs or outputs, found nothing", "such as"),
    "several": (
        {"predict": {"inputs": {}}, "train": {"inputs": {}}},
        "found predict, train",
        "one signature",
    ),
    "a misspelt side": ({"input": {"x": "int8"}}, "input: unknown key 'input'", "'inputs'"),
    "a key beside": ({"inputs": {}, "output": {}}, "output: unknown key 'output'", "'outputs'"),
    "a side of text": ({"inputs": "x"}, "inputs: expected a mapping by name, found str", ""),
    "a field without a name": ({"inputs": [{"type": "int8"}]}, "inputs.0: .*name of the tensor", ""),
    "one name twice": (
        {"inputs": [{"name": "x"}, {"name": "x"}]},
        "inputs.1: two tensors are named 'x'",
        "",
    ),
    "a name that is none": ({"inputs": {True: "int8"}}, "expected a text, found True", "quotes"),
    "an empty name": ({"inputs": {"": "int8"}}, "expected a text", ""),
    "an unknown type": ({"inputs": {"x": "flaot32"}}, "inputs.x: .*unknown type 'flaot32'", "float32"),
    "a type of nothing like it": ({"inputs": {"x": {"type": "?!"}}}, "unknown type", "for example"),
    "two types": ({"inputs": {"x": {"type": "int8", "dtype": "int8"}}}, "both type and dtype", ""),
    "no text": ({"inputs": {"x": 3}}, "inputs.x: tensor 'x': expected a text such as", ""),
    "no type at all": ({"inputs": {"x": "[1,2]"}}, r"such as float32\[-1,4\], found", ""),
    "an open bracket": ({"inputs": {"x": "int8[1,2"}}, "expected a type with a shape", ""),
    "a dimension by name": ({"inputs": {"x": "int8[batch,4]"}}, r"whole numbers, found '\[batch,4\]'", "-1"),
    "half a dimension": ({"inputs": {"x": "int8[1.5]"}}, "whole numbers", "-1"),
    "below -1": ({"inputs": {"x": "int8[-2]"}}, r"dimensions from -1 on, found \[-2\]", ""),
    "a word for a shape": (
        {"inputs": {"x": {"type": "int8", "shape": "scaler"}}},
        r"inputs.x.shape: tensor 'x': expected shape to be scalar or whole numbers, found 'scaler'",
        "-1",
    ),
    "a truth for a dimension": ({"inputs": {"x": {"shape": [True]}}}, "whole numbers", ""),
    "a number for a shape": ({"inputs": {"x": {"shape": -1}}}, "found '-1'", "list"),
    "too many dimensions": ({"inputs": {"x": {"shape": [1] * 65}}}, "65 dimensions", ""),
    "dimensions of something else": ({"inputs": {"x": {"shape": {"rank": 2}}}}, "whole numbers", ""),
    "an unknown profile": ({"inputs": {"x": {"profile": "odd"}}}, "unknown profile 'odd'", "image"),
    "an unknown key": ({"inputs": {"x": {"shap": []}}}, "inputs.x.shap: .*unknown key 'shap'", "'shape'"),
    "fields in a field": ({"inputs": {"x": {"subfields": []}}}, "field of fields", "its own"),
    "labels of text": ({"outputs": {"y": {"labels": "a"}}}, "outputs.y.labels: expected a list", ""),
    "labels of truth": ({"outputs": {"y": {"labels": [True]}}}, "labels.0: expected a text", "quotes"),
    "labels of one index": ({"outputs": {"y": {"labels": {"a": 0, "b": 0}}}}, "have one index", ""),
    "a label kind": ({"outputs": {"y": {"label_kind": "x"}}}, "expected axis or value", ""),
    "a deviation of 0": (
        {"inputs": {"x": {"normalization": {"mean": 0, "std": 0}}}},
        "normalization.std: expected deviations other than 0",
        "",
    ),
    "a mean without deviation": ({"inputs": {"x": {"normalization": {"mean": 0}}}}, "std is missing", ""),
    "more means": (
        {"inputs": {"x": {"normalization": {"mean": [1, 2], "std": [1]}}}},
        "2 means and 1 deviations",
        "",
    ),
    "a scale of 0": (
        {"inputs": {"x": {"quantization": {"scale": 0, "zero_point": 0}}}},
        "scales above 0",
        "",
    ),
    "half a zero point": (
        {"inputs": {"x": {"quantization": {"scale": 1, "zero_point": 0.5}}}},
        "whole zero points",
        "",
    ),
    "a threshold": ({"outputs": {"y": {"score_threshold": float("nan")}}}, "finite number", ""),
    "a threshold of text": ({"outputs": {"y": {"score_threshold": "1"}}}, "finite number", ""),
    "a large threshold": ({"outputs": {"y": {"score_threshold": 10**400}}}, "finite number", ""),
}  # fmt: skip


@pytest.mark.parametrize(("said", "problem", "hint"), WRONG.values(), ids=WRONG)
def test_a_wrong_signature_is_one_line_that_names_the_place(
    said: object, problem: str, hint: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        signature_of(said)
    assert str(caught.value).startswith("signature")
    assert "\n" not in str(caught.value)
    assert hint in (caught.value.hint or "")


def test_a_contract_has_a_type_for_each_tensor() -> None:
    with pytest.raises(InputError, match=r"inputs\.x: tensor 'x' has no type"):
        signature_of({"inputs": {"x": {"shape": [1]}}}, needs_types=True)


NUMBERS = st.floats(-1e6, 1e6).filter(bool)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 3))
    several = st.lists(NUMBERS, min_size=count, max_size=count)
    scales = st.lists(st.floats(1e-6, 1e6), min_size=count, max_size=count)
    zeros = st.lists(st.integers(-128, 255), min_size=count, max_size=count)
    return {
        "datatype": draw(st.sampled_from([*DATATYPES, *sorted(FOREIGN_DATATYPES)])),
        "shape": draw(st.none() | st.lists(st.integers(-1, 512), max_size=5).map(tuple)),
        "description": draw(st.just("") | TEXTS),
        **draw(
            st.sampled_from(
                [{}, {"labels": ("a", "", "c")}, {"labels": ("1",), "label_kind": "value"}]
            )
        ),
        "profile": draw(st.sampled_from(PROFILES)),
        "quantization": draw(
            st.none()
            | st.builds(
                Quantization, scales.map(tuple), zeros.map(tuple), st.none() | st.integers(0, 3)
            )
        ),
        "normalization": draw(
            st.none() | st.builds(Normalization, several.map(tuple), several.map(tuple))
        ),
        "score_threshold": draw(st.none() | NUMBERS),
    }


SIDES = st.dictionaries(TEXTS, tensors(), max_size=3).map(
    lambda side: tuple(Tensor(name, **said) for name, said in side.items())
)


@given(SIDES, SIDES)
def test_what_a_signature_writes_is_that_signature(
    inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> None:
    signature = Signature(inputs, outputs)
    assert signature_of(json.loads(json.dumps(signature.to_json()))) == signature


@given(st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(-1, 9), max_size=4))
def test_an_example_says_what_is_known_already(datatype: str, shape: list[int]) -> None:
    known = Signature((Tensor("x", datatype, tuple(shape)),))
    said = signature_of(json.loads(example_of(known, ("inputs", "outputs"))))
    assert said.inputs == known.inputs
    assert [tensor.name for tensor in said.outputs] == ["y"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "inputs",
                    "outputs",
                    "x",
                    "shape",
                    "type",
                    "labels",
                    "name",
                    "quantization",
                    "scale",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_anything_else_is_an_input_error(said: object) -> None:
    with suppress(InputError):
        assert isinstance(signature_of(said), Signature)
