"""Copying and hashing in one pass; nothing here knows where bytes come from or go to."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from hashlib import _Hash

    from typing_extensions import Self

#: Called with the number of bytes just done.
Progress: TypeAlias = Callable[[int], None]

CHUNK = 1024 * 1024  # bytes of one read
_BUFFERS = 8  # chunks that reader and hasher share: 8 MiB of memory at most


class Readable(Protocol):
    """What ``pump`` reads from: a file opened in binary mode."""

    def readinto(self, buffer: bytearray, /) -> int | None:
        """Fill the buffer from its start; how many bytes, 0 at the end."""


def pump(
    source: Readable,
    sink: Callable[[memoryview], object] | None = None,
    *,
    progress: Progress | None = None,
) -> _Hash:
    """Read ``source`` to its end, hand every chunk to ``sink``, and hash it.

    Hashing runs in a thread of its own beside reading and writing (all three release the
    interpreter lock), so a copy costs what the slower side costs.

    Args:
        source: Read from its present position.
        sink: Takes each chunk and is done with it when it returns; None to hash only.
        progress: Told of every chunk after ``sink`` took it.

    Returns:
        The sha256 state of the bytes read.

    Raises:
        OSError: Reading failed. What ``sink`` and ``progress`` raise passes through.
    """
    with _Hasher() as hasher:
        while True:
            buffer = hasher.buffer()
            count = source.readinto(buffer)
            if not count:
                return hasher.finish()
            hasher.feed(buffer, count)
            if sink is not None:
                sink(memoryview(buffer)[:count])
            if progress is not None:
                progress(count)


class _Hasher:
    """A sha256 state fed in a thread of its own; small input never starts the thread."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._made = 0
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._full: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._join()

    def buffer(self) -> bytearray:
        """A buffer that has been hashed; waits for one when all are on their way."""
        if self._made == 0 or (self._thread is not None and self._made < _BUFFERS):
            self._made += 1
            return bytearray(CHUNK)
        return self._free.get()

    def feed(self, buffer: bytearray, count: int) -> None:
        """Hash the first ``count`` bytes, now or soon; ``buffer`` tells when it is free."""
        if self._thread is None and count < len(buffer):
            self._hash.update(memoryview(buffer)[:count])
            self._free.put(buffer)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nbmodel-hash", daemon=True)
            self._thread.start()
        self._full.put((buffer, count))

    def finish(self) -> _Hash:
        """The state after everything that was fed."""
        self._join()
        return self._hash

    def _join(self) -> None:
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (item := self._full.get()) is not None:
            buffer, count = item
            self._hash.update(memoryview(buffer)[:count])
            self._free.put(buffer)
