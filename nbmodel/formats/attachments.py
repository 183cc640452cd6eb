"""Files in a ZIP archive behind another file, as TFLite keeps its labels.

A ZIP is read from its end, so one may follow a model in the same file. What it says about
itself is not believed: neither how many entries it has nor how long they are.

Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 4.3.
"""

from __future__ import annotations

import zipfile

from nbmodel.errors import FormatError
from nbmodel.formats.bytesource import ByteSource

MAX_FILE = 4 << 20  # bytes of one unpacked file
_MAX_DIRECTORY = 1 << 20  # bytes; some ten thousand files
_END = b"PK\x05\x06"  # end of central directory, followed by 18 bytes and a comment
_END_SIZE = 22
_ZIP64 = b"PK\x06\x07"
_TAIL = _END_SIZE + 0xFFFF + 20  # bytes: the end record, the longest comment, a ZIP64 locator


class Attachments:
    """The files behind a model.

    Raises:
        FormatError: There is an archive, and it is damaged or far larger than labels are.
    """

    def __init__(self, source: ByteSource) -> None:
        self._zip: zipfile.ZipFile | None = None
        start = max(source.size - _TAIL, 0)
        tail = source.read(start, source.size - start)
        # The places where zipfile looks, in its order.
        at = len(tail) - _END_SIZE
        if at < 0 or tail[at : at + 4] != _END or tail[-2:] != b"\0\0":
            at = tail.rfind(_END)
        if at < 0 or at + _END_SIZE > len(tail):
            return
        directory = int.from_bytes(tail[at + 12 : at + 16], "little")
        if tail[max(at - 20, 0) : at].startswith(_ZIP64):
            raise FormatError(
                f"the ZIP archive behind the model is ZIP64 at offset {start + at - 20:,}, "
                "expected a plain one"
            )
        if directory > _MAX_DIRECTORY:
            raise FormatError(
                f"the ZIP archive behind the model has a directory of {directory:,} bytes at "
                f"offset {start + at:,}, expected at most {_MAX_DIRECTORY:,}"
            )
        try:
            self._zip = zipfile.ZipFile(source.file)
        except Exception as exc:
            raise FormatError(f"the ZIP archive behind the model is damaged: {exc}") from exc

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None when there is none of that name.

        Raises:
            FormatError: It is damaged, encrypted, packed in an uncommon way, or longer
                than ``MAX_FILE``.
        """
        if self._zip is None or name not in self._zip.NameToInfo:
            return None
        info = self._zip.NameToInfo[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(
                f"{name!r} behind the model is packed with method {info.compress_type}, "
                "expected stored or deflated"
            )
        try:
            with self._zip.open(info) as file:
                content = file.read(MAX_FILE + 1)
        except Exception as exc:
            raise FormatError(f"{name!r} behind the model is damaged: {exc}") from exc
        if len(content) > MAX_FILE:
            raise FormatError(f"{name!r} behind the model is longer than {MAX_FILE:,} bytes")
        return content
