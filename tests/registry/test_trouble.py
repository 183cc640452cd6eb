"""A registry's folder on a disk that is read-only or full, on NFS, and under several hands."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbmodel.core.signature import Signature
from nbmodel.errors import StorageUnavailableError
from nbmodel.registry import Registry
from tests.tools.small_disk import disk, fill

pytestmark = [
    pytest.mark.unhurried,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts are Linux's"),
]


def add(registry: Registry, content: bytes = b"weights", name: str = "digits") -> str:
    made = registry.add(
        name, {"model.onnx": content}, framework="onnx", model_type="other", signature=Signature()
    )
    return made.reference


def changes(registry: Registry) -> list[Callable[[], object]]:
    """Everything that writes, as calls."""
    return [
        lambda: add(registry, b"more"),
        lambda: registry.set_alias("digits:1", "champion"),
        lambda: registry.pin("digits:1"),
        lambda: registry.describe("digits", "text"),
        lambda: registry.tag("digits:1", {"a": "b"}),
        lambda: registry.delete("digits:1", force=True),
        lambda: registry.gc(grace_s=0),
        lambda: registry.verify(rebuild=True),
    ]


@pytest.mark.parametrize("left", ["closed", "open", "killed", "killed, its shared memory lost"])
def test_a_read_only_disk_is_read_and_every_change_is_refused(tmp_path: Path, left: str) -> None:
    with disk(tmp_path, 8 * 1024 * 1024) as (place, view):
        root = place / "registry"
        with Registry(root) as registry:
            add(registry)
        owner = Registry(root)
        count = 1
        if left == "open":
            add(owner, b"second")
            count = 2
        elif left.startswith("killed"):
            _add_and_die(root)
            count = 2
        if "lost" in left:
            (root / "registry.sqlite-shm").unlink()
        before = sorted((path.name, path.stat().st_size) for path in root.rglob("*"))
        with Registry(view / "registry") as registry:
            assert len(registry.versions("digits")) == count
            assert registry.resolve(f"digits:{count}").number == count
            assert registry.verify().is_clean
            assert registry.extract("digits:1", tmp_path / "out")
            for change in changes(registry):
                with pytest.raises(StorageUnavailableError) as caught:
                    change()
                assert "\n" not in str(caught.value)
        assert sorted((path.name, path.stat().st_size) for path in root.rglob("*")) == before
        assert add(owner, b"third") == f"digits:{count + 1}"
        assert owner.verify().is_clean
        owner.close()


def _add_and_die(root: Path) -> None:
    """Make a version in a process that is killed before it closes the index."""
    program = """
import os, signal, sys
from pathlib import Path
from nbmodel.core.signature import Signature
from nbmodel.registry import Registry
registry = Registry(Path(sys.argv[1]))
registry.add(
    "digits", {"f": b"second"}, framework="onnx", model_type="other", signature=Signature()
)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, root], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert (root / "registry.sqlite-wal").stat().st_size > 0


@pytest.mark.parametrize("free", [0, 4096, 20_000, 100_000, 600_000])
def test_a_full_disk_takes_nothing_and_loses_nothing(tmp_path: Path, free: int) -> None:
    with disk(tmp_path, 4 * 1024 * 1024) as (place, _):
        root, filler = place / "registry", place / "filler"
        with Registry(root) as registry:
            add(registry)
            before = registry.versions()
            fill(filler, free)
            told = []
            for change in (
                lambda: add(registry, os.urandom(700_000)),
                lambda: registry.describe("digits", "x" * 900_000),
            ):
                try:
                    change()
                except StorageUnavailableError as exc:
                    told.append(str(exc))
            assert len(told) == 2 or (free >= 600_000 and told)
            assert not any("\n" in one for one in told)
            if free == 100_000:  # enough for the index, and not for the file
                assert "0.7 MB are needed, 0.1 MB are free" in told[0]
            assert registry.versions()[-1:] == before
            assert registry.verify().is_clean
            filler.unlink()
            registry.gc(grace_s=0)
            assert add(registry, b"more") == f"digits:{len(registry.versions())}"
            assert registry.verify().is_clean
            assert not list((root / "uploads").iterdir())


def _leave(registry: Registry, upload: int, blob: int) -> None:
    """What no version needs: part of a download, and a blob; nobody has them open then."""
    if upload:
        with registry.storage.receive(name="fetch-part") as writer:
            writer.write(os.urandom(upload))
    if blob:
        registry.storage.add_bytes(os.urandom(blob))
    registry.close()


@pytest.mark.parametrize("free", [0, 4096, 20_000])
@pytest.mark.parametrize(
    ("upload", "blob", "grace_s", "freed"),
    [
        pytest.param(300_000, 0, 3600.0, 300_000, id="part of a download of just now"),
        pytest.param(0, 200_000, 0.0, 200_000, id="a blob"),
        pytest.param(300_000, 200_000, 0.0, 500_000, id="both"),
        pytest.param(0, 200_000, 3600.0, 0, id="a blob of just now, which a writer may need"),
    ],
)
def test_what_nobody_needs_is_freed_on_a_full_disk(
    tmp_path: Path, free: int, upload: int, blob: int, grace_s: float, freed: int
) -> None:
    with disk(tmp_path, 4 * 1024 * 1024) as (place, _):
        root = place / "registry"
        with Registry(root) as registry:
            add(registry)
            _leave(registry, upload, blob)
        fill(place / "filler", free)
        with Registry(root) as registry:
            assert [version.reference for version in registry.versions()] == ["digits:1"]
            assert registry.gc(grace_s=grace_s, dry_run=True).freed == freed
            assert registry.gc(grace_s=grace_s).freed == freed
            assert registry.verify().is_clean
            if freed:
                assert add(registry, b"more") == "digits:2"


def test_parts_of_downloads_stay_where_there_is_room(tmp_path: Path) -> None:
    with disk(tmp_path, 8 * 1024 * 1024) as (place, _), Registry(place / "registry") as registry:
        add(registry)
        _leave(registry, 300_000, 0)
        assert registry.gc().freed == 0
        assert registry.gc(grace_s=0).freed == 300_000


def test_a_lost_index_on_a_full_disk_stays_lost_until_there_is_room(tmp_path: Path) -> None:
    with disk(tmp_path, 4 * 1024 * 1024) as (place, _):
        root, filler = place / "registry", place / "filler"
        with Registry(root) as registry:
            add(registry)
        listed = (root / "index.json").read_bytes()
        (root / "registry.sqlite").unlink()
        fill(filler, 0)
        with Registry(root) as registry:
            with pytest.raises(StorageUnavailableError):
                registry.verify(rebuild=True)
            assert (root / "index.json").read_bytes() == listed
            filler.unlink()
            assert registry.verify(rebuild=True).rebuilt == 1
            assert registry.verify().is_clean
        names = {path.name for path in root.iterdir()}
        assert not [name for name in names if name.startswith(".new-")]


# -- several at once ----------------------------------------------------------------------------

_CELLS = """
import os
import nbmodel
from nbmodel.client import Client
client = Client()
for turn in range({count}):
    with open({source!r}, "wb") as file:
        file.write(os.urandom(20_000))
    client.registry.add(
        "digits", {{"model.bin": open({source!r}, "rb").read()}},
        framework="onnx", model_type="other", signature=__import__("nbmodel.core.signature").core.signature.Signature(),
    )
    client.list("digits")
    client.registry.set_alias("digits", "mine-{who}")
    client.verify()
"""


def test_two_kernels_and_a_command_line_work_on_one_folder(tmp_path: Path) -> None:
    client = pytest.importorskip("jupyter_client", reason="kernels need the extra notebook")
    environment = {**os.environ, "NBMODEL_HOME": str(tmp_path / "home")}
    count = 4
    kernels = []
    try:
        for _ in range(2):
            manager = client.KernelManager(kernel_name="python3")
            manager.start_kernel(env=environment, stderr=subprocess.DEVNULL)
            kernels.append((manager, manager.blocking_client()))
            kernels[-1][1].start_channels()
        asked = []
        for who, (_, channels) in enumerate(kernels):
            channels.wait_for_ready(timeout=120)
            code = _CELLS.format(count=count, source=str(tmp_path / f"m{who}"), who=who)
            asked.append(channels.execute(code))
        (tmp_path / "weights.bin").write_bytes(b"w" * 1000)
        for turn in range(3):
            for words in (
                ("tag", "digits:1", f"turn={turn}"),
                ("list", "digits"),
                ("verify",),
                ("gc",),
            ):
                done = subprocess.run(
                    [sys.executable, "-m", "nbmodel", *words],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=120,
                )
                missing = "no model" in done.stderr + done.stdout or "no version" in done.stderr
                assert done.returncode == 0 or (turn == 0 and missing), (words, done.stderr)
        for message, (_, channels) in zip(asked, kernels, strict=True):
            reply = channels._recv_reply(message, timeout=240)
            assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        for manager, channels in kernels:
            channels.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
    with Registry(tmp_path / "home" / "registry") as registry:
        numbers = [one.number for one in registry.versions("digits")]
        assert numbers == list(range(2 * count, 0, -1))
        assert registry.verify().is_clean
        aliases = {alias for one in registry.versions("digits") for alias in one.aliases}
        assert aliases == {"latest", "mine-0", "mine-1"}


_ON_NFS = """
import os, sys
from pathlib import Path
from nbmodel.core.signature import Signature
from nbmodel.registry import Registry, database
database.on_network = lambda *_: True
registry = Registry(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    made = registry.add(
        "digits", {"f": os.urandom(1000)}, framework="x", model_type="other", signature=Signature()
    )
    registry.versions("digits")
    print(made.number, flush=True)
registry.close()
"""


def test_on_a_network_file_system_every_number_is_made_once(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _ON_NFS, str(root), "6"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    numbers: list[int] = []
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        output, error = process.communicate("\n", timeout=240)
        assert process.returncode == 0, error
        numbers += map(int, output.split())
    assert sorted(numbers) == list(range(1, 19))
    kinds = {path.name.rpartition("-")[2] for path in root.glob("registry.sqlite-*")}
    assert kinds <= {"journal"}, "no log and no shared memory"
    with Registry(root) as registry:
        assert registry.verify().is_clean


def test_a_folder_that_is_moved_is_the_same_registry(tmp_path: Path) -> None:
    with Registry(tmp_path / "one") as registry:
        add(registry)
    shutil.move(tmp_path / "one", tmp_path / "other")
    with Registry(tmp_path / "other") as registry:
        assert add(registry, b"2") == "digits:2"
        assert registry.verify().is_clean
