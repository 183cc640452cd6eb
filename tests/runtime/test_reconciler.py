"""Versions on trial in a whole runtime: real engines, real probes, real files."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from onnx import TensorProto, helper, numpy_helper

from nbmodel.errors import DeployError, InferenceError, ShapeError
from nbmodel.fleet.local import start_local, stop_local
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.maintenance import Candidate
from nbmodel.runtime.packages import PackageFolder
from nbmodel.runtime.repository import LoadRequest
from nbmodel.runtime.state import StateFolder
from nbmodel.storage import MemoryStorage
from nbmodel.storage.atomic import TEMPORARY
from nbmodel.storage.manifests import blobs_of, load_manifest
from tests.tools.hostile_registry import HostileRegistry
from tests.tools.toy_versions import (
    MODEL,
    SERVICE,
    Toy,
    hanging_onnx,
    machine,
    scaling_onnx,
    stamp_of,
    toy,
)

pytestmark = pytest.mark.slow

SETTLE_S = 60.0
LONG_S = 600.0  # no version is committed so soon


def picky_onnx() -> bytes:
    """A model that scales by 5, and fails in the engine where its first input is above 2."""
    nodes = [
        helper.make_node("Slice", ["x", "zero", "one", "columns"], ["first"]),
        helper.make_node("ReduceMax", ["first"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["factors", "index"], ["factor"]),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "picky",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.array([5, 5, 5], np.float32), "factors"),
            numpy_helper.from_array(np.array([0]), "zero"),
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([1]), "columns"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


VERSIONS = MemoryStorage()
ONE, TWO, THREE = (toy(VERSIONS, number, number + 1) for number in (1, 2, 3))
WRONG = toy(VERSIONS, 4, 5, golden=6)
PICKY = toy(VERSIONS, 5, 5, files={"model.onnx": picky_onnx()})
HANGING = toy(VERSIONS, 6, 1, files={"model.onnx": hanging_onnx()})


class Box:
    """A runtime, and what is done to it."""

    def __init__(self, home: Path, maintenance: Callable[[Candidate], bool] | None = None) -> None:
        self.home = home
        self._maintenance = maintenance
        self.runtime = self._started()

    def _started(self) -> EdgeRuntime:
        return EdgeRuntime(self.home, name="here", environment={}, maintenance=self._maintenance)

    def push(self, version: Toy, *tags: str, wait: bool = True) -> None:
        for digest in (*blobs_of(version.raw), version.digest):
            self.runtime.storage.add_bytes(VERSIONS.read(digest, limit=10**6))
        self.push_tags(version, *tags, wait=wait)

    def push_tags(self, version: Toy, *tags: str, wait: bool = True) -> None:
        for tag in (*version.tags, *(tags or ("latest",))):
            self.runtime.tags.set(MODEL, tag, version.digest)
        self.runtime.tags_changed(MODEL)
        assert not wait or self.runtime.wait_settled(SETTLE_S)

    def configure(self, config: dict[str, Any]) -> None:
        self.runtime.set_config(config, if_match=None)
        assert self.runtime.wait_settled(SETTLE_S)

    def ask(self) -> None:
        self.runtime.reconcile()
        assert self.runtime.wait_settled(SETTLE_S)

    def restart(self) -> None:
        self.runtime.close()
        self._start_again()

    def power_cut(self) -> None:
        """End the runtime without a word, and start another on what is on its disk."""
        after = self.home.with_name(self.home.name + "+")
        # What is being written comes and goes while it is copied.
        unfinished = shutil.ignore_patterns(f"{TEMPORARY}*")
        shutil.copytree(self.home, after, symlinks=True, ignore=unfinished)
        self.runtime.close()
        self.home = after
        self._start_again()

    def _start_again(self) -> None:
        self.runtime = self._started()
        assert self.runtime.wait_settled(SETTLE_S)

    def infer(self, first: float = 1.0, name: str = SERVICE) -> float:
        """What the live model scales by."""
        answer = self.runtime.infer(
            InferRequest(name, {"x": np.array([[first, 2]], np.float32)})
        ).outputs["y"]
        return float(answer[0, 1] / 2)

    def status(self, name: str = SERVICE) -> dict[str, Any]:
        (entry,) = [one for one in self.runtime.status()["services"] if one["name"] == name]
        return dict(entry)

    def condition(self, kind: str) -> tuple[str, str]:
        (found,) = [one for one in self.status()["conditions"] if one["type"] == kind]
        return found["status"], found["reason"]

    def wait(self, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + SETTLE_S
        while not what(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(0.005)
        return status


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "home")
    yield box
    box.runtime.close()


@pytest.fixture
def deployed(box: Box) -> Box:
    """A runtime that has committed the first version and tries the second for long."""
    box.push(ONE)
    box.configure(machine(confirm_s=0))
    box.configure(machine(confirm_s=LONG_S))
    box.push(TWO)
    assert box.infer() == 3
    return box


# A trial


def test_a_version_is_provisional_and_then_committed(box: Box) -> None:
    box.push(ONE)
    box.configure(machine(confirm_s=0))
    assert box.status()["phase"] == "ready"
    box.configure(machine(confirm_s=0.3))
    box.push(TWO)
    status = box.status()
    assert (status["state"], status["phase"], status["number"]) == ("ready", "provisional", 2)
    assert status["provisional"]["number"] == 2
    assert 0 <= status["provisional"]["remaining_s"] <= 0.3
    assert status["rollback"]["number"] == 1
    assert status["probe"]["golden"]
    assert box.condition("Committed") == ("False", "Provisional")
    status = box.wait(lambda status: status["phase"] == "ready")
    assert (status["number"], status["provisional"]) == (2, None)
    assert status["rollback"] == {"version": stamp_of(1), "number": 1, "digest": ONE.digest}
    assert box.condition("Committed") == ("True", "Confirmed")
    history = StateFolder(box.home).state().services[SERVICE]
    assert (history.current and history.current.digest) == TWO.digest


def test_a_version_that_fails_in_its_engine_is_rolled_back(box: Box) -> None:
    box.push(ONE)
    policy = {"max_failure_rate": 0.2, "min_requests": 4}
    box.configure(machine(confirm_s=0))
    box.configure(machine(confirm_s=LONG_S, **policy))
    box.push(PICKY)
    assert box.infer() == 5
    for _ in range(8):
        with pytest.raises(ShapeError):  # a client's mistake is none of the version's
            box.runtime.infer(InferRequest(SERVICE, {"x": np.zeros((1, 3), np.float32)}))
    assert box.infer() == 5
    for _ in range(2):
        with pytest.raises(InferenceError):
            box.infer(9)
    status = box.wait(lambda status: status["phase"] == "failed")
    assert box.infer() == 2
    assert status["failed"]["digest"] == PICKY.digest
    assert status["failed"]["reason"] == "2 of 4 requests failed (50%), expected at most 20%"
    assert (status["state"], status["phase"]) == ("ready", "failed")
    assert box.condition("Probed")[0] == "True"
    assert box.condition("Committed") == ("False", "TooManyFailures")
    box.push(PICKY)
    assert box.infer() == 2, "it is not tried again"
    box.restart()
    assert (box.infer(), box.status()["failed"]["version"]) == (2, stamp_of(5))
    box.ask()
    assert box.infer() == 5, "but when somebody asks"


def test_a_version_that_is_too_slow_is_rolled_back(deployed: Box) -> None:
    deployed.configure(machine(confirm_s=LONG_S, max_latency_ms=0.0001, min_requests=2))
    deployed.infer()
    deployed.infer()
    status = deployed.wait(lambda status: status["number"] == 1)
    assert "on average" in status["failed"]["reason"]


def test_a_newer_version_that_fails_takes_nothing_from_one_on_trial(deployed: Box) -> None:
    deployed.push(WRONG)
    assert deployed.status()["provisional"]["number"] == 2
    deployed.configure(machine(confirm_s=0.05))
    deployed.wait(lambda status: status["provisional"] is None)
    history = StateFolder(deployed.home).state().services[SERVICE]
    assert (history.current and history.current.digest) == TWO.digest
    assert deployed.status()["failed"]["digest"] == WRONG.digest


def test_two_services_on_one_package_have_a_trial_each(box: Box) -> None:
    config = machine(confirm_s=0)
    (entry,) = config["services"]
    other = {**entry, "name": "other", "deployment": {"confirm_s": LONG_S}}
    box.push(ONE)
    box.configure({**config, "services": [entry, other]})
    box.push(TWO)
    assert box.status()["provisional"] is None
    assert box.status("other")["provisional"]["number"] == 2
    assert (box.infer(), box.infer(name="other")) == (3, 3)


def test_a_version_with_the_same_content_needs_no_trial(deployed: Box) -> None:
    deployed.configure(machine(confirm_s=0))
    deployed.wait(lambda status: status["provisional"] is None)
    deployed.configure(machine(confirm_s=LONG_S))
    deployed.push(toy(VERSIONS, 7, 3))
    status = deployed.status()
    assert (status["number"], status["provisional"]) == (7, None)
    assert status["rollback"]["number"] == 2


# What fails before it serves


def test_a_refused_version_is_tried_again_when_its_service_changes(deployed: Box) -> None:
    deployed.configure(machine("1", confirm_s=0))
    deployed.push(WRONG)
    deployed.configure(machine(confirm_s=0))
    first = deployed.status()["failed"]
    assert deployed.condition("Probed")[0] == "False"
    deployed.configure(machine(confirm_s=0))
    assert deployed.status()["failed"] == first, "nothing changed"
    deployed.runtime.catch_up()
    assert deployed.runtime.wait_settled(SETTLE_S)
    assert deployed.status()["failed"] == first, "nobody asked for it"
    deployed.configure({**machine(confirm_s=0), "components": []})
    assert deployed.status()["failed"] == first, "nothing that the service has to do with"
    deployed.configure(machine(confirm_s=0, min_requests=5))
    assert deployed.status()["failed"]["at"] > first["at"]
    assert deployed.infer() == 2


def test_a_probe_that_hangs_holds_nobody_up(deployed: Box) -> None:
    deployed.push(HANGING, wait=False)
    deployed.wait(lambda status: status["phase"] == "probing")
    assert deployed.condition("Probed") == ("Unknown", "Probing")
    assert deployed.infer() == 3
    began = time.monotonic()
    deployed.push(THREE)
    assert deployed.infer() == 4
    deployed.push(HANGING, wait=False)
    deployed.wait(lambda status: status["phase"] == "probing")
    deployed.runtime.close()
    assert time.monotonic() - began < 30, "hours less than the model takes"


def test_a_file_that_cannot_run_leaves_the_old_one_serving(box: Box, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(scaling_onnx(2))
    bad.write_bytes(b"junk")
    config = machine()
    config["services"][0]["attributes"] = {"model_path": str(good)}
    box.configure(config)
    assert (box.infer(), box.status()["probe"]) == (2, None)
    config["services"][0]["attributes"] = {"model_path": str(bad)}
    box.configure(config)
    status = box.status()
    assert (box.infer(), status["state"], status["phase"]) == (2, "ready", "failed")
    good.write_bytes(scaling_onnx(3))
    config["services"][0]["attributes"] = {"model_path": str(good), "num_threads": 1}
    box.configure(config)
    assert box.infer() == 3
    assert box.status()["probe"] is not None, "something served that it could have taken down"
    assert box.condition("Committed") == ("True", "NoTrial")


# Going back


def test_rollback_from_a_version_on_trial_leads_to_the_committed_one(deployed: Box) -> None:
    answer = deployed.runtime.rollback(SERVICE)
    assert (answer["from"], answer["to"]) == (f"{MODEL}:2", f"{MODEL}:1")
    assert answer["version"] == stamp_of(1)
    assert deployed.infer() == 2
    assert deployed.runtime.config[0] == machine(stamp_of(1), confirm_s=LONG_S)
    assert deployed.status()["provisional"] is None
    with pytest.raises(DeployError, match="no earlier version"):
        deployed.runtime.rollback(SERVICE)


def test_rollback_waits_for_no_other_service(deployed: Box) -> None:
    config = machine(confirm_s=LONG_S)
    (entry,) = config["services"]
    package = {"name": "slow", "package": f"local/{MODEL}", "version": "6", "type": "ml_model"}
    attributes = {"model_path": "${packages.slow}/model.onnx"}
    deployed.push(HANGING, "6")
    deployed.runtime.set_config(
        {
            "packages": [*config["packages"], package],
            "services": [entry, {**entry, "name": "slow", "attributes": attributes}],
        },
        if_match=None,
    )
    deployed.wait(lambda _: deployed.status("slow")["phase"] == "probing")
    deployed.runtime.rollback(SERVICE)
    assert deployed.infer() == 2
    assert deployed.status("slow")["phase"] == "probing"


def test_rollback_undoes_a_change_of_settings_on_trial(deployed: Box) -> None:
    deployed.runtime.rollback(SERVICE)
    changed = machine(stamp_of(1), confirm_s=LONG_S)
    changed["services"][0]["attributes"]["num_threads"] = 2
    deployed.configure(changed)
    assert deployed.status()["provisional"]["number"] == 1
    deployed.runtime.rollback(SERVICE)
    status = deployed.status()
    assert (status["provisional"], status["failed"]["version"]) == (None, stamp_of(1))
    assert deployed.infer() == 2
    assert deployed.runtime.config[0] == changed
    deployed.restart()
    assert (deployed.infer(), deployed.status()["failed"]["version"]) == (2, stamp_of(1))


# Ends and starts


def test_a_power_cut_on_trial_comes_back_on_the_old_one(deployed: Box) -> None:
    deployed.power_cut()
    assert deployed.infer() == 2
    failed = deployed.status()["failed"]
    assert failed["digest"] == TWO.digest
    assert failed["reason"] == "the runtime ended while it was provisional"
    assert deployed.status()["probe"] is None, "what was committed needs no probe"
    deployed.restart()
    assert deployed.infer() == 2, "it is not tried again"
    deployed.ask()
    assert deployed.infer() == 3
    assert deployed.status()["failed"] is None


def test_a_clean_end_on_trial_blames_nobody(deployed: Box) -> None:
    deployed.restart()
    assert (deployed.infer(), deployed.status()["failed"]) == (3, None)
    assert deployed.status()["provisional"]["number"] == 2


def test_with_nothing_to_go_back_to_a_version_is_tried_three_times(box: Box) -> None:
    box.push(ONE)
    box.configure(machine(confirm_s=LONG_S))
    for _ in range(2):
        box.power_cut()
        assert box.infer() == 2
    box.power_cut()
    status = box.status()
    assert (status["state"], status["version"]) == ("failed", None)
    assert "3 times in a row" in status["error"]
    box.push(TWO)
    assert box.infer() == 3


def test_after_two_ends_without_a_word_everything_is_probed_first(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.push(ONE)
    box.configure(machine(confirm_s=0))
    box.push(TWO)
    box.power_cut()
    assert box.status()["probe"] is None
    # What ran well does not any more: other bytes of the same length in place. Taken for an
    # engine that has changed: the bytes are not looked at.
    monkeypatch.setattr(PackageFolder, "drop_damaged", lambda *_: None)
    (model,) = box.home.glob(f"packages/data/ml_model/*{stamp_of(2)}/model.onnx")
    content = model.read_bytes()
    model.unlink()
    model.write_bytes(content[::-1])
    box.power_cut()
    assert box.infer() == 2, "the one before"
    assert box.status()["failed"]["digest"] == TWO.digest
    assert box.status()["rollback"] is None


def test_versions_serve_whose_tags_are_gone(deployed: Box) -> None:
    deployed.runtime.close()
    shutil.rmtree(deployed.home / "tags")
    deployed.restart()
    status = deployed.status()
    assert (deployed.infer(), status["state"], status["phase"]) == (2, "ready", "waiting")
    assert deployed.condition("Fetched") == ("False", "NotOnDevice")
    assert deployed.condition("Live") == ("False", "AnotherServes")


def test_a_config_that_cannot_be_read_is_the_last_that_went_well(deployed: Box) -> None:
    deployed.configure(machine("1", confirm_s=0))
    good = deployed.runtime.config
    (deployed.home / "config.json").write_text("{")
    deployed.restart()
    assert (deployed.runtime.config, deployed.infer()) == (good, 2)
    assert any("the last config that went well counts" in line for line in deployed.runtime.logs(9))
    (warning,) = deployed.runtime.status()["warnings"]
    assert "config.json is not JSON" in warning
    assert "the last config that went well counts" in warning
    deployed.configure(machine(confirm_s=0))
    assert deployed.runtime.status()["warnings"] == []


def test_a_version_that_ran_before_is_not_tried_out_again_and_says_so(deployed: Box) -> None:
    deployed.configure(machine(confirm_s=0))
    deployed.wait(lambda status: status["provisional"] is None)
    assert deployed.status()["probe"] is not None
    deployed.configure(machine("1", confirm_s=0))
    status = deployed.status()
    assert (status["number"], status["probe"]) == (1, None), "nothing of the other one's trial"
    (probed,) = (one for one in status["conditions"] if one["type"] == "Probed")
    assert probed["message"] == "it ran before, so it is not tried out again"
    assert any(
        f"version {MODEL}:1 ran before, so it is not tried out again" in line
        for line in deployed.runtime.logs(9)
    )


def test_a_version_that_is_far_too_slow_in_its_probe_is_refused(deployed: Box) -> None:
    limit_ms = 1e-6  # nothing answers within a nanosecond
    deployed.configure(machine("1", confirm_s=0))
    deployed.push(THREE)
    deployed.configure(machine(confirm_s=0, max_latency_ms=limit_ms))
    status = deployed.status()
    assert (status["number"], status["failed"]["number"]) == (1, 3)
    assert "slower than the limit in its trial" in status["error"]
    assert status["probe"]["latency_ms"] > limit_ms
    assert deployed.condition("Probed") == ("False", "SlowTrial")
    deployed.configure(machine(confirm_s=0, max_latency_ms=60_000))
    assert deployed.status()["number"] == 3
    assert any(
        f"version {MODEL}:3 is committed at once: confirm_s is 0" in line
        for line in deployed.runtime.logs(9)
    )


def damage(file: Path) -> None:
    """Change the middle of a file, and of whatever it is hard-linked with."""
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 3)
        stream.write(bytes(file.stat().st_size // 3))


@pytest.mark.parametrize("is_cautious", [False, True], ids=["at a start", "after two power cuts"])
def test_a_copy_that_is_damaged_is_no_fault_of_its_version(
    deployed: Box, is_cautious: bool
) -> None:
    deployed.configure(machine(confirm_s=0))
    deployed.wait(lambda status: status["provisional"] is None)
    assert deployed.runtime.wait_settled(SETTLE_S)  # that is on its disk, too
    if is_cautious:
        deployed.power_cut()
    (model,) = (
        one for one in load_manifest(VERSIONS, TWO.digest).files if one.path == "model.onnx"
    )
    damage(deployed.home / "packages" / MODEL / model.path)
    if is_cautious:  # the copy of the home has no hard links
        damage(deployed.runtime.storage.path(model.digest))
        deployed.power_cut()
    else:
        deployed.restart()
    status = deployed.status()
    assert (deployed.infer(), status["number"]) == (2, 1), "the one before serves"
    assert status["error"] == "this device's copy of model.onnx is damaged"
    assert (status["failed"], status["phase"]) == (None, "failed")
    deployed.push(TWO)  # as a client that deploys it again: what is missing is sent
    assert deployed.wait(lambda status: status["number"] == 2)["error"] is None
    assert deployed.infer() == 3


def test_a_copy_that_answers_wrongly_is_looked_at(deployed: Box) -> None:
    deployed.configure(machine("1", confirm_s=0))
    for digest in (*blobs_of(THREE.raw), THREE.digest):
        deployed.runtime.storage.add_bytes(VERSIONS.read(digest, limit=10**6))
    (model,) = (
        one for one in load_manifest(VERSIONS, THREE.digest).files if one.path == "model.onnx"
    )
    file = deployed.runtime.storage.path(model.digest)
    weight, other = (np.array([one], np.float32).tobytes() for one in (4, 5))
    content = file.read_bytes()
    assert content.count(weight) == 1
    file.chmod(0o644)
    file.write_bytes(content.replace(weight, other))
    deployed.push_tags(THREE)
    deployed.configure(machine(confirm_s=0))
    status = deployed.status()
    assert (deployed.infer(), status["failed"]) == (2, None)
    assert status["error"] == "this device's copy of model.onnx is damaged"
    deployed.push(THREE)
    assert deployed.infer() == 4


def test_what_ran_well_comes_back_when_what_kept_it_down_is_gone(
    deployed: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbmodel.runtime.reconciler.COMEBACK_S", 0.1)
    manifest = deployed.home / "blobs" / "blobs" / "sha256" / ONE.digest.partition(":")[2]
    away = manifest.rename(deployed.home / "away")
    deployed.power_cut()  # the second version is to blame, and the first cannot be read
    assert deployed.status()["version"] is None
    (deployed.home / away.name).rename(deployed.home / manifest.relative_to(away.parent))
    assert deployed.wait(lambda status: status["version"] is not None)["number"] == 1


# Maintenance


def test_a_version_waits_for_maintenance(tmp_path: Path) -> None:
    allowed: list[bool] = []
    asked: list[Candidate] = []

    def may(candidate: Candidate) -> bool:
        asked.append(candidate)
        return bool(allowed)

    box = Box(tmp_path / "home", maintenance=may)
    try:
        box.push(ONE)
        box.configure(machine(confirm_s=0))
        assert box.infer() == 2, "the first one disturbs nothing"
        box.push(TWO)
        status = box.status()
        assert (box.infer(), status["phase"], status["state"]) == (2, "waiting", "ready")
        assert box.condition("Probed") == ("Unknown", "MaintenanceRefused")
        assert set(asked) == {Candidate(SERVICE, MODEL, 2, TWO.digest)}
        box.runtime.reconcile(retry=False)
        assert box.runtime.wait_settled(SETTLE_S)
        said = f"version {MODEL}:2 is here; the maintenance hook says no; it is asked again every"
        assert sum(said in line for line in box.runtime.logs(99)) == 1, "once, not at every look"
        allowed.append(True)
        box.runtime.reconcile(retry=False)
        assert box.runtime.wait_settled(SETTLE_S)
        assert box.infer() == 3
        allowed.clear()
        box.runtime.rollback(SERVICE)
        assert box.infer() == 2, "a person need not wait"
        box.configure(machine(confirm_s=0))
        assert (box.infer(), box.status()["phase"]) == (2, "waiting"), "it was committed before"
        allowed.append(True)
        box.runtime.reconcile(retry=False)
        assert box.runtime.wait_settled(SETTLE_S)
        assert box.infer() == 3
    finally:
        box.runtime.close()


def test_a_version_waits_for_its_window(deployed: Box) -> None:
    deployed.configure(machine("1", confirm_s=0))
    yesterday = time.strftime("%a", time.localtime(time.time() - 48 * 3600))
    deployed.configure(machine(confirm_s=0, windows=[f"{yesterday} 12:00-12:01"]))
    assert (deployed.infer(), deployed.status()["phase"]) == (2, "waiting")
    assert deployed.condition("Probed") == ("Unknown", "OutsideWindow")
    said = f"it waits for its maintenance window {yesterday} 12:00-12:01: that opens {yesterday} "
    assert said in deployed.status()["conditions"][2]["message"]
    assert any(said in line for line in deployed.runtime.logs(9))
    deployed.configure(machine(confirm_s=0, windows=["00:00-24:00"]))
    assert deployed.infer() == 3


def test_who_asks_for_a_version_waits_for_a_probe_and_for_no_window(deployed: Box) -> None:
    yesterday = time.strftime("%a", time.localtime(time.time() - 48 * 3600))
    closed = machine(confirm_s=0, windows=[f"{yesterday} 12:00-12:01"])
    (entry,) = closed["services"]
    package = {"name": "slow", "package": f"local/{MODEL}", "version": "6", "type": "ml_model"}
    slow = {
        **entry,
        "name": "slow",
        "attributes": {"model_path": "${packages.slow}/model.onnx"},
        "deployment": {"probe_timeout_s": 5},
    }
    deployed.configure(machine("1", confirm_s=0))
    deployed.push(HANGING, "6")
    deployed.runtime.set_config(
        {"packages": [*closed["packages"], package], "services": [entry, slow]}, if_match=None
    )
    deployed.wait(lambda _: deployed.status("slow")["phase"] == "probing")
    assert (deployed.infer(), deployed.status()["phase"]) == (2, "waiting")
    deployed.runtime.load(SERVICE, LoadRequest())
    assert deployed.infer() == 3


def test_a_hook_that_fails_is_no_yes(tmp_path: Path) -> None:
    def broken(_: Candidate) -> bool:
        raise OSError("no such program")

    box = Box(tmp_path / "home", maintenance=broken)
    try:
        box.push(ONE)
        box.configure(machine(confirm_s=0))
        box.push(TWO)
        assert box.infer() == 2
        assert "no such program" in box.status()["conditions"][2]["message"]
    finally:
        box.runtime.close()


# From a registry


def test_a_package_comes_from_its_registry_and_serves_without_it(box: Box) -> None:
    with HostileRegistry() as registry:
        registry.take(MODEL, VERSIONS, ONE.digest, tags=(*ONE.tags, "latest"))
        config = machine(confirm_s=0)
        box.runtime.set_config({**config, "nbmodel": {"registry": registry.url}}, if_match=None)
        box.wait(lambda status: status["phase"] == "ready")
        assert box.infer() == 2
        (package,) = box.runtime.status()["packages"]
        assert (package["registry"], package["state"]) == (registry.url, "ready")
        assert (package["fetch"]["state"], package["fetch"]["percent"]) == ("done", 100)
        registry.take(MODEL, VERSIONS, TWO.digest, tags=(*TWO.tags, "latest"))
        box.runtime.reconcile()
        box.wait(lambda status: status["number"] == 2)
    box.restart()
    assert box.infer() == 3
    status = box.wait(lambda status: box.condition("Fetched")[1] == "FetchFailed")
    assert (status["state"], status["phase"]) == ("ready", "ready")


def test_a_copy_that_is_damaged_is_fetched_again(box: Box) -> None:
    with HostileRegistry() as registry:
        config = machine(confirm_s=0)
        config["nbmodel"] = {"registry": registry.url, "min_free_bytes": 0, "poll_s": 3600}
        for version in (ONE, TWO):
            registry.take(MODEL, VERSIONS, version.digest, tags=(*version.tags, "latest"))
            box.configure(config)
            box.ask()
            box.wait(lambda status, wanted=version.number: status["number"] == wanted)
        assert box.runtime.wait_settled(SETTLE_S)  # the link is at the second version, too
        damage(box.home / "packages" / MODEL / "model.onnx")
        box.restart()
        assert box.wait(lambda status: status["number"] == 2)["error"] is None
        assert any(
            "this device's copy of model.onnx is damaged" in one for one in box.runtime.logs(99)
        )


def test_a_version_that_does_not_come_says_why(box: Box) -> None:
    with HostileRegistry() as registry:
        config = {**machine(), "nbmodel": {"registry": registry.url}}
        box.runtime.set_config(config, if_match=None)
        status = box.wait(lambda status: status["error"] is not None)
        assert (status["state"], status["phase"]) == ("failed", "waiting")
        assert registry.url.removeprefix("http://") in status["error"]
        assert box.condition("Fetched") == ("False", "FetchFailed")


# Processes that share the work


@pytest.mark.unhurried
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shares a port between processes")
def test_a_version_that_kills_a_worker_is_rolled_back(tmp_path: Path) -> None:
    known = start_local("shared", tmp_path / "home", workers=2)
    remote = RemoteRuntime(known.url)

    def status() -> dict[str, Any]:
        return dict(remote.status()["services"][0])

    def wait(what: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + SETTLE_S
        while not (what(status()) and remote.status()["settled"]):
            assert time.monotonic() < deadline, status()
            time.sleep(0.02)

    try:
        for version, confirm_s in ((ONE, 0), (TWO, LONG_S)):
            remote.put_config(machine(confirm_s=confirm_s), if_match=None)
            remote.distribution.push(
                MODEL, VERSIONS, version.digest, tags=(*version.tags, "latest")
            )
            wait(lambda one, number=version.number: one["number"] == number)
        assert known.pid is not None
        (worker,) = workers_of(known.pid)
        os.kill(worker, signal.SIGKILL)
        wait(lambda one: one["number"] == 1 and one["failed"] is not None)
        assert status()["failed"]["reason"] == (
            "a process that served it died while it was provisional"
        )
    finally:
        remote.close()
        stop_local(known)


def workers_of(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"nbmodel.runtime.worker" in command:
                found.append(int(child))
    return found
