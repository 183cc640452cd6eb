"""The OCI image layout on disk."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from nbmodel.errors import DigestMismatchError, StorageUnavailableError
from nbmodel.storage import OciLayout

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "home" / "layout")
    assert not layout.has(ABC)
    assert list(layout.digests()) == []
    assert not (tmp_path / "home").exists()


def test_the_files_are_those_of_the_image_layout_specification(tmp_path: Path) -> None:
    OciLayout(tmp_path).add_bytes(b"abc")
    assert json.loads((tmp_path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((tmp_path / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    }
    blob = tmp_path / "blobs" / "sha256" / ABC.removeprefix("sha256:")
    assert blob.read_bytes() == b"abc"
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    assert list((tmp_path / "uploads").iterdir()) == []


def test_foreign_files_beside_the_blobs_are_not_blobs(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    layout.add_bytes(b"abc")
    (tmp_path / "blobs" / "sha256" / "notes.txt").write_text("hello")
    assert [digest for digest, _, _ in layout.digests()] == [ABC]


@pytest.mark.parametrize("damage", [b"abd", b"ab", b"abcd", b""])
def test_a_damaged_blob_is_noticed_when_read_and_mended_when_added(
    tmp_path: Path, damage: bytes
) -> None:
    layout = OciLayout(tmp_path)
    layout.add_bytes(b"abc")
    blob = layout.path(ABC)
    blob.chmod(0o644)
    blob.write_bytes(damage)
    with pytest.raises(DigestMismatchError):
        layout.read(ABC, limit=10)
    with pytest.raises(DigestMismatchError):
        layout.check(ABC)
    layout.add_bytes(b"abc")
    assert layout.read(ABC, limit=3) == b"abc"


def test_a_layout_that_was_removed_is_made_again(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "layout")
    layout.add_bytes(b"abc")
    (tmp_path / "layout").rename(tmp_path / "moved")
    layout.add_bytes(b"abc")
    assert layout.read(ABC, limit=3) == b"abc"


def test_a_path_through_a_file_is_a_storage_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailableError):
        OciLayout(tmp_path / "file" / "layout").add_bytes(b"abc")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files fails a write as a full disk does, without being root.
    program = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from nbmodel.errors import StorageUnavailableError
from nbmodel.storage import OciLayout
layout = OciLayout(Path(sys.argv[1]))
layout.add_bytes(b"abc")
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    layout.add_file(Path(sys.argv[2]))
except StorageUnavailableError as exc:
    print("refused:", exc)
"""
    source = tmp_path / "source"
    source.write_bytes(bytes(5_000_000))
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "layout", source],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "refused: cannot copy into the storage: File too large" in done.stdout
    layout = OciLayout(tmp_path / "layout")
    assert [digest for digest, _, _ in layout.digests()] == [ABC]
    assert list((tmp_path / "layout" / "uploads").iterdir()) == []


def test_first_writers_do_not_wait_for_folders_that_another_makes(tmp_path: Path) -> None:
    writers = 8

    def write(root: Path, number: int, start: Barrier) -> str:
        layout = OciLayout(root)
        start.wait(timeout=30)
        return layout.add_bytes(b"%d" % number)

    with ThreadPoolExecutor(writers) as pool:
        for turn in range(20):
            root, start = tmp_path / str(turn), Barrier(writers)
            written = [pool.submit(write, root, number, start) for number in range(writers)]
            digests = {future.result() for future in written}
            assert {digest for digest, _, _ in OciLayout(root).digests()} == digests


def test_a_layout_that_is_half_made_keeps_its_index(tmp_path: Path) -> None:
    first = OciLayout(tmp_path)
    first.add_bytes(b"abc")
    first.write_index('[{"digest":"sha256:x"}]')
    (tmp_path / "uploads").rmdir()
    OciLayout(tmp_path).add_bytes(b"def")
    assert json.loads((tmp_path / "index.json").read_bytes())["manifests"]
