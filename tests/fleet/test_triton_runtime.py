"""A bare Triton server as a runtime of its own: everything that people do, over its real wire."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

import onnx
from onnx import numpy_helper

from nbmodel.client import Client
from nbmodel.core.signature import Signature, Tensor
from nbmodel.display import StatusCard
from nbmodel.errors import (
    ConfigError,
    DeployError,
    InferenceError,
    InputError,
    NbModelError,
    NoCompatibleBackendError,
    TargetError,
    TargetUnreachableError,
)
from nbmodel.fleet.triton_deploy import MAX_MODEL
from nbmodel.fleet.triton_runtime import TritonRuntime
from tests.tools.triton import NoTritonError, Triton, disk_of, packages, processes, triton

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

ROWS = [[1.0, 1.0]]
ONE = [15.0, 27.0, 39.0]  # x @ W + b of the toy model
SWITCHES = 50
PAUSE_S = 0.02  # between the requests of a client: what loads models needs the processor, too
MODEL = "digits"
#: Where Triton's Python backend finds numpy and onnxruntime.
PYTHON_PATH = {"parameters": {"python_path": {"string_value": ":".join(packages())}}}
ATTRIBUTES = {"model_config": PYTHON_PATH}


@contextmanager
def bare_triton(scratch: Path, **options: Any) -> Iterator[Triton]:
    """A tritonserver that has no models."""
    try:
        (scratch / "models").mkdir(parents=True)
        with triton(scratch / "models", scratch, models=[], **options) as server:
            yield server
    except NoTritonError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with bare_triton(tmp_path_factory.mktemp("bare") / "triton") as server:
        yield server


def url_of(server: Triton, protocol: str) -> str:
    return f"triton+{protocol}://{server.grpc if protocol == 'grpc' else server.http}"


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Triton, tmp_path: Path) -> Iterator[Client]:
    """A notebook that knows the Triton as ``jetson``; it leaves nothing there."""
    client = Client(tmp_path / "home")
    client.runtimes.add("jetson", url_of(server, request.param))
    yield client
    for entry in triton_of(client).status()["services"]:
        client.undeploy(f"{entry['name']}@jetson")
    client.close()


@pytest.fixture(scope="module")
def make(linear_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The toy model with its weights and bias times a number."""
    folder = tmp_path_factory.mktemp("times")

    def times(factor: int) -> Path:
        toy = onnx.load(linear_onnx)
        for tensor in toy.graph.initializer:
            array = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        path = folder / f"times{factor}.onnx"
        onnx.save(toy, path)
        return path

    return times


def upload(client: Client, path: Path, **more: Any) -> Any:
    labels = ["zero", 'a "quoted" one', "zwölf"]
    return client.upload(
        path, name=MODEL, type="classification", sample=ROWS, labels=labels, **more
    )


def wrong_golden(path: Path, other: Path, home: Path, client: Client) -> None:
    """A version whose file is not the one that gave its golden sample."""
    from nbmodel.core.golden import Golden
    from nbmodel.local import answer_source
    from nbmodel.source import read_source

    source = answer_source(read_source([other], None, None), ROWS, Golden())
    files = {**source.files, source.model_path: path}
    client.registry.add(
        MODEL,
        files,
        framework=source.framework,
        model_type="classification",
        signature=source.signature,
        golden=source.golden,
        media_types=source.media_types,
    )


def deploy(client: Client, **options: Any) -> Any:
    return client.deploy(MODEL, on="jetson", attributes=ATTRIBUTES, **options)


def answer(client: Client, target: str = f"{MODEL}@jetson") -> list[float]:
    return [float(value) for value in client.infer(target, ROWS)["y"].ravel()]


def status(client: Client, runtime: str = "jetson") -> StatusCard:
    card = client.status(runtime)
    assert isinstance(card, StatusCard)
    return card


def triton_of(client: Client) -> TritonRuntime:
    runtime = client.runtimes.get("jetson")
    assert isinstance(runtime, TritonRuntime)
    return runtime


def told(client: Client, service: str = MODEL) -> dict[str, Any]:
    services = {entry["name"]: entry for entry in status(client)["services"]}
    return dict(services[service])


def test_a_version_is_deployed_followed_pinned_refused_rolled_back_and_undeployed(
    client: Client, make: Callable[[int], Path], tmp_path: Path
) -> None:
    upload(client, make(1))
    card = deploy(client)
    assert card.sent > 0
    assert "golden" in str(card.status["probe"]) or "agree" in str(card.status["probe"])
    assert answer(client) == ONE
    result = client.infer(f"{MODEL}@jetson", ROWS)
    assert "zwölf" in result.text()  # labels come from what Triton remembers
    assert (told(client)["number"], told(client)["follows"]) == (1, "latest")

    again = deploy(client)
    assert again.sent == 0  # what serves is not sent again

    notes = upload(client, make(2)).notes
    assert any("runs digits:2" in note for note in notes)
    assert answer(client) == [2 * value for value in ONE]

    wrong_golden(make(3), make(4), tmp_path, client)
    with pytest.raises(DeployError, match=r"answers its golden sample wrongly.*version 2 keeps"):
        deploy(client)
    assert answer(client) == [2 * value for value in ONE]
    assert any("should run digits:3" in note for note in status(client).notes)

    client.pin(f"{MODEL}:1", on="jetson")
    assert answer(client) == ONE
    pinned = client.registry.resolve(f"{MODEL}:1").stamp
    assert (told(client)["number"], told(client)["follows"]) == (1, pinned)

    card = client.rollback(f"{MODEL}@jetson")
    assert any("back from digits:1 to digits:2" in note for note in card.notes)
    assert answer(client) == [2 * value for value in ONE]
    upload(client, make(5))
    assert answer(client) == [2 * value for value in ONE]  # it is held there
    assert any("runs digits:4" in note for note in client.unpin(MODEL, on="jetson").notes)
    assert answer(client) == [5 * value for value in ONE]

    client.undeploy(f"{MODEL}@jetson")
    assert status(client)["services"] == []
    with pytest.raises(TargetError, match="no service 'digits'"):
        answer(client)
    assert client.registry.deployments() == []


def test_a_status_shows_what_triton_counts_and_what_there_is_besides(
    client: Client, make: Callable[[int], Path]
) -> None:
    upload(client, make(1))
    deploy(client, service="numbers")
    for _ in range(3):
        answer(client, "numbers@jetson")
    deadline = time.monotonic() + 30
    while (entry := told(client, "numbers"))["inferences"] < 3:  # it counts after it answered
        assert time.monotonic() < deadline, entry["inferences"]
        time.sleep(0.05)
    assert int(entry["statistics"]["inference_stats"]["success"]["count"]) >= 3
    assert entry["backend"] == "python"
    text = status(client).text()
    assert "triton 2." in text
    assert "digits:1" in text
    assert "computing, ms" in text
    waited = client.status("jetson", wait=True)
    assert isinstance(waited, StatusCard)
    assert waited.exit_code == 0
    (row,) = client.runtimes.list()
    assert (row["state"], row["services"]) == ("ready", ["numbers"])


def test_another_notebook_sees_what_runs_from_triton_alone(
    client: Client, make: Callable[[int], Path], tmp_path: Path
) -> None:
    upload(client, make(1))
    deploy(client)
    upload(client, make(2))
    other = Client(tmp_path / "other")
    other.runtimes.add("there", triton_of(client).url)
    (entry,) = status(other, "there")["services"]
    version = client.registry.resolve(f"{MODEL}:2")
    assert (entry["model"], entry["number"], entry["digest"], entry["version"]) == (
        MODEL,
        2,
        version.digest,
        version.stamp,
    )
    assert entry["before"] == "digits:1"
    assert "zwölf" in other.infer(f"{MODEL}@there", ROWS).text()
    with pytest.raises(DeployError, match="digits:1 before, which is not in this registry"):
        other.rollback(f"{MODEL}@there")
    other.undeploy(f"{MODEL}@there")
    assert status(other, "there")["services"] == []
    other.close()


def test_a_plan_says_what_would_change_and_changes_nothing(
    client: Client, make: Callable[[int], Path]
) -> None:
    upload(client, make(1))
    plan = deploy(client, threads=2, dry_run=True)
    assert any("num_threads=2" in step for step in plan.steps)
    assert status(client)["services"] == []
    deploy(client, threads=2)
    stamp = client.registry.resolve(MODEL).stamp
    assert client.deploy(MODEL, on="jetson", dry_run=True).steps == (
        f"change package digits (local/digits at {stamp}) to digits (local/digits at latest)",
    )
    config = triton_of(client).client.config(MODEL)
    assert config["parameters"]["intra_op_thread_count"]["string_value"] == "2"
    upload(client, make(2))  # and so it stays
    config = triton_of(client).client.config(MODEL)
    assert config["parameters"]["intra_op_thread_count"]["string_value"] == "2"
    assert answer(client) == [2 * value for value in ONE]


def test_a_service_is_measured(client: Client, make: Callable[[int], Path]) -> None:
    upload(client, make(1))
    deploy(client)
    card = client.bench(f"{MODEL}@jetson", ROWS, count=8, concurrency=[1, 2])
    assert "digits@jetson" in card.text()


def test_what_a_triton_cannot_do_is_said_in_a_line(
    client: Client, make: Callable[[int], Path]
) -> None:
    upload(client, make(1))
    asks: dict[str, Callable[[], object]] = {
        "log on its own machine": lambda: client.runtimes.logs("jetson"),
        "no machine config": lambda: client.runtimes.config("jetson"),
        "no commands": lambda: client.do(f"{MODEL}@jetson", {"a": 1}),
        "could follow 'confirm_s'": lambda: client.deploy(MODEL, on="jetson", confirm_s=3),
        "could follow 'windows'": lambda: client.deploy(
            MODEL, on="jetson", windows=["Mon-Fri 02:00-04:00"]
        ),
        "could follow 'registry'": lambda: client.deploy(
            MODEL, on="jetson", registry="http://localhost:5000"
        ),
        "not a name for a model": lambda: deploy(client, service="../etc"),
        "no attribute 'gpus'": lambda: client.deploy(MODEL, on="jetson", attributes={"gpus": [0]}),
        "must be cpu, gpu, auto": lambda: client.deploy(
            MODEL, on="jetson", attributes={"device": "npu"}
        ),
        "not a model configuration": lambda: client.deploy(
            MODEL, on="jetson", attributes={"model_config": {"no_field": 1}}
        ),
        "no backend 'onnx_cpu'": lambda: client.deploy(MODEL, on="jetson", backend="onnx_cpu"),
        "was not started here": lambda: client.runtimes.stop("jetson"),
    }
    for words, ask in asks.items():
        with pytest.raises(NbModelError, match=words) as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert status(client)["services"] == []
    with pytest.raises(DeployError, match="no service 'digits'"):
        client.undeploy(f"{MODEL}@jetson")
    with pytest.raises(TargetError, match="no service 'digits'"):
        client.rollback(f"{MODEL}@jetson")


def test_a_model_that_no_request_can_carry_is_refused_with_the_limit(
    client: Client, make: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for protocol in ("http", "grpc"):
        monkeypatch.setitem(MAX_MODEL, protocol, 100)
    upload(client, make(1))
    with pytest.raises(DeployError, match=r"a request to load over (http|grpc) can carry 100 B"):
        deploy(client)


def test_a_format_without_a_backend_there_is_refused_before_anything_is_moved(
    client: Client, test_models: Path
) -> None:
    model = next(test_models.rglob("*.tflite"))
    client.upload(model, name="lite", type="other")
    with pytest.raises(NoCompatibleBackendError, match="tflite model, which Triton cannot run"):
        client.deploy("lite", on="jetson")


def test_a_backend_that_triton_lacks_is_named_with_those_that_it_has(client: Client) -> None:
    tensor = Tensor("x", "FP32", (1, 3))
    client.registry.add(
        "engine",
        {"model.plan": b"ptrt of another machine"},
        framework="tensorrt",
        model_type="other",
        signature=Signature((tensor,), (Tensor("y", "FP32", (1, 3)),)),
    )
    for is_plan in (True, False):
        with pytest.raises(NoCompatibleBackendError, match=r"no backend 'tensorrt', it has python"):
            client.deploy("engine", on="jetson", dry_run=is_plan)
    assert triton_of(client).loaded() == []


def test_a_wrong_file_is_refused_with_what_triton_says(
    client: Client, make: Callable[[int], Path]
) -> None:
    """The opset is one that no ONNX Runtime has."""
    toy = onnx.load(make(1))
    toy.opset_import[0].version = 9999
    path = make(1).with_name("future.onnx")
    path.write_bytes(toy.SerializeToString())
    client.upload(path, name=MODEL, type="classification")
    with pytest.raises(DeployError, match=r"digits refused digits:1: .*9999"):
        deploy(client)
    assert triton_of(client).loaded() == []
    assert client.registry.deployments() == []


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
            y = pb_utils.Tensor("y", x * x.dtype.type({factor}))
            answers.append(pb_utils.InferenceResponse([y]))
        return answers
"""
SCALING_CONFIG = """\
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 2 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 2 ] }
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("client", ["grpc"], indirect=True)
def test_no_request_is_lost_over_many_switches(
    client: Client, server: Triton, tmp_path: Path
) -> None:
    lost: list[str] = []
    seen: set[float] = set()
    is_over = threading.Event()

    def bring(factor: int) -> list[str]:
        folder = tmp_path / str(factor)
        folder.mkdir()
        program = SCALING.format(packages=packages(), factor=factor)
        (folder / "model.py").write_text(program)
        (folder / "config.pbtxt").write_text(SCALING_CONFIG)
        return list(client.upload(folder, name=MODEL, type="other").notes)

    def ask(protocol: str) -> None:
        with TritonRuntime(url_of(server, protocol)) as runtime:
            while not is_over.wait(PAUSE_S):
                try:
                    found = runtime.infer(MODEL, {"x": np.ones((1, 2), np.float32)})
                except NbModelError as exc:
                    lost.append(f"{type(exc).__name__}: {exc}")
                else:
                    seen.add(float(found["y"][0, 0]))

    bring(1)
    client.deploy(MODEL, on="jetson")
    threads = [
        threading.Thread(target=ask, args=(protocol,))
        for protocol in ("http", "grpc")
        for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    try:
        for factor in range(2, SWITCHES + 2):
            notes = bring(factor)
            assert any(f"runs digits:{factor} " in note for note in notes), notes
            deadline = time.monotonic() + 60
            while factor not in seen:  # the load is there all the time
                assert time.monotonic() < deadline, lost
                time.sleep(0.01)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert lost == []
    assert seen == set(range(1, SWITCHES + 2))
    assert [one.name for one in triton_of(client).loaded()] == [MODEL]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_triton_that_was_started_again_has_forgotten_all_and_gets_it_back(
    protocol: str,
    make: Callable[[int], Path],
    tmp_path: Path,
) -> None:
    client = Client(tmp_path / "home")
    try:
        with bare_triton(tmp_path / "first") as server:
            client.runtimes.add("jetson", url_of(server, protocol))
            upload(client, make(1))
            deploy(client)
            assert answer(client) == ONE
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait(20)
            with pytest.raises(TargetUnreachableError, match="does not answer"):
                status(client)
            (row,) = client.runtimes.list()
            assert row["state"] == "unreachable"
            with pytest.raises(NbModelError):
                answer(client)
            notes = upload(client, make(2)).notes
            assert any("could not be brought to digits:2" in note for note in notes)
        ports = tuple(int(place.rpartition(":")[2]) for place in (server.http, server.grpc))
        with bare_triton(tmp_path / "second", ports=(ports[0], ports[1])):
            until = time.monotonic() + 60
            while True:
                try:
                    card = status(client)
                    break
                except TargetUnreachableError:
                    assert time.monotonic() < until
                    time.sleep(0.2)
            assert card["services"] == []
            assert any("started again" in note for note in card.notes)
            with pytest.raises(TargetError, match="no service 'digits'"):
                answer(client)
            notes = upload(client, make(3)).notes  # it follows, and is as it was asked for
            assert any("runs digits:3" in note for note in notes), notes
            assert answer(client) == [3 * value for value in ONE]
            client.undeploy(f"{MODEL}@jetson")
    finally:
        client.close()


def test_a_version_that_does_not_fit_on_its_disk_is_no_bad_version(
    make: Callable[[int], Path], tmp_path: Path
) -> None:
    client = Client(tmp_path / "home")
    try:
        with bare_triton(tmp_path / "triton", disk="1m") as server:
            client.runtimes.add("jetson", url_of(server, "grpc"))
            upload(client, make(1))
            deploy(client)
            disk_of(server).fill()
            (note,) = [note for note in upload(client, make(2)).notes if "jetson" in note]
            assert "digits:2 does not fit" in note
            assert "version 1 keeps serving" in note
            with pytest.raises(DeployError, match="has no room for a model of") as caught:
                deploy(client)
            assert "free space on its machine" in str(caught.value.hint)
            assert answer(client) == ONE
            disk_of(server).empty()
            assert deploy(client).sent > 0
            assert answer(client) == [2 * value for value in ONE]
    finally:
        client.close()


@pytest.mark.parametrize("client", ["grpc"], indirect=True)
def test_a_model_whose_process_has_ended_is_brought_again_by_the_next_deployment(
    client: Client, make: Callable[[int], Path], server: Triton
) -> None:
    upload(client, make(1))
    deploy(client)
    (stub,) = processes(server.process.pid, "triton_python_backend_stub")
    os.kill(stub, signal.SIGKILL)
    with pytest.raises(InferenceError, match="process that ran it in Triton has ended") as caught:
        answer(client)
    assert "`deploy --on jetson` starts it anew" in str(caught.value.hint)
    entry = told(client)
    assert (entry["state"], entry["number"]) == ("failed", 1)
    assert entry["error"] == "its process in Triton has ended; `deploy --on jetson` starts it anew"
    assert deploy(client).sent > 0
    assert told(client)["state"] == "ready"
    assert answer(client) == ONE
    assert deploy(client).sent == 0


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_triton_without_explicit_model_control_is_refused_when_it_is_added(
    protocol: str, tmp_path: Path
) -> None:
    client = Client(tmp_path / "home")
    options = ["--model-control-mode=none"]
    try:
        with bare_triton(tmp_path / "triton", options=options) as server:
            with pytest.raises(ConfigError, match="takes no models") as caught:
                client.runtimes.add("jetson", url_of(server, protocol))
            assert "--model-control-mode=explicit" in str(caught.value.hint)
            assert list(client.runtimes.list()) == []
    finally:
        client.close()


#: What a person may write → what the answer says, and its hint.
WRONG = {
    "the port of gRPC": (
        "triton+http://{grpc}",
        "does not speak HTTP: is it Triton's port for",
        "",
    ),
    "the port of HTTP": ("triton+grpc://{http}", "is that Triton's port for HTTP", "gRPC on 8001"),
    "a port of nobody": (
        "triton+grpc://127.0.0.1:9",
        "answer: Connection refused",
        "running there",
    ),
    "no such host": ("triton+grpc://no.invalid:8001", "its name leads nowhere", "running there"),
    "TLS where there is none": (
        "triton+https://{http}",
        "answer: no TLS is spoken there",
        r"its address is triton\+http://127",
    ),
    "of a runtime of ours": ("http://{http}", "is a bare Triton server", r"triton\+http://127"),
    "of a Triton, as Triton's own clients have it": (
        "grpc://{grpc}",
        "HTTP is spoken here",
        r"of a bare Triton server, triton\+grpc://127",
    ),
    "no protocol": (
        "triton://{http}",
        "not the address of a Triton server",
        r"triton\+grpc://host",
    ),
}


@pytest.mark.parametrize(("address", "words", "hint"), WRONG.values(), ids=WRONG)
def test_a_wrong_address_is_told_in_a_line_with_what_to_do(
    address: str, words: str, hint: str, server: Triton, tmp_path: Path
) -> None:
    client = Client(tmp_path / "home")
    try:
        with pytest.raises(NbModelError, match=words) as caught:
            client.runtimes.add("jetson", address.format(http=server.http, grpc=server.grpc))
        assert re.search(hint, str(caught.value.hint))
        assert str(caught.value).isprintable()  # and of one line
        assert list(client.runtimes.list()) == []
    finally:
        client.close()


def test_a_token_is_refused(tmp_path: Path) -> None:
    client = Client(tmp_path / "home")
    with pytest.raises(InputError, match="wants no token"):
        client.runtimes.add("jetson", "triton+grpc://127.0.0.1:9", token="secret")
    client.close()
