"""Exported model repositories, read and run by a real tritonserver."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmodel.client import Client
from nbmodel.core.signature import Signature, Tensor
from tests.tools.triton import NoTritonError, Triton, packages, triton

pytestmark = pytest.mark.slow

SIGNATURE = Signature(
    (Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2), labels=("low", "high")),)
)
#: Its wheel has the Python backend alone.
NO_BACKEND = "unable to find backend library for backend 'onnxruntime'"
PROGRAM = """\
import sys

sys.path[:0] = {packages!r}

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(one, "x").as_numpy() * 2)
            ])
            for one in requests
        ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Iterator[Triton]:
    home, models = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models")
    code = tmp_path_factory.mktemp("code")
    (code / "model.py").write_text(PROGRAM.format(packages=packages()))
    client = Client(home)
    client.upload(code, name="doubler", signature=SIGNATURE, type="classification")
    client.upload(linear_onnx, name="toy", type="regression")
    for name in ("doubler", "toy"):
        client.export(name, models, to="triton")
    client.close()
    try:
        with triton(models, tmp_path_factory.mktemp("triton"), models=["doubler"]) as running:
            yield running
    except NoTritonError as exc:
        pytest.skip(str(exc))


def post(server: Triton, path: str, body: object = None) -> Any:
    connection = http.client.HTTPConnection(server.http, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body or {}))
        return json.loads(connection.getresponse().read() or b"null")
    finally:
        connection.close()


def test_an_exported_model_answers_with_its_labels(server: Triton) -> None:
    answer = post(
        server,
        "/v2/models/doubler/infer",
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 5]}],
            "outputs": [{"name": "y", "parameters": {"classification": 1}}],
        },
    )
    assert answer["model_version"] == "1"
    assert answer["outputs"][0]["data"] == ["10.000000:1:high"]


def test_a_configuration_is_read_whose_backend_is_elsewhere(server: Triton) -> None:
    assert NO_BACKEND in post(server, "/v2/repository/models/toy/load")["error"]
