"""A real runtime, and clients of both kinds."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.signature import DATATYPES
from nbmodel.fleet.known import Known
from nbmodel.fleet.local import start_local, stop_local
from nbmodel.inference import AsyncInferenceClient, InferenceClient

_ONNX = {
    "FP16": "FLOAT16",
    "FP32": "FLOAT",
    "FP64": "DOUBLE",
    "BF16": "BFLOAT16",
    "BYTES": "STRING",
}


def _identity(datatype: str) -> bytes:
    from onnx import TensorProto, helper

    kind = getattr(TensorProto, _ONNX.get(datatype, datatype))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", kind, ["rows", "columns"])],
        [helper.make_tensor_value_info("y", kind, ["rows", "columns"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Iterator[Known]:
    """A runtime that wants a token; it serves ``linear``, and ``fp32`` … that give x as y."""
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    folder = tmp_path_factory.mktemp("served")
    paths = {"linear": linear_onnx}
    for datatype in DATATYPES:
        paths[datatype.lower()] = folder / f"{datatype.lower()}.onnx"
        paths[datatype.lower()].write_bytes(_identity(datatype))
    config = folder / "machine.json"
    services = [
        {
            "name": name,
            "api": "rdk:service:mlmodel",
            "model": "viam:mlmodel:onnx-cpu",
            "attributes": {"model_path": str(path)},
        }
        for name, path in paths.items()
    ]
    config.write_text(json.dumps({"services": services}))
    known = start_local("served", folder / "home", config=config, require_token=True)
    with InferenceClient(known.url, token=known.token) as client:
        wait = threading.Event()
        while not client.is_ready():
            wait.wait(0.02)
    yield known
    assert stop_local(known)


class Waited:
    """An ``AsyncInferenceClient`` whose coroutines are waited for, on a loop of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()

        async def make() -> AsyncInferenceClient:
            return AsyncInferenceClient(*args, **options)

        self._client = self._loop.run_until_complete(make())

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            return self._loop.run_until_complete(getattr(self._client, name)(*args, **options))

        return call

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(asyncio.sleep(0))  # transports end on the next turn
        self._loop.close()


@pytest.fixture(params=[InferenceClient, Waited], ids=["waiting", "awaiting"])
def connect(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes a client, once of each kind; both have the same methods."""
    clients: list[Any] = []

    def connect(url: str, **options: Any) -> Any:
        clients.append(request.param(url, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(runtime: Known, connect: Any) -> Any:
    return connect(runtime.url, token=runtime.token)
