"""Bad models, deployed as a person does it to a runtime that serves a good one.

The good one answers all along, under a constant load with every answer checked; the refusal
says why; what was refused is not tried again until something changes; and the next good one
is taken.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.client import Client
from nbmodel.core.golden import Golden
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import DeployError, NbModelError
from nbmodel.fleet.known import Known, KnownRuntimes
from nbmodel.fleet.local import start_local, stop_local
from nbmodel.golden import GoldenSample
from nbmodel.inference import InferenceClient
from tests.tools import bad_models
from tests.tools.bad_backend import SIGNATURE, install_bad_backend
from tests.tools.toy_versions import scaling_onnx

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.unhurried,
    pytest.mark.skipif(sys.platform == "win32", reason="names signals"),
]

EDGE = "edge"
MIB = 2**20
PAUSE_S = 0.005
SETTLE_S = 30.0
DEPLOYMENT = {"confirm_s": 0.1, "probe_timeout_s": 4, "probe_memory_bytes": 300 * MIB}
X = np.array([[1, 2]], np.float32)


@dataclass
class Load:
    """Somebody who asks a service all the time, and checks every answer.

    Attributes:
        right: The factors that an answer may have now.
        answers: How many were right.
        wrong: What was not, in words.
    """

    service: str
    right: frozenset[float] = frozenset()
    answers: int = 0
    wrong: list[str] = field(default_factory=list)

    def run(self, url: str, stop: threading.Event) -> None:
        """Ask until told to stop."""
        generator = np.random.default_rng(0)
        with InferenceClient(url) as client:
            while not stop.wait(PAUSE_S):
                x = generator.integers(1, 100, (1, 2)).astype(np.float32)
                allowed = self.right
                try:
                    y = client.infer(self.service, {"x": x}).outputs["y"]
                    allowed |= self.right
                    factors = set((y / x).reshape(-1).tolist())
                    problem = "" if factors <= allowed else f"{factors}, expected {set(allowed)}"
                except NbModelError as exc:
                    problem = f"{type(exc).__name__}: {exc}"
                if problem:
                    self.wrong.append(problem)
                else:
                    self.answers += 1


class Edge:
    """A registry, a runtime in a process of its own, and a service under load.

    Args:
        folder: For all of it.
        backend: What runs the service's models.
        deployment: How new versions are taken up.
    """

    def __init__(
        self, folder: Path, backend: str, deployment: Mapping[str, Any] = DEPLOYMENT
    ) -> None:
        self.client = Client(folder)
        self.backend = backend
        self.model = "scale"
        self.folder = folder
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        config = folder / "machine.json"
        config.write_text(json.dumps({"nbmodel": {"deployment": deployment}}))
        self.client.runtimes.start(EDGE, config=config)
        self.load = Load(self.model)
        self.factor = 0.0
        self.serve(3)
        self._begin()

    @property
    def known(self) -> Known:
        return KnownRuntimes(self.folder).get(EDGE)

    def status(self) -> dict[str, Any]:
        """Of the service."""
        status = self.client.runtimes.get(EDGE).status()
        (entry,) = (one for one in status["services"] if one["name"] == self.model)
        return dict(entry)

    def settle(self) -> dict[str, Any]:
        """The status when nothing is under way."""
        deadline = time.monotonic() + SETTLE_S
        while not self.client.runtimes.get(EDGE).status()["settled"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self.status()

    def wait(self, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The status as soon as something is true of it."""
        deadline = time.monotonic() + SETTLE_S
        while not until(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(0.02)
        return status

    def publish(
        self,
        content: bytes,
        golden: float | None = None,
        signature: Signature = SIGNATURE,
    ) -> str:
        """Make a version of a model file; its reference."""
        files: dict[str, Path | bytes] = {"model.onnx": content}
        if golden is not None:
            files["golden.npz"] = GoldenSample({"x": X}, {"y": X * golden}).to_bytes()
        version = self.client.registry.add(
            self.model,
            files,
            framework="onnx",
            model_type="other",
            signature=signature,
            golden=None if golden is None else Golden(),
        )
        return version.reference

    def deploy(self, reference: str) -> None:
        self.client.deploy(reference, on=EDGE, backend=self.backend)

    def good(self, factor: float) -> bytes:
        """A model file that scales."""
        if self.backend == "bad":
            return json.dumps({"factor": factor}).encode()
        return scaling_onnx(factor)

    def serve(self, factor: float) -> None:
        """Deploy a good version, and expect its answers from now on."""
        reference = self.publish(self.good(factor), golden=factor)
        self.load.right |= {factor}
        self.deploy(reference)
        self.load.right = frozenset({factor})
        self.factor = factor

    def kill(self) -> None:
        """End the runtime as a power cut does; the load pauses until it is back."""
        self._end()
        pid = self.known.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the runtime in order; the load pauses until it is back."""
        self._end()
        stop_local(self.known)

    def start(self) -> None:
        """Start the runtime again, with nobody who brings it anything."""
        home = self.known.home
        assert home is not None
        KnownRuntimes(self.folder).add(start_local(EDGE, home, before=self.known))
        self._begin()

    def close(self) -> None:
        self._end()
        self.client.runtimes.stop(EDGE)
        self.client.close()

    def _begin(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self.load.run, args=(self.known.url, self._stop))
        self._thread.start()

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Backend ``bad`` is installed, here and in what is started."""
    folder = install_bad_backend(tmp_path_factory.mktemp("plugins"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        yield


@pytest.fixture(scope="module")
def plugin_edge(tmp_path_factory: pytest.TempPathFactory, plugins: None) -> Iterator[Edge]:
    edge = Edge(tmp_path_factory.mktemp("edge"), "bad")
    yield edge
    edge.close()


@pytest.fixture(scope="module")
def onnx_edge(tmp_path_factory: pytest.TempPathFactory, plugins: None) -> Iterator[Edge]:
    edge = Edge(tmp_path_factory.mktemp("edge"), "onnx_cpu")
    yield edge
    edge.close()


def check_refused(edge: Edge, reference: str, *words: str) -> None:
    """That a version is refused with these words, and nobody notices anything else."""
    edge.load.wrong.clear()
    before, answered = edge.settle(), edge.load.answers
    number = int(reference.partition(":")[2])
    with pytest.raises(DeployError) as refused:
        edge.deploy(reference)
    for word in words:
        assert word in str(refused.value), str(refused.value)
    status = edge.settle()
    assert edge.load.wrong == []
    assert edge.load.answers > answered, "the load went on"
    assert (status["state"], status["number"]) == ("ready", before["number"])
    failed = status["failed"]
    assert failed is not None
    for word in words:
        assert word in failed["reason"]
    assert failed["digest"] == edge.client.registry.resolve(reference).digest
    check_not_tried_again(edge, number)


def check_not_tried_again(edge: Edge, number: int) -> None:
    """That a push of something else is no reason to try a version once more."""
    before = edge.status()["failed"]
    remote = edge.client.runtimes.get(EDGE)
    version = edge.client.registry.resolve(f"{edge.model}:{number}")
    remote.distribution.push(
        edge.model, edge.client.registry.storage, version.digest, tags=[f"touched-{number}"]
    )
    assert edge.settle()["failed"] == before
    assert edge.load.wrong == []


#: What a plug-in's model does → what its golden sample was made with, and words of the refusal.
PLUGIN_MODELS: Mapping[str, tuple[Mapping[str, Any], float | None, tuple[str, ...]]] = {
    "does not load": ({"load": "raise no such tensor"}, None, ("no such tensor",)),
    "segfaults when it is loaded": (
        {"load": "segfault"},
        None,
        ("crashes while loading the model", "SIGSEGV"),
    ),
    "segfaults at its first request": (
        {"run": "segfault"},
        3,
        ("crashes while answering its golden sample", "SIGSEGV"),
    ),
    "segfaults at its second request": (
        {"run": "segfault", "on": 2},
        2,
        ("crashes while answering its golden sample (run 2)", "SIGSEGV"),
    ),
    "aborts": ({"load": "abort"}, None, ("SIGABRT", "assertion `tensor != nullptr' failed")),
    "ends the process": ({"load": "exit 0"}, None, ("loading the model", "exit code 0")),
    "hangs when it is loaded": ({"load": "hang"}, None, ("loading the model", "4 s")),
    "hangs at its second request": ({"run": "hang", "on": 2}, 2, ("run 2", "4 s")),
    "hangs and lets nothing else run": ({"run": "hold"}, 2, ("4 s",)),
    "eats memory when it is loaded": ({"load": "allocate 500"}, None, ("memory", "300")),
    "eats memory at a request": ({"run": "allocate 500"}, None, ("memory", "300")),
    "answers what is no number": ({"run": "nan"}, None, ("nan", "output 'y'")),
    "answers what is no number at its second request": (
        {"run": "nan", "on": 2},
        2,
        ("output 'y'", "run 2"),
    ),
    "answers in another shape": ({"run": "shape"}, None, ("FP32[1, 1]", "y FP32[-1,2]")),
    "answers in another datatype": ({"run": "datatype"}, None, ("INT64[1, 2]", "y FP32[-1,2]")),
    "answers other numbers": (
        {"factor": 7},
        3,
        ("answers its golden sample wrongly", "expected 6, found 14"),
    ),
    "answers other numbers by little": (
        {"factor": 3.01},
        3,
        ("answers its golden sample wrongly", "expected 6, found 6.02"),
    ),
    "fails only at its second request": (
        {"run": "raise no luck", "on": 2},
        2,
        ("cannot run the golden sample (run 2)", "no luck"),
    ),
    "fails only at its second request, without a golden sample": (
        {"run": "raise no luck", "on": 2},
        None,
        ("no luck",),
    ),
}


@pytest.mark.parametrize("name", PLUGIN_MODELS)
def test_a_model_that(plugin_edge: Edge, name: str) -> None:
    behaviour, golden, words = PLUGIN_MODELS[name]
    content = {**behaviour, "name": name}  # no two versions are equal
    reference = plugin_edge.publish(json.dumps(content).encode(), golden)
    check_refused(plugin_edge, reference, *words)


WRONG = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "INT64", (-1, 2)),))
ONE = Signature((Tensor("x", "FP32", (1,)),), (Tensor("y", "FP32", (1,)),))
MISSING = Signature((*SIGNATURE.inputs, Tensor("z", "FP32", (-1,))), SIGNATURE.outputs)

ONNX_MODELS: Mapping[str, tuple[bytes, float | None, Signature, tuple[str, ...]]] = {
    "is cut off": (bad_models.truncated(scaling_onnx(5)), None, SIGNATURE, ("model.onnx",)),
    "is something else": (b"<!doctype html>", None, SIGNATURE, ("model.onnx",)),
    "is empty": (b"", None, SIGNATURE, ("model.onnx",)),
    "needs an unknown operator": (bad_models.unknown_operator(), None, SIGNATURE, ("Frobnicate",)),
    "eats memory": (bad_models.memory_eater(2000), None, ONE, ("memory",)),
    "never answers": (bad_models.endless(), None, ONE, ("4 s",)),
    "divides nothing by nothing": (bad_models.not_a_number(), None, SIGNATURE, ("nan",)),
    "answers in another shape than it says": (
        bad_models.wrong_promise(),
        None,
        SIGNATURE,
        ("output 'y'",),
    ),
    "answers other numbers": (scaling_onnx(5), 3, SIGNATURE, ("expected 6, found 10",)),
    "has another datatype than its manifest says": (
        scaling_onnx(6),
        None,
        WRONG,
        ("has other tensors than its manifest says", "INT64"),
    ),
    "lacks an input that its manifest promises": (
        scaling_onnx(8),
        None,
        MISSING,
        ("has other tensors than its manifest says", "z FP32[-1]", "missing"),
    ),
}


@pytest.mark.parametrize("name", ONNX_MODELS)
def test_an_onnx_model_that(onnx_edge: Edge, name: str) -> None:
    content, golden, signature, words = ONNX_MODELS[name]
    reference = onnx_edge.publish(content, golden, signature)
    check_refused(onnx_edge, reference, *words)


def test_after_a_bad_one_a_good_one_is_taken(plugin_edge: Edge) -> None:
    bad = plugin_edge.publish(b'{"load": "segfault", "before": "a good one"}')
    check_refused(plugin_edge, bad, "SIGSEGV")
    plugin_edge.serve(plugin_edge.factor + 1)
    status = plugin_edge.settle()
    assert status["failed"] is None
    assert status["error"] is None
    assert plugin_edge.load.wrong == []


def test_the_same_bad_one_is_tried_again_when_a_person_asks(plugin_edge: Edge) -> None:
    bad = plugin_edge.publish(b'{"load": "raise once and again"}')
    check_refused(plugin_edge, bad, "once and again")
    before = plugin_edge.status()["failed"]["at"]
    time.sleep(1.1)  # times are told in seconds
    plugin_edge.client.runtimes.get(EDGE).reconcile()
    time.sleep(0.2)
    assert plugin_edge.settle()["failed"]["at"] > before
    assert plugin_edge.load.wrong == []


@pytest.mark.parametrize("which", ["the runtime is killed", "the runtime is stopped"])
def test_a_bad_one_stays_refused_over_a_restart(plugin_edge: Edge, which: str) -> None:
    bad = plugin_edge.publish(json.dumps({"run": "segfault", "then": which}).encode(), 2)
    check_refused(plugin_edge, bad, "SIGSEGV")
    before = plugin_edge.status()
    if which == "the runtime is killed":
        plugin_edge.kill()
    else:
        plugin_edge.stop()
    plugin_edge.start()
    status = plugin_edge.settle()
    assert (status["state"], status["number"]) == ("ready", before["number"])
    assert status["failed"] == before["failed"], "it was not tried again"
    answered = plugin_edge.load.answers
    time.sleep(0.3)
    assert plugin_edge.load.answers > answered
    assert plugin_edge.load.wrong == []


def test_a_bad_one_of_another_backend_leaves_the_old_one_its_own(plugin_edge: Edge) -> None:
    """The config names the new backend; the old version goes on with the old one."""
    plugin_edge.load.wrong.clear()
    before = plugin_edge.settle()
    bad = plugin_edge.publish(b"not a model")
    with pytest.raises(DeployError, match=r"model\.onnx"):
        plugin_edge.client.deploy(bad, on=EDGE, backend="onnx_cpu")
    plugin_edge.kill()
    plugin_edge.start()
    status = plugin_edge.settle()
    assert (status["state"], status["number"]) == ("ready", before["number"])
    answered = plugin_edge.load.answers
    time.sleep(0.3)
    assert plugin_edge.load.answers > answered
    assert plugin_edge.load.wrong == []


# What no trial finds out


@pytest.fixture
def trusting_edge(tmp_path: Path, plugins: None) -> Iterator[Edge]:
    """An edge whose new versions are on trial for longer than the tests take."""
    deployment = {**DEPLOYMENT, "confirm_s": 60, "max_failure_rate": 0.1, "min_requests": 20}
    edge = Edge(tmp_path, "bad", deployment)
    yield edge
    edge.close()


def test_one_that_begins_to_fail_is_rolled_back(trusting_edge: Edge) -> None:
    edge = trusting_edge
    bad = edge.publish(b'{"factor": 5, "run": "raise worn out", "on": 60}', golden=5)
    edge.load.right |= {5.0}
    edge.deploy(bad)
    edge.wait(lambda status: status["failed"] is not None)
    status = edge.wait(lambda status: status["number"] == 1)
    assert "failed" in status["failed"]["reason"]
    assert status["failed"]["digest"] == edge.client.registry.resolve(bad).digest
    edge.load.right = frozenset({edge.factor})
    assert all("worn out" in problem for problem in edge.load.wrong)
    edge.load.wrong.clear()
    answered = edge.load.answers
    time.sleep(0.5)
    assert edge.load.answers > answered
    assert edge.load.wrong == []
    assert edge.settle()["number"] == 1, "it is not tried again"


def test_one_that_takes_the_runtime_with_it_is_not_started_again(trusting_edge: Edge) -> None:
    edge = trusting_edge
    bad = edge.publish(b'{"factor": 5, "run": "segfault", "on": 150}', golden=5)
    edge.load.right |= {5.0}
    edge.deploy(bad)
    pid = edge.known.pid
    assert pid is not None
    wait_for_end(pid)
    edge.stop()
    edge.load.wrong.clear()
    edge.load.right = frozenset({edge.factor})
    edge.start()
    status = edge.settle()
    assert (status["state"], status["number"]) == ("ready", 1)
    assert status["failed"]["digest"] == edge.client.registry.resolve(bad).digest
    assert "ended while it was provisional" in status["failed"]["reason"]
    time.sleep(0.5)
    assert edge.load.wrong == []


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not is_ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_ended(pid: int) -> bool:
    """Whether a process is no more, or waits for its parent to ask for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
