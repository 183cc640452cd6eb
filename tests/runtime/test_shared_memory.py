from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory as Block
from pathlib import Path

import numpy as np
import pytest

from nbmodel.errors import (
    FormatError,
    InferenceError,
    InputError,
    NbModelError,
    ShapeError,
    StorageError,
    TargetError,
    UnsupportedError,
)
from nbmodel.protocol.inference import Region, SharedTensor
from nbmodel.runtime.shared_memory import FOLDER, MAX_NAME, Registration, SharedMemory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="shared memory objects are files on Linux only"
)
SIZE = 4096


@pytest.fixture
def block() -> Iterator[Block]:
    block = Block(create=True, size=SIZE)
    yield block
    block.close()
    block.unlink()


def view(block: Block) -> memoryview:
    assert block.buf is not None
    return block.buf


@pytest.fixture
def memory(block: Block) -> SharedMemory:
    memory = SharedMemory(allowed=True)
    memory.register("r", f"/{block.name}", byte_size=SIZE - 64, offset=64)
    return memory


def test_a_region_is_told_as_it_was_registered(memory: SharedMemory, block: Block) -> None:
    there = Registration("r", f"/{block.name}", offset=64, byte_size=SIZE - 64)
    assert memory.status() == memory.status("r") == (there,)


def test_a_tensor_is_read_from_where_it_is(memory: SharedMemory, block: Block) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    view(block)[72:96] = array.tobytes()
    read = memory.read("x", SharedTensor("FP32", (2, 3), Region("r", 24, offset=8)))
    assert read.tolist() == array.tolist()
    view(block)[72:96] = bytes(24)
    assert read.tolist() == array.tolist()  # a copy: the client may go on


def test_a_tensor_is_written_to_where_it_belongs(memory: SharedMemory, block: Block) -> None:
    memory.write("y", Region("r", 100, offset=16), np.array([1, 2], np.int16))
    assert bytes(view(block)[80:86]) == b"\x01\x00\x02\x00\x00\x00"


def test_text_passes_both_ways(memory: SharedMemory) -> None:
    texts = np.array([b"", b"abc"], object)
    memory.write("y", Region("r", 11), texts)
    read = memory.read("y", SharedTensor("BYTES", (2,), Region("r", 11)))
    assert read.tolist() == texts.tolist()


@pytest.mark.parametrize(
    ("region", "error", "says"),
    [
        pytest.param(Region("q", 1), TargetError, "Unable to find .* region: 'q'", id="unknown"),
        pytest.param(Region("r", 0, offset=SIZE), InputError, "Invalid offset for", id="offset"),
        pytest.param(
            Region("r", SIZE - 63), InputError, r"Invalid offset \+ byte size", id="too long"
        ),
        pytest.param(Region("r", 2**64, offset=2**63), InputError, "Invalid offset", id="enormous"),
    ],
)
def test_a_part_beyond_a_region_is_refused(
    memory: SharedMemory, region: Region, error: type[NbModelError], says: str
) -> None:
    for use in (
        lambda: memory.check(region),
        lambda: memory.read("x", SharedTensor("INT8", (1,), region)),
        lambda: memory.write("x", region, np.zeros(1, np.int8)),
    ):
        with pytest.raises(error, match=says):
            use()


def test_bytes_that_are_not_the_tensor_are_refused(memory: SharedMemory) -> None:
    with pytest.raises(ShapeError, match="Expected 8, got 4"):
        memory.read("x", SharedTensor("FP32", (2,), Region("r", 4)))


def test_an_output_that_does_not_fit_is_refused(memory: SharedMemory, block: Block) -> None:
    with pytest.raises(InferenceError, match=r"'y' \(7 bytes\) should be at least 8 bytes"):
        memory.write("y", Region("r", 7), np.ones(8, np.uint8))
    assert not any(view(block))


def test_an_object_that_was_shortened_is_an_error_not_a_crash(
    memory: SharedMemory, block: Block
) -> None:
    os.truncate(FOLDER / block.name, 70)
    with pytest.raises(FormatError, match="became shorter"):
        memory.read("x", SharedTensor("INT8", (8,), Region("r", 8)))
    with pytest.raises(InferenceError, match="became shorter"):
        memory.write("x", Region("r", 8), np.ones(8, np.int8))
    assert (FOLDER / block.name).stat().st_size == 70
    os.truncate(FOLDER / block.name, SIZE)


@pytest.mark.parametrize(
    ("key", "size", "error", "says"),
    [
        pytest.param("", 1, InputError, "invalid shm key", id="no key"),
        pytest.param("/", 1, InputError, "invalid shm key", id="a slash"),
        pytest.param("//", 1, InputError, "invalid shm key", id="two slashes"),
        pytest.param("..", 1, InputError, "invalid shm key", id="the folder above"),
        pytest.param("/../etc/passwd", 1, InputError, "invalid shm key", id="a way out"),
        pytest.param("/a/b", 1, InputError, "invalid shm key", id="a folder"),
        pytest.param("a\0b", 1, InputError, "invalid shm key", id="a NUL"),
        pytest.param("/nbmodel-nope", 1, StorageError, "Unable to open", id="not there"),
    ],
)
def test_a_key_names_an_object_and_nothing_else(
    key: str, size: int, error: type[NbModelError], says: str
) -> None:
    memory = SharedMemory(allowed=True)
    with pytest.raises(error, match=says):
        memory.register("r", key, byte_size=size)
    assert memory.status() == ()


def test_what_is_no_plain_object_is_refused(tmp_path: Path) -> None:
    memory = SharedMemory(allowed=True, folder=tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for key in ("folder", "pipe", "link"):
        with pytest.raises(NbModelError):
            memory.register("r", key, byte_size=0)


def test_a_region_beyond_its_object_is_refused(block: Block) -> None:
    memory = SharedMemory(allowed=True)
    for size, offset in ((SIZE + 1, 0), (1, SIZE), (2**64, 2**64)):
        with pytest.raises(InputError, match="invalid args"):
            memory.register("r", block.name, byte_size=size, offset=offset)


def test_a_name_is_taken_once(memory: SharedMemory, block: Block) -> None:
    with pytest.raises(InputError, match="'r' already in manager"):
        memory.register("r", block.name, byte_size=1)
    for name in ("", "n" * (MAX_NAME + 1)):
        with pytest.raises(InputError, match="the name of a region"):
            memory.register(name, block.name, byte_size=1)


def test_regions_are_forgotten(memory: SharedMemory, block: Block) -> None:
    memory.register("s", block.name, byte_size=1)
    memory.unregister("r")
    memory.unregister("never")
    assert [one.name for one in memory.status()] == ["s"]
    memory.unregister()
    assert memory.status() == ()
    with pytest.raises(TargetError, match="Unable to find system shared memory region: 's'"):
        memory.status("s")


def test_nothing_stays_open(block: Block) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    memory = SharedMemory(allowed=True)
    before = descriptors()
    for number in range(5):
        memory.register(str(number), block.name, byte_size=8)
        with pytest.raises(InputError):
            memory.register(f"too long {number}", block.name, byte_size=SIZE + 1)
    assert descriptors() == before + 5
    memory.unregister()
    assert descriptors() == before


def test_clients_register_nothing_unless_they_may() -> None:
    memory = SharedMemory()
    with pytest.raises(UnsupportedError, match="disabled") as caught:
        memory.register("r", "/r", byte_size=1)
    assert "--allow-shared-memory" in str(caught.value.hint)
    with pytest.raises(UnsupportedError, match="disabled"):
        memory.unregister()
    assert memory.status() == ()
