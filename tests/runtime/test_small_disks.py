"""Parts of a device's home on disks of their own that are full, or may only be read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnx", reason="toy models are made with onnx")

from nbmodel.errors import StorageUnavailableError
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.reserve import RESERVE_BYTES, RESERVE_FILE
from nbmodel.storage import MemoryStorage
from nbmodel.storage.manifests import blobs_of
from tests.tools.restart import deploy, factor, is_steady
from tests.tools.toy_versions import SERVICE, machine, scaling_onnx, toy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="disks are made with Linux' mount"),
]

SETTLE_S = 60.0
MAX_BLOB = 1_000_000
CONFIG = machine(confirm_s=0.05)
STORAGE = MemoryStorage()
SMALL = toy(STORAGE, 1, 2)
NEXT = toy(STORAGE, 3, 4)
LARGE = toy(STORAGE, 2, 3, files={"model.onnx": scaling_onnx(3), "weights.bin": b"w" * 900_000})


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


@contextmanager
def running(home: Path) -> Iterator[EdgeRuntime]:
    runtime = EdgeRuntime(home, name="here", environment={})
    try:
        yield runtime
    finally:
        runtime.close()


def settle(runtime: EdgeRuntime) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not (runtime.settled and is_steady(runtime)):
        assert time.monotonic() < deadline, runtime.status()
        time.sleep(0.005)


def error(runtime: EdgeRuntime) -> str:
    (service,) = runtime.status()["services"]
    assert service["name"] == SERVICE
    return str(service["error"])


def test_a_version_whose_files_do_not_fit_leaves_the_old_one_serving(tmp_path: Path) -> None:
    home = tmp_path / "home"
    packages = home / "packages"
    with mounted(packages, "512k"), running(home) as runtime:
        deploy(runtime, STORAGE, SMALL, CONFIG)
        settle(runtime)
        assert factor(runtime) == 2
        deploy(runtime, STORAGE, LARGE, CONFIG)
        settle(runtime)
        assert factor(runtime) == 2
        assert "cannot lay out package 'scale'" in error(runtime)
        assert "No space left on device" in error(runtime)
        assert not list(packages.glob("data/ml_model/.new-*")), "it left the disk full"
        assert (packages / "scale" / "model.onnx").read_bytes() == scaling_onnx(2)
        remount(packages, "size=8m")
        runtime.reconcile()
        settle(runtime)
        assert factor(runtime) == 3
        assert error(runtime) == "None"


def test_a_full_disk_is_helped_by_taking_a_model_away(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with mounted(home, "4m"), running(home) as runtime:
        deploy(runtime, STORAGE, LARGE, CONFIG)
        settle(runtime)
        before = shutil.disk_usage(home).free
        _fill(home)
        assert shutil.disk_usage(home).free == 0
        with pytest.raises(StorageUnavailableError, match="No space left"):
            runtime.storage.add_bytes(b"what nobody needs" * 1000)
        runtime.set_config({}, if_match=None)
        runtime.wait_settled(SETTLE_S)
        assert list(runtime.tags.all()) == []
        assert list(runtime.storage.digests()) == []
        assert shutil.disk_usage(home).free > 900_000
        _empty(home)
        assert shutil.disk_usage(home).free > before + 900_000
        deploy(runtime, STORAGE, NEXT, CONFIG)
        settle(runtime)
        assert factor(runtime) == 4
        assert (home / RESERVE_FILE).stat().st_size == RESERVE_BYTES, "there is room for it again"


def _fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def _empty(disk: Path) -> None:
    (disk / "filler").unlink()


def _lock(disk: Path) -> None:
    remount(disk, "ro")


def _unlock(disk: Path) -> None:
    remount(disk, "rw")


@pytest.mark.parametrize(
    ("break_it", "mend_it", "why"),
    [
        pytest.param(_fill, _empty, "No space left on device", id="full"),
        pytest.param(_lock, _unlock, "Read-only file system", id="only to be read"),
    ],
)
def test_a_version_is_not_taken_up_while_the_state_cannot_be_written(
    tmp_path: Path,
    break_it: Callable[[Path], None],
    mend_it: Callable[[Path], None],
    why: str,
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    with mounted(home, "256k"):
        for part in ("blobs", "tags", "packages", "models"):
            (elsewhere / part).mkdir(parents=True)
            (home / part).symlink_to(elsewhere / part, target_is_directory=True)
        with running(home) as runtime:
            deploy(runtime, STORAGE, SMALL, CONFIG)
            settle(runtime)
            break_it(home)
            for digest in (*blobs_of(NEXT.raw), NEXT.digest):
                runtime.storage.add_bytes(STORAGE.read(digest, limit=MAX_BLOB))
            runtime.tags.set("scale", "latest", NEXT.digest)
            runtime.tags_changed("scale")
            settle(runtime)
            assert factor(runtime) == 2
            assert why in error(runtime)
            mend_it(home)
            runtime.reconcile()
            settle(runtime)
            assert factor(runtime) == 4
        with running(home) as again:
            settle(again)
            assert factor(again) == 4
