"""A device's ``models`` folder, read by a real tritonserver while versions change."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.machine import Package
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import DATATYPES, Signature, Tensor
from nbmodel.runtime.packages import PackageFolder
from nbmodel.runtime.resolve import PackageVersion
from nbmodel.storage import OciLayout
from tests.tools.triton import NoTritonError, Triton, packages, triton

#: What it says when it has read a configuration and looks for the backend in vain: its wheel
#: has the Python backend alone.
NO_BACKEND = "unable to find backend library for backend '{}'"
#: Format → its model file, and the backend that it needs.
OTHERS = {
    "onnx": ("nets/net.onnx", "onnxruntime"),
    "savedmodel": ("saved_model.pb", "tensorflow"),
    "torchscript": ("net.pt", "pytorch"),
    "tensorrt": ("net.plan", "tensorrt"),
    "openvino": ("net.xml", "openvino"),
}
#: Runs in that one: what the version's file says, in every output.
PROGRAM = """\
import os
import sys

sys.path[:0] = {packages!r}

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        with open(os.path.join(folder, "data", "scores.txt")) as file:
            self.scores = np.array([[float(score) for score in file]], np.float32)

    def execute(self, requests):
        answer = [pb_utils.Tensor("scores", self.scores)]
        return [pb_utils.InferenceResponse(answer) for _ in requests]
"""
SCORES = Tensor("scores", "FP32", (1, 3), labels=("cat", 'a "dog"', "two\nlines"))
EVERY_DATATYPE = Signature(
    tuple(Tensor(name.lower(), name, (-1, 3)) for name in DATATYPES), (SCORES,)
)
SMALL = Signature((Tensor("x", "FP32", (-1, 3)),), (SCORES,))
ODD_SHAPES = Signature(
    (
        Tensor("scalar", "FP32", ()),
        Tensor("any rank", "FP32", None),
        Tensor("empty", "INT64", (0, 2)),
        Tensor('quoted "name"\\', "FP32", (-1,)),
        Tensor("serving_default:ü\n\x7f", "FP32", (-1, 224, 224, 3)),
    ),
    (SCORES,),
)


class Device:
    """The part of a runtime's home that Triton reads."""

    def __init__(self, home: Path) -> None:
        self.models = home / "models"
        self._storage = OciLayout(home / "blobs")
        self._packages = PackageFolder(home / "packages", self._storage)

    def install(
        self,
        name: str,
        number: int | None,
        *,
        signature: Signature,
        framework: str = "python",
        file: str = "",
        scores: str = "0\n0\n1\n",
    ) -> None:
        program = PROGRAM.format(packages=packages())
        files = {file: ""} if file else {"model.py": program, "data/scores.txt": scores}
        entries = tuple(
            FileEntry(path, len(text.encode()), self._storage.add_bytes(text.encode()))
            for path, text in files.items()
        )
        manifest = Manifest(name, "2026", entries, framework, "other", signature)
        digest = self._storage.add_bytes(manifest.manifest_bytes())
        version = PackageVersion(name, digest, "latest", number, None)
        self._packages.install(Package(name, f"local/{name}"), version, manifest)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    return Device(tmp_path_factory.mktemp("device"))


@pytest.fixture(scope="module")
def server(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    for framework, (file, _) in OTHERS.items():
        device.install(framework, 3, framework=framework, signature=EVERY_DATATYPE, file=file)
    device.install("every", 4, signature=EVERY_DATATYPE)
    device.install("odd", None, signature=ODD_SHAPES)
    try:
        with triton(device.models, tmp_path_factory.mktemp("triton"), models=["every"]) as server:
            yield server
    except NoTritonError as exc:
        pytest.skip(str(exc))


def post(server: Triton, path: str, body: object = None) -> Any:
    connection = http.client.HTTPConnection(server.http, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body or {}))
        return json.loads(connection.getresponse().read() or b"null")
    finally:
        connection.close()


def load(server: Triton, name: str) -> str:
    """Load a model; the error that Triton tells, or nothing."""
    answer = post(server, f"/v2/repository/models/{name}/load")
    return str(answer["error"]) if answer else ""


def index(server: Triton) -> set[tuple[str, str | None, str | None]]:
    answer = post(server, "/v2/repository/index")
    return {(model["name"], model.get("version"), model.get("state")) for model in answer}


def best_class(server: Triton, name: str) -> tuple[str, str]:
    """Version and most likely class of an answer."""
    answer = post(
        server,
        f"/v2/models/{name}/infer",
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [0] * 6}],
            "outputs": [{"name": "scores", "parameters": {"classification": 1}}],
        },
    )
    return answer["model_version"], answer["outputs"][0]["data"][0]


@pytest.mark.slow
def test_triton_lists_what_a_device_has(server: Triton) -> None:
    assert {name for name, _, _ in index(server)} >= {*OTHERS, "every", "odd"}
    assert ("every", "4", "READY") in index(server)


@pytest.mark.slow
@pytest.mark.parametrize("framework", OTHERS)
def test_triton_reads_the_configuration_of_a_model_that_it_has_no_backend_for(
    server: Triton, framework: str
) -> None:
    _, backend = OTHERS[framework]
    assert NO_BACKEND.format(backend) in load(server, framework)
    assert (framework, "3", "UNAVAILABLE") in index(server)


@pytest.mark.slow
def test_triton_takes_tensors_of_every_shape_and_name(server: Triton) -> None:
    assert load(server, "odd") == ""
    assert ("odd", "1", "READY") in index(server)


@pytest.mark.slow
def test_triton_follows_the_versions_of_a_package(server: Triton, device: Device) -> None:
    device.install("small", 8, signature=SMALL)
    assert load(server, "small") == ""
    assert best_class(server, "small") == ("8", "1.000000:2:two lines")
    device.install("small", 9, signature=SMALL, scores="0\n7\n1\n")
    assert load(server, "small") == ""
    assert best_class(server, "small") == ("9", '7.000000:1:a "dog"')
    device.install("small", 8, signature=SMALL)
    assert load(server, "small") == ""
    assert best_class(server, "small") == ("8", "1.000000:2:two lines")
