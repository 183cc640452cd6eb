"""Unpacking archives that somebody else made, into a folder of their own.

Nothing leads out: names are checked, links may only lead to other files of the archive, and
devices are refused. What an archive says of its size is not believed: bytes are counted as
they come out, against a limit and against the size of the archive. Headers that tapes have
before a member, which Python's reader holds in memory whole, are bounded; sparse files, whose
maps it holds as well, are refused.

Source: PKWARE APPNOTE 4.5 for the file types in ``external_attr``; POSIX.1-2001 ``pax``.
"""

from __future__ import annotations

import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nbmodel.errors import FormatError, InputError
from nbmodel.formats.archive import MAX_DIRECTORY, open_archive
from nbmodel.formats.base import open_source
from nbmodel.importing.base import Import, safe_path
from nbmodel.storage.base import translated

if TYPE_CHECKING:
    from typing_extensions import Self

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")
_CHUNK = 1 << 20
_RATIO = 200  # bytes out of one byte in; weights give two or three
_SMALL = 1 << 30  # bytes that may come out of any archive, however small
_HOPS = 8  # links to links
_MAX_HEADERS = 1 << 20  # bytes before one member of a tape: its long name, its attributes
_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
            tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)  # fmt: skip
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError,
           NotImplementedError, RuntimeError)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether a file is called like an archive, or is a compressed tape by its first bytes."""
    if not path.is_file():
        return False
    if path.name.lower().endswith(SUFFIXES):
        return True
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")) or head[257:262] == b"ustar"


def unpack(
    path: Path, job: Import, *, is_plain: bool = False, counter: Counter | None = None
) -> Path:
    """The folder with all files of an archive.

    Args:
        path: The archive.
        job: What the import is allowed.
        is_plain: Whether paths are as they are; else a folder around all of them is left out.
        counter: Of what came out of other archives of the same import; None: it is the only one.

    Raises:
        FormatError: It is damaged, encrypted, or has a link or a name that leads out of it.
        InputError: It is no file; or more comes out than an import may be, or than such an archive may hold.
    """
    if not path.is_file():
        raise InputError(f"{path.name} is no file, expected an archive")
    room = job.room("unpacked")
    counter = counter or Counter(job)
    counter.begin(path)
    with translated(f"read {path.name}"), path.open("rb") as file:
        is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    with _damage(path):
        if is_zip:
            _unzip(path, room, counter, job)
        else:
            _untar(path, room, counter, job)
    return room if is_plain else _inner(room, path)


class Counter:
    """Counts what comes out of the archives of one import, and raises when it is too much."""

    def __init__(self, job: Import) -> None:
        self._what = ""
        self._job = job
        self._size = 0
        self._files = 0
        self._packed = 0
        self._most = _SMALL

    def begin(self, path: Path) -> None:
        """Go on with another archive."""
        self._what = path.name
        self._packed += path.stat().st_size
        self._most = max(_SMALL, _RATIO * self._packed)

    def file(self) -> None:
        """Count a file, or a folder that an archive has an entry for."""
        self._files += 1
        self._job.check_count(self._files, self._what)

    def bytes(self, count: int) -> None:
        """Count bytes."""
        self._job.check()
        self._size += count
        self._job.check_size(self._size, f"{self._what}, unpacked,")
        if self._size > self._most:
            raise FormatError(
                f"{self._what} unpacks to more than {self._most:,} bytes, {_RATIO} for each of "
                "its own: no model does"
            )


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as exc:
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        raise FormatError(f"{path.name} is no archive that can be unpacked: {reason}") from exc


def _unzip(path: Path, room: Path, counter: Counter, job: Import) -> None:
    with open_source(path) as source:  # which bounds the directory before zipfile reads it
        open_archive(source, path.name, max_directory=MAX_DIRECTORY)
    seen: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            job.check()
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise FormatError(f"{path.name} has {info.filename[:80]!r}, which is no file")
            if info.flag_bits & 1:
                raise FormatError(f"{path.name} is encrypted")
            target = _target(room, info.filename, seen)
            counter.file()
            with archive.open(info) as content:
                _write(content, target, counter)


def _untar(path: Path, room: Path, counter: Counter, job: Import) -> None:
    seen: set[str] = set()
    links: dict[str, str] = {}
    # As a stream: nothing is read twice, and a directory of members is not kept for seeking.
    with tarfile.open(path, "r|*", tarinfo=_members()) as archive:
        for member in archive:
            job.check()
            archive.members = []  # type: ignore[attr-defined] # tarfile keeps all that it saw
            counter.file()
            if member.isdir():
                continue
            name = _member_name(member.name)
            if member.issym() or member.islnk():
                _target(room, name, seen)
                links[name] = _link_target(name, member, path.name)
                continue
            if not member.isfile():
                raise FormatError(f"{path.name} has {name[:80]!r}, which is no file")
            content = archive.extractfile(member)
            assert content is not None
            _write(content, _target(room, name, seen), counter)
    _follow(room, links, counter, path.name)


def _members() -> type[tarfile.TarInfo]:
    """What one tape is read with: it refuses what takes memory before there is a member."""

    class Member(tarfile.TarInfo):
        kept = 0  # bytes of headers that are for all members, and stay in memory
        waiting = 0  # bytes of headers that are for the next member

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            member = super().frombuf(buf, encoding, errors)
            if member.type == tarfile.GNUTYPE_SPARSE:
                raise tarfile.ReadError(f"{member.name[:80]!r} is a sparse file")
            if member.type not in _HEADERS:
                cls.waiting = 0
            elif member.type == tarfile.XGLTYPE:
                cls.kept += member.size
            else:
                cls.waiting += member.size
            if member.size < 0 or cls.kept + cls.waiting > _MAX_HEADERS:
                raise tarfile.ReadError(f"a member has more than {_MAX_HEADERS:,} bytes of headers")
            return member

        def _proc_gnusparse_10(self, *_: object) -> None:
            raise tarfile.ReadError(f"{self.name[:80]!r} is a sparse file")

    return Member


def _member_name(name: str) -> str:
    parts = [part for part in name.split("/") if part != "."]
    return "/".join(parts).rstrip("/")


def _link_target(name: str, member: tarfile.TarInfo, what: str) -> str:
    """The path, in the archive, that a link leads to."""
    base = posixpath.dirname(name) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(base, member.linkname))
    if member.linkname.startswith("/") or target.split("/")[0] in ("..", "."):
        raise FormatError(f"{what} has a link that leads out of it: {name[:80]!r}")
    return target


def _follow(room: Path, links: dict[str, str], counter: Counter, what: str) -> None:
    """Put what links lead to in their place."""
    for name in links:
        target = name
        for _ in range(_HOPS):
            target = links.get(target, target)
            if target not in links:
                break
        source = room / safe_path(target)
        if target in links or source.is_symlink() or not source.is_file():
            raise FormatError(f"{what} has a link to what is no file in it: {name[:80]!r}")
        counter.bytes(source.stat().st_size)
        place = room / name
        with translated(f"unpack {what}"):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, place)
            except OSError:
                shutil.copyfile(source, place)


def _target(room: Path, name: str, seen: set[str]) -> Path:
    try:
        path = safe_path(_member_name(name))
    except InputError as exc:
        raise FormatError(f"unsafe path in an archive: {name[:80]!r}") from exc
    folders = path.split("/")[:-1]
    above = {"/".join(folders[: count + 1]) for count in range(len(folders))}
    if path in seen or above & seen or (room / path).is_dir():
        raise FormatError(f"an archive has {path[:80]!r} twice")
    seen.add(path)
    return room / path


def _write(content: IO[bytes], target: Path, counter: Counter) -> None:
    with translated("unpack an archive"):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    with file:
        while piece := content.read(_CHUNK):
            counter.bytes(len(piece))
            with translated("unpack an archive"):
                file.write(piece)


def _inner(room: Path, path: Path) -> Path:
    """Where the files are: below folders that hold nothing else."""
    for _ in range(8):
        there = [one for one in room.iterdir() if one.name != "__MACOSX" and one.name[0] != "."]
        if not there:
            raise FormatError(f"{path.name} is empty")
        if len(there) > 1 or not there[0].is_dir():
            return room
        (room,) = there
    return room
