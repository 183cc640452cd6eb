"""Runtimes as processes of their own, with toy models."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbmodel.core.signature import DATATYPES
from nbmodel.fleet.known import Known
from nbmodel.fleet.local import start_local, stop_local

_ONNX = {
    "BOOL": "BOOL",
    "UINT8": "UINT8",
    "UINT16": "UINT16",
    "UINT32": "UINT32",
    "UINT64": "UINT64",
    "INT8": "INT8",
    "INT16": "INT16",
    "INT32": "INT32",
    "INT64": "INT64",
    "FP16": "FLOAT16",
    "FP32": "FLOAT",
    "FP64": "DOUBLE",
    "BF16": "BFLOAT16",
    "BYTES": "STRING",
}


def _identity(datatype: str) -> bytes:
    from onnx import TensorProto, helper

    kind = getattr(TensorProto, _ONNX[datatype])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", kind, ["rows", "columns"])],
        [helper.make_tensor_value_info("y", kind, ["rows", "columns"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def _counter() -> bytes:
    from onnx import TensorProto, helper

    int64, boolean = TensorProto.INT64, TensorProto.BOOL
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Add", ["before", "one"], ["after"]),
        ],
        "body",
        [scalar("i", int64, []), scalar("go_on", boolean, []), scalar("before", int64, [])],
        [scalar("goes_on", boolean, []), scalar("after", int64, [])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["one"], value_int=1),
            helper.make_node("Constant", [], ["zero"], value_int=0),
            helper.make_node("Squeeze", ["x"], ["trips"]),
            helper.make_node("Loop", ["trips", "", "zero"], ["count"], body=body),
            helper.make_node("Unsqueeze", ["count", "axis"], ["y"]),
        ],
        "counter",
        [helper.make_tensor_value_info("x", int64, [1])],
        [helper.make_tensor_value_info("y", int64, [1])],
        [helper.make_tensor("axis", int64, [1], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture(scope="session")
def counter_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model that is slow: it counts to x (INT64[1]) in a loop and gives x as y.

    A million takes about a second.
    """
    pytest.importorskip("onnx", reason="toy models are made with onnx")
    path = tmp_path_factory.mktemp("models") / "counter.onnx"
    path.write_bytes(_counter())
    return path


@pytest.fixture(scope="session")
def service() -> Callable[[str, Path], dict[str, Any]]:
    """The entry of a machine config that serves an ONNX file."""

    def entry(name: str, model: Path) -> dict[str, Any]:
        return {
            "name": name,
            "api": "rdk:service:mlmodel",
            "model": "viam:mlmodel:onnx-cpu",
            "attributes": {"model_path": str(model)},
        }

    return entry


@pytest.fixture(scope="session")
def toy_config(
    tmp_path_factory: pytest.TempPathFactory,
    linear_onnx: Path,
    service: Callable[[str, Path], dict[str, Any]],
) -> Path:
    """A machine config with ``linear`` and, for each datatype, its identity: ``fp32`` …

    Identities take x and give y, of shape [-1,-1].
    """
    folder = tmp_path_factory.mktemp("identities")
    services = [service("linear", linear_onnx)]
    for datatype in DATATYPES:
        path = folder / f"{datatype.lower()}.onnx"
        path.write_bytes(_identity(datatype))
        services.append(service(datatype.lower(), path))
    config = folder / "machine.json"
    config.write_text(json.dumps({"services": services}))
    return config


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory, toy_config: Path) -> Iterator[Known]:
    """A runtime in a process of its own that serves the toy models on loopback."""
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    runtime = start_local("toys", tmp_path_factory.mktemp("toys"), config=toy_config)
    deadline = time.monotonic() + 30
    while httpx.get(f"{runtime.url}/v2/health/ready", trust_env=False).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield runtime
    assert stop_local(runtime)
