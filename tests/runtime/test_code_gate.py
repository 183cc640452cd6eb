"""Models that are code: refused where nobody allowed them, and run where somebody did."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.core.machine import MachineConfig
from nbmodel.errors import ConfigError, NbModelError
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime.code_gate import without_code
from nbmodel.runtime.edge import EdgeRuntime
from tests.tools.python_models import scaling_py, write_wheel
from tests.tools.toy_versions import ROW, SERVICE, Toy, machine, toy

pytestmark = pytest.mark.unhurried
SETTLE_S = 120.0

Start = Callable[..., EdgeRuntime]


def config(**attributes: Any) -> dict[str, Any]:
    document = machine(probe_timeout_s=60, confirm_s=0)
    (service,) = document["services"]
    service["model"] = "python"
    service["attributes"] = {"model_path": "${packages.ml_model.scale}", **attributes}
    return document


def put(runtime: EdgeRuntime, number: int, factor: float, **files: bytes) -> Toy:
    content = {"model.py": scaling_py(factor), **files}
    version = toy(runtime.storage, number, factor, files=content, framework="python")
    for tag in (*version.tags, "latest"):
        runtime.tags.set("scale", tag, version.digest)
    runtime.reconcile(retry=False)
    return version


def answer(runtime: EdgeRuntime) -> list[list[float]]:
    return runtime.infer(InferRequest(SERVICE, {"x": ROW})).outputs["y"].tolist()


def entry(runtime: EdgeRuntime) -> dict[str, Any]:
    (found,) = runtime.status()["services"]
    return dict(found)


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the runtime of one home; the one before is ended."""
    running: list[EdgeRuntime] = []

    def begin(*, allow_code: bool, config: object = None) -> EdgeRuntime:
        while running:
            running.pop().close()
        runtime = EdgeRuntime(
            tmp_path / "home", environment={}, allow_code=allow_code, config=config
        )
        running.append(runtime)
        return runtime

    yield begin
    while running:
        running.pop().close()


def test_a_config_that_wants_code_is_refused_with_the_option_that_allows_it(start: Start) -> None:
    runtime = start(allow_code=False)
    before = runtime.config
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match=f"'{SERVICE}': its model is code.*--allow-code"):
            runtime.set_config(config(), if_match=None, dry_run=dry_run)
    assert runtime.config == before


def test_a_config_of_the_start_leaves_code_alone(start: Start) -> None:
    runtime = start(allow_code=False, config=config())
    put(runtime, 1, 2)
    assert runtime.wait_settled(SETTLE_S)
    assert not runtime.service(SERVICE).ready
    assert "is code, which this runtime does not run" in entry(runtime)["error"]
    assert "--allow-code" in entry(runtime)["hint"]
    with pytest.raises(NbModelError, match="scaler"):
        answer(runtime)


def test_code_runs_where_it_is_allowed_and_no_longer_when_it_is_not(start: Start) -> None:
    runtime = start(allow_code=True, config=config())
    put(runtime, 1, 2)
    assert runtime.wait_settled(SETTLE_S)
    assert answer(runtime) == (ROW * 2).tolist()
    put(runtime, 2, 3)
    assert runtime.wait_settled(SETTLE_S)
    assert answer(runtime) == (ROW * 3).tolist()
    runtime = start(allow_code=False)
    assert runtime.wait_settled(SETTLE_S)
    assert not runtime.service(SERVICE).ready
    assert "is code" in entry(runtime)["error"]


def test_trying_a_version_out_leaves_no_working_folder(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it remembers the one before
    runtime = start(allow_code=True, config=config())
    for number in (1, 2):
        put(runtime, number, number)
        assert runtime.wait_settled(SETTLE_S)
        assert answer(runtime) == (ROW * number).tolist()
    wait_for(lambda: len(list(scratch.glob("nbmodel-python-*"))) == 1)  # of the one that serves
    runtime.close()
    wait_for(lambda: not list(scratch.glob("nbmodel-python-*")))


def test_a_version_that_fails_leaves_the_one_before(start: Start) -> None:
    runtime = start(allow_code=True, config=config())
    put(runtime, 1, 2)
    assert runtime.wait_settled(SETTLE_S)
    put(runtime, 2, 3, **{"model.py": scaling_py(3, start="raise ValueError('no weights')")})
    assert runtime.wait_settled(SETTLE_S)
    assert "ValueError: no weights" in entry(runtime)["error"]
    assert answer(runtime) == (ROW * 2).tolist()


def test_requirements_are_installed_before_a_version_is_taken_up_and_go_with_it(
    start: Start, tmp_path: Path
) -> None:
    def needing(value: int) -> dict[str, bytes]:
        wheel = write_wheel(tmp_path / str(value), "toy_dependency", value)
        return {
            "model.py": scaling_py(value, head="import toy_dependency").replace(
                f"np.float32({value})".encode(), b"np.float32(toy_dependency.VALUE)"
            ),
            "requirements.txt": b"toy_dependency==1.0\n",
            f"wheels/{wheel.name}": wheel.read_bytes(),
        }

    environments = tmp_path / "home" / "engines" / "python"
    runtime = start(allow_code=True, config=config())
    put(runtime, 1, 5, **needing(5))
    assert runtime.wait_settled(SETTLE_S), entry(runtime)
    assert answer(runtime) == (ROW * 5).tolist(), entry(runtime)
    (first,) = environments.iterdir()
    put(runtime, 2, 7, **needing(7))
    assert runtime.wait_settled(SETTLE_S)
    assert answer(runtime) == (ROW * 7).tolist(), entry(runtime)
    assert len(list(environments.iterdir())) == 2  # the version before can come back
    for number in (3, 4):  # neither needs anything
        put(runtime, number, number)
        assert runtime.wait_settled(SETTLE_S)
        assert answer(runtime) == (ROW * number).tolist()
    assert not first.exists()


def test_packages_that_code_alone_uses_are_not_fetched() -> None:
    def package(name: str) -> dict[str, str]:
        return {
            "name": name,
            "package": f"local/{name}",
            "version": "latest",
            "type": "ml_model",
            "registry": "http://127.0.0.1:1",
        }

    def service(name: str, model: str, package: str) -> dict[str, Any]:
        return {
            "name": name,
            "api": "rdk:service:mlmodel",
            "model": model,
            "attributes": {"model_path": f"${{packages.ml_model.{package}}}"},
        }

    document = {
        "packages": [package("code"), package("both"), package("graph")],
        "services": [
            service("a", "python", "code"),
            service("b", "python", "both"),
            service("c", "onnx_cpu", "both"),
            service("d", "onnx_cpu", "graph"),
        ],
    }
    left = without_code(MachineConfig.from_json(document))
    assert [one.name for one in left.packages] == ["both", "graph"]
    assert np.all([one.registry for one in left.packages])
