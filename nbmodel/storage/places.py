"""Which repository of a registry has which blob, remembered from one push to the next.

It is no truth: a registry that finds no such blob there is sent it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nbmodel.core.digest import is_digest
from nbmodel.core.reference import check_repository
from nbmodel.errors import RefError

WORTH = 64 * 1024  # bytes; sending less is as quick as asking for it
SUFFIX = ".places"
_MAX = 10_000  # blobs of one registry; the oldest are forgotten
_MAX_FILE = 8 * 1024 * 1024  # bytes


class BlobPlaces:
    """Where a registry has blobs.

    Args:
        folder: Where that is remembered, for its owner alone; None: for as long as this lives.
        registry: Address of the registry.
    """

    def __init__(self, folder: Path | None, registry: str) -> None:
        key = hashlib.sha256(registry.encode()).hexdigest()[:40]
        self._path = None if folder is None else folder / f"{key}{SUFFIX}"
        self._known: dict[str, str] | None = None

    def find(self, digest: str) -> str | None:
        """A repository that had the blob; None when none is known."""
        return self._all().get(digest)

    def note(self, blobs: Iterable[str], repository: str) -> None:
        """A repository has these blobs now; a disk that does not take that is no error."""
        known = self._all()
        fresh = {digest: repository for digest in blobs if digest not in known}
        if not fresh:
            return
        known |= fresh
        for digest in list(known)[: max(0, len(known) - _MAX)]:
            del known[digest]
        if self._path is not None:
            with suppress(OSError):
                _write(self._path, known)

    def _all(self) -> dict[str, str]:
        if self._known is None:
            self._known = {} if self._path is None else _read(self._path)
        return self._known


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            data: Any = json.loads(file.read(_MAX_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {digest: name for digest, name in data.items() if is_digest(digest) and _is_name(name)}


def _is_name(name: object) -> bool:
    try:
        return isinstance(name, str) and bool(check_repository(name))
    except RefError:
        return False


def _write(path: Path, known: Mapping[str, str]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(known, file)
    temporary.replace(path)
