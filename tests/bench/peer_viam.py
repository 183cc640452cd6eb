"""Viam's own Python server with one ML model service: ``peer_viam.py MODEL.onnx NAME``."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from viam.rpc.server import Server
from viam.services.mlmodel import Metadata, MLModel


class OnnxModel(MLModel):
    """An ONNX file, one thread."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.outputs = [output.name for output in self.session.get_outputs()]

    async def infer(
        self, input_tensors: dict[str, NDArray[Any]], **_: Any
    ) -> dict[str, NDArray[Any]]:
        answers = self.session.run(self.outputs, input_tensors)
        return dict(zip(self.outputs, answers, strict=True))

    async def metadata(
        self, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Metadata:
        return Metadata(name=self.name)


async def main(path: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server([OnnxModel(name, path)])
    serving = asyncio.create_task(server.serve("127.0.0.1", port, log_level=None))
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        break
    print(f"ready on 127.0.0.1:{port}")
    await serving


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
