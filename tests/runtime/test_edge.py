"""A whole runtime without HTTP: real engines, real files, the same process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbmodel.backends import BACKENDS, FileBackend, Session
from nbmodel.backends.base import file_attributes
from nbmodel.backends.onnx_session import OnnxSession
from nbmodel.core.golden import Golden
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import (
    ConfigConflictError,
    ConfigError,
    DeployError,
    FormatError,
    InferenceError,
    InputError,
    ShapeError,
    TargetError,
)
from nbmodel.golden import GoldenSample
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime import services
from nbmodel.runtime.edge import EdgeRuntime

SETTLE_S = 60.0
ROW = np.array([[1, 2]], np.float32)


def scaling_onnx(factor: float) -> bytes:
    """A model, ``y = x * factor``: x FP32[-1,2]."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "f"], ["y"])],
        "scaling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.array([factor], np.float32), "f")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


SIGNATURE = Signature(
    (Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2), labels=("left", "right")),)
)


class Pusher:
    """Puts versions on a runtime's disk, as a push does."""

    def __init__(self, runtime: EdgeRuntime) -> None:
        self._runtime = runtime

    def __call__(
        self,
        number: int,
        factor: float,
        *tags: str,
        golden: float | None = None,
        stamp: str | None = None,
        files: Mapping[str, bytes] | None = None,
        model: str = "scale",
    ) -> str:
        """Push a version that scales by ``factor``; its manifest's digest.

        ``golden`` is the factor that its golden sample was made with.
        """
        content = {"model.onnx": scaling_onnx(factor)} if files is None else dict(files)
        if golden is not None:
            content["golden.npz"] = GoldenSample({"x": ROW}, {"y": ROW * golden}).to_bytes()
        storage, runtime = self._runtime.storage, self._runtime
        manifest = Manifest(
            name=model,
            created=f"2026-02-28T00:00:{number:02d}.000000Z",
            files=tuple(
                FileEntry(path, len(data), storage.add_bytes(data))
                for path, data in sorted(content.items())
            ),
            framework="onnx",
            model_type="other",
            signature=SIGNATURE,
            golden=None if golden is None else Golden(),
        )
        storage.add_bytes(manifest.config_bytes())
        digest = storage.add_bytes(manifest.manifest_bytes())
        own = [str(number), stamp or stamp_of(number)] if number else []
        for tag in (*own, *tags):
            runtime.tags.set(model, tag, digest)
        runtime.tags_changed(model)
        assert runtime.wait_settled(SETTLE_S)
        return digest


def stamp_of(number: int) -> str:
    return f"2026-02-28T00-00-{number:02d}"


def package(version: str = "latest", **fields: str) -> dict[str, str]:
    return {
        "name": "scale",
        "package": "local/scale",
        "version": version,
        "type": "ml_model",
        **fields,
    }


def service(name: str = "scaler", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "api": "rdk:service:mlmodel",
        "model": "onnx_cpu",
        "attributes": {"model_path": "${packages.ml_model.scale}/model.onnx"},
        **fields,
    }


def config(version: str = "latest") -> dict[str, Any]:
    return {
        "packages": [package(version)],
        "services": [service()],
        "nbmodel": {"deployment": {"confirm_s": 0}},
    }


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[EdgeRuntime]:
    runtime = EdgeRuntime(tmp_path / "home", name="here", environment={"FOLDER": "/models"})
    yield runtime
    runtime.close()


@pytest.fixture
def push(runtime: EdgeRuntime) -> Pusher:
    return Pusher(runtime)


def set_config(runtime: EdgeRuntime, data: Mapping[str, Any]) -> None:
    runtime.set_config(data, if_match=None)
    assert runtime.wait_settled(SETTLE_S)


def factor(runtime: EdgeRuntime, name: str = "scaler") -> float:
    """What the live model scales by."""
    return float(runtime.infer(InferRequest(name, {"x": ROW})).outputs["y"][0, 0])


def status_of(runtime: EdgeRuntime, name: str = "scaler") -> dict[str, Any]:
    (status,) = [entry for entry in runtime.status()["services"] if entry["name"] == name]
    return dict(status)


# Both ways to deploy


def test_a_path_on_the_machine(runtime: EdgeRuntime, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(scaling_onnx(3))
    set_config(runtime, {"services": [service(attributes={"model_path": str(path)})]})
    assert factor(runtime) == 3
    status = status_of(runtime)
    assert (status["state"], status["package"], status["version"]) == ("ready", None, None)
    assert runtime.service("scaler").version == "1"


def test_a_package_follows_latest(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    assert factor(runtime) == 2
    digest = push(2, 3, "latest")
    assert factor(runtime) == 3
    status = status_of(runtime)
    assert (status["number"], status["version"]) == (2, stamp_of(2))
    assert (status["digest"], status["follows"], status["error"]) == (digest, "latest", None)
    assert runtime.service("scaler").version == "2"
    assert runtime.service("scaler").signature == SIGNATURE, "with the labels of the version"


def test_the_package_is_laid_out_as_viam_does(
    runtime: EdgeRuntime, push: Pusher, tmp_path: Path
) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    link = tmp_path / "home" / "packages" / "scale"
    folder = tmp_path / "home" / "packages" / "data" / "ml_model" / f"local-scale-{stamp_of(1)}"
    assert link.resolve() == folder.resolve()
    model = folder / "model.onnx"
    assert model.read_bytes() == scaling_onnx(2)
    assert model.stat().st_nlink == 2, "it costs no disk"


@pytest.mark.parametrize(
    ("version", "expected", "follows"),
    [
        pytest.param("1", 2, "1", id="a number"),
        pytest.param(1, 2, "1", id="a number without quotes"),
        pytest.param("2026-02-28T00-00-01", 2, "2026-02-28T00-00-01", id="a timestamp id"),
        pytest.param("20260228000001", 2, "2026-02-28T00-00-01", id="Viam's older timestamp"),
        pytest.param("champion", 2, "champion", id="an alias"),
        pytest.param("", 3, "latest", id="nothing"),
    ],
)
def test_a_package_names_a_version(
    runtime: EdgeRuntime, push: Pusher, version: Any, expected: float, follows: str
) -> None:
    push(1, 2, "champion")
    push(2, 3, "latest")
    set_config(runtime, config(version))
    assert factor(runtime) == expected
    assert status_of(runtime)["follows"] == follows


def test_a_registry_wide_pin_holds_what_follows_latest(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest", "pinned")
    set_config(runtime, config())
    push(2, 3, "latest")
    assert factor(runtime) == 2
    assert status_of(runtime)["follows"] == "pinned"
    runtime.tags.delete("scale", "pinned")
    runtime.tags_changed("scale")
    assert runtime.wait_settled(SETTLE_S)
    assert factor(runtime) == 3


def test_a_version_with_the_same_files_loads_nothing(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    assert factor(runtime) == 2
    push(2, 2, "latest")
    assert status_of(runtime)["number"] == 2
    assert status_of(runtime)["inferences"] == 1, "it is the one that was loaded first"


def test_a_config_in_viams_older_form(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    old = {
        "name": "scaler",
        "type": "mlmodel",
        "namespace": "rdk",
        "model": "viam:mlmodel:onnx-cpu",
        "attributes": {"model_path": "${packages.scale}/model.onnx"},
    }
    set_config(runtime, {"packages": [package()], "services": [old]})
    assert factor(runtime) == 2


# Refusals


def test_an_invalid_config_is_refused_whole(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    before = runtime.config
    bad = {
        "packages": [package(), package(), package(name="-")],
        "services": [
            service("good"),
            service("a", model="onnx_cpuu"),
            service("b", attributes={"model_path": "${packages.nope}/m.onnx", "threads": 2}),
            service("c", attributes={"model_path": "${environment.NOPE}.onnx", "num_threads": 0}),
            service("d", attributes={}),
        ],
    }
    with pytest.raises(ConfigError) as refused:
        runtime.set_config(bad, if_match=None)
    assert refused.value.problems == (
        "packages.1: two packages are called 'scale'",
        (
            'packages.2: not a package name: "-"; expected at most 200 letters, digits, '
            "'-' and '_', the first a letter or digit"
        ),
        "service 'a': unknown backend 'onnx_cpuu' (did you mean 'onnx_cpu'?)",
        'service \'b\': failed to find a package named "nope" for placeholder "packages.nope"',
        "service 'b': attribute 'threads' is unknown to onnx_cpu; did you mean 'num_threads'?",
        'service \'c\': no environment variable named "NOPE" for placeholder "environment.NOPE"',
        "service 'c': attribute 'num_threads' must be an integer from 1 to 256, found 0",
        "service 'd': attribute 'model_path' is required by onnx_cpu",
    )
    assert runtime.config == before
    assert factor(runtime) == 2


def test_a_failing_service_takes_no_other_down(
    runtime: EdgeRuntime, push: Pusher, tmp_path: Path
) -> None:
    push(1, 2, "latest")
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a model")
    set_config(
        runtime,
        {
            "packages": [package(), package(name="absent", package="local/absent")],
            "services": [
                service("junk", attributes={"model_path": str(junk)}),
                service("gone", attributes={"model_path": str(tmp_path / "gone.onnx")}),
                service("away", attributes={"model_path": "${packages.absent}/model.onnx"}),
                service("scaler"),
            ],
        },
    )
    assert factor(runtime) == 2
    states = {entry["name"]: entry["state"] for entry in runtime.status()["services"]}
    assert states == {"junk": "failed", "gone": "failed", "away": "failed", "scaler": "ready"}
    assert "junk.onnx" in status_of(runtime, "junk")["error"]
    assert "model_path is not a file" in status_of(runtime, "gone")["error"]
    assert status_of(runtime, "away")["error"] == "model 'absent' is not on this device yet"
    assert runtime.ready, "what cannot run does not keep the runtime from being ready"


def test_a_version_that_answers_its_golden_sample_wrongly_never_goes_live(
    runtime: EdgeRuntime, push: Pusher
) -> None:
    push(1, 2, "latest", golden=2)
    set_config(runtime, config())
    push(2, 3, "latest", golden=4)
    assert factor(runtime) == 2
    status = status_of(runtime)
    assert (status["state"], status["number"]) == ("ready", 1)
    assert status["refused"] == stamp_of(2)
    assert status["error"] == (
        "answers its golden sample wrongly: output 'y' differs at [0, 1]: "
        "expected 8, found 6 (2 of 2 elements out of tolerance)"
    )
    assert any("cannot run version" in line for line in runtime.logs(10))
    push(3, 4, "latest", golden=4)
    assert factor(runtime) == 4
    assert status_of(runtime)["error"] is None


def test_a_version_that_does_not_load_leaves_the_old_one_serving(
    runtime: EdgeRuntime, push: Pusher
) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    push(2, 0, "latest", files={"model.onnx": b"junk"})
    assert factor(runtime) == 2
    assert status_of(runtime)["refused"] == stamp_of(2)


def test_a_model_that_needs_an_unknown_operator_takes_nothing_down(
    runtime: EdgeRuntime, push: Pusher, test_models: Path
) -> None:
    push(1, 2, "latest")
    bad = service(
        "bad",
        model="viam:mlmodel-tflite:tflite_cpu",
        attributes={"model_path": str(test_models / "model_invoking_error.tflite")},
    )
    set_config(runtime, {"packages": [package()], "services": [bad, service()]})
    assert status_of(runtime, "bad")["state"] == "failed"
    assert "model_invoking_error.tflite" in status_of(runtime, "bad")["error"]
    assert factor(runtime) == 2


def test_what_failed_is_not_tried_again_at_every_push(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest", golden=3)
    set_config(runtime, config())
    count = len(runtime.logs(1000))
    push(5, 2, "latest", model="other")
    assert len(runtime.logs(1000)) == count
    assert status_of(runtime)["state"] == "failed"


def test_what_failed_is_tried_again_when_asked(runtime: EdgeRuntime, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    set_config(runtime, {"services": [service(attributes={"model_path": str(path)})]})
    assert status_of(runtime)["state"] == "failed"
    path.write_bytes(scaling_onnx(5))
    runtime.reconcile()
    assert runtime.wait_settled(SETTLE_S)
    assert factor(runtime) == 5


def test_a_package_that_comes_later_is_taken(runtime: EdgeRuntime, push: Pusher) -> None:
    set_config(runtime, config())
    assert status_of(runtime)["state"] == "failed"
    assert runtime.status()["packages"][0]["state"] == "missing"
    push(1, 2, "latest")
    assert factor(runtime) == 2
    (entry,) = runtime.status()["packages"]
    assert (entry["state"], entry["number"], entry["error"]) == ("ready", 1, None)
    assert entry["bytes"] == len(scaling_onnx(2))


# The config


@pytest.mark.parametrize("name", ["NBMODEL_REGISTRY_TOKEN", "PGPASSWORD"])
def test_a_config_reads_no_secret(tmp_path: Path, name: str) -> None:
    runtime = EdgeRuntime(tmp_path / "home", environment={name: "s3cret"})
    config = {"services": [service("a", attributes={"model_path": f"${{environment.{name}}}"})]}
    with pytest.raises(ConfigError, match=f'no environment variable named "{name}"') as caught:
        runtime.set_config(config, if_match=None, dry_run=True)
    runtime.close()
    assert "s3cret" not in str(caught.value)


def test_a_config_comes_back_with_what_nobody_knows(runtime: EdgeRuntime) -> None:
    data = {
        "components": [{"name": "cam", "api": "rdk:component:camera"}],
        "services": [{"name": "eye", "api": "rdk:service:vision", "model": "color_detector"}],
        "x": {"y": [1, None]},
    }
    set_config(runtime, data)
    assert runtime.config[0] == data
    assert runtime.status()["not_served"] == [
        {"name": "eye", "api": "rdk:service:vision", "why": "not a model service"}
    ]
    assert runtime.status()["services"] == []


def test_a_config_is_replaced_only_by_whoever_saw_it(runtime: EdgeRuntime) -> None:
    _, first = runtime.config
    runtime.set_config({"a": 1}, if_match=first)
    with pytest.raises(ConfigConflictError, match="the machine config changed"):
        runtime.set_config({"a": 2}, if_match=first)
    assert runtime.config[0] == {"a": 1}


def test_a_dry_run_says_what_would_happen(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    push(2, 3)
    set_config(runtime, config())

    def steps(data: dict[str, Any]) -> list[tuple[str, str, str | None]]:
        plan = runtime.set_config(data, if_match=None, dry_run=True)
        return [(step.action, step.service, step.version) for step in plan.steps]

    assert steps(config()) == [("keep", "scaler", stamp_of(1))]
    assert steps(config("2")) == [("replace", "scaler", stamp_of(2))]
    assert steps(config("9")) == [("refuse", "scaler", None)]
    assert steps({}) == [("stop", "scaler", None)]
    other = {"packages": [package()], "services": [service(), service("more")]}
    assert steps(other) == [("keep", "scaler", stamp_of(1)), ("start", "more", stamp_of(1))]
    assert runtime.config[0] == config()
    assert not runtime.set_config(config(), if_match=None, dry_run=True).changed


def test_a_service_that_is_taken_out_stops(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    set_config(runtime, {})
    with pytest.raises(TargetError, match="unknown model: 'scaler' is not found"):
        runtime.infer(InferRequest("scaler", {"x": ROW}))


# Restarts


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = EdgeRuntime(home)
    push = Pusher(first)
    push(1, 2, "latest")
    set_config(first, config())
    push(2, 3, "latest")
    etag = first.config[1]
    first.close()
    assert status_of(first)["state"] == "stopped"

    second = EdgeRuntime(home)
    assert second.wait_settled(SETTLE_S)
    assert second.ready
    assert second.config[1] == etag
    assert factor(second) == 3
    second.rollback("scaler")
    assert factor(second) == 2
    second.close()


def test_a_refused_version_stays_without_effect_over_a_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = EdgeRuntime(home)
    push = Pusher(first)
    push(1, 2, "latest", golden=2)
    set_config(first, config())
    push(2, 5, "latest", golden=3)
    first.close()

    second = EdgeRuntime(home)
    assert second.wait_settled(SETTLE_S)
    status = status_of(second)
    assert (status["number"], factor(second)) == (1, 2)
    assert status["refused"] == stamp_of(2)
    assert "answers its golden sample wrongly" in status["error"]
    Pusher(second)(3, 7, "latest", golden=7)
    assert (status_of(second)["number"], factor(second)) == (3, 7)
    second.close()


class Raising(FileBackend):
    """A plug-in whose model is loaded, and then raises what no backend should."""

    name = "raising"
    formats = ("onnx",)
    attributes = file_attributes("")

    def _load(self, path: Path, attributes: Mapping[str, Any]) -> Session:
        class Broken(OnnxSession):
            @property
            def signature(self) -> Signature:
                raise KeyError("signature")

        class Engine:
            def get_inputs(self) -> list[Any]:
                return []

            get_outputs = get_inputs

        return Broken(Engine(), name=path.name)


def test_a_plug_in_that_raises_takes_no_other_down(
    runtime: EdgeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast("dict[str, str]", BACKENDS.builtin), "raising", f"{__name__}:Raising")
    path = tmp_path / "model.onnx"
    path.write_bytes(scaling_onnx(2))
    attributes = {"model_path": str(path)}
    set_config(
        runtime,
        {
            "services": [
                service("raises", model="raising", attributes=attributes),
                service("scaler", attributes=attributes),
            ]
        },
    )
    assert factor(runtime) == 2
    assert "KeyError: 'signature'" in status_of(runtime, "raises")["error"]


def test_the_models_package_decides_whatever_comes_first(
    runtime: EdgeRuntime, push: Pusher
) -> None:
    push(1, 2, "latest", golden=3)
    push(7, 1, "latest", model="names", files={"labels.txt": b"left\nright\n"})
    attributes = {
        "label_path": "${packages.names}/labels.txt",
        "model_path": "${packages.scale}/model.onnx",
    }
    set_config(
        runtime,
        {
            "packages": [package(name="names", package="local/names"), package()],
            "services": [service(attributes=attributes)],
        },
    )
    status = status_of(runtime)
    assert "answers its golden sample wrongly" in status["error"]
    assert (status["package"], status["state"]) == ("scale", "failed")
    push(2, 2, "latest", golden=2)
    assert (status_of(runtime)["number"], factor(runtime)) == (2, 2)


def test_a_config_file_counts_when_it_changed(tmp_path: Path) -> None:
    def start(data: dict[str, Any]) -> EdgeRuntime:
        runtime = EdgeRuntime(tmp_path / "home", config=data)
        assert runtime.wait_settled(SETTLE_S)
        return runtime

    runtime = start({"x": 1})
    runtime.set_config({"x": 2}, if_match=None)
    runtime.close()
    runtime = start({"x": 1})
    assert runtime.config[0] == {"x": 2}, "a restart undoes no deployment"
    runtime.close()
    runtime = start({"x": 3})
    assert runtime.config[0] == {"x": 3}
    runtime.close()


def test_an_invalid_config_file_is_refused(tmp_path: Path) -> None:
    bad = {"packages": 3, "services": [service(model="nothing")]}
    with pytest.raises(ConfigError, match="unknown backend 'nothing'") as refused:
        EdgeRuntime(tmp_path / "home", config=bad)
    assert len(refused.value.problems) == 3, "all of it at once"


def test_a_killed_lay_out_is_made_anew(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = EdgeRuntime(home)
    Pusher(first)(1, 2, "latest")
    set_config(first, config())
    first.close()
    folder = (home / "packages" / "scale").resolve()
    (folder / "model.onnx").unlink()
    folder.with_name(".new-" + folder.name).mkdir()
    second = EdgeRuntime(home)
    assert second.wait_settled(SETTLE_S)
    assert factor(second) == 2
    assert not folder.with_name(".new-" + folder.name).exists()
    second.close()


# Rollback


def test_rollback_brings_the_former_version_back_and_holds_it(
    runtime: EdgeRuntime, push: Pusher
) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    push(2, 3, "latest")
    answer = runtime.rollback("scaler")
    assert factor(runtime) == 2
    assert answer == {
        "service": "scaler",
        "package": "scale",
        "from": "scale:2",
        "to": "scale:1",
        "version": stamp_of(1),
    }
    assert runtime.config[0] == config(stamp_of(1)), "the config stays the truth"
    push(3, 4, "latest")
    assert factor(runtime) == 2
    assert any("rolled back" in line for line in runtime.logs(10))


def test_rollback_of_a_rollback(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    push(2, 3, "latest")
    runtime.rollback("scaler")
    runtime.rollback("scaler")
    assert factor(runtime) == 3


def test_rollback_to_a_version_that_no_tag_names_any_more(
    runtime: EdgeRuntime, push: Pusher
) -> None:
    push(0, 2, "latest")
    set_config(runtime, config())
    push(0, 3, "latest")
    runtime.rollback("scaler")
    assert factor(runtime) == 2


def test_a_rollback_that_fails_changes_nothing(runtime: EdgeRuntime, push: Pusher) -> None:
    lost = push(1, 2, "latest")
    set_config(runtime, config())
    push(2, 3, "latest")
    before = runtime.config
    runtime.storage.delete(lost)
    with pytest.raises(DeployError, match="cannot go back to"):
        runtime.rollback("scaler")
    assert runtime.wait_settled(SETTLE_S)
    assert runtime.config == before
    assert (status_of(runtime)["number"], factor(runtime)) == (2, 3)
    assert status_of(runtime)["error"] is None


def test_nobody_waits_for_a_runtime_that_is_closed(tmp_path: Path) -> None:
    runtime = EdgeRuntime(tmp_path / "home")
    runtime.close()
    runtime.reconcile()
    began = time.monotonic()
    assert not runtime.wait_settled(SETTLE_S)
    assert time.monotonic() - began < SETTLE_S / 2


def test_there_is_nothing_to_roll_back_to(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    with pytest.raises(DeployError, match="no earlier version"):
        runtime.rollback("scaler")
    with pytest.raises(TargetError):
        runtime.rollback("nothing")
    assert runtime.config[0] == config()


# Answering


def test_requests_never_fail_while_versions_change(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 1, "latest")
    set_config(runtime, config())
    answers: list[float] = []
    errors: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = runtime.infer(InferRequest("scaler", {"x": ROW}))
                assert answer.version == str(int(answer.outputs["y"][0, 0]))  # it answered
                answers.append(float(answer.version))
            except Exception as exc:
                errors.append(exc)
                return
            time.sleep(0.001)  # or three busy threads starve the one that loads

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 8):
        push(number, number, "latest")
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(answers) <= set(range(1, 8))
    assert factor(runtime) == 7


def test_a_wrong_shape_is_refused(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 1, "latest")
    set_config(runtime, config())
    with pytest.raises(ShapeError, match=r"input 'x' has shape \[-1, 2\], found \[1, 3\]"):
        runtime.infer(InferRequest("scaler", {"x": np.zeros((1, 3), np.float32)}))


def test_a_service_without_a_model_says_why(runtime: EdgeRuntime) -> None:
    set_config(runtime, config())
    view = runtime.service("scaler")
    assert not view.ready
    with pytest.raises(InferenceError, match="model 'scale' is not on this device yet"):
        runtime.infer(InferRequest("scaler", {"x": ROW}))


@pytest.mark.parametrize(
    ("golden", "expected"),
    [
        pytest.param(
            None, {"golden": False, "message": "the version has no golden sample"}, id="without"
        ),
        pytest.param(
            2.0,
            {
                "golden": True,
                "max_abs": 0.0,
                "message": "all outputs agree; the largest difference is 0, in output 'y' at [0, 0]",
            },
            id="with a golden sample",
        ),
    ],
)
def test_the_check_command(
    runtime: EdgeRuntime, push: Pusher, golden: float | None, expected: dict[str, Any]
) -> None:
    push(1, 2, "latest", golden=golden)
    set_config(runtime, config())
    assert runtime.do("scaler", {"command": "check"}) == expected


def test_the_stats_command(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    factor(runtime)
    with pytest.raises(ShapeError):
        runtime.infer(InferRequest("scaler", {"x": np.zeros((1, 3), np.float32)}))
    stats = runtime.do("scaler", {"command": "stats"})
    assert (stats["inferences"], stats["failures"], stats["busy"]) == (1, 1, 0)
    assert stats["mean_ms"] > 0
    assert status_of(runtime)["inferences"] == 1


def test_an_unknown_command(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    with pytest.raises(InputError, match="unknown command 'fly'") as refused:
        runtime.do("scaler", {"command": "fly"})
    assert "check, stats" in str(refused.value.hint)


# Disk space


def age(runtime: EdgeRuntime) -> None:
    """Make everything on disk two hours old."""
    old = time.time() - 7200
    for path in (runtime.tags.root, runtime.storage.root):
        for file in path.rglob("*"):
            if file.is_file():
                os.utime(file, (old, old))


def test_old_versions_go_and_the_last_two_stay(
    runtime: EdgeRuntime, push: Pusher, tmp_path: Path
) -> None:
    set_config(runtime, config())
    for number in range(1, 6):
        push(number, number, "latest")
    age(runtime)
    runtime.reconcile()
    assert runtime.wait_settled(SETTLE_S)
    assert set(runtime.tags.tags("scale")) == {"4", stamp_of(4), "5", stamp_of(5), "latest"}
    assert len(list(runtime.storage.digests())) == 2 * 3
    folders = {path.name for path in (tmp_path / "home/packages/data/ml_model").iterdir()}
    assert {name for name in folders if not name.endswith(".json")} == {
        f"local-scale-{stamp_of(4)}",
        f"local-scale-{stamp_of(5)}",
    }
    runtime.rollback("scaler")
    assert factor(runtime) == 4


def test_what_was_just_pushed_stays(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2)
    blob = runtime.storage.add_bytes(b"the manifest follows")
    runtime.reconcile()
    assert runtime.wait_settled(SETTLE_S)
    assert runtime.storage.has(blob)
    assert set(runtime.tags.tags("scale")) == {"1", stamp_of(1)}


@pytest.mark.parametrize("tag", ["latest", "champion", "pinned"])
def test_a_tag_that_moves_keeps_its_version(runtime: EdgeRuntime, push: Pusher, tag: str) -> None:
    digest = push(1, 2, tag)
    age(runtime)
    runtime.reconcile()
    assert runtime.wait_settled(SETTLE_S)
    assert set(runtime.tags.tags("scale")) == {"1", stamp_of(1), tag}
    assert runtime.storage.has(digest)


def test_two_registries_with_one_label(runtime: EdgeRuntime, push: Pusher) -> None:
    push(1, 2, "latest")
    set_config(runtime, config())
    push(1, 3, "latest")
    assert factor(runtime) == 3
    runtime.do("scaler", {"command": "check"})


def _service(name: str, path: Path) -> dict[str, Any]:
    return {
        "name": name,
        "api": "rdk:service:mlmodel",
        "model": "onnx_cpu",
        "attributes": {"model_path": str(path)},
    }


def test_a_changed_config_file_says_what_it_removes(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(scaling_onnx(2))
    data: dict[str, Any] = {"services": [_service("first", model)]}
    runtime = EdgeRuntime(tmp_path / "home", config=data)
    assert runtime.config_note == "config taken from the file that was given"
    more = {"services": [*data["services"], _service("mnist", model), _service("fruit", model)]}
    runtime.set_config(more, if_match=None)
    runtime.close()

    same = EdgeRuntime(tmp_path / "home", config=data)
    assert same.config_note is None
    assert len(same.config[0]["services"]) == 3
    same.close()

    edited = {"services": [*data["services"], _service("second", model)]}
    after = EdgeRuntime(tmp_path / "home", config=edited)
    said = "config file changed since the last start: it replaces the config that was set"
    try:
        assert after.config_note is not None
        assert after.config_note.startswith(said)
        assert after.config_note.endswith("; removed services: fruit, mnist")
        assert any(after.config_note in line for line in after.logs(100))
    finally:
        after.close()


def test_a_config_file_given_for_the_first_time_says_what_it_removes(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(scaling_onnx(2))
    runtime = EdgeRuntime(tmp_path / "home")
    runtime.set_config({"services": [_service("mnist", model)]}, if_match=None)
    runtime.close()
    after = EdgeRuntime(tmp_path / "home", config={"services": []})
    after.close()
    assert str(after.config_note).startswith("config file given for the first time: it replaces")
    assert str(after.config_note).endswith("; removed services: mnist")


def test_a_file_by_path_says_itself_what_its_classes_are(tmp_path: Path, test_models: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="pip install 'nbmodel[runtime]'")
    path = test_models / "mobilenet_v1_0.25_224_quant_with_metadata.tflite"
    service = {**_service("birds", path), "model": "tflite_cpu"}
    labels = tmp_path / "own.txt"
    labels.write_text("".join(f"class {index}\n" for index in range(1001)))
    own = {**service, "name": "own"}
    own["attributes"] = {"model_path": str(path), "label_path": str(labels)}
    runtime = EdgeRuntime(tmp_path / "home", config={"services": [service, own]})
    try:
        assert runtime.wait_settled(SETTLE_S)
        view = runtime.service("birds")
        assert "macaw" in view.signature.labels
        assert view.model_type == "classification"
        assert runtime.service("own").signature.labels[3] == "class 3"
    finally:
        runtime.close()


def test_a_file_that_says_nothing_readable_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise FormatError(f"{path}: damaged metadata")

    monkeypatch.setattr(services, "read_model", unreadable)
    path = tmp_path / "model.onnx"
    path.write_bytes(scaling_onnx(2))
    runtime = EdgeRuntime(tmp_path / "home", config={"services": [_service("plain", path)]})
    try:
        assert runtime.wait_settled(SETTLE_S)
        assert runtime.infer(InferRequest("plain", {"x": ROW})).outputs["y"].tolist() == [[2, 4]]
        assert any("plain: what" in line and "damaged" in line for line in runtime.logs(100))
    finally:
        runtime.close()


@pytest.mark.parametrize(
    ("good", "expected"),
    [
        pytest.param("[", r"config\.json is not JSON.*config\.good\.json is not JSON", id="both"),
        pytest.param(None, r"config\.json is not JSON.*no config\.good\.json", id="no good one"),
    ],
)
def test_configs_that_cannot_be_read_are_both_named(
    tmp_path: Path, good: str | None, expected: str
) -> None:
    (tmp_path / "config.json").write_text("{")
    if good is not None:
        (tmp_path / "config.good.json").write_text(good)
    with pytest.raises(ConfigError, match=expected) as caught:
        EdgeRuntime(tmp_path, environment={})
    assert "move both files away" in str(caught.value.hint)
