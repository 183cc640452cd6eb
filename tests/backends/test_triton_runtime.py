"""A runtime whose service runs in a real tritonserver: deployed, replaced, killed, rolled back."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.errors import InferenceError, NbModelError
from nbmodel.storage import MemoryStorage
from tests.tools.device import PATIENCE_S, Device
from tests.tools.toy_versions import MODEL, ROW, SERVICE, Toy, machine, picky_onnx, toy
from tests.tools.triton import NoTritonError, packages, program, triton

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

#: Under load, where Triton is reached so; each takes seconds, so not every way has all of them.
SWITCHES = {"own": 6, "http": 50, "grpc": 6}
#: A program that scales: what is light to load many times.
SCALING = """\
import sys

sys.path[:0] = {packages!r}

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x * x.dtype.type({factor}))]))
        return answers
"""
SCALING_CONFIG = b"""\
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 2 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 2 ] }
"""
CLIENTS = 3
PAUSE_S = 0.01  # between the requests of one: what loads models needs the processor, too


@dataclass(frozen=True)
class Place:
    """Where a service's Triton is.

    Attributes:
        attributes: That say so.
        address: ``host:port`` of its HTTP front end; empty for one that the runtime starts.
        kind: ``own``, or the protocol by which one elsewhere is reached.
    """

    attributes: dict[str, Any]
    address: str = ""
    kind: str = "own"

    def models(self) -> set[str]:
        """Names of the models that it has loaded."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request("GET", "/v2/models/stats")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return {entry["name"] for entry in answer["model_stats"]}


@pytest.fixture(params=["own", "http", "grpc"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    scratch = tmp_path / "triton"
    (scratch / "models").mkdir(parents=True)
    try:
        if request.param == "own":
            path, backends = program(scratch)
            yield Place({"tritonserver": str(path), "backend_directory": str(backends)})
            return
        with triton(scratch / "models", scratch, models=[]) as server:
            host = server.http if request.param == "http" else server.grpc
            yield Place({"address": f"{request.param}://{host}"}, server.http, request.param)
    except NoTritonError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with Device(tmp_path / "home") as device:
        yield device
        device.stop()


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


def config(place: Place, **deployment: Any) -> dict[str, Any]:
    """The toy service in Triton, by ONNX Runtime in its Python backend."""
    document = machine(**{"confirm_s": 0.1, **deployment})
    (service,) = document["services"]
    service["model"] = "viam:mlmodelservice:triton"
    parameters = {"python_path": {"string_value": ":".join(packages())}}
    service["attributes"] |= {
        "model_name": "scale",
        "model_config": {"backend": "python", "parameters": parameters},
        **place.attributes,
    }
    return document


def scaling(storage: MemoryStorage, number: int, factor: float) -> Toy:
    """A version that is a program for the Python backend."""
    program = SCALING.format(packages=packages(), factor=factor).encode()
    files = {"model.py": program, "config.pbtxt": SCALING_CONFIG}
    return toy(storage, number, factor, files=files, framework="python")


def tritonservers(device: Device) -> list[int]:
    """Pids of the servers that a runtime has started."""
    found = []
    for pid in device.children():
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "tritonserver":
                found.append(pid)
        except OSError:
            continue
    return found


def wait_for(device: Device, factor: float) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if device.answer() == factor:
                return
        except NbModelError:
            pass
        time.sleep(0.05)
    raise AssertionError(device.status())


def test_versions_come_and_go(device: Device, storage: MemoryStorage, place: Place) -> None:
    one, two = toy(storage, 1, 2.0), toy(storage, 2, 3.0)
    liar = toy(storage, 3, 5.0, golden=4.0)
    torn = toy(storage, 4, 6.0, files={"model.onnx": b"\x08\x08 not whole"})
    device.push(storage, one, "latest")
    device.configure(config(place))
    device.wait_committed(one)
    assert device.answer() == 2.0

    device.push(storage, two, "latest")
    device.wait_committed(two)
    assert device.answer() == 3.0

    for bad in (liar, torn):
        device.push(storage, bad, "latest")
        status = device.wait(lambda status: bool(status.get("failed")))
        assert device.answer() == 3.0
        assert status["number"] == 2
    if place.address:
        assert len(place.models()) == 1, "what a probe has loaded is let go of"

    device.remote.put_config({**config(place), "packages": machine("1")["packages"]}, if_match=None)
    device.wait_committed(one)
    assert device.answer() == 2.0


def test_a_rollback_goes_back(device: Device, storage: MemoryStorage, place: Place) -> None:
    one, two = toy(storage, 1, 2.0), toy(storage, 2, 3.0)
    device.push(storage, one, "latest")
    device.configure(config(place))
    device.wait_committed(one)
    device.push(storage, two, "latest")
    device.wait_committed(two)
    device.remote.rollback(SERVICE)
    wait_for(device, 2.0)
    if place.address:
        deadline = time.monotonic() + PATIENCE_S
        while len(place.models()) > 1:
            assert time.monotonic() < deadline, place.models()
            time.sleep(0.1)


def test_nothing_is_left_when_the_runtime_ends(
    device: Device, storage: MemoryStorage, place: Place
) -> None:
    one = toy(storage, 1, 2.0)
    device.push(storage, one, "latest")
    device.configure(config(place))
    device.wait_committed(one)
    servers = tritonservers(device)
    assert len(servers) == (0 if place.address else 1)
    device.stop()
    if place.address:
        assert place.models() == set()
    for pid in servers:
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.timeout(900)
def test_no_request_is_lost_while_versions_change(
    device: Device, storage: MemoryStorage, place: Place
) -> None:
    versions = [scaling(storage, 1, 2.0), scaling(storage, 2, 3.0)]
    for version in versions:
        device.push(storage, version)
    device.push(storage, versions[0], "latest")
    document = config(place, confirm_s=0)
    (service,) = document["services"]
    del service["attributes"]["model_config"]
    service["attributes"]["model_path"] = "${packages.ml_model.scale}"
    device.configure(document)
    device.wait_committed(versions[0])
    over = threading.Event()
    answered = [0] * CLIENTS
    wrong: list[object] = []

    def ask(number: int) -> None:
        while not over.wait(PAUSE_S):
            try:
                answer = device.remote.infer(SERVICE, {"x": ROW})["y"][0, 0]
            except NbModelError as exc:
                wrong.append(exc)
            else:
                answered[number] += 1
                if answer not in (2.0, 3.0):
                    wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for count in range(SWITCHES[place.kind]):
            wanted = versions[(count + 1) % 2]
            device.remote.distribution.push(MODEL, storage, wanted.digest, tags=("latest",))
            device.wait_committed(wanted)
            assert not wrong, (count, wrong[:3])
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(answered) > SWITCHES[place.kind]


@pytest.mark.parametrize("place", ["own"], indirect=True)
def test_a_server_that_is_killed_comes_back_with_its_models(
    device: Device, storage: MemoryStorage, place: Place
) -> None:
    one = toy(storage, 1, 2.0)
    device.push(storage, one, "latest")
    device.configure(config(place))
    device.wait_committed(one)
    (pid,) = tritonservers(device)
    program = Path(place.attributes["tritonserver"])
    held = program.with_name("held")  # until somebody has seen that it is down
    held.touch()
    waiting = f"while [ -e {held} ]; do sleep 0.05; done\nexec "
    program.write_text(program.read_text().replace("exec ", waiting))
    os.kill(pid, signal.SIGKILL)
    status = device.wait(lambda status: status["error"] is not None)
    assert status["state"] == "failed"
    assert "was killed by SIGKILL" in status["error"]
    assert "started again" in status["error"]
    held.unlink()
    wait_for(device, 2.0)
    status = device.wait(lambda status: status["state"] == "ready")
    assert status["error"] is None
    assert tritonservers(device) != [pid]
    said: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while not any("SIGKILL" in text and "runs again in Triton" in text for text in said):
        assert time.monotonic() < deadline, said
        said = [event.text for event in device.remote.events()[0]]
        time.sleep(0.05)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_triton_elsewhere_that_is_started_again_gets_its_models_back(
    device: Device, storage: MemoryStorage, tmp_path: Path, protocol: str
) -> None:
    scratches = [tmp_path / name for name in ("first", "second")]
    for scratch in scratches:
        (scratch / "models").mkdir(parents=True)
    one = toy(storage, 1, 2.0)
    device.push(storage, one, "latest")
    try:
        with triton(scratches[0] / "models", scratches[0], models=[]) as server:
            host = server.http if protocol == "http" else server.grpc
            device.configure(config(Place({"address": f"{protocol}://{host}"})))
            device.wait_committed(one)
            http_port, grpc_port = (one.rpartition(":")[2] for one in (server.http, server.grpc))
            server.process.kill()
        status = device.wait(lambda status: status["state"] != "ready")
        assert f"Triton at {protocol}://{host} cannot be reached" in status["error"]
        ports = (int(http_port), int(grpc_port))
        with triton(scratches[1] / "models", scratches[1], models=[], ports=ports):
            wait_for(device, 2.0)
            device.wait(lambda status: status["state"] == "ready")
    except NoTritonError as exc:
        pytest.skip(str(exc))


def test_a_model_that_fails_is_given_up(
    device: Device, storage: MemoryStorage, place: Place
) -> None:
    one = toy(storage, 1, 2.0)
    picky = toy(storage, 2, 3.0, files={"model.onnx": picky_onnx(3.0)})
    device.push(storage, one, "latest")
    document = config(place, confirm_s=60, max_failure_rate=0.5, min_requests=3)
    device.configure(document)
    device.wait(lambda status: status.get("number") == 1)
    device.push(storage, picky, "latest")
    device.wait(lambda status: status.get("number") == 2)
    for _ in range(6):
        with contextlib.suppress(InferenceError):  # or it is replaced by then
            device.remote.infer(SERVICE, {"x": ROW * 9})
    device.wait(lambda status: status.get("number") == 1)


def test_what_is_onnx_runs_by_itself_without_a_backend_for_it(
    device: Device, storage: MemoryStorage, place: Place
) -> None:
    document = config(place)
    (service,) = document["services"]
    del service["attributes"]["model_config"]["backend"]
    device.push(storage, toy(storage, 1, 2.0), "latest")
    device.configure(document)
    wait_for(device, 2.0)
    assert "ONNX Runtime runs inside its Python backend" in device.status()["note"]
