"""What a runtime makes of a real Triton that fails: it says so, and comes back by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.backends.triton_client import INFER_S
from nbmodel.errors import InferenceError, UnavailableError
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime import reconciler
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.storage import MemoryStorage
from tests.conformance.test_backends import onnx_sums
from tests.tools.restart import deploy, factor
from tests.tools.toy_versions import ROW, SERVICE, machine, toy
from tests.tools.triton import (
    NoTritonError,
    Triton,
    disk_of,
    packages,
    processes,
    program,
    triton,
)

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

PATIENCE_S = 90.0
STORAGE = MemoryStorage()
ONE, TWO = toy(STORAGE, 1, 2.0), toy(STORAGE, 2, 3.0)
#: Takes the server down that loads it.
KILLER = b"""\
import os


class TritonPythonModel:
    def initialize(self, args):
        os.kill(os.getppid(), 9)

    def execute(self, requests):
        return []
"""
CONFIG = b"""\
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 2 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 2 ] }
"""
#: Crashes when it is asked.
CRASHES = KILLER.replace(b"os.kill(os.getppid(), 9)", b"pass").replace(
    b"return []", b"os.kill(os.getpid(), 11)"
)
BAD = toy(STORAGE, 3, 4.0, files={"model.py": KILLER, "config.pbtxt": CONFIG}, framework="python")
CRASHING = toy(
    STORAGE, 4, 4.0, files={"model.py": CRASHES, "config.pbtxt": CONFIG}, framework="python"
)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be over soon is tried again soon."""
    monkeypatch.setattr(reconciler, "AGAIN_S", 0.5)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[EdgeRuntime]:
    runtime = EdgeRuntime(tmp_path / "home", name="here", environment={})
    yield runtime
    runtime.close()


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """Attributes of a tritonserver that the runtime starts."""
    try:
        path, backends = program(tmp_path / "program")
    except NoTritonError as exc:
        pytest.skip(str(exc))
    return {"tritonserver": str(path), "backend_directory": str(backends)}


@contextmanager
def elsewhere(scratch: Path, **options: Any) -> Iterator[Triton]:
    """A Triton that others started."""
    (scratch / "models").mkdir(parents=True)
    try:
        with triton(scratch / "models", scratch, models=[], **options) as server:
            yield server
    except NoTritonError as exc:
        pytest.skip(str(exc))


def config(place: dict[str, Any]) -> dict[str, Any]:
    """The toy service in Triton; of ONNX by ONNX Runtime in its Python backend."""
    document = machine(confirm_s=0.05)
    (service,) = document["services"]
    parameters = {"python_path": {"string_value": ":".join(packages())}}
    service["model"] = "triton"
    service["attributes"] |= {
        "model_config": {"backend": "python", "parameters": parameters},
        **place,
    }
    return document


def status(runtime: EdgeRuntime) -> dict[str, Any]:
    (entry,) = runtime.status()["services"]
    return dict(entry)


def wait(runtime: EdgeRuntime, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait for a status, and give it; nobody asks for anything meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while not until(entry := status(runtime)):
        assert time.monotonic() < deadline, entry
        time.sleep(0.02)
    return entry


def is_committed(number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda entry: (entry["number"], entry["phase"]) == (number, "ready")


def said(words: str) -> Callable[[dict[str, Any]], bool]:
    return lambda entry: words in str(entry["error"])


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of two megabytes, on which tritonservers of our own get their models."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    monkeypatch.setenv("TMPDIR", str(folder))  # for processes in which versions are tried out
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_under_a_server_of_our_own_leaves_the_old_version_serving(
    small_disk: Path, runtime: EdgeRuntime, own: dict[str, Any]
) -> None:
    deploy(runtime, STORAGE, ONE, config(own))
    wait(runtime, is_committed(1))
    with suppress(OSError), (small_disk / "filler").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    deploy(runtime, STORAGE, TWO, config(own))
    entry = wait(runtime, said("No space left on device"))
    assert factor(runtime) == 2
    assert entry["number"] == 1
    assert entry["failed"] is None  # nothing is held against the version
    (small_disk / "filler").unlink()
    wait(runtime, is_committed(2))
    assert factor(runtime) == 3
    assert status(runtime)["error"] is None


def test_a_full_disk_of_a_triton_elsewhere_is_told_from_a_bad_version(
    tmp_path: Path, runtime: EdgeRuntime
) -> None:
    with elsewhere(tmp_path / "triton", disk="1m") as server:
        place = {"address": f"http://{server.http}"}
        deploy(runtime, STORAGE, ONE, config(place))
        wait(runtime, is_committed(1))
        disk_of(server).fill()
        deploy(runtime, STORAGE, TWO, config(place))
        entry = wait(runtime, said("has no room for a model of"))
        assert factor(runtime) == 2
        assert (entry["number"], entry["failed"]) == (1, None)
        assert "free space on its machine" in entry["hint"]
        disk_of(server).empty()
        wait(runtime, is_committed(2))
        assert factor(runtime) == 3
        assert status(runtime)["error"] is None


def test_a_version_that_comes_while_triton_is_down_is_taken_up_when_it_is_back(
    tmp_path: Path, runtime: EdgeRuntime
) -> None:
    with elsewhere(tmp_path / "first") as server:
        place = {"address": f"grpc://{server.grpc}"}
        deploy(runtime, STORAGE, ONE, config(place))
        wait(runtime, is_committed(1))
        server.process.kill()
        server.process.wait()
        deploy(runtime, STORAGE, TWO, config(place))
        wait(runtime, lambda entry: entry["state"] == "failed")
        assert factor(runtime) is None
        ports = [int(one.rpartition(":")[2]) for one in (server.http, server.grpc)]
    with elsewhere(tmp_path / "second", ports=(ports[0], ports[1])):
        entry = wait(runtime, is_committed(2))
        assert entry["error"] is None
        assert factor(runtime) == 3


@pytest.mark.parametrize("kind", ["own", "http", "grpc"])
def test_a_model_whose_process_is_killed_is_loaded_anew(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    runtime: EdgeRuntime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As the system does where memory is short; Triton itself calls the model ready still."""

    def run(place: dict[str, Any], root: int) -> None:
        deploy(runtime, STORAGE, ONE, config(place))
        wait(runtime, is_committed(1))
        os.kill(only_process(root), signal.SIGKILL)
        with pytest.raises(
            InferenceError, match=r"process that ran it in Triton has ended"
        ) as told:
            runtime.infer(InferRequest(SERVICE, {"x": ROW}))
        assert told.value.hint == "it is loaded again: ask again later"
        wait(runtime, lambda entry: entry["error"] is None and factor(runtime) == 2)
        assert "runs again in Triton: the process that ran it in Triton has ended" in caplog.text

    if kind == "own":
        run(request.getfixturevalue("own"), os.getpid())
        return
    with elsewhere(tmp_path / "triton") as server:
        run({"address": f"{kind}://{getattr(server, kind)}"}, server.process.pid)


def only_process(root: int) -> int:
    """The process of the model that serves; that in which it was tried out goes first."""
    deadline = time.monotonic() + PATIENCE_S
    while len(found := processes(root, "triton_python_backend_stub")) != 1:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found[0]


def test_a_model_that_takes_its_server_down_is_refused_for_good(
    runtime: EdgeRuntime, own: dict[str, Any]
) -> None:
    deploy(runtime, STORAGE, ONE, config(own))
    wait(runtime, is_committed(1))
    document = config(own)
    (service,) = document["services"]
    folder = {"model_path": "${packages.ml_model.scale}"}
    service["attributes"] = {**folder, **own}
    deploy(runtime, STORAGE, BAD, document)
    entry = wait(runtime, lambda entry: entry["failed"] is not None)
    assert "Triton ended, or did not answer, while it loaded it" in entry["failed"]["reason"]
    assert entry["number"] == 1
    assert factor(runtime) == 2  # tried out in a server of its own


def test_a_model_that_crashes_is_refused_with_the_crash(
    runtime: EdgeRuntime, own: dict[str, Any]
) -> None:
    document = config(own)
    (service,) = document["services"]
    service["attributes"] = {"model_path": "${packages.ml_model.scale}", **own}
    deploy(runtime, STORAGE, CRASHING, document)
    entry = wait(runtime, lambda entry: entry["failed"] is not None)
    assert "has ended" in entry["failed"]["reason"]
    assert entry["number"] is None


def test_a_server_that_answers_nothing_is_started_again(
    runtime: EdgeRuntime, own: dict[str, Any]
) -> None:
    deploy(runtime, STORAGE, ONE, config(own))
    wait(runtime, is_committed(1))
    deadline = time.monotonic() + PATIENCE_S
    while len(found := processes(os.getpid(), "tritonserver")) != 1:  # others are about to end
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    (pid,) = found
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        runtime.infer(InferRequest(SERVICE, {"x": ROW}))
    assert time.monotonic() - began < INFER_S
    wait(runtime, lambda entry: entry["error"] is None and factor(runtime) == 2)
    assert processes(os.getpid(), "tritonserver") != [pid]


def test_a_server_that_a_script_started_ends_with_the_process_that_asked_for_it(
    own: dict[str, Any], tmp_path: Path
) -> None:
    """A script that waits for it: who tells the script to end does not tell the server."""
    script = Path(own["tritonserver"])
    script.write_text(script.read_text().replace("exec ", "") + "exit $?\n")
    net = tmp_path / "net.onnx"
    net.write_bytes(onnx_sums())
    service = config(own)["services"][0]["attributes"] | {"model_path": str(net)}
    code = (
        "import json, os, signal, sys; from nbmodel.backends import load_backend;"
        "from tests.tools.triton import processes;"
        "session = load_backend('triton').load(json.loads(sys.argv[1]));"
        "print(*processes(os.getpid(), 'tritonserver'),"
        "*processes(os.getpid(), 'triton_python_backend_stub'), flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(service)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) >= 2
    deadline = time.monotonic() + PATIENCE_S
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
