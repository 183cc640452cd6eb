"""200 swaps of real models under constant load: nothing lost, nothing wrong, nothing kept.

A runtime in a process of its own, versions pushed as a person's are, and clients over HTTP
and gRPC that never stop asking. Each answer is held against the version that it says it is of.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nbmodel.backends import open_session
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.fleet.known import Known
from nbmodel.fleet.local import start_local, stop_local
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.formats import read_model
from nbmodel.storage import OciLayout

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("ai_edge_litert", reason="pip install 'nbmodel[runtime]'")
http = pytest.importorskip("tritonclient.http", reason="clients are tritonclient's")
grpc = pytest.importorskip("tritonclient.grpc", reason="clients are tritonclient's")
models = pytest.importorskip("tests.bench.models", reason="models are made with onnx")

SWAPS = 200
EARLY = 6  # swaps before memory is first looked at; each time the same models serve
BAR = 1.10
PAUSE_S = 0.04  # of each client, between two requests
SETTLE_S = 30.0
SWAPPED_S = 60.0
RTOL = 1e-3  # numpy's sums of a thousand products against the engine's

Answers = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """A model service, and what each of its versions answers.

    Attributes:
        name: Of the service, its package and its repository.
        backend: What runs it.
        question: Its only input, always the same.
        files: Number → the version's file.
        answers: Number → the right outputs.
    """

    name: str
    backend: str
    question: tuple[str, NDArray[Any]]
    files: Mapping[str, Path]
    answers: Mapping[str, Answers]

    def wrong(self, version: str, output: Callable[[str], NDArray[Any] | None]) -> str | None:
        """Why an answer is not that of the version it says it is of; None when it is."""
        right = self.answers.get(version)
        if right is None:
            return f"{self.name}: an answer of version {version!r}"
        for name, expected in right.items():
            found = output(name)
            if found is None or found.shape != expected.shape:
                return f"{self.name} {version}: no output {name!r} of shape {expected.shape}"
            if not np.allclose(found, expected, rtol=RTOL, atol=RTOL):
                return f"{self.name} {version}: output {name!r} is another version's"
        return None


@dataclass
class Tally:
    """What clients saw.

    Attributes:
        right: Service → how many answers were right.
        wrong: In words, each of the others.
        versions: Service → versions that answered.
    """

    right: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    versions: dict[str, set[str]] = field(default_factory=dict)


def _dense(folder: Path) -> Model:
    """Four versions of 14 MB; what they answer is told by numpy."""
    x = np.random.default_rng(0).standard_normal((1, 1024), np.float32)
    files, answers = {}, {}
    for seed in range(1, 5):
        path = folder / f"dense-{seed}.onnx"
        files[str(seed)] = models.write_dense_onnx(path, inputs=1024, outputs=3500, seed=seed)
        weights = np.random.default_rng(seed).standard_normal((1024, 3500), np.float32)
        answers[str(seed)] = {"y": x @ weights}
    return Model("dense", "onnx_cpu", ("x", x), files, answers)


def _eyes(test_models: Path) -> Model:
    """Two networks that look at pictures of one size, and answer differently."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    files = {
        "1": test_models / "mobilenet_v2_1.0_224_quant.tflite",
        "2": test_models / "mobilenet_v1_0.25_224_quant_with_metadata.tflite",
    }
    answers = {}
    for number, path in files.items():
        with closing(open_session(path, "tflite")) as session:
            answers[number] = dict(session.infer({"input": picture}))
    return Model("eyes", "tflite_cpu", ("input", picture), files, answers)


def _push(runtime: RemoteRuntime, model: Model, desk: OciLayout) -> None:
    """Push every version; an alias keeps it on the device whatever runs."""
    for number, path in model.files.items():
        facts = read_model(path)
        digest, size = desk.add_file(path)
        entry = FileEntry(path.name, size, digest)
        manifest = Manifest(
            model.name, f"2026-{number}", (entry,), facts.framework, "other", facts.signature
        )
        desk.add_bytes(manifest.config_bytes())
        pushed = desk.add_bytes(manifest.manifest_bytes())
        tags = (number, f"kept-{number}")
        runtime.distribution.push(model.name, desk, pushed, tags=tags)


def _config(wanted: Mapping[str, str], served: Mapping[str, Model]) -> dict[str, Any]:
    return {
        "nbmodel": {"deployment": {"confirm_s": 0.05}},
        "packages": [
            {"name": name, "package": f"local/{name}", "version": version, "type": "ml_model"}
            for name, version in wanted.items()
        ],
        "services": [
            {
                "name": name,
                "api": "rdk:service:mlmodel",
                "model": served[name].backend,
                "attributes": {"model_path": f"${{packages.ml_model.{name}}}"},
            }
            for name in wanted
        ],
    }


def _ask_http(runtime: Known, model: Model, tally: Tally, stop: threading.Event) -> None:
    name, x = model.question
    tensor = http.InferInput(name, x.shape, "FP32" if x.dtype == np.float32 else "UINT8")
    tensor.set_data_from_numpy(x)
    with http.InferenceServerClient(runtime.url.partition("//")[2]) as client:
        _keep_asking(
            model, tally, stop, lambda: client.infer(model.name, [tensor]), _version_of_http
        )


def _version_of_http(result: Any) -> str:
    return str(result.get_response()["model_version"])


def _ask_grpc(runtime: Known, model: Model, tally: Tally, stop: threading.Event) -> None:
    name, x = model.question
    tensor = grpc.InferInput(name, x.shape, "FP32" if x.dtype == np.float32 else "UINT8")
    tensor.set_data_from_numpy(x)
    with grpc.InferenceServerClient(runtime.grpc) as client:
        _keep_asking(
            model, tally, stop, lambda: client.infer(model.name, [tensor]), _version_of_grpc
        )


def _version_of_grpc(result: Any) -> str:
    return str(result.get_response().model_version)


def _keep_asking(
    model: Model,
    tally: Tally,
    stop: threading.Event,
    ask: Callable[[], Any],
    version_of: Callable[[Any], str],
) -> None:
    while not stop.wait(PAUSE_S):
        try:
            result = ask()
            version = version_of(result)
            problem = model.wrong(version, result.as_numpy)
        except Exception as exc:
            problem = f"{model.name}: {type(exc).__name__}: {exc}"
        if problem is not None:
            tally.wrong.append(problem)
        else:
            tally.right[model.name] = tally.right.get(model.name, 0) + 1
            tally.versions.setdefault(model.name, set()).add(version)


def _resident_mb(pid: int) -> float:
    """Least of what a process had resident for half a second: a request comes and goes."""
    least = float("inf")
    for _ in range(10):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                least = min(least, int(line.split()[1]) * 1024 / 1e6)
        time.sleep(0.05)
    return least


def _wait(runtime: RemoteRuntime, wanted: Mapping[str, str], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        services = runtime.status()["services"]
        runs = {one["name"]: str(one["number"]) for one in services}
        if runs == dict(wanted) and all(one["state"] == "ready" for one in services):
            return
        assert time.monotonic() < deadline, json.dumps(services, indent=1)
        time.sleep(0.005)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Known]:
    known = start_local("swaps", tmp_path / "home", grpc="127.0.0.1:0")
    yield known
    assert stop_local(known)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_two_hundred_swaps_lose_no_request_and_keep_no_memory(
    runtime: Known, test_models: Path, tmp_path: Path
) -> None:
    served = {one.name: one for one in (_dense(tmp_path), _eyes(test_models))}
    remote = RemoteRuntime(runtime.url)
    desk = OciLayout(tmp_path / "desk")
    for model in served.values():
        _push(remote, model, desk)

    def swap(turn: int) -> None:
        wanted = {name: str(turn % len(one.files) + 1) for name, one in served.items()}
        remote.put_config(_config(wanted, served), if_match=None)
        _wait(remote, wanted, SWAPPED_S)

    swap(0)
    tally, stop = Tally(), threading.Event()
    clients = [
        threading.Thread(target=ask, args=(runtime, model, tally, stop))
        for model in served.values()
        for ask in (_ask_http, _ask_grpc)
    ]
    for client in clients:
        client.start()
    assert runtime.pid is not None
    try:
        began = time.monotonic()
        for turn in range(1, SWAPS // len(served) + 2):
            swap(turn)
            if turn * len(served) == EARLY:
                early = _resident_mb(runtime.pid)
        late = _resident_mb(runtime.pid)
        took = time.monotonic() - began
    finally:
        stop.set()
        for client in clients:
            client.join(SETTLE_S)
        remote.close()
    print(f"{tally.right} answers, {early:.0f} MB, then {late:.0f} MB, {took:.0f} s")
    assert tally.wrong == []
    assert all(count > SWAPS for count in tally.right.values()), tally.right
    assert tally.versions == {name: set(one.files) for name, one in served.items()}
    assert late <= BAR * early, f"{early:.0f} MB after {EARLY} swaps, {late:.0f} MB after {SWAPS}"
