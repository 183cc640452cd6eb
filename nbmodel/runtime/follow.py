"""Following registries: versions that packages name are fetched, and their tags set here.

A device is a registry itself; its own storage and tags say which versions are on it. A
follower does for packages with a registry what a direct push does for others: it brings
the blobs, and sets the tags last. Whoever reads the tags never sees half a version, needs
no network, and is told by ``on_change``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from nbmodel.core.machine import MachineConfig, Package
from nbmodel.errors import BlobNotFoundError, NbModelError
from nbmodel.runtime.backoff import backoff_s
from nbmodel.runtime.fetch_status import FetchStatus
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.resolve import wanted_tags
from nbmodel.storage.base import Storage
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.tags import TagStore


class Follower:
    """Keeps the packages of a config as their registries have them, in a thread of its own.

    Args:
        storage: Where blobs go.
        tags: Where tags are set.
        journal: What is told of it.
        on_change: Called, from the follower's thread, with the name of a repository whose
            tags changed.
        free_bytes: How much the disk takes.
        token: Bearer token for registries; sent to each package's registry only, never
            where that redirects to.
    """

    def __init__(
        self,
        storage: Storage,
        tags: TagStore,
        journal: Journal,
        *,
        on_change: Callable[[str], None],
        free_bytes: Callable[[], int],
        token: str | None = None,
    ) -> None:
        self._storage = storage
        self._tags = tags
        self._journal = journal
        self._on_change = on_change
        self._free_bytes = free_bytes
        self._token = token
        self._poll_s = 60.0
        self._followed: dict[str, _Followed] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def follow(self, config: MachineConfig) -> None:
        """Follow what a config says from now on; returns at once."""
        with self._wake:
            before, self._followed = self._followed, {}
            for package in config.packages:
                if package.registry is not None and package.is_model:
                    known = before.get(package.name)
                    same = known is not None and known.package == package
                    self._followed[package.name] = (
                        known if same and known is not None else _Followed(package)
                    )
            self._poll_s = config.settings.poll_s
            if self._followed and self._thread is None and not self._closing:
                self._thread = threading.Thread(
                    target=self._run, name="nbmodel-follow", daemon=True
                )
                self._thread.start()
            self._wake.notify_all()

    def status(self, package: str) -> FetchStatus | None:
        """How far a package is, by its local name; None when it follows no registry."""
        with self._wake:
            followed = self._followed.get(package)
            return None if followed is None else followed.status

    @property
    def busy(self) -> bool:
        """Whether a package is being fetched, or was not asked for yet."""
        with self._wake:
            return any(
                one.status.state == "fetching" or one.status.attempt == 0
                for one in self._followed.values()
            )

    def check_now(self) -> None:
        """Ask all registries again soon, whatever failed before; returns at once."""
        with self._wake:
            for followed in self._followed.values():
                followed.due = 0.0
                followed.failures = 0
            self._wake.notify_all()

    def close(self) -> None:
        """Stop; what was fetched in part stays and is gone on with another time."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (followed := self._next()) is not None:
            self._try(followed)

    def _next(self) -> _Followed | None:
        """The package whose turn it is, when it is; None at the end."""
        with self._wake:
            while not self._closing:
                first = min(self._followed.values(), key=lambda one: one.due, default=None)
                pause = None if first is None else first.due - time.monotonic()
                if first is not None and pause is not None and pause <= 0:
                    return first
                self._wake.wait(pause)
            return None

    def _try(self, followed: _Followed) -> None:
        status = followed.status
        followed.status = replace(status, attempt=status.attempt + 1)
        try:
            self._fetch(followed)
        except NbModelError as exc:
            followed.failures += 1
            pause = backoff_s(followed.failures, random.random())
            if str(exc) != followed.status.error:
                self._journal.warn(f"package {followed.package.name}: {exc}")
            followed.status = replace(
                followed.status,
                state="failed",
                retry_at=time.monotonic() + pause,
                error=str(exc),
                hint=exc.hint,
            )
        else:
            followed.failures, pause = 0, self._poll_s
            followed.status = replace(
                followed.status, state="done", retry_at=None, error=None, hint=None
            )
        with self._wake:
            followed.due = time.monotonic() + pause

    def _fetch(self, followed: _Followed) -> None:
        package = followed.package
        assert package.registry is not None
        with Distribution(package.registry, token=self._token) as registry:
            repository, tag, raw = _wanted(registry, package)
            blobs = blobs_of(raw)
            followed.status = replace(
                followed.status, state="fetching", bytes=0, reused=0, total=sum(blobs.values())
            )
            for digest, size in blobs.items():
                if self._storage.has(digest):
                    followed.progress(size)
                    continue
                registry.pull_blob(
                    repository, self._storage, digest, size=size, progress=followed.progress
                )
        digest = self._storage.add_bytes(raw)
        if self._tags.get(repository, tag) != digest:
            self._tags.set(repository, tag, digest)
            self._journal.note(f"package {package.name}: fetched {repository}:{tag}")
            self._on_change(repository)


class _Followed:
    """A package with a registry, and how far it is."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.status = FetchStatus()
        self.failures = 0
        self.due = 0.0

    def progress(self, count: int) -> None:
        self.status = replace(self.status, bytes=self.status.bytes + count)


def _wanted(registry: Distribution, package: Package) -> tuple[str, str, bytes]:
    """Repository, tag and manifest of the version that a package means."""
    for repository in package.repositories:
        for tag in wanted_tags(package.version):
            try:
                return repository, tag, registry.manifest(repository, tag)
            except BlobNotFoundError:
                continue
    raise BlobNotFoundError(
        f"{registry.host} has no {package.repositories[-1]}:{package.version}",
        hint="push it to the registry",
    )
