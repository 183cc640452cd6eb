"""What a Triton is given to remember, and what comes back from one that we do not know."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.fleet.triton_record import KEY, MAX_TEXT, Ran, Record

DIGEST = f"sha256:{'a' * 64}"
RAN = Ran("team/digits", 3, "2026-02-28T13-36-51", DIGEST)
BEFORE = Ran("team/digits", 2, "2026-02-27T13-36-51", f"sha256:{'b' * 64}")
SIGNATURE = Signature(
    (Tensor("x", "FP32", (-1, 2)),),
    (Tensor("y", "FP32", (-1, 3), labels=("zero", 'a "quoted" one', "zwölf\n")),),
)
RECORD = Record(
    RAN, "classification", SIGNATURE, "2026-03-01T00:00:00Z", {"num_threads": 2}, BEFORE
)


def parameter(text: object) -> dict[str, Any]:
    return {"parameters": {KEY: {"string_value": text}}}


def changed(**fields: object) -> dict[str, Any]:
    data = json.loads(RECORD.in_config({})["parameters"][KEY]["string_value"])
    return parameter(json.dumps({**data, **fields}))


@pytest.mark.parametrize(
    "record", [RECORD, Record(RAN, "other", SIGNATURE, "")], ids=["all", "some"]
)
def test_a_record_comes_back_from_a_configuration(record: Record) -> None:
    config = json.loads(json.dumps(record.in_config({"name": "digits"})))
    assert Record.from_config(config) == record
    assert config["name"] == "digits"


def test_parameters_of_others_stay_beside_it() -> None:
    threads = {"intra_op_thread_count": {"string_value": "2"}}
    config = RECORD.in_config({"parameters": threads})
    assert config["parameters"].keys() == {"intra_op_thread_count", KEY}
    assert set(threads) == {"intra_op_thread_count"}


def test_labels_that_would_fill_a_configuration_are_left_out() -> None:
    labels = tuple(f"class number {index}" for index in range(MAX_TEXT // 10))
    many = Signature(SIGNATURE.inputs, (Tensor("y", "FP32", (-1, len(labels)), labels=labels),))
    config = Record(RAN, "classification", many, "").in_config({})
    assert len(config["parameters"][KEY]["string_value"]) < MAX_TEXT
    found = Record.from_config(config)
    assert found is not None
    assert found.signature.labels == ()
    assert found.signature.outputs[0].shape == (-1, len(labels))


FOREIGN: dict[str, Any] = {
    "nothing": {},
    "no parameters": {"parameters": None},
    "a list of parameters": {"parameters": []},
    "another parameter": {"parameters": {"other": {"string_value": "1"}}},
    "no text": {"parameters": {KEY: {}}},
    "a number": parameter(7),
    "not JSON": parameter("{"),
    "a JSON list": parameter("[]"),
    "deep JSON": parameter("[" * 100_000),
    "no version": changed(version=None),
    "a number that is none": changed(version={**RAN.to_json(), "number": "three"}),
    "an endless number": changed(version={**RAN.to_json(), "number": "9" * 10_000}),
    "a signature that is none": changed(signature={"inputs": 3}),
    "a datatype that is none": changed(
        signature={"inputs": [{"name": "x", "datatype": "FP33", "shape": [1]}], "outputs": []}
    ),
    "attributes that are none": changed(attributes=[1]),
    "a version before that is none": changed(before={"model": "digits"}),
}


@pytest.mark.parametrize("config", FOREIGN.values(), ids=FOREIGN)
def test_a_model_of_somebody_else_has_no_record(config: dict[str, Any]) -> None:
    assert Record.from_config(config) is None
