"""ZIP archives that somebody else made."""

from __future__ import annotations

import io
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from nbmodel.errors import FormatError
from nbmodel.formats.archive import Archive, open_archive
from nbmodel.formats.base import open_source
from nbmodel.formats.bytesource import ByteSource

FILES = {"version": b"3\n", "code/a.py": b"x = 1\n", "data/0": bytes(100)}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def opened(content: bytes, **options: bool) -> Archive:
    source = ByteSource(io.BytesIO(content), len(content))
    archive = open_archive(source, "the archive", max_directory=1 << 20, **options)
    assert archive is not None
    return archive


@pytest.mark.parametrize("root", ["", "model/", "deep/model/"])
def test_files_are_named_without_the_folder_of_all(root: str) -> None:
    archive = opened(zipped({root + name: content for name, content in FILES.items()}))
    below = root.removeprefix("deep/") if root.startswith("deep/") else ""
    assert archive.names == {below + name for name in FILES}
    assert archive.read(f"{below}code/a.py", 100) == b"x = 1\n"


def test_in_a_plain_one_names_are_as_they_are() -> None:
    archive = opened(zipped({"m/a": b"1"}), is_plain=True)
    assert archive.names == {"m/a"}


def test_what_is_not_there_is_none() -> None:
    archive = opened(zipped(FILES))
    assert (archive.read("other", 9), archive.start("other", 9)) == (None, None)
    assert archive.text("other", 9) is None


def test_the_start_of_a_file_may_be_all_that_is_read() -> None:
    archive = opened(zipped(FILES))
    assert archive.start("data/0", 10) == bytes(10)
    with pytest.raises(FormatError, match="'data/0' in the archive is longer than 10 bytes"):
        archive.read("data/0", 10)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_uncommon_packing_is_refused(method: int) -> None:
    with pytest.raises(FormatError, match="expected stored or deflated"):
        opened(zipped(FILES, method)).read("version", 9)


def test_text_is_utf_8() -> None:
    archive = opened(zipped({"good": "größe".encode(), "bad": b"\xff"}))
    assert archive.text("good", 9) == "größe"
    with pytest.raises(FormatError, match="'bad' in the archive is not UTF-8"):
        archive.text("bad", 9)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06", b"x" * 70_000])
def test_what_has_no_directory_is_no_archive(content: bytes) -> None:
    source = ByteSource(io.BytesIO(content), len(content))
    assert open_archive(source, "the archive", max_directory=1 << 20) is None


def test_a_locator_that_leads_nowhere_is_damage() -> None:
    content = zipped(FILES)
    at = content.rindex(b"PK\x05\x06")
    content = content[:at] + b"PK\x06\x07" + bytes(16) + content[at:]
    with pytest.raises(FormatError, match="no ZIP64 end record"):
        opened(content)


def test_weights_are_not_read(tmp_path: Path) -> None:
    """A sparse file: two gigabytes before the directory."""
    with (tmp_path / "m.pt").open("wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(2 << 30)
        file.write(zipped(FILES))
    tracemalloc.start()
    begin = time.perf_counter()
    with open_source(tmp_path / "m.pt") as source:
        archive = open_archive(source, "the archive", max_directory=1 << 20)
        assert archive is not None
        assert archive.names == FILES.keys()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - begin < 1
    assert peak < 1 << 20
