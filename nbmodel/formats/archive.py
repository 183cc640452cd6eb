"""Reading a few small files of a ZIP archive that somebody else made.

What it says about itself is not believed: neither how many entries it has nor how long they
are. Only what is asked for is unpacked, up to a limit.

Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 4.3.
"""

from __future__ import annotations

import zipfile

from nbmodel.errors import FormatError
from nbmodel.formats.bytesource import ByteSource

MAX_DIRECTORY = 4 << 20  # bytes; some forty thousand files
_END = b"PK\x05\x06"  # end of central directory, followed by 18 bytes and a comment
_END_SIZE = 22
_ZIP64 = b"PK\x06\x07"  # locator of the ZIP64 end record, directly before the end record
_ZIP64_SIZE = 20
_ZIP64_END = b"PK\x06\x06"
_ZIP64_END_SIZE = 56
_TAIL = _END_SIZE + 0xFFFF + _ZIP64_SIZE  # bytes: end record, longest comment, locator


def open_archive(
    source: ByteSource, what: str, *, max_directory: int, is_plain: bool = False
) -> Archive | None:
    """The archive in a file, or None when there is none.

    Args:
        source: The file; the archive may be behind something else in it.
        what: What the archive is, for messages.
        max_directory: Largest directory that is accepted, in bytes; an entry has some
            eighty.
        is_plain: Whether names are as they are: a folder that all files are in stays part
            of them, and ZIP64, the kind for more than 4 GiB, is refused.

    Raises:
        FormatError: It is damaged, its directory is larger, or it is ZIP64 and must not be.
    """
    start = max(source.size - _TAIL, 0)
    tail = source.read(start, source.size - start)
    # The places where zipfile looks, in its order.
    at = len(tail) - _END_SIZE
    if at < 0 or tail[at : at + 4] != _END or tail[-2:] != b"\0\0":
        at = tail.rfind(_END)
    if at < 0 or at + _END_SIZE > len(tail):
        return None
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(at - _ZIP64_SIZE, 0) : at]
    if locator.startswith(_ZIP64):
        if is_plain:
            raise FormatError(
                f"{what} is ZIP64 at offset {start + at - _ZIP64_SIZE:,}, expected a plain one"
            )
        directory = _zip64_directory(source, start + at - _ZIP64_SIZE, what)
    if directory > max_directory:
        raise FormatError(
            f"{what} has a directory of {directory:,} bytes at offset {start + at:,}, "
            f"expected at most {max_directory:,}"
        )
    try:
        opened = zipfile.ZipFile(source.file)
    except Exception as exc:
        raise FormatError(f"{what} is damaged: {exc}") from exc
    return Archive(opened, what, "" if is_plain else _root(opened.NameToInfo))


def _zip64_directory(source: ByteSource, locator: int, what: str) -> int:
    """The size of the directory, in bytes, that the record before the locator states."""
    at = locator - _ZIP64_END_SIZE
    record = source.read(at, _ZIP64_END_SIZE) if at >= 0 else b""
    if not record.startswith(_ZIP64_END):
        raise FormatError(f"{what} is damaged: no ZIP64 end record at offset {at:,}")
    return int.from_bytes(record[40:48], "little")


class Archive:
    """The files of an open archive. Whoever opened the file closes it.

    Args:
        archive: Its directory, already bounded.
        what: What it is, for messages.
        root: What is left out of names, with its slash; all begin with it.
    """

    def __init__(self, archive: zipfile.ZipFile, what: str, root: str) -> None:
        self._zip = archive
        self._what = what
        self._root = root

    @property
    def names(self) -> frozenset[str]:
        """Names of its files."""
        return frozenset(name[len(self._root) :] for name in self._zip.NameToInfo)

    def read(self, name: str, max_size: int) -> bytes | None:
        """The content of a file, or None when there is none of that name.

        Args:
            name: One of ``names``.
            max_size: Largest content that is accepted, in bytes.

        Raises:
            FormatError: It is damaged, encrypted, packed in an uncommon way, or longer.
        """
        content = self.start(name, max_size + 1)
        if content is not None and len(content) > max_size:
            raise FormatError(f"{name!r} in {self._what} is longer than {max_size:,} bytes")
        return content

    def start(self, name: str, size: int) -> bytes | None:
        """The first ``size`` bytes of a file or all it has; None when there is none.

        Raises:
            FormatError: It is damaged, encrypted, or packed in an uncommon way.
        """
        info = self._zip.NameToInfo.get(self._root + name)
        if info is None:
            return None
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(
                f"{name!r} in {self._what} is packed with method {info.compress_type}, "
                "expected stored or deflated"
            )
        try:
            with self._zip.open(info) as file:
                return file.read(size)
        except Exception as exc:
            raise FormatError(f"{name!r} in {self._what} is damaged: {exc}") from exc

    def text(self, name: str, max_size: int) -> str | None:
        """The content of a UTF-8 file, or None when there is none of that name.

        Raises:
            FormatError: As ``read``, or it is not UTF-8.
        """
        content = self.read(name, max_size)
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError as exc:
            raise FormatError(f"{name!r} in {self._what} is not UTF-8: {exc.reason}") from exc


def _root(names: dict[str, zipfile.ZipInfo]) -> str:
    """The folder that all files are in, with its slash; empty when there is none."""
    first = next(iter(names), "")
    folder, slash, _ = first.partition("/")
    root = folder + slash
    return root if slash and all(name.startswith(root) for name in names) else ""
