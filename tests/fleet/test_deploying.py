"""Deployments as a person sees them: options, trials, provisional versions, registries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nbmodel.cli import main
from nbmodel.client import Client
from nbmodel.core.golden import Golden
from nbmodel.errors import ConfigError, DeployError, InputError
from nbmodel.fleet.deploy import service_status
from nbmodel.local import answer_source
from nbmodel.runtime.maintenance import AGAIN_S
from nbmodel.source import read_source
from nbmodel.storage.distribution_client import Distribution
from tests.tools.docker_registry import PROGRAM, docker_registry

pytestmark = pytest.mark.unhurried

ROWS = [[1.0, 1.0]]
ONE, TWO = [15.0, 27.0, 39.0], [30.0, 54.0, 78.0]  # x @ W + b of the toy model, and doubled


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client with one runtime, ``edge``, in a process of its own."""
    client = Client(tmp_path_factory.mktemp("home"))
    client.runtimes.start("edge")
    yield client
    client.runtimes.remove("edge")
    client.close()


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model name that only this test uses."""
    name = request.node.name.split("[")[0].removeprefix("test_").replace("_", "-")[:60]
    return str(name).strip("-")


@pytest.fixture(scope="module")
def doubled(linear_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model with its weights and bias doubled."""
    return scaled(linear_onnx, 2, tmp_path_factory.mktemp("doubled") / "doubled.onnx")


def scaled(linear: Path, factor: float, path: Path) -> Path:
    toy = onnx.load(linear)
    for tensor in toy.graph.initializer:
        array = numpy_helper.to_array(tensor) * factor
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(toy, path)
    return path


def upload(client: Client, path: Path, model: str, sample: object = ROWS) -> Any:
    return client.upload(path, name=model, type="regression", sample=sample)


def answer(client: Client, service: str) -> list[float]:
    return [float(value) for value in client.infer(f"{service}@edge", ROWS)["y"].ravel()]


def told(client: Client, service: str) -> dict[str, Any]:
    services = {entry["name"]: entry for entry in client.status("edge")["services"]}
    return services[service]


def test_a_deployment_says_what_its_trial_showed_and_until_when_it_is_provisional(
    client: Client, linear_onnx: Path, doubled: Path, model: str
) -> None:
    upload(client, linear_onnx, model)
    card = client.deploy(model, on="edge", confirm_s=3)
    data = json.loads(json.dumps(card.to_json()))
    assert data["probe"]["latency_ms"] > 0
    assert data["probe"]["memory_bytes"] > 1_000_000
    assert 0 < data["provisional"]["remaining_s"] <= 3
    assert "an answer" in card.text()
    assert "provisional" in card.text()
    assert "it is taken back" in card.text()  # nothing was there before
    client.status("edge", wait=True)
    assert (told(client, model)["phase"], told(client, model)["provisional"]) == ("ready", None)
    note = upload(client, doubled, model).notes
    assert any("runs" in line for line in note)
    assert "version 1 comes back" in client.status("edge").text()
    client.status("edge", wait=True)
    assert answer(client, model) == TWO


def test_what_is_given_stays_until_it_is_given_again(
    client: Client, linear_onnx: Path, model: str
) -> None:
    def deployment() -> Any:
        config, _ = client.runtimes.get("edge").config()
        (entry,) = (one for one in config["services"] if one["name"] == model)
        return entry.get("deployment")

    upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    assert deployment() is None
    client.deploy(model, on="edge", confirm_s=2, max_failure_rate=0.1, max_latency_ms=50)
    client.deploy(model, on="edge", probe_timeout_s=30, confirm_s=1)
    assert deployment() == {
        "confirm_s": 1,
        "max_failure_rate": 0.1,
        "max_latency_ms": 50,
        "probe_timeout_s": 30,
    }
    client.deploy(model, on="edge")
    assert deployment()["probe_timeout_s"] == 30
    plan = client.deploy(model, on="edge", max_latency_ms=60, dry_run=True)
    assert "max_latency_ms=60" in plan.text()
    assert "probe_timeout_s=30" in plan.text()  # what stays is said too
    card = client.deploy(model, on="edge", reset=["max-latency-ms", "max-failure-rate"])
    assert card.to_json()["deployment"] == deployment() == {"confirm_s": 1, "probe_timeout_s": 30}
    with pytest.raises(ConfigError, match="windows"):
        client.deploy(model, on="edge", windows=["sometimes"])
    assert "windows" not in deployment()


def test_all_that_was_deployed_is_brought_again_as_it_was(
    client: Client, linear_onnx: Path, doubled: Path, model: str
) -> None:
    upload(client, linear_onnx, model)
    client.deploy(f"{model}:1", on="edge", threads=2)
    upload(client, doubled, model)
    card = client.deploy(f"{model}:1", on="edge")
    assert card.to_json()["attributes"]["num_threads"] == 2  # what is in force, not what was given
    (note,) = [note for note in client.redeploy("edge").notes if f"{model}@edge" in note]
    assert f"runs {model}:1 " in note
    assert told(client, model)["follows"] == client.registry.resolve(f"{model}:1").stamp
    assert answer(client, model) == ONE


def test_how_to_deploy_goes_with_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--on", "edge", "--threads", "2"]) == 2
    said = capsys.readouterr().err
    assert "--threads is for one model" in said
    assert "deploy REF" in said


def test_a_version_that_answers_wrongly_is_refused_with_the_difference(
    client: Client, linear_onnx: Path, doubled: Path, model: str
) -> None:
    """The doubled model under the golden sample of the first one: as after a damaged export."""
    upload(client, linear_onnx, model)
    client.deploy(model, on="edge", confirm_s=0)
    wrong = _with_golden_of(client, model, linear_onnx, doubled)
    with pytest.raises(DeployError) as caught:
        client.deploy(f"{model}:{wrong}", on="edge")
    message = str(caught.value)
    assert "\n" not in message
    assert "version 1 keeps serving" in message
    assert "'y'" in message  # which output, and below by how much
    assert "expected 39, found 78" in message
    assert "the version was made with another engine" in str(caught.value.hint)
    assert answer(client, model) == ONE
    status = client.status("edge")
    assert "was given up" in status.text()
    assert "version 1 keeps serving" in status.text()
    client.deploy(f"{model}:1", on="edge")


def _with_golden_of(client: Client, model: str, linear: Path, other: Path) -> int:
    """The number of a version of ``other`` that carries the golden sample of ``linear``."""
    right = answer_source(read_source([linear], None, None), ROWS, Golden())
    wrong = read_source([other], None, None)
    (name,) = (name for name in right.files if name.endswith(".onnx"))
    files = {**right.files, name: next(iter(wrong.files.values()))}
    version = client.registry.add(
        model,
        files,
        framework=right.framework,
        model_type="regression",
        signature=right.signature,
        golden=right.golden,
    )
    return version.number


def test_batches_that_a_model_cannot_have_are_refused_before_anything_is_moved(
    client: Client, tmp_path: Path, model: str
) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)],
        "classifier",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [onnx.helper.make_tensor_value_info("label", onnx.TensorProto.INT64, ["n"])],
    )
    path = tmp_path / "classifier.onnx"
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    client.upload(path, name=model, type="classification")
    attributes = {"max_batch_size": 8, "address": "http://127.0.0.1:9"}
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match=r"two dimensions in every output.*'label' has one"):
            client.deploy(
                model, on="edge", backend="triton", attributes=attributes, dry_run=dry_run
            )
    config, _ = client.runtimes.get("edge").config()
    assert model not in [one["name"] for one in config["services"]]


def test_a_version_that_is_too_slow_is_rolled_back_and_status_says_why(
    client: Client, linear_onnx: Path, doubled: Path, model: str
) -> None:
    upload(client, linear_onnx, model)
    client.deploy(model, on="edge", confirm_s=0)
    client.deploy(model, on="edge", confirm_s=60)
    upload(client, doubled, model)
    assert answer(client, model) == TWO
    client.deploy(model, on="edge", max_latency_ms=1e-6)  # its trial run would have failed, too
    remote = client.runtimes.get("edge")
    for _ in range(40):
        remote.infer(model, np.array(ROWS, np.float32))
    card = client.status("edge", wait=True)
    assert card.exit_code == 1
    assert answer(client, model) == ONE
    entry = told(client, model)
    assert (entry["number"], entry["phase"]) == (1, "failed")
    assert entry["failed"]["reason"] in card.text()
    assert any(model in line and "ms" in line for line in client.runtimes.logs("edge", lines=20))
    client.undeploy(f"{model}@edge")


def closed_window() -> str:
    """A time of the day that is half a day away."""
    then = datetime.now(timezone.utc).astimezone() + timedelta(hours=12)
    return f"{then:%H:00}-{then:%H:30}"


def test_a_version_outside_of_its_window_is_there_and_waits(
    client: Client, linear_onnx: Path, doubled: Path, model: str
) -> None:
    upload(client, linear_onnx, model)
    client.deploy(model, on="edge", confirm_s=0)
    client.deploy(model, on="edge", windows=[closed_window()])
    notes = upload(client, doubled, model).notes
    assert any("maintenance window" in line for line in notes)
    assert answer(client, model) == ONE
    card = client.deploy(model, on="edge")
    assert "maintenance window" in card.held
    head = card.text().splitlines()[0]
    assert "version 2 waiting" in head
    assert "version 1 serves" in head
    assert "tried out" not in card.text()  # that was version 1
    assert (card.to_json()["probe"], card.to_json()["serves"]) == (None, 1)
    assert "version 1 serves meanwhile" in card.text()
    assert f"{model}: it waits for its maintenance window" in client.status("edge").text()
    waited = client.status("edge", wait=True, timeout_s=60)
    assert waited.exit_code == 0
    late = f"{model} should run {model}:2: it is on the device; it waits for its maintenance"
    assert any(late in note for note in waited.notes)
    client.deploy(model, on="edge", windows=[])
    assert answer(client, model) == TWO
    client.undeploy(f"{model}@edge")


@pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")
def test_a_registry_between_is_pushed_to_and_fetched_from(
    client: Client, linear_onnx: Path, doubled: Path, model: str, tmp_path: Path
) -> None:
    upload(client, linear_onnx, model)
    with docker_registry(tmp_path / "registry") as host:
        url = f"{host}/lab/robots"  # a namespace, as most registries have them
        card = client.deploy(model, on="edge", registry=url, confirm_s=0)
        assert card.registry == url
        with Distribution(host) as registry:
            assert registry.repositories() == (f"lab/robots/{model}",)
        assert card.sent > 0
        assert answer(client, model) == ONE
        (package,) = (one for one in client.status("edge")["packages"] if one["name"] == model)
        assert (package["registry"], package["fetch"]["state"]) == (url, "done")
        assert url in client.status("edge").html()
        # A later version goes the same way, without being told again.
        upload(client, doubled, model)
        assert answer(client, model) == TWO
        again = client.deploy(model, on="edge")
        assert (again.registry, again.sent) == (url, 0)
        # A pin travels as a tag, which this registry cannot take away again.
        client.pin(f"{model}:1")
        assert answer(client, model) == ONE
        (note,) = client.unpin(model).notes
        assert f"runs {model}:2" in note
        assert f"{model}:pinned stays there, and says now that nothing is pinned" in note
        assert answer(client, model) == TWO
        # Whoever moves "latest" there is followed again.
        with Distribution(host) as registry:
            place = f"lab/robots/{model}"
            first = client.registry.resolve(f"{model}:1")
            registry.push_manifest(place, "latest", registry.manifest(place, "1"))
        client.runtimes.get("edge").reconcile()
        client.status("edge", wait=True, timeout_s=60)
        (entry,) = (one for one in client.status("edge")["services"] if one["name"] == model)
        assert (entry["digest"], entry["follows"]) == (first.digest, "latest")
        upload(client, linear_onnx, model)
        assert answer(client, model) == ONE
    card = client.deploy(model, on="edge", registry="off")
    assert card.registry is None
    assert answer(client, model) == ONE
    client.undeploy(f"{model}@edge")


@pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")
def test_a_deployment_goes_on_when_nobody_waits_for_it(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    def limit(bytes_per_s: int | None) -> None:
        config, _ = remote.config()
        settings = {"max_bytes_per_s": bytes_per_s}
        remote.put_config({**config, "nbmodel": settings}, if_match=None)

    upload(client, linear_onnx, model)
    remote = client.runtimes.get("edge")
    limit(400)
    with docker_registry(tmp_path / "registry") as url:
        words = [sys.executable, "-m", "nbmodel", "deploy", model, "--on", "edge"]
        environment = {**os.environ, "NBMODEL_HOME": str(client.home)}
        with subprocess.Popen(
            [*words, "--registry", url], env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            deadline = time.monotonic() + 60
            while service_status(remote.status(), model).get("phase") != "fetching":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "cancelled" in errors
        assert [one.service for one in client.registry.deployments(model=model)] == [model]
        limit(None)
        client.status("edge", wait=True)
        assert answer(client, model) == ONE
    client.undeploy(f"{model}@edge")


@pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")
def test_a_runtime_that_is_away_finds_new_versions_in_its_registry(
    linear_onnx: Path, doubled: Path, model: str, tmp_path: Path
) -> None:
    client = Client(tmp_path / "home")
    client.runtimes.start("pi")
    try:
        with docker_registry(tmp_path / "registry") as host:
            upload(client, linear_onnx, model)
            client.deploy(model, on="pi", registry=host.removeprefix("http://"), confirm_s=0)
            client.runtimes.stop("pi")
            (note,) = upload(client, doubled, model).notes
            assert f"{model}:2 is on {host} now" in note
            assert "pi fetches it from there" in note
            client.runtimes.start("pi")
            client.status("pi", wait=True, timeout_s=60)
            assert client.infer(f"{model}@pi", ROWS)["y"].ravel().tolist() == TWO
    finally:
        client.runtimes.remove("pi")
        client.close()


@pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")
def test_a_version_that_is_damaged_in_its_registry_ends_the_wait(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    upload(client, scaled(linear_onnx, 7, tmp_path / "other.onnx"), model)
    version = client.registry.resolve(model)
    digest = version.files[0].digest.removeprefix("sha256:")
    with docker_registry(tmp_path / "registry") as host:
        with Distribution(host) as registry:
            registry.push(model, client.registry.storage, version.digest, tags=["latest"])
        (blob,) = (tmp_path / "registry").rglob(f"{digest}/data")
        blob.write_bytes(bytes(blob.stat().st_size))
        with pytest.raises(DeployError, match=f"a file of {model} on .* is damaged there") as told:
            client.deploy(model, on="edge", registry=host)
        assert "push the version again; it is tried again in" in str(told.value.hint)
    client.undeploy(f"{model}@edge")


def test_a_registry_that_is_not_there_is_told_before_anything_changes(
    client: Client, linear_onnx: Path, model: str
) -> None:
    upload(client, linear_onnx, model)
    before, _ = client.runtimes.get("edge").config()
    with pytest.raises(DeployError, match="does not answer"):
        client.deploy(model, on="edge", registry="http://127.0.0.1:9")
    with pytest.raises(InputError, match="not a registry: 'nonsense'"):
        client.deploy(model, on="edge", registry="nonsense")
    with pytest.raises(InputError, match="not from s3://bucket"):
        client.deploy(model, on="edge", registry="s3://bucket")
    assert client.runtimes.get("edge").config()[0] == before


def test_a_program_of_the_machine_is_asked_before_a_version_is_taken_up(
    linear_onnx: Path, doubled: Path, model: str, tmp_path: Path
) -> None:
    hook, yes = tmp_path / "may I", tmp_path / "yes"
    hook.write_text(f"#!/bin/sh\ntest -e '{yes}'\n")
    hook.chmod(0o755)
    client = Client(tmp_path / "home")
    client.runtimes.start("edge", maintenance_hook=hook)
    try:
        upload(client, linear_onnx, model)
        client.deploy(model, on="edge", confirm_s=0)  # there is nothing that it could disturb
        assert answer(client, model) == ONE
        (note,) = upload(client, doubled, model).notes
        assert "maintenance hook" in note
        assert answer(client, model) == ONE
        yes.touch()
        time.sleep(AGAIN_S)
        client.deploy(model, on="edge")
        assert answer(client, model) == TWO
        # It is asked after the next start, too.
        client.runtimes.stop("edge")
        table = client.runtimes.start("edge")
        assert str(hook) in table[0]["reused"]
    finally:
        client.runtimes.remove("edge")
        client.close()
