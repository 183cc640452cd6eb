"""What every storage does alike, whatever keeps its bytes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    InputError,
    ManifestError,
    StorageError,
)
from nbmodel.storage import MemoryStorage, OciLayout, Storage

MAKERS: dict[str, Callable[[Path], Storage]] = {
    "oci-layout": lambda folder: OciLayout(folder / "layout"),
    "memory": lambda folder: MemoryStorage(),
}
EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes
ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
MISSING = "sha256:" + "0" * 64
SIZES = [0, 1, 3, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 11 * 1024 * 1024 + 7]


@pytest.fixture(params=MAKERS, ids=MAKERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MAKERS[request.param](tmp_path)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_bytes_are_found_under_the_published_digest(storage: Storage) -> None:
    assert storage.add_bytes(b"abc") == ABC
    assert storage.add_bytes(b"") == EMPTY
    assert storage.read(ABC, limit=3) == b"abc"
    assert storage.read(EMPTY, limit=0) == b""
    assert storage.size(ABC) == 3
    assert storage.path(ABC).read_bytes() == b"abc"


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_any_length_comes_back_as_it_was(
    storage: Storage, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    told: list[int] = []
    assert storage.add_file(source, progress=told.append) == (digest(data), size)
    assert sum(told) == size
    with storage.open(digest(data)) as file:
        assert file.read() == data
    storage.check(digest(data))


def test_an_upload_under_way_can_be_read(storage: Storage) -> None:
    with storage.receive(name="patch") as writer:
        writer.write(b"abc")
        with writer.read_back() as file:
            assert file.read() == b"abc"
        writer.write(b"def")
        with writer.read_back() as file:
            file.seek(2)
            assert file.read() == b"cdef"
        assert writer.commit(digest(b"abcdef")) == 6


def test_an_empty_storage_has_nothing(storage: Storage) -> None:
    assert not storage.has(MISSING)
    assert not storage.keep(MISSING)
    assert list(storage.digests()) == []
    assert list(storage.abandoned(time.time())) == []
    assert not storage.discard("nothing")


@pytest.mark.parametrize(
    "use",
    [
        lambda storage: storage.size(MISSING),
        lambda storage: storage.read(MISSING, limit=1),
        lambda storage: storage.open(MISSING),
        lambda storage: storage.path(MISSING),
        lambda storage: storage.check(MISSING),
        lambda storage: storage.delete(MISSING),
    ],
    ids=["size", "read", "open", "path", "check", "delete"],
)
def test_a_blob_that_is_not_there_is_named(
    storage: Storage, use: Callable[[Storage], object]
) -> None:
    with pytest.raises(BlobNotFoundError, match=MISSING):
        use(storage)


@pytest.mark.parametrize("bad", ["", "abc", "sha256:../../etc/passwd", "sha256:" + "A" * 64])
def test_a_malformed_digest_is_refused_everywhere(storage: Storage, bad: str) -> None:
    for use in (storage.has, storage.keep, storage.size, storage.open, storage.path):
        with pytest.raises(ManifestError):
            use(bad)


def test_reading_stops_at_the_limit(storage: Storage) -> None:
    storage.add_bytes(b"abc")
    with pytest.raises(StorageError, match="larger than 2 bytes"):
        storage.read(ABC, limit=2)


def test_adding_twice_keeps_one(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    storage.add_bytes(b"abc")
    storage.add_bytes(b"abc")
    storage.add_file(tmp_path / "abc")
    assert [(found, size) for found, size, _ in storage.digests()] == [(ABC, 3)]


def test_what_is_deleted_is_gone(storage: Storage) -> None:
    storage.add_bytes(b"abc")
    storage.delete(ABC)
    assert not storage.has(ABC)
    assert list(storage.digests()) == []


def test_an_upload_in_pieces_becomes_a_blob_at_its_commit(storage: Storage) -> None:
    with storage.receive() as upload:
        upload.write(b"a")
        upload.write(memoryview(b"bc"))
        assert upload.offset == 3
        assert not storage.has(ABC)
        assert upload.digest == ABC
        assert upload.commit(ABC) == 3
    assert storage.read(ABC, limit=3) == b"abc"
    with pytest.raises(StorageError, match="ended"):
        upload.commit(ABC)


def test_an_upload_with_the_wrong_digest_leaves_nothing(storage: Storage) -> None:
    with storage.receive(name="push-1") as upload:
        upload.write(b"abd")
        with pytest.raises(DigestMismatchError) as caught:
            upload.commit(ABC)
    assert caught.value.expected == ABC
    assert caught.value.actual == digest(b"abd")
    assert list(storage.digests()) == []
    assert list(storage.abandoned(time.time() + 1)) == []


def test_a_named_upload_goes_on_where_it_stopped(storage: Storage) -> None:
    with storage.receive(name="push-1") as upload:
        upload.write(b"ab")
    with storage.receive(name="push-1") as upload:
        assert upload.offset == 2
        upload.write(b"c")
        assert upload.commit(ABC) == 3
    assert storage.read(ABC, limit=3) == b"abc"
    with storage.receive(name="push-1") as upload:
        assert upload.offset == 0


def test_a_damaged_resumed_upload_is_noticed(storage: Storage) -> None:
    with storage.receive(name="push-1") as upload:
        upload.write(b"xx")
    with storage.receive(name="push-1") as upload:
        upload.write(b"c")
        with pytest.raises(DigestMismatchError):
            upload.commit(ABC)


def test_two_cannot_write_to_one_upload(storage: Storage) -> None:
    with (
        storage.receive(name="push-1"),
        pytest.raises(StorageError, match="written to by somebody else"),
    ):
        storage.receive(name="push-1")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_an_upload_cannot_have_any_name(storage: Storage, name: str) -> None:
    with pytest.raises(StorageError, match="not a name"):
        storage.receive(name=name)


def test_an_upload_without_a_name_ends_with_its_writer(storage: Storage) -> None:
    with storage.receive() as upload:
        upload.write(b"abc")
    assert list(storage.abandoned(time.time() + 1)) == []


def test_an_abandoned_upload_can_be_discarded_and_one_in_use_cannot(storage: Storage) -> None:
    later = time.time() + 60
    with storage.receive(name="push-1") as upload:
        upload.write(b"abc")
        assert list(storage.abandoned(later)) == []
        assert not storage.discard("push-1")
    assert list(storage.abandoned(later)) == [("push-1", 3)]
    assert list(storage.abandoned(later - 3600)) == []
    assert storage.discard("push-1")
    assert list(storage.abandoned(later)) == []


def test_keeping_makes_a_blob_young_again(storage: Storage) -> None:
    storage.add_bytes(b"abc")
    before = time.time()
    time.sleep(0.05)
    assert storage.keep(ABC)
    ((_, _, at),) = storage.digests()
    # A file system's clock may be a tick (10 ms at most) behind the system's.
    assert at > before + 0.03


def test_a_folder_and_a_missing_file_are_not_added(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        storage.add_file(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        storage.add_file(tmp_path / "missing")
    assert list(storage.digests()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_refused_rather_than_waited_for(storage: Storage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no regular file"):
        storage.add_file(tmp_path / "pipe")


def test_a_file_that_grows_while_it_is_read_is_refused(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(3 * 1024 * 1024))

    def grow(_: int) -> None:
        with source.open("ab") as file:
            file.write(b"more")

    with pytest.raises(InputError, match="changed while it was read"):
        storage.add_file(source, progress=grow)
    assert list(storage.digests()) == []
