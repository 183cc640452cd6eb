"""Verbs that run in the background, on disk: what a process began, the next one finishes.

::

    <folder>/<id>.json      the job, as it is now
    <folder>/<id>.lock      held by the process that works on it, as long as it lives
    <folder>/<id>.cancel    somebody wants it to end

A job is written as a whole or not at all. No state says that a process works on it: the lock
does, which the operating system lets go of however that process ends.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbmodel.core.job import CANCELLED, JOB_ID, MAX_LINE, Job
from nbmodel.core.version import now
from nbmodel.errors import FormatError, InputError, StorageUnavailableError
from nbmodel.storage.atomic import write_atomically
from nbmodel.storage.lock import file_lock

KEPT_S = 7 * 24 * 3600.0  # for which a job that has ended is told of
_ATTEMPTS, _PAUSE_S = 10, 0.02  # to hold a job that somebody only looks at
_MAX_FILE = 1024 * 1024  # bytes


class JobQueue:
    """The jobs of one person.

    Args:
        folder: Where they are; made, for its owner alone, with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def make(verb: str, given: Mapping[str, Any], registry: str) -> Job:
        """A new job, not written down yet.

        Args:
            verb: What it does.
            given: The verb's arguments by name, JSON values.
            registry: Folder of the registry that it is of.

        Raises:
            InputError: An argument is no JSON value.
        """
        try:
            plain = json.loads(json.dumps(dict(given), allow_nan=False))
        except (TypeError, ValueError) as exc:
            raise InputError(
                f"{verb} in the background takes what can be written down, found: {exc}",
                hint="give files instead of objects, or leave the background out",
            ) from exc
        return Job(secrets.token_hex(4), verb, plain, registry, now())

    def add(self, job: Job) -> Job:
        """Write a new job down; durable when this returns.

        Raises:
            StorageUnavailableError: The disk does not take it.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(job)
        except OSError as exc:
            raise StorageUnavailableError(
                f"cannot keep a transfer in {self._folder}: {exc.strerror or exc}"
            ) from exc
        return job

    def get(self, id_: str) -> Job:
        """One job.

        Raises:
            InputError: There is none of that id.
        """
        job = self._read(self._folder / f"{id_}.json") if JOB_ID.fullmatch(id_) else None
        if job is None:
            raise InputError(f"no transfer {id_[:40]!r}", hint="`nbmodel transfers` lists them")
        return job

    def jobs(self) -> tuple[Job, ...]:
        """All of them, the oldest first; those that ended long ago are forgotten."""
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError:
            return ()
        found = []
        for path in paths:
            job = self._read(path)
            if job is None:
                continue
            with suppress(OSError):
                if not job.is_open and path.stat().st_mtime < time.time() - KEPT_S:
                    self._remove(job.id)
                    continue
            found.append(job)
        return tuple(sorted(found, key=lambda job: job.created))

    def touched(self, id_: str) -> float:
        """When a job was last written, in seconds since 1970; 0 when it is gone."""
        try:
            return (self._folder / f"{id_}.json").stat().st_mtime
        except OSError:
            return 0.0

    def update(self, job: Job, **changes: Any) -> Job:
        """Write down how a job that this process holds is now; the job as it is then.

        A disk that does not take that costs what others are told, no more.
        """
        if "line" in changes:
            changes["line"] = changes["line"][:MAX_LINE]
        changed = replace(job, **changes)
        with suppress(OSError):
            # How far it is need not outlive a power cut, and nobody waits for the disk.
            self._write(changed, durable=changed.state != job.state)
        return changed

    @contextmanager
    def hold(self, id_: str) -> Iterator[bool]:
        """Keep other processes from a job.

        Yields:
            Whether it is held; False when another process, or thread, works on it.
        """
        with ExitStack() as stack:
            yield self._locked(id_, stack, _ATTEMPTS)

    def is_held(self, id_: str) -> bool:
        """Whether a process works on a job, or will when it is through with others."""
        with ExitStack() as stack, suppress(OSError):
            return not self._locked(id_, stack, 1)
        return False

    def cancel(self, id_: str) -> Job:
        """Have a job end: at once when nobody works on it, soon otherwise.

        Raises:
            InputError: There is none of that id.
            StorageUnavailableError: The disk does not take it.
        """
        job = self.get(id_)
        try:
            with self.hold(id_) as held:
                if not job.is_open:
                    return job
                if held:
                    return self.update(self.get(id_), state=CANCELLED, line="cancelled")
                (self._folder / f"{id_}.cancel").touch(mode=0o600)
                return job
        except OSError as exc:
            raise StorageUnavailableError(
                f"cannot cancel transfer {id_}: {exc.strerror or exc}"
            ) from exc

    def is_cancelled(self, id_: str) -> bool:
        """Whether somebody wants a job to end."""
        return (self._folder / f"{id_}.cancel").exists()

    def _locked(self, id_: str, stack: ExitStack, attempts: int) -> bool:
        for attempt in range(attempts):
            if attempt:
                time.sleep(_PAUSE_S)
            with suppress(BlockingIOError):
                stack.enter_context(file_lock(self._folder / f"{id_}.lock", wait=False))
                return True
        return False

    def _remove(self, id_: str) -> None:
        for suffix in ("json", "new", "lock", "cancel"):
            (self._folder / f"{id_}.{suffix}").unlink(missing_ok=True)

    def _write(self, job: Job, *, durable: bool = True) -> None:
        # For its owner alone: arguments may say what others need not know.
        content = json.dumps(job.to_json(), ensure_ascii=True).encode()
        path = self._folder / f"{job.id}.json"
        if durable:
            write_atomically(path, content, mode=0o600)
            return
        temporary = path.with_suffix(".new")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.replace(path)

    @staticmethod
    def _read(path: Path) -> Job | None:
        try:
            with path.open("rb") as file:
                job = Job.from_json(json.loads(file.read(_MAX_FILE)))
        except (OSError, ValueError, RecursionError, FormatError):
            return None  # removed meanwhile, or no job of ours
        return job if path.name == f"{job.id}.json" else None
