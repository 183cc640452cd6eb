"""The model of a disk: what survives a power cut, and that it is what a process really did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import powercut
from tests.tools.powercut import Cut, Disk, Loss, cuts, differences, read_calls, traced

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or powercut.why_not() is not None,
    reason=str(powercut.why_not() if sys.platform == "linux" else "strace is a Linux program"),
)

SYNC = """
import os
def sync(path):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
"""


def run(folder: Path, script: str) -> tuple[Disk, list[powercut.Call]]:
    """What a script does in a folder that holds ``old`` with ``before`` in it."""
    log, disk = folder / "log", folder / "disk"
    log.mkdir()
    disk.mkdir()
    (disk / "old").write_bytes(b"before")
    before = Disk.read(disk)
    command = [sys.executable, "-I", "-S", "-c", SYNC + script]
    subprocess.run(traced(command, log), check=True, cwd=disk, timeout=60)
    return before, read_calls(log, str(disk))


def left(cut: Cut) -> dict[str, bytes]:
    """Path → bytes of the files that are left."""
    return {path: content for path, (_, content) in cut.tree.files.items()}


#: A script, what is lost at its end, and the files that are left.
CASES: dict[str, tuple[str, Loss, dict[str, bytes]]] = {
    "after a kill everything is there": (
        "open('new', 'w').write('x')",
        "killed",
        {"old": b"before", "new": b"x"},
    ),
    "a name that was not synchronised is lost": (
        "f = open('new', 'w'); f.write('x'); f.flush(); os.fsync(f.fileno())",
        "unsynced lost",
        {"old": b"before"},
    ),
    "bytes that were not synchronised are lost": (
        "open('new', 'w').write('x'); sync('.')",
        "unsynced lost",
        {"old": b"before", "new": b""},
    ),
    "of a name without its bytes zeros are left": (
        "open('new', 'w').write('xyz')",
        "data lost",
        {"old": b"before", "new": b"\0\0\0"},
    ),
    "bytes without their name are lost": (
        "open('old', 'a').write('!'); open('new', 'w').write('xyz')",
        "names lost",
        {"old": b"before!"},
    ),
    "a file and its folder synchronised": (
        "f = open('new', 'w'); f.write('x'); f.flush(); os.fsync(f.fileno()); sync('.')",
        "unsynced lost",
        {"old": b"before", "new": b"x"},
    ),
    "a rename that was not synchronised": (
        "open('new', 'w').write('x'); sync('new'); sync('.'); os.replace('new', 'old')",
        "unsynced lost",
        {"old": b"before", "new": b"x"},
    ),
    "a rename that was": (
        "open('new', 'w').write('x'); sync('new'); os.replace('new', 'old'); sync('.')",
        "unsynced lost",
        {"old": b"x"},
    ),
    "a rename out of a folder is one step": (
        "os.mkdir('a'); os.rename('old', 'a/new'); sync('.'); sync('a')",
        "unsynced lost",
        {"a/new": b"before"},
    ),
    "a folder whose own name was not synchronised": (
        "os.mkdir('a'); open('a/new', 'w').write('x'); sync('a/new'); sync('a')",
        "unsynced lost",
        {"old": b"before"},
    ),
    "an unlink that was not synchronised": (
        "os.unlink('old')",
        "unsynced lost",
        {"old": b"before"},
    ),
    "an unlink that was": ("os.unlink('old'); sync('.')", "unsynced lost", {}),
    "what is written to a file is in its links too": (
        "os.link('old', 'new'); sync('.'); open('old', 'a').write('!'); sync('new')",
        "unsynced lost",
        {"old": b"before!", "new": b"before!"},
    ),
}


@pytest.mark.parametrize(("script", "loss", "expected"), CASES.values(), ids=CASES)
def test_what_is_left_after_a_power_cut(
    tmp_path: Path, script: str, loss: Loss, expected: dict[str, bytes]
) -> None:
    disk, calls = run(tmp_path, script)
    for call in calls:
        disk.apply(call)
    assert differences(disk, tmp_path / "disk") == []
    files = disk.tree(loss).files
    assert {path: content for path, (_, content) in files.items()} == expected


EVERYTHING = """
import shutil, threading
os.makedirs('a/b')
with open('a/b/.new', 'wb') as file:
    file.write(bytes(range(256))); file.flush(); os.fsync(file.fileno())
os.replace('a/b/.new', 'a/b/new')
os.link('a/b/new', 'hard'); os.symlink('a/b', 'soft'); shutil.copyfile('hard', 'copy')
handle = os.open('copy', os.O_RDWR); os.pwrite(handle, b'12', 10); os.ftruncate(handle, 100)
os.close(handle)
threads = [threading.Thread(target=lambda n=n: open(f'of {n}', 'w').write('x' * n)) for n in range(9)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
os.rename('hard', 'a/b/moved'); os.unlink('old'); shutil.rmtree('a/b'); os.rename('a', 'A')
if os.fork() == 0:
    open('by a child', 'w').write('x'); os._exit(0)
os.wait()
"""


def test_the_model_holds_what_the_disk_does(tmp_path: Path) -> None:
    disk, calls = run(tmp_path, EVERYTHING)
    for call in calls:
        disk.apply(call)
    assert differences(disk, tmp_path / "disk") == []
    disk.tree().write(tmp_path / "again")
    assert differences(disk, tmp_path / "again") == []


def test_a_file_is_replaced_as_a_whole_wherever_the_power_is_cut(tmp_path: Path) -> None:
    script = """
with open('new', 'w') as f:
    f.write('after'); f.flush(); os.fsync(f.fileno())
os.replace('new', 'old'); sync('.')
"""
    disk, calls = run(tmp_path, script)
    found = {left(cut)["old"] for cut in cuts(disk, calls)}
    assert found == {b"before", b"after"}


def test_a_file_that_is_replaced_without_being_synchronised_is_lost(tmp_path: Path) -> None:
    script = "open('new', 'w').write('after'); os.replace('new', 'old'); sync('.')"
    disk, calls = run(tmp_path, script)
    assert b"\0" * 5 in {left(cut)["old"] for cut in cuts(disk, calls)}
