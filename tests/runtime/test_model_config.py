from __future__ import annotations

from typing import Any

import pytest

from nbmodel.core.signature import Signature, Tensor
from nbmodel.runtime.model_config import metadata, model_config, statistics
from nbmodel.runtime.scheduler import Scheduling
from nbmodel.runtime.services import ServiceView
from nbmodel.runtime.statistics import BatchStatistics, Duration, ModelStatistics


def service(
    *inputs: Tensor, backend: str = "onnx_cpu", scheduling: Scheduling | None = None
) -> ServiceView:
    return ServiceView(
        "m",
        True,
        "3",
        Signature(inputs, (Tensor("y", "FP32", (-1, 3), labels=("a", "b", "c")),)),
        backend=backend,
        scheduling=scheduling or Scheduling(),
    )


def test_metadata_has_every_dimension() -> None:
    view = service(
        Tensor("x", "INT32", (-1, 16)), Tensor("t", "BYTES", ()), Tensor("u", "FP32", None)
    )
    assert metadata(view) == {
        "name": "m",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "x", "datatype": "INT32", "shape": [-1, 16]},
            {"name": "t", "datatype": "BYTES", "shape": []},
            {"name": "u", "datatype": "FP32", "shape": [-1]},
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }


def test_a_config_leaves_out_the_dimension_of_the_batch() -> None:
    batching = Scheduling(
        instances=2, max_batch_size=8, max_queue_delay_microseconds=50, is_batching=True
    )
    config = model_config(service(Tensor("x", "INT32", (-1, 16)), scheduling=batching))
    assert config["max_batch_size"] == 8
    assert config["input"][0]["dims"] == [16]
    assert config["output"][0]["dims"] == [3]
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 50
    assert config["instance_group"][0]["count"] == 2


def test_a_config_without_batches_has_every_dimension() -> None:
    config = model_config(service(Tensor("x", "INT32", (-1, 16))))
    assert config["max_batch_size"] == 0
    assert config["input"][0]["dims"] == [-1, 16]
    assert "dynamic_batching" not in config


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        pytest.param(Tensor("x", "BYTES", (2,)), {"data_type": "TYPE_STRING"}, id="text"),
        pytest.param(Tensor("x", "BF16", (2,)), {"data_type": "TYPE_BF16"}, id="bfloat16"),
        pytest.param(Tensor("x", "SEQUENCE", None), {"data_type": "TYPE_INVALID"}, id="foreign"),
        pytest.param(
            Tensor("x", "FP32", ()), {"dims": [1], "reshape": {"shape": []}}, id="a scalar"
        ),
        pytest.param(Tensor("x", "FP32", None), {"dims": [-1]}, id="an unknown rank"),
    ],
)
def test_tensors_are_told_in_tritons_words(tensor: Tensor, expected: dict[str, Any]) -> None:
    (told,) = model_config(service(tensor))["input"]
    assert {key: told[key] for key in expected} == expected


def test_labels_are_told_where_there_are_some() -> None:
    assert model_config(service())["output"][0]["label_filename"] == "labels.txt"


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        pytest.param("onnx_cpu", ("onnxruntime_onnx", "onnxruntime", "model.onnx"), id="onnx"),
        pytest.param("tflite_cpu", ("tensorflow_tflite", "tflite", "model.tflite"), id="tflite"),
        pytest.param("mine", ("mine", "mine", ""), id="a plug-in"),
    ],
)
def test_a_backend_has_tritons_names(backend: str, expected: tuple[str, str, str]) -> None:
    config = model_config(service(backend=backend))
    assert (config["platform"], config["backend"], config["default_model_filename"]) == expected


def test_a_config_is_one_to_the_protocol() -> None:
    pb = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import json_format

    view = service(Tensor("x", "FP32", (-1, 2)), scheduling=Scheduling(2, 4, 0, 16, True))
    read = json_format.ParseDict(model_config(view), pb.ModelConfig(), ignore_unknown_fields=False)
    assert (read.name, read.max_batch_size, list(read.input[0].dims)) == ("m", 4, [2])


def test_statistics_have_tritons_form() -> None:
    one = Duration(1, 10)
    model = ModelStatistics(
        "m",
        "3",
        last_inference=1700000000000,
        inference_count=5,
        execution_count=2,
        success=Duration(3, 30),
        batch_stats=(BatchStatistics(4, one, Duration(1, 11), Duration(1, 12)),),
    )
    nothing = {"count": 0, "ns": 0}
    assert statistics([model]) == {
        "model_stats": [
            {
                "name": "m",
                "version": "3",
                "last_inference": 1700000000000,
                "inference_count": 5,
                "execution_count": 2,
                "inference_stats": {
                    "success": {"count": 3, "ns": 30},
                    "fail": nothing,
                    "queue": nothing,
                    "compute_input": nothing,
                    "compute_infer": nothing,
                    "compute_output": nothing,
                    "cache_hit": nothing,
                    "cache_miss": nothing,
                },
                "response_stats": {},
                "batch_stats": [
                    {
                        "batch_size": 4,
                        "compute_input": {"count": 1, "ns": 10},
                        "compute_infer": {"count": 1, "ns": 11},
                        "compute_output": {"count": 1, "ns": 12},
                    }
                ],
                "memory_usage": [],
            }
        ]
    }
