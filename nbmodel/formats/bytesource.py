"""Reading a model file at random places, with a bound on everything a hostile file can ask for.

Not a memory map: a file that shrinks while it is mapped kills the process that reads it
(SIGBUS), and a notebook's kernel with it. One buffer of a few pages does as well, because
readers skip weights instead of reading them.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from nbmodel.errors import FormatError

WINDOW = 1 << 13  # bytes kept in memory; reading more than a header is wasted between weights
MAX_STEPS = 2_000_000  # fields, table entries …: what three seconds of reading come to
MAX_TEXT = 16 << 20  # bytes of names, labels and descriptions of one file


class ByteSource:
    """A file of known size, read through one window.

    Every read is checked against the size, so that a length or offset in the file can
    only lead to a ``FormatError``.

    Attributes:
        file: An open, seekable binary file; it need not be buffered. Its position is
            nobody's: whoever reads from it seeks first.
        size: Its length in bytes.
        path: Where it is, for formats that keep further files beside it; None when it is
            no file of its own.
    """

    def __init__(self, file: BinaryIO, size: int, path: Path | None = None) -> None:
        self.file = file
        self.size = size
        self.path = path
        self._start = 0
        self._window = b""
        self._steps = MAX_STEPS
        self._text = MAX_TEXT

    def window(self, offset: int) -> tuple[bytes, int]:
        """The buffer around ``offset``, and where in the file it starts.

        The buffer holds at least twenty bytes from ``offset`` on (the key and the value
        of a protobuf field), or what the file has left.

        Raises:
            FormatError: ``offset`` is behind the end, or the file shrank meanwhile.
        """
        position = offset - self._start
        if position < 0 or position + 20 > len(self._window):
            ends = self._start + len(self._window)
            if ends < self.size or not 0 <= position < len(self._window):
                self._move(offset)
        return self._window, self._start

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; meant for small things, not for weights.

        Raises:
            FormatError: They reach behind the end, or the file shrank meanwhile.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FormatError(
                f"{length:,} bytes at offset {offset:,} reach behind the end of the file, "
                f"which has {self.size:,}"
            )
        if length == 0:
            return b""
        position = offset - self._start
        if position < 0 or position + length > len(self._window):
            if length > WINDOW:
                return self._read(offset, length)
            self._move(offset)
            position = 0
        return self._window[position : position + length]

    def text(self, offset: int, length: int, what: str) -> str:
        """A UTF-8 string.

        Args:
            offset: Where it starts.
            length: Bytes.
            what: What it is, for the message.

        Raises:
            FormatError: It reaches behind the end, is not UTF-8, or the texts read from
                the file so far are longer than ``MAX_TEXT`` together.
        """
        self.spend_text(length, what)
        try:
            return self.read(offset, length).decode()
        except UnicodeDecodeError as exc:
            raise FormatError(
                f"{what} at offset {offset:,}: expected UTF-8, found "
                f"{exc.object[exc.start]:#04x} at offset {offset + exc.start:,}"
            ) from exc

    def spend_text(self, length: int, what: str) -> None:
        """Count text that is about to be kept in memory.

        Raises:
            FormatError: It is more than ``MAX_TEXT`` bytes together with what came before.
        """
        self._text -= length
        if self._text < 0:
            raise FormatError(f"{what}: more than {MAX_TEXT:,} bytes of names and texts")

    def spend_steps(self, count: int, what: str) -> None:
        """Count work, so that no file can keep its reader busy for ever.

        Raises:
            FormatError: It is more than ``MAX_STEPS`` together with what came before.
        """
        self._steps -= count
        if self._steps < 0:
            raise FormatError(f"{what}: more than {MAX_STEPS:,} fields to read")

    def contains(self, needle: bytes, start: int, end: int) -> bool:
        """Whether ``needle`` is between two offsets; as fast as memory, whatever the size."""
        position = start
        while position < end:
            length = min(end - position, WINDOW)
            if needle in self.read(position, length):
                return True
            if position + length >= end:
                return False
            position += length - len(needle) + 1
        return False

    def _move(self, offset: int) -> None:
        self._window = self._read(offset, min(WINDOW, self.size - offset))
        self._start = offset

    def _read(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        data = self.file.read(max(length, 0))
        if len(data) != length or not data:
            raise FormatError(f"the file ends at offset {offset + len(data):,}")
        return data
