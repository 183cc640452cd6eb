"""What is on a device's disk is damaged, or its clock is wrong: the last good version serves."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.storage import MemoryStorage
from tests.tools.device import Device
from tests.tools.restart import AFTER, PATIENCE_S, deploy, factor, is_steady, started_again
from tests.tools.toy_versions import MODEL, PACKAGE, machine, toy

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

CONFIG = machine(confirm_s=0.05)
_STORAGE = MemoryStorage()
FIRST, SECOND, THIRD = (toy(_STORAGE, number, number + 1) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a device that runs the second version, and can go back to the first."""
    home = tmp_path_factory.mktemp("deployed") / "home"
    runtime = EdgeRuntime(home, name="here", environment={})
    try:
        for version in (FIRST, SECOND):
            deploy(runtime, _STORAGE, version, CONFIG)
            settle(runtime)
        assert factor(runtime) == 3
    finally:
        runtime.close()
    return home


@pytest.fixture
def home(deployed: Path, tmp_path: Path) -> Path:
    """A copy of it that is the test's own."""
    shutil.copytree(deployed, tmp_path / "home", symlinks=True)
    return tmp_path / "home"


def settle(runtime: EdgeRuntime) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (runtime.settled and is_steady(runtime)):
        assert time.monotonic() < deadline, runtime.status()
        time.sleep(0.005)


def blob(home: Path, digest: str) -> Path:
    return home / "blobs" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def model_file(home: Path) -> Path:
    """The model of the second version in its package."""
    (found,) = (home / "packages" / "data" / "ml_model").glob("local-scale-*-02/model.onnx")
    return found


Damage = Callable[[Path], object]


def written(path: str, content: bytes) -> Damage:
    return lambda home: (home / path).write_bytes(content)


def halved(path: str) -> Damage:
    return lambda home: (home / path).write_bytes(
        (home / path).read_bytes()[: (home / path).stat().st_size // 2]
    )


def removed(path: str) -> Damage:
    def remove(home: Path) -> None:
        if (home / path).is_dir() and not (home / path).is_symlink():
            shutil.rmtree(home / path)
        else:
            (home / path).unlink()

    return remove


def edited(path: str, **changes: object) -> Damage:
    def edit(home: Path) -> None:
        data = json.loads((home / path).read_bytes())
        (home / path).write_text(json.dumps({**data, **changes}))

    return edit


def both(*damages: Damage) -> Damage:
    return lambda home: [damage(home) for damage in damages]


TAG = f"tags/{MODEL}/latest"
MISSING = "sha256:" + "0" * 64

#: What is done to the files of a device that is off, and what serves when it is on again.
DAMAGES: dict[str, tuple[Damage, float]] = {
    "a config that is no JSON": (written("config.json", b"{"), 3),
    "an empty config": (written("config.json", b""), 3),
    "half a config": (halved("config.json"), 3),
    "a config of zeros": (written("config.json", bytes(500)), 3),
    "a config that is not text": (written("config.json", b"\xff\xfe\x00"), 3),
    "a config that is a list": (written("config.json", b"[]"), 3),
    "a config that cannot be followed": (edited("config.json", services=[{"name": 5}]), 3),
    "a config that nests too deep": (written("config.json", b"[" * 100_000), 3),
    "an empty state": (written("state.json", b""), 3),
    "half a state": (halved("state.json"), 3),
    "a state of zeros": (written("state.json", bytes(500)), 3),
    "a state that is null": (written("state.json", b"null"), 3),
    "a state of other types": (edited("state.json", services={"scaler": 5}), 3),
    "a state without services": (written("state.json", b"{}"), 3),
    "a state that nests too deep": (written("state.json", b"[" * 100_000), 3),
    "no state": (removed("state.json"), 3),
    "neither config nor state can be read": (
        both(written("config.json", b""), written("state.json", b"")),
        3,
    ),
    "an empty tag": (written(TAG, b""), 3),
    "a tag of zeros": (written(TAG, bytes(71)), 3),
    "a tag that leads nowhere": (written(TAG, MISSING.encode()), 3),
    "no tags": (removed("tags"), 3),
    "no packages": (removed("packages"), 3),
    "no models for Triton": (removed("models"), 3),
    "a package that is called otherwise": (removed(f"packages/{PACKAGE}"), 3),
    "a list of manifests that is empty": (written("blobs/index.json", b""), 3),
    "no folder for uploads": (removed("blobs/uploads"), 3),
    "an event log of zeros": (written("events.jsonl", bytes(500)), 3),
    "the model of what runs is damaged": (lambda home: damaged(model_file(home)), 2),
}


def damaged(file: Path) -> None:
    """Other bytes in place, so that hard links of it have them too."""
    file.chmod(0o644)
    with file.open("r+b") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        stream.write(bytes(size))


@pytest.mark.parametrize(("damage", "serves"), DAMAGES.values(), ids=DAMAGES)
def test_the_last_good_version_serves(home: Path, damage: Damage, serves: float) -> None:
    damage(home)
    outcome = started_again(home, deploy=True)
    assert outcome.settled == serves, outcome
    assert outcome.after == AFTER, outcome
    assert outcome.unowned == ()


def test_what_ran_before_serves_when_a_manifest_is_damaged(home: Path) -> None:
    damaged(blob(home, SECOND.digest))
    runtime = EdgeRuntime(home, name="here", environment={})
    try:
        settle(runtime)
        assert factor(runtime) == 2
        deploy(runtime, _STORAGE, SECOND, CONFIG)  # a push mends what is damaged
        settle(runtime)
        assert factor(runtime) == 3
    finally:
        runtime.close()


# The clock

YEAR_S = 365 * 24 * 3600.0


@pytest.mark.parametrize("years", [-20, 20])
def test_a_disk_that_was_written_with_another_clock(home: Path, years: int) -> None:
    then = time.time() + years * YEAR_S
    for path in (home, *home.rglob("*")):
        os.utime(path, (then, then), follow_symlinks=False)
    outcome = started_again(home, deploy=True)
    assert (outcome.factors, outcome.unowned, outcome.after) == ((3,), (), AFTER)


@pytest.mark.parametrize("years", [-20, 20])
def test_a_device_starts_with_a_wrong_clock(
    home: Path, tmp_path: Path, project_root: Path, years: int
) -> None:
    with with_clock(home, tmp_path, project_root, fast_by=years * YEAR_S) as device:
        device.wait(lambda status: status["state"] == "ready")
        assert abs(year(device) - time.gmtime().tm_year) in (19, 20)
        assert device.answer() == 3
        device.push(_STORAGE, THIRD, "latest")
        device.wait_committed(THIRD)
        device.stop()
    outcome = started_again(home, deploy=True)
    assert (outcome.factors, outcome.unowned, outcome.after) == ((4,), (), AFTER)


@pytest.mark.parametrize("years", [-1, 1])
def test_the_clock_is_set_while_a_version_is_provisional(
    home: Path, tmp_path: Path, project_root: Path, years: int
) -> None:
    with with_clock(home, tmp_path, project_root, fast_by=0) as device:
        device.configure(machine(confirm_s=1.5))
        device.push(_STORAGE, THIRD, "latest")
        device.wait(lambda status: status["phase"] == "provisional")
        began = time.monotonic()
        clock(tmp_path).write_text(str(years * YEAR_S))
        device.wait_committed(THIRD)
        assert 0.5 < time.monotonic() - began < 20
        assert abs(year(device) - time.gmtime().tm_year) in (0, 1)
        assert device.answer() == 4


def with_clock(home: Path, tmp_path: Path, project_root: Path, *, fast_by: float) -> Device:
    clock(tmp_path).write_text(str(fast_by))
    program = (sys.executable, "-m", "tests.tools.wrong_clock", str(clock(tmp_path)))
    return Device(home, program=program, environment={"PYTHONPATH": str(project_root)})


def clock(tmp_path: Path) -> Path:
    return tmp_path / "clock"


def year(device: Device) -> int:
    """What year the device thought that it was when it last said something."""
    return int(device.remote.logs(1)[0][:4])
