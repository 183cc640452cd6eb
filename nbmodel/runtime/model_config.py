"""What a runtime tells about its services, in the JSON forms of the protocol and of Triton.

Values in, JSON objects out; both front ends answer with these.

Source: Open Inference Protocol v2 for metadata; Triton's ``model_config.proto`` in the JSON
that its HTTP front end writes, and its statistics extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbmodel.core.signature import Tensor
from nbmodel.runtime.services import ServiceView
from nbmodel.runtime.statistics import BatchStatistics, Duration, ModelStatistics
from nbmodel.runtime.triton_names import data_type, engine_of


def metadata(service: ServiceView) -> dict[str, Any]:
    """A model's metadata: its tensors with all dimensions, the batch's included."""
    return {
        "name": service.name,
        "versions": [service.version],
        "platform": engine_of(service.backend).platform,
        "inputs": [_metadata(tensor) for tensor in service.signature.inputs],
        "outputs": [_metadata(tensor) for tensor in service.signature.outputs],
    }


def model_config(service: ServiceView) -> dict[str, Any]:
    """A model's configuration, complete as Triton gives it.

    Dimensions leave out the batch's where ``max_batch_size`` is above 0.
    """
    scheduling = service.scheduling
    engine = engine_of(service.backend)
    batch = scheduling.max_batch_size
    config: dict[str, Any] = {
        "name": service.name,
        "platform": engine.platform,
        "backend": engine.backend,
        "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": batch,
        "input": [_input(tensor, batch) for tensor in service.signature.inputs],
        "output": [_output(tensor, batch) for tensor in service.signature.outputs],
        "batch_input": [],
        "batch_output": [],
        "optimization": {
            "priority": "PRIORITY_DEFAULT",
            "input_pinned_memory": {"enable": False},
            "output_pinned_memory": {"enable": False},
            "gather_kernel_buffer_threshold": 0,
            "eager_batching": False,
        },
    }
    if batch:
        config["dynamic_batching"] = {
            "preferred_batch_size": [batch],
            "max_queue_delay_microseconds": scheduling.max_queue_delay_microseconds,
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": 0,
                "allow_timeout_override": True,
                "max_queue_size": scheduling.max_queue_size,
            },
            "priority_queue_policy": {},
        }
    config |= {
        "instance_group": [
            {
                "name": service.name,
                "kind": "KIND_CPU",
                "count": scheduling.instances,
                "gpus": [],
                "secondary_devices": [],
                "profile": [],
                "passive": False,
                "host_policy": "",
            }
        ],
        "default_model_filename": engine.file,
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
    }
    return config


def statistics(models: Sequence[ModelStatistics]) -> dict[str, Any]:
    """The statistics of models."""
    return {"model_stats": [_statistics(model) for model in models]}


def _metadata(tensor: Tensor) -> dict[str, Any]:
    # The protocol has no word for an unknown rank.
    shape = [-1] if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}


def _input(tensor: Tensor, batch: int) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": data_type(tensor.datatype),
        "format": "FORMAT_NONE",
        **_dims(tensor, batch),
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
        "is_non_linear_format_io": False,
    }


def _output(tensor: Tensor, batch: int) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": data_type(tensor.datatype),
        **_dims(tensor, batch),
        "label_filename": "labels.txt" if tensor.labels else "",
        "is_shape_tensor": False,
        "is_non_linear_format_io": False,
    }


def _dims(tensor: Tensor, batch: int) -> dict[str, Any]:
    shape = (-1,) if tensor.shape is None else tensor.shape
    dims = list(shape[1:] if batch else shape)
    # Dims may not be empty in a model configuration: one element, reshaped to none.
    return {"dims": dims} if dims else {"dims": [1], "reshape": {"shape": []}}


def _statistics(model: ModelStatistics) -> dict[str, Any]:
    nothing = Duration()
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": model.last_inference,
        "inference_count": model.inference_count,
        "execution_count": model.execution_count,
        "inference_stats": {
            "success": _duration(model.success),
            "fail": _duration(model.fail),
            "queue": _duration(model.queue),
            "compute_input": _duration(model.compute_input),
            "compute_infer": _duration(model.compute_infer),
            "compute_output": _duration(model.compute_output),
            "cache_hit": _duration(nothing),
            "cache_miss": _duration(nothing),
        },
        "response_stats": {},
        "batch_stats": [_batch(batch) for batch in model.batch_stats],
        "memory_usage": [],
    }


def _batch(batch: BatchStatistics) -> dict[str, Any]:
    return {
        "batch_size": batch.batch_size,
        "compute_input": _duration(batch.compute_input),
        "compute_infer": _duration(batch.compute_infer),
        "compute_output": _duration(batch.compute_output),
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
