"""What people write today: FastAPI on uvicorn, one route, tensors as bytes.

Runs in an environment of its own: ``peer_fastapi.py FOLDER`` serves ``FOLDER/*/model.onnx``.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response

NUMPY = {"INT32": np.int32, "FP32": np.float32}
OIP = {np.dtype(numpy): name for name, numpy in NUMPY.items()}
LENGTH = "Inference-Header-Content-Length"
app = FastAPI()
sessions: dict[str, onnxruntime.InferenceSession] = {}


@app.get("/v2/health/ready")
async def ready() -> Response:
    return Response()


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request) -> Response:
    body = await request.body()
    length = int(request.headers[LENGTH])
    head, start, feed = json.loads(body[:length]), length, {}
    for tensor in head["inputs"]:
        size = tensor["parameters"]["binary_data_size"]
        array = np.frombuffer(body, NUMPY[tensor["datatype"]], size // 4, start)
        feed[tensor["name"]] = array.reshape(tensor["shape"])
        start += size
    session = sessions[name]
    names = [output.name for output in session.get_outputs()]
    answers = dict(zip(names, session.run(names, feed), strict=True))
    outputs = [
        {
            "name": name,
            "datatype": OIP[array.dtype],
            "shape": array.shape,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in answers.items()
    ]
    text = json.dumps({"model_name": name, "model_version": "1", "outputs": outputs}).encode()
    content = text + b"".join(array.tobytes() for array in answers.values())
    return Response(
        content, headers={LENGTH: str(len(text))}, media_type="application/octet-stream"
    )


def main(folder: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for path in folder.glob("*/model.onnx"):
        sessions[path.parent.name] = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"ready on 127.0.0.1:{listener.getsockname()[1]}")
    # Connections are kept while others have their turn.
    config = uvicorn.Config(app, access_log=False, log_level="warning", timeout_keep_alive=600)
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
