"""Blobs that are kept as what differs from other blobs: a folder of them, and reading them.

::

    <root>/<hex of the blob>       a packed blob, as ``core.packed`` describes it

The blobs that one is put together from may be packed themselves, but never from each other.
Nothing here decides what is packed or keeps the others there: that does the storage whose
folder it is.
"""

from __future__ import annotations

import errno
import io
import os
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from nbmodel.core.digest import is_digest
from nbmodel.core.packed import HEAD_SIZE, Packed, bases_of, bases_size, head_size
from nbmodel.core.patch import Given
from nbmodel.errors import ManifestError

_PIECE = 1024 * 1024  # bytes of one read
_Known: TypeAlias = "tuple[tuple[int, int, int], tuple[str, ...]]"  # a file's state, its bases


class Packs:
    """The packed blobs in a folder. Methods may be called from several threads and processes.

    Every method that reads one raises OSError where it is damaged, FileNotFoundError where
    it is not there.

    Args:
        root: The folder; it need not be there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Many deletions in a row ask the same of the same files.
        self._known: dict[str, _Known] = {}

    def file(self, digest: str) -> Path:
        """Where a packed blob is or would be."""
        return self.root / digest.partition(":")[2]

    def packed(self, digest: str) -> Packed:
        """How a blob is put together."""
        with self.file(digest).open("rb") as file:
            return _read_head(file)

    def open(self, digest: str, base: Callable[[str], BinaryIO]) -> BinaryIO:
        """A packed blob as a file of the blob's bytes, unchecked; the caller closes it.

        Args:
            digest: Of the blob.
            base: Opens one that it needs, or gives one that is open. All of them are open until
                the file is closed, so that whatever becomes of their names nothing changes in
                what is read.
        """
        return open_packed(self.file(digest).open("rb"), base)

    def needs(self) -> dict[str, tuple[str, ...]]:
        """Digest of each packed blob → those of the blobs that it needs; a damaged one, none."""
        known: dict[str, _Known] = {}
        for digest, status in self.entries():
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            before = self._known.get(digest)
            try:
                if before is None or before[0] != state:
                    before = (state, self._bases(digest))
                known[digest] = before
            except FileNotFoundError:
                continue  # unpacked or deleted meanwhile
        self._known = known
        return {digest: bases for digest, (_, bases) in known.items()}

    def _bases(self, digest: str) -> tuple[str, ...]:
        try:
            with self.file(digest).open("rb") as file, _readable(file):
                raw = file.read(HEAD_SIZE)
                return bases_of(raw + file.read(bases_size(raw) - HEAD_SIZE))
        except FileNotFoundError:
            raise
        except OSError:
            return ()

    def entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Digest and file of each packed blob."""
        try:
            with os.scandir(self.root) as entries:
                for entry in entries:
                    digest = f"sha256:{entry.name}"
                    if is_digest(digest):
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        yield digest, status
        except FileNotFoundError:
            return


def heights(needs: Mapping[str, Collection[str]]) -> dict[str, int]:
    """How many packed blobs, at most, are put together one from another down to each blob.

    Args:
        needs: Digest of each packed blob → those of the blobs that it needs.

    Returns:
        For each blob of either kind; 0: no other needs it.
    """
    over: dict[str, list[str]] = {digest: [] for digest in needs}
    for digest, bases in needs.items():
        for base in bases:
            over.setdefault(base, []).append(digest)
    height = dict.fromkeys(over, 0)
    # A longer way than there are blobs would be a circle, which no storage makes.
    for _ in needs:
        higher = {
            digest: max((1 + height[one] for one in above), default=0)
            for digest, above in over.items()
        }
        if higher == height:
            break
        height = higher
    return height


def files_open(needs: Mapping[str, Collection[str]], digest: str) -> int:
    """How many files are open, at most, while somebody reads what a blob is a part of.

    Args:
        needs: Digest of each packed blob → those of the blobs that it needs.
        digest: The blob.
    """
    over: dict[str, set[str]] = {}
    for one, bases in needs.items():
        for base in bases:
            over.setdefault(base, set()).add(one)
    return max(len(_reached(needs, top)) for top in _reached(over, digest))


def _reached(ways: Mapping[str, Collection[str]], begin: str) -> set[str]:
    """Where one gets to by any number of steps, from there itself on."""
    reached, left = {begin}, [begin]
    while left:
        new = set(ways.get(left.pop(), ())) - reached
        reached |= new
        left += new
    return reached


def open_packed(own: BinaryIO, base: Callable[[str], BinaryIO]) -> BinaryIO:
    """As ``Packs.open``, of an open file, which is closed with what is given back."""
    bases: dict[str, BinaryIO] = {}
    try:
        packed = _read_head(own)
        for digest in packed.bases:
            bases[digest] = base(digest)
    except BaseException:
        for file in (own, *bases.values()):
            file.close()
        raise
    # A buffer in front would only copy: who reads this reads in large pieces.
    return cast("BinaryIO", io.BufferedReader(_PackedFile(packed, own, bases), _PIECE))


class _PackedFile(io.RawIOBase):
    """The bytes of a blob, each read where it is."""

    def __init__(self, packed: Packed, own: BinaryIO, bases: Mapping[str, BinaryIO]) -> None:
        super().__init__()
        self._steps = packed.steps
        self._starts = [one.start for one in packed.steps]
        self._size = packed.size
        self._own = own
        self._bases = bases
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if begin + offset < 0:
            raise OSError(errno.EINVAL, "seek before the beginning of a blob")
        self._at = begin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override] # of any buffer
        if self._at >= self._size:
            return 0
        step = self._steps[bisect_right(self._starts, self._at) - 1]
        skipped = self._at - step.start
        view = memoryview(buffer).cast("B")[: step.length - skipped]
        source = self._own if isinstance(step, Given) else self._bases[step.blob]
        source.seek(step.offset + skipped)
        # Fewer where a base was cut off: the digest of the whole tells.
        count = cast("io.BufferedReader", source).readinto(view)
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            for file in (self._own, *self._bases.values()):
                file.close()
        super().close()


def _read_head(file: BinaryIO) -> Packed:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with _readable(file):
        raw = file.read(HEAD_SIZE)
        raw += file.read(head_size(raw) - HEAD_SIZE)
        return Packed.from_head(raw, size=size)


@contextmanager
def _readable(file: BinaryIO) -> Iterator[None]:
    """Turn what a damaged head is into an OSError."""
    try:
        yield
    except ManifestError as exc:
        name = os.fsdecode(file.name) if hasattr(file, "name") else None
        raise OSError(errno.EIO, str(exc), name) from exc
