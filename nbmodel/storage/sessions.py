"""Uploads to registries that are not over: where each goes on, kept over the end of a process.

A registry tells with every chunk where the next one goes. That address is kept in a file of
its own for each blob, readable by its owner alone: it may carry a signature that lets anybody
go on with the upload. It is no truth: the registry is asked what it has before anything is
sent, and a file that is old, damaged or of something else counts as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.storage.lock import file_lock

MAX_AGE_S = 7 * 24 * 3600.0  # registries forget an upload that nobody goes on with by then
_MAX_FILE = 64 * 1024  # bytes; addresses of uploads take a few hundred


class UploadSessions:
    """The uploads of one person that are not over.

    Args:
        folder: Where their files are; made, for its owner alone, when the first one is kept.
        max_age_s: Seconds after which an upload is not gone on with.
    """

    def __init__(self, folder: Path, *, max_age_s: float = MAX_AGE_S) -> None:
        self._folder = folder
        self._max_age_s = max_age_s

    @contextmanager
    def hold(self, registry: str, name: str, digest: str) -> Iterator[Session | None]:
        """The upload of a blob, held so that no other process goes on with it too.

        A folder that cannot be written to only costs that the upload begins anew after the
        end of this process.

        Args:
            registry: Address of the registry.
            name: The repository.
            digest: Of the blob.

        Yields:
            It; None when another process is at it, or where nothing can be kept.
        """
        what = [registry, name, digest]
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:40]
        with ExitStack() as stack:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._sweep()
                stack.enter_context(file_lock(self._folder / f"{key}.lock", wait=False))
            except OSError:  # BlockingIOError, when another process holds it, is one
                yield None
                return
            yield Session(self._folder / f"{key}.json", what, self._max_age_s)

    def _sweep(self) -> None:
        """Remove what is too old to be gone on with."""
        before = time.time() - self._max_age_s
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    is_own = entry.name.endswith((".json", ".lock", ".new"))
                    if is_own and entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry.path).unlink()


@dataclass(frozen=True, slots=True)
class Session:
    """One upload.

    Attributes:
        path: Its file, which need not be there.
        what: Registry, repository and digest that it is of.
        max_age_s: Seconds after which it is not gone on with.
    """

    path: Path
    what: list[str]
    max_age_s: float

    def location(self) -> str | None:
        """Where it goes on; None when it begins anew."""
        try:
            with self.path.open("rb") as file:
                data: Any = json.loads(file.read(_MAX_FILE))
            age = time.time() - data["at"]
            if data["what"] == self.what and 0 <= age < self.max_age_s:
                return str(data["location"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return None

    def keep(self, location: str) -> None:
        """Write down where it goes on; a disk that does not take that is no error."""
        data = {"what": self.what, "location": location, "at": time.time()}
        temporary = self.path.with_suffix(".new")
        # Not synchronised: after a power cut the upload may begin anew.
        with suppress(OSError):
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(data, file)
            temporary.replace(self.path)

    def forget(self) -> None:
        """It is over."""
        with suppress(OSError):
            self.path.unlink()
