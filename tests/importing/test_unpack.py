"""Archives that somebody else made."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nbmodel.errors import FormatError, InputError, NbModelError
from nbmodel.importing import Import, Limits
from nbmodel.importing import unpack as module
from nbmodel.importing.unpack import Counter, is_archive, unpack


def tar(
    path: Path, *members: tuple[str, bytes | str], mode: str = "w:gz", kind: bytes = b""
) -> Path:
    """A tape of files; text is where a link leads to."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = kind or tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size, info.type = len(content), kind or tarfile.REGTYPE
                archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, *members: tuple[str, bytes], attributes: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = attributes << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        one.relative_to(folder).as_posix(): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file()
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tape_of_every_compression_is_unpacked(tmp_path: Path, job: Import, mode: str) -> None:
    path = tar(tmp_path / "any", ("./m/a.bin", b"a"), ("m/sub/b.bin", b"b"), mode=mode)
    assert is_archive(path)
    assert tree(unpack(path, job, is_plain=True)) == {"m/a.bin": b"a", "m/sub/b.bin": b"b"}


def test_a_folder_around_everything_is_left_out(tmp_path: Path, job: Import) -> None:
    path = zipped(tmp_path / "m.zip", ("top/a", b"a"), ("top/b/c", b"c"), ("__MACOSX/x", b"x"))
    assert tree(unpack(path, job)) == {"a": b"a", "b/c": b"c"}


def test_links_inside_stand_for_the_files_they_lead_to(tmp_path: Path, job: Import) -> None:
    path = tar(tmp_path / "m.tar.gz", ("a/one", "../b/two"), ("b/two", "three"), ("b/three", b"3"))
    found = unpack(path, job, is_plain=True)
    assert tree(found) == {"a/one": b"3", "b/two": b"3", "b/three": b"3"}
    assert not any(one.is_symlink() for one in found.rglob("*"))


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "up": lambda at: tar(at / "m.tar", ("../out", b"x")),
    "absolute": lambda at: tar(at / "m.tar", ("/etc/out", b"x")),
    "link-out": lambda at: tar(at / "m.tar", ("a", "../../etc/passwd")),
    "link-absolute": lambda at: tar(at / "m.tar", ("a", "/etc/passwd")),
    "link-folder": lambda at: tar(at / "m.tar", ("a", "b"), ("b/c", b"x"), ("a/d", b"y")),
    "link-circle": lambda at: tar(at / "m.tar", ("a", "b"), ("b", "a")),
    "link-nothing": lambda at: tar(at / "m.tar", ("a", "b")),
    "hard-link-out": lambda at: tar(at / "m.tar", ("a", "../x"), kind=tarfile.LNKTYPE),
    "device": lambda at: tar(at / "m.tar", ("a", "x"), kind=tarfile.CHRTYPE),
    "pipe": lambda at: tar(at / "m.tar", ("a", "x"), kind=tarfile.FIFOTYPE),
    "twice": lambda at: tar(at / "m.tar", ("a", b"1"), ("a", b"2")),
    "file-and-folder": lambda at: tar(at / "m.tar", ("a", b"1"), ("a/b", b"2")),
    "folder-and-file": lambda at: tar(at / "m.tar", ("a/b", b"1"), ("a", b"2")),
    "zip-up": lambda at: zipped(at / "m.zip", ("../out", b"x")),
    "zip-backslash": lambda at: zipped(at / "m.zip", ("..\\out", b"x")),
    "zip-link": lambda at: zipped(at / "m.zip", ("a", b"/etc/passwd"), attributes=0o120777),
    "cut": lambda at: _cut(tar(at / "m.tar.gz", ("a", bytes(range(256)) * 400))),
    "cut-zip": lambda at: _cut(zipped(at / "m.zip", ("a", bytes(range(256)) * 400))),
    "empty": lambda at: tar(at / "m.tar.gz"),
    "nonsense": lambda at: _written(at / "m.tar.gz", b"no archive at all" * 100),
}


def _cut(path: Path) -> Path:
    return _written(path, path.read_bytes()[: path.stat().st_size // 2])


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_what_leads_out_or_is_damaged_is_one_line_and_writes_nothing_outside(
    tmp_path: Path, job: Import, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    before = {one for one in tmp_path.rglob("*") if job.folder not in one.parents}
    with pytest.raises(FormatError) as caught:
        unpack(path, job)
    assert "\n" not in str(caught.value)
    assert {one for one in tmp_path.rglob("*") if job.folder not in one.parents} == before


@pytest.mark.parametrize("make", [tar, zipped], ids=["tar", "zip"])
def test_a_bomb_is_stopped_before_it_fills_the_disk(
    tmp_path: Path, job: Import, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SMALL", 1 << 20)
    path = make(tmp_path / "bomb", ("zeros", bytes(64 << 20)))
    with pytest.raises(FormatError, match="200 for each of its own"):
        unpack(path, job)
    assert sum(map(len, tree(job.folder).values())) < 16 << 20


@pytest.mark.parametrize(
    ("limits", "match"),
    [(Limits(size=1000), "expected at most 1,000"), (Limits(files=2), "more than 2 files")],
    ids=["size", "count"],
)
def test_limits_hold_for_what_comes_out(
    tmp_path: Path, job: Import, limits: Limits, match: str
) -> None:
    path = tar(tmp_path / "m.tar.gz", *((f"f{at}", bytes(600)) for at in range(3)))
    error: type[NbModelError] = InputError
    with pytest.raises(error, match=match):
        unpack(path, replace(job, limits=limits))


def _named(name: str) -> bytes:
    """A tape of one empty file under a long name."""
    return tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT)


HEADERS: dict[str, bytes] = {
    "long-name": _named("a" * (2 << 20)),
    "in-a-row": _named("a" * (600 << 10))[: -tarfile.BLOCKSIZE] * 2 + _named("b"),
    "pax": tarfile.TarInfo("a" * (2 << 20)).tobuf(tarfile.PAX_FORMAT),
    "for-all": b"".join(
        tarfile.TarInfo.create_pax_global_header({f"k{at}": "v" * (600 << 10)}) + _named(f"f{at}")
        for at in range(2)
    ),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_headers_of_a_tape_that_fill_memory_are_refused(
    tmp_path: Path, job: Import, content: bytes
) -> None:
    path = _written(tmp_path / "m.tar", content + bytes(1024))
    with pytest.raises(FormatError, match="1,048,576 bytes of headers"):
        unpack(path, job)


def test_a_sparse_file_is_refused_before_its_map_is_read(tmp_path: Path, job: Import) -> None:
    old, new = tarfile.TarInfo("old"), tarfile.TarInfo("new")
    old.type = tarfile.GNUTYPE_SPARSE
    new.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    for at, info in enumerate((old, new)):
        path = _written(tmp_path / f"{at}.tar", info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
        with pytest.raises(FormatError, match="is a sparse file"):
            unpack(path, job)


def test_folders_of_a_tape_are_counted(tmp_path: Path, job: Import) -> None:
    path = tar(tmp_path / "m.tar", *((f"d{at}", b"") for at in range(3)), kind=tarfile.DIRTYPE)
    with pytest.raises(InputError, match="more than 2 files"):
        unpack(path, replace(job, limits=Limits(files=2)))


@pytest.mark.parametrize(
    ("limits", "match"),
    [(Limits(size=1000), "expected at most 1,000"), (Limits(files=1), "more than 1 files")],
    ids=["size", "count"],
)
def test_limits_hold_for_all_archives_that_one_counter_is_for(
    tmp_path: Path, job: Import, limits: Limits, match: str
) -> None:
    limited = replace(job, limits=limits)
    counter = Counter(limited)
    unpack(tar(tmp_path / "a.tar", ("a", bytes(600))), limited, counter=counter)
    with pytest.raises(InputError, match=match):
        unpack(tar(tmp_path / "b.tar", ("b", bytes(600))), limited, counter=counter)
