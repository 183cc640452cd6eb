"""MLServer with ONNX models: ``peer_mlserver.py FOLDER`` serves ``FOLDER/*/model.onnx``.

Runs in an environment of its own.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """An ONNX file, one thread."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        self.outputs_ = [output.name for output in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        answers = self.session.run(self.outputs_, feed)
        outputs = [
            NumpyCodec.encode_output(name, answer)
            for name, answer in zip(self.outputs_, answers, strict=True)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main(paths: list[Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        ports = a.getsockname()[1], b.getsockname()[1]
    settings = Settings(
        host="127.0.0.1",
        http_port=ports[0],
        grpc_port=ports[1],
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
    )
    print(f"ready on 127.0.0.1:{ports[0]}")
    models = [
        ModelSettings(
            name=path.parent.name,
            implementation=OnnxModel,
            parameters=ModelParameters(uri=str(path)),
        )
        for path in paths
    ]
    await MLServer(settings).start(models)


if __name__ == "__main__":
    asyncio.run(main(list(Path(sys.argv[1]).glob("*/model.onnx"))))
