"""Backends that make something of a model before it serves: where, how long, and what is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends.onnx_lacks import lack, look
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import ProbeError
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.probe import ProbeLimits, probe
from nbmodel.runtime.services import Source, load_service
from tests.tools.making_backend import SIGNATURE, install_making_backend

SETTLE_S = 60.0


@pytest.fixture(autouse=True)
def _making_backend(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backend ``making`` is installed, here and in what is started."""
    monkeypatch.syspath_prepend(install_making_backend(tmp_path_factory.mktemp("plugins")))


def source(folder: Path, *, parts: int = 2, seconds: float = 0.1) -> Source:
    path = folder / "model.making"
    path.write_text(json.dumps({"parts": parts, "seconds": seconds}))
    return Source("making", {"model_path": str(path)}, "key", engines=folder / "engines")


def test_what_a_probe_makes_is_there_for_the_process_that_serves(tmp_path):
    told: list[str] = []
    probe(source(tmp_path), tell=told.append)
    assert told == ["making part 1 of 2", "making part 2 of 2"]
    assert (tmp_path / "engines" / "made").exists()
    live = load_service(source(tmp_path, seconds=3600))  # not made again
    assert (live.runs_on, live.note) == ("made", "runs on what was made")
    live.retire()


def test_making_is_not_counted_against_the_time_of_a_probe(tmp_path):
    report = probe(source(tmp_path, parts=1, seconds=1.0), ProbeLimits(timeout_s=0.5))
    assert report.load_s >= 1.0


@pytest.mark.unhurried
def test_what_takes_too_long_is_told_by_what_it_was_at(tmp_path, monkeypatch):
    monkeypatch.setattr("nbmodel.runtime.probe._patience_s", lambda _source: 1.0)
    with pytest.raises(ProbeError, match=r"hangs: .*, while making part 1 of 1"):
        probe(source(tmp_path, parts=1, seconds=3600), ProbeLimits(timeout_s=1.0))


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[EdgeRuntime]:
    runtime = EdgeRuntime(tmp_path / "home", name="here")
    yield runtime
    runtime.close()


LINEAR = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 3)),))


def push(runtime: EdgeRuntime, content: bytes, signature: Signature) -> None:
    storage = runtime.storage
    manifest = Manifest(
        "model",
        "2026-02-28T00:00:00.000000Z",
        (FileEntry("model.onnx", len(content), storage.add_bytes(content)),),
        "onnx",
        "other",
        signature,
    )
    storage.add_bytes(manifest.config_bytes())
    digest = storage.add_bytes(manifest.manifest_bytes())
    for tag in ("1", "latest"):
        runtime.tags.set("model", tag, digest)
    runtime.tags_changed("model")


def set_service(runtime: EdgeRuntime, model: str, **attributes: Any) -> None:
    service = {
        "name": "it",
        "api": "rdk:service:mlmodel",
        "model": model,
        "attributes": {"model_path": "${packages.ml_model.model}", **attributes},
    }
    package = {"name": "model", "package": "local/model", "version": "latest", "type": "ml_model"}
    runtime.set_config({"packages": [package], "services": [service]}, if_match=None)


def probed(runtime: EdgeRuntime) -> dict[str, Any]:
    (service,) = runtime.status()["services"]
    (condition,) = [one for one in service["conditions"] if one["type"] == "Probed"]
    return dict(condition)


def test_how_far_it_is_shows_in_the_status(runtime):
    model = json.dumps({"parts": 3, "seconds": 0.3}).encode()
    push(runtime, model, SIGNATURE)
    set_service(runtime, "making")
    seen: list[str] = []
    until = time.monotonic() + SETTLE_S
    while not runtime.settled and time.monotonic() < until:
        condition = probed(runtime)
        if condition["reason"] == "Probing" and condition["message"] not in seen:
            seen.append(condition["message"])
        time.sleep(0.02)
    assert "making part 2 of 3" in seen
    condition = probed(runtime)
    assert (condition["status"], condition["reason"]) == ("True", "Passed")
    (service,) = runtime.status()["services"]
    assert (service["runs_on"], service["note"]) == ("made", "runs on what was made")


class TestOnnxGpu:
    @pytest.fixture(autouse=True)
    def _without_gpu(self) -> None:
        onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
        if lack("cuda", look(onnxruntime, ["cuda"])) is None:
            pytest.skip("there is a GPU here")

    def test_a_service_says_that_the_cpu_took_the_place_of_its_gpu(self, runtime, linear_onnx):
        push(runtime, linear_onnx.read_bytes(), LINEAR)
        set_service(runtime, "onnx_gpu", providers=["tensorrt"], allow_cpu=True)
        assert runtime.wait_settled(SETTLE_S)
        (service,) = runtime.status()["services"]
        assert (service["state"], service["runs_on"]) == ("ready", "cpu")
        assert service["note"].startswith("runs on the CPU, not on a GPU: tensorrt: ")
        answer = runtime.infer(InferRequest("it", {"x": np.ones((1, 2), np.float32)}))
        assert answer.outputs["y"].tolist() == [[15, 27, 39]]

    def test_a_service_that_may_not_run_on_the_cpu_says_why_it_does_not_run(
        self, runtime, linear_onnx
    ):
        push(runtime, linear_onnx.read_bytes(), LINEAR)
        set_service(runtime, "onnx_gpu")
        assert runtime.wait_settled(SETTLE_S)
        (service,) = runtime.status()["services"]
        assert service["state"] == "failed"
        assert "no GPU can be used: cuda: " in service["error"]
        assert '"allow_cpu": true' in service["hint"]

    def test_the_cpu_by_configuration_is_the_same_service(self, runtime, linear_onnx):
        push(runtime, linear_onnx.read_bytes(), LINEAR)
        set_service(runtime, "onnx_gpu")
        assert runtime.wait_settled(SETTLE_S)
        set_service(runtime, "onnx_gpu", providers=["cpu"])
        assert runtime.wait_settled(SETTLE_S)
        (service,) = runtime.status()["services"]
        assert (service["state"], service["runs_on"], service["note"]) == ("ready", "cpu", None)
