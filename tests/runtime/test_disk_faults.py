"""A disk that is full, that may only be read, or that fails now and then."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.errors import NbModelError, StorageUnavailableError
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.storage import MemoryStorage
from tests.tools import powercut
from tests.tools.device import PATIENCE_S, Device
from tests.tools.powercut import failing
from tests.tools.restart import AFTER, deploy, factor, is_steady, started_again
from tests.tools.toy_versions import machine, toy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.unhurried,
    pytest.mark.skipif(sys.platform != "linux", reason="disks are made with Linux' mount"),
]

PAGE = 4096  # bytes of the smallest file of a tmpfs
CONFIG = machine(confirm_s=0.05)
_STORAGE = MemoryStorage()
FIRST, SECOND = toy(_STORAGE, 1, 2), toy(_STORAGE, 2, 3)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte, on which a device runs the first version in ``home``."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    try:
        with running(folder / "home") as runtime:
            deploy(runtime, _STORAGE, FIRST, CONFIG)
            settle(runtime)
            assert factor(runtime) == 2
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def running(home: Path) -> Iterator[EdgeRuntime]:
    runtime = EdgeRuntime(home, name="here", environment={})
    try:
        yield runtime
    finally:
        runtime.close()


def settle(runtime: EdgeRuntime) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (runtime.settled and is_steady(runtime)):
        assert time.monotonic() < deadline, runtime.status()
        time.sleep(0.005)


def fill(disk: Path, free: int) -> Path:
    """Leave so many bytes free; the file that takes the rest."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    left = shutil.disk_usage(disk).free - free
    with filler.open("wb") as file, suppress(OSError):
        file.write(bytes(left))
    return filler


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


# Full


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 4, 5, 6, 8, 10, 12])
def test_a_disk_that_becomes_full_during_a_deployment(disk: Path, pages: int) -> None:
    with running(disk / "home") as runtime:
        settle(runtime)
        filler = fill(disk, pages * PAGE)
        with suppress(StorageUnavailableError):
            deploy(runtime, _STORAGE, SECOND, CONFIG)
        settle(runtime)
        assert factor(runtime) in (2, 3)
    with running(disk / "home") as runtime:
        settle(runtime)
        assert factor(runtime) in (2, 3), "it starts on a full disk"
        filler.unlink()
        deploy(runtime, _STORAGE, SECOND, CONFIG)
        runtime.reconcile()
        settle(runtime)
        assert factor(runtime) == 3, runtime.status()
    outcome = started_again(disk / "home", deploy=True)
    assert (outcome.factors, outcome.unowned, outcome.after) == ((3,), (), AFTER)


def test_a_client_is_told_that_the_disk_is_full(disk: Path) -> None:
    with Device(disk / "home") as device:
        device.wait(lambda status: status["state"] == "ready")
        filler = fill(disk, 0)
        with pytest.raises(StorageUnavailableError, match="No space left on device"):
            device.push(_STORAGE, SECOND, "latest")
        assert device.answer() == 2
        filler.unlink()
        device.push(_STORAGE, SECOND, "latest")
        device.wait_committed(SECOND)


# Only to be read


def test_a_device_whose_disk_may_only_be_read_serves(disk: Path) -> None:
    with Device(disk / "home") as device:
        device.stop()
    remount(disk, "ro")
    with Device(disk / "home") as device:
        device.wait(lambda status: status["state"] == "ready")
        assert device.answer() == 2
        with pytest.raises(NbModelError, match="Read-only file system"):
            device.push(_STORAGE, SECOND, "latest")
        with pytest.raises(NbModelError, match="Read-only file system"):
            device.configure(machine("2"))
        assert device.answer() == 2
        remount(disk, "rw")
        device.push(_STORAGE, SECOND, "latest")
        device.wait_committed(SECOND)


# Failing now and then


@pytest.mark.skipif(powercut.why_not() is not None, reason=str(powercut.why_not()))
@pytest.mark.parametrize("first", range(1, 8))
def test_a_disk_that_does_not_synchronise_every_seventh_time(tmp_path: Path, first: int) -> None:
    home = tmp_path / "home"
    with running(home) as runtime:
        deploy(runtime, _STORAGE, FIRST, CONFIG)
        settle(runtime)
    fault = f"fsync:error=EIO:when={first}+7"
    with Device(home, under=lambda command: failing(command, fault)) as device:
        device.wait(lambda status: status["state"] == "ready")
        served = {device.answer()}
        deadline = time.monotonic() + PATIENCE_S
        while device.status()["digest"] != SECOND.digest:
            assert time.monotonic() < deadline, device.status()
            with suppress(NbModelError):
                device.push(_STORAGE, SECOND, "latest")
                device.remote.reconcile()
            served.add(device.answer())
        device.kill()
    assert served <= {2, 3}
    outcome = started_again(home, deploy=True)
    assert set(outcome.factors) <= {2, 3}
    assert None not in outcome.factors
    assert (outcome.unowned, outcome.after) == ((), AFTER)
