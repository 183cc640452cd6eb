"""A real model from a file to a real Triton and back, by both ways that lead there.

As an nbmodel runtime's backend, and as a runtime of its own; over HTTP and over gRPC; each
time by the words that a person uses. The model is a MobileNet that tells birds, and it runs in
ONNX Runtime inside Triton's Python backend, as for everybody whose Triton has no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="the model is made with onnx")
pytest.importorskip("ai_edge_litert", reason="the model's weights are those of a TFLite file")

from nbmodel.backends.triton_client import Endpoint, connect
from nbmodel.client import Client
from nbmodel.errors import NbModelError
from tests.tools.mobilenet_onnx import mobilenet_onnx
from tests.tools.triton import NoTritonError, Triton, packages, triton

pytestmark = [pytest.mark.slow, pytest.mark.unhurried, pytest.mark.timeout(600)]

MODEL = "birds"
FILES = {
    "small": "mobilenet_v1_0.25_224_quant_with_metadata.tflite",
    "large": "mobilenet_v2_1.0_224_quant.tflite",
}
#: Where Triton's Python backend finds numpy and onnxruntime.
PARAMETERS = {"python_path": {"string_value": ":".join(packages())}}


@pytest.fixture(scope="module")
def models(test_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mobilenets")
    paths = {}
    for name, file in FILES.items():
        paths[name] = folder / f"{name}.onnx"
        paths[name].write_bytes(mobilenet_onnx(test_models / file))
    return paths


@pytest.fixture(scope="module")
def expected(test_models: Path) -> dict[str, int]:
    """What each TFLite file itself says of the parrot: its best score, of 255."""
    from nbmodel.backends import load_backend

    scores = {}
    for name, file in FILES.items():
        session = load_backend("tflite_cpu").load({"model_path": str(test_models / file)})
        (found,) = session.infer({session.signature.inputs[0].name: picture(test_models)}).values()
        assert int(found.argmax()) == 89  # a macaw
        scores[name] = int(found.max())
        session.close()
    return scores


def picture(test_models: Path) -> Any:
    from PIL import Image

    with Image.open(test_models / "parrot.jpg") as image:
        return np.asarray(image.convert("RGB").resize((224, 224)))[None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    scratch = tmp_path_factory.mktemp("triton")
    (scratch / "models").mkdir()
    try:
        with triton(scratch / "models", scratch, models=[]) as server:
            yield server
    except NoTritonError as exc:
        pytest.skip(str(exc))


Deploy = Callable[[], object]


@pytest.fixture(params=["http", "grpc"])
def place(request: pytest.FixtureRequest, server: Triton) -> str:
    """``http://host:port`` or ``grpc://host:port`` of the Triton."""
    return f"{request.param}://{getattr(server, request.param)}"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


@pytest.fixture(params=["bare", "backend"])
def deploy(request: pytest.FixtureRequest, client: Client, place: str) -> Iterator[Deploy]:
    """How the service comes to a runtime ``jetson``: a bare Triton, or one that uses it."""
    config: dict[str, Any] = {"parameters": PARAMETERS}
    if request.param == "bare":
        client.runtimes.add("jetson", f"triton+{place}")
        yield lambda: client.deploy(MODEL, on="jetson", attributes={"model_config": config})
        return
    config["backend"] = "python"
    given = {"address": place, "model_config": config}
    client.runtimes.start("jetson")
    yield lambda: client.deploy(
        MODEL, on="jetson", backend="triton", attributes=given, confirm_s=0.1
    )
    client.runtimes.remove("jetson")


def in_triton(place: str) -> list[str]:
    client = connect(Endpoint.parse(place))
    try:
        return client.models()
    finally:
        client.close()


def test_birds_are_told_by_each_version_that_should_run(
    client: Client,
    deploy: Deploy,
    place: str,
    models: dict[str, Path],
    expected: dict[str, int],
    test_models: Path,
) -> None:
    labels = test_models / "imagenet_labels.txt"
    shown = picture(test_models)

    def upload(name: str) -> None:
        client.upload(models[name], name=MODEL, type="classification", sample=shown, labels=labels)

    def check(name: str, number: int) -> None:
        client.status("jetson", wait=True)
        answer = client.infer(f"{MODEL}@jetson", shown)
        scores = answer["scores"]
        assert (int(scores.argmax()), int(scores.max())) == (89, expected[name])
        assert "macaw" in answer.text()
        (entry,) = client.status("jetson")["services"]
        assert (entry["name"], entry["number"], entry["state"]) == (MODEL, number, "ready")
        assert len(in_triton(place)) == 1  # nothing is left there of what was tried out

    upload("small")
    deploy()
    check("small", 1)
    client.pin(f"{MODEL}:1", on="jetson")
    upload("large")
    check("small", 1)  # it is held there
    client.unpin(MODEL, on="jetson")
    check("large", 2)
    client.rollback(f"{MODEL}@jetson")
    check("small", 1)
    client.undeploy(f"{MODEL}@jetson")
    client.status("jetson", wait=True)
    assert in_triton(place) == []
    with pytest.raises(NbModelError, match="no service 'birds'"):
        client.infer(f"{MODEL}@jetson", shown)
