"""Copying and hashing in one pass; nothing here knows where bytes come from or go to."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
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
    beside: Callable[[memoryview], object] | None = None,
    state: _Hash | None = None,
) -> _Hash:
    """Read ``source`` to its end, hand every chunk to ``sink``, and hash it.

    Hashing runs in a thread of its own beside reading and writing (all three release the
    interpreter lock), so a copy costs what the slowest side costs.

    Args:
        source: Read from its present position.
        sink: Takes each chunk and is done with it when it returns; None to hash only.
        progress: Told of every chunk after ``sink`` took it.
        beside: Takes each chunk in order, in another thread of its own, and is done with it
            when it returns.
        state: The sha256 state of the bytes before these, which goes on; None: there are
            none.

    Returns:
        The sha256 state of the bytes read, those before them included.

    Raises:
        OSError: Reading failed. What the other three raise passes through.
    """
    state = hashlib.sha256() if state is None else state
    with _Pipeline([state.update] if beside is None else [state.update, beside]) as pipeline:
        while True:
            buffer = pipeline.buffer()
            count = source.readinto(buffer)
            if not count:
                pipeline.finish()
                return state
            pipeline.feed(buffer, count)
            if sink is not None:
                sink(memoryview(buffer)[:count])
            if progress is not None:
                progress(count)


class _Pipeline:
    """Steps that every chunk goes through, each in a thread of its own.

    Input of less than a buffer never starts a thread.
    """

    def __init__(self, steps: Sequence[Callable[[memoryview], object]]) -> None:
        self._steps = steps
        self._made = 0
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._full: list[SimpleQueue[tuple[bytearray, int] | None]] = [SimpleQueue() for _ in steps]
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._join()

    def buffer(self) -> bytearray:
        """A buffer that all steps are done with; waits for one when all are on their way."""
        if self._made == 0 or (self._threads and self._made < _BUFFERS):
            self._made += 1
            return bytearray(CHUNK)
        return self._free.get()

    def feed(self, buffer: bytearray, count: int) -> None:
        """Pass on the first ``count`` bytes, now or soon; ``buffer`` tells when it is free."""
        if not self._threads and count < len(buffer):
            for step in self._steps:
                step(memoryview(buffer)[:count])
            self._free.put(buffer)
            return
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._run, args=(at,), name="nbmodel-hash", daemon=True)
                for at in range(len(self._steps))
            ]
            for thread in self._threads:
                thread.start()
        self._full[0].put((buffer, count))

    def finish(self) -> None:
        """Return when all steps took everything; raise what one of them raised."""
        self._join()
        if self._errors:
            raise self._errors[0]

    def _join(self) -> None:
        for queue, thread in zip(self._full, self._threads, strict=False):
            queue.put(None)  # whoever feeds this queue has ended
            thread.join()
        self._threads = []

    def _run(self, at: int) -> None:
        following = self._full[at + 1].put if at + 1 < len(self._steps) else self._release
        while (item := self._full[at].get()) is not None:
            buffer, count = item
            try:
                if not self._errors:
                    self._steps[at](memoryview(buffer)[:count])
            except BaseException as exc:  # noqa: BLE001 - raised again by finish
                self._errors.append(exc)
            following(item)

    def _release(self, item: tuple[bytearray, int]) -> None:
        self._free.put(item[0])
