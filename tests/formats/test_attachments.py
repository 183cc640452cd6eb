"""ZIP archives behind a model: found, bounded, and never believed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from nbmodel.errors import FormatError
from nbmodel.formats.attachments import MAX_FILE, Attachments
from nbmodel.formats.bytesource import ByteSource

FILES = {"labels.txt": b"cat\ndog\n", "deep/vocab.txt": b"word\n"}


def archive(
    files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b""
) -> bytes:
    written = io.BytesIO(b"the model" * 100)
    with zipfile.ZipFile(written, "a", method) as behind:
        for name, content in files.items():
            behind.writestr(name, content)
        behind.comment = comment
    return written.getvalue()


def attachments(content: bytes) -> Attachments:
    return Attachments(ByteSource(io.BytesIO(content), len(content)))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"a comment"])
def test_files_behind_a_model_are_read(method: int, comment: bytes) -> None:
    behind = attachments(archive(FILES, method, comment))
    assert {name: behind.read(name) for name in FILES} == FILES
    assert behind.read("other.txt") is None


@pytest.mark.parametrize("content", [b"short", b"the model" * 10_000], ids=["short", "long"])
def test_a_file_without_an_archive_has_no_attachments(content: bytes) -> None:
    assert attachments(content).read("labels.txt") is None


def test_a_bomb_does_not_go_off() -> None:
    bomb = archive({"labels.txt": b"\0" * (MAX_FILE + 1)})
    assert len(bomb) < MAX_FILE / 100
    with pytest.raises(
        FormatError,
        match=r"'labels.txt' in the ZIP archive behind the model is longer than 4,194,304",
    ):
        attachments(bomb).read("labels.txt")


def test_a_directory_larger_than_any_real_one_is_refused() -> None:
    content = bytearray(archive(FILES))
    content[-10:-6] = (2**31).to_bytes(4, "little")
    with pytest.raises(FormatError, match="a directory of 2,147,483,648 bytes"):
        attachments(bytes(content))


def test_a_comment_cannot_pass_for_the_end_of_the_archive() -> None:
    # zipfile would believe it, and set out to read a directory of two gigabytes.
    with pytest.raises(FormatError, match="a directory of 2,021,161,080 bytes"):
        attachments(archive(FILES, comment=b"PK\x05\x06" + b"x" * 30))


def test_a_zip64_directory_is_refused() -> None:
    content = archive(FILES)
    end = content[-22:]
    locator = b"PK\x06\x07" + b"\0" * 16
    with pytest.raises(FormatError, match="the ZIP archive behind the model is ZIP64"):
        attachments(content[:-22] + locator + end)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_uncommon_packing_is_refused(method: int) -> None:
    with pytest.raises(FormatError, match=r"is packed with method .*, expected stored or deflated"):
        attachments(archive(FILES, method)).read("labels.txt")


def test_a_damaged_file_is_an_error() -> None:
    content = bytearray(archive(FILES, zipfile.ZIP_STORED))
    content[content.index(b"cat\ndog")] ^= 0xFF
    with pytest.raises(
        FormatError, match=r"'labels.txt' in the ZIP archive behind the model is damaged: Bad CRC"
    ):
        attachments(bytes(content)).read("labels.txt")


def test_every_damage_is_a_file_nothing_or_a_format_error() -> None:
    content = archive(FILES)
    for position in range(900, len(content)):
        for value in (0, 1, 0x7F, 0xFF):
            damaged = content[:position] + bytes([value]) + content[position + 1 :]
            try:
                behind = attachments(damaged)
                assert behind.read("labels.txt") in (None, FILES["labels.txt"])
            except FormatError:
                continue


def test_the_labels_of_a_real_model(test_models: Path) -> None:
    path = test_models / "mobilenet_v1_0.25_224_quant_with_metadata.tflite"
    with path.open("rb") as file:
        content = Attachments(ByteSource(file, path.stat().st_size)).read("labels.txt")
    with zipfile.ZipFile(path) as behind:
        assert content == behind.read("labels.txt")
