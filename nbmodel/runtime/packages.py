"""Packages on disk: the files of a version in a folder of its own, as Viam lays it out.

::

    packages/data/ml_model/<package>-<version>/              the files
    packages/data/ml_model/<package>-<version>.status.json   which version they are
    packages/<name>                                          leads to the folder
    models/<name>/                                           the same for Triton

Files are hard links of the storage's blobs, so a package costs no disk. A folder appears
complete or not at all, and is durable when it does. Which version a package wants is
``resolve``'s to say.

Source: viamrobotics/rdk ``robot/packages`` for the layout; ``triton_folder`` for Triton's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.core.machine import ML_MODEL, Package
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.version import now
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    ManifestError,
    StorageError,
    StorageUnavailableError,
)
from nbmodel.runtime.folders import entries, link_folder, remove
from nbmodel.runtime.resolve import PackageVersion
from nbmodel.runtime.triton_folder import TritonFolder
from nbmodel.storage.atomic import TEMPORARY, make_folder, sync_folder, write_atomically
from nbmodel.storage.base import Storage

MAX_FILES = 10_000  # of one version; a model of a thousand shards has as many
_STATUS = ".status.json"
_DATA = "data"
_SEND_AGAIN = "deploy the version again: what is missing of it is sent anew"


@dataclass(frozen=True, slots=True)
class Installed:
    """A version whose files are on disk.

    Attributes:
        version: Which one.
        manifest: What it is.
        folder: Where its files are.
    """

    version: PackageVersion
    manifest: Manifest
    folder: Path


class PackageFolder:
    """The packages of one device.

    Args:
        root: ``packages`` in the runtime's home; ``models`` is beside it.
        storage: Where the blobs are.
    """

    def __init__(self, root: Path, storage: Storage) -> None:
        self._root = root
        self._data = root / _DATA / ML_MODEL
        self._storage = storage
        self._triton = TritonFolder(root.with_name("models"))
        self._damage: dict[str, str] = {}  # digest of a blob that was damaged → what was said

    def link(self, name: str) -> Path:
        """Where the package called ``name`` is found, whichever version it is."""
        # Viam's own folder is in the way of one package; no name begins with "_".
        return self._root / (f"_{name}" if name.lower() == _DATA else name)

    def install(
        self,
        package: Package,
        version: PackageVersion,
        manifest: Manifest,
        *,
        is_active: bool = True,
    ) -> Installed:
        """Lay out a version's files, and point the package's name at them.

        Nothing is written when they are there already.

        Args:
            package: As configured.
            version: Which one.
            manifest: What it is.
            is_active: Whether the name leads there at once; else when ``activate`` says so.

        Raises:
            BlobNotFoundError: A file of the version is not in the storage.
            DigestMismatchError: A file of the version is damaged; it is not in the storage
                any more, so that it can be sent again.
            ManifestError: The version's files cannot lie in one folder.
            StorageUnavailableError: The disk does not take it.
        """
        folder = self._folder(package, version, manifest)
        with _told(package.name, folder):
            if not self._is_complete(folder, manifest):
                self._lay_out(folder, manifest)
            status = self._status(folder)
            if status.get("digest") != version.digest:
                self._write_status(folder, package, version, manifest)
        installed = Installed(version, manifest, folder)
        if is_active:
            self.activate(package.name, installed)
        return installed

    def activate(self, name: str, installed: Installed) -> None:
        """Point a package's name at the files of a version, for Triton too.

        Raises:
            StorageUnavailableError: The disk does not take it.
        """
        with _told(name, installed.folder):
            link_folder(self.link(name), installed.folder)
            number = installed.version.number or 1
            self._triton.serve(name, number, installed.folder, installed.manifest)

    def drop_damaged(self, installed: Installed) -> StorageError | None:
        """Let go of the files of a version that are not what their digests say.

        Their blobs go too where they are the same bytes, so that they can be sent again; and
        the folder, so that it is laid out anew.

        Returns:
            What to say of it; None when every file is as it should be.

        Raises:
            StorageError: The storage cannot be read.
            OSError: The disk does not let it go.
        """
        damaged = [
            entry
            for entry in installed.manifest.files
            if _digest_of_file(installed.folder / entry.path) != entry.digest
        ]
        if not damaged:
            return None
        paths = [entry.path for entry in damaged]
        more = f" and of {len(paths) - 1} more" if len(paths) > 1 else ""
        text = f"this device's copy of {paths[0]}{more} is damaged"
        for entry in damaged:
            with suppress(BlobNotFoundError):
                try:
                    self._storage.check(entry.digest)
                except DigestMismatchError:
                    self._storage.delete(entry.digest)
                    self._damage[entry.digest] = text
        # The status goes first: a folder without one is laid out again.
        remove(_status_file(installed.folder))
        remove(installed.folder)
        return StorageError(text, hint=_SEND_AGAIN)

    def sweep(self, *, names: Collection[str], digests: Collection[str]) -> int:
        """Remove what no package and no service uses; how many things went.

        Whatever else is in these folders goes too: what a crash left, and what strangers put
        there.

        Args:
            names: Local names of the packages that stay.
            digests: Manifests of the versions that stay.

        Raises:
            OSError: The disk does not let it go.
        """
        removed = self._sweep_versions(digests)
        links = {self.link(name).name for name in names}
        gone = [
            entry
            for entry in entries(self._root)
            if entry.name != _DATA and not (entry.name in links and _leads_somewhere(entry))
        ]
        gone += [entry for entry in entries(self._data.parent) if entry.name != ML_MODEL]
        for entry in gone:
            remove(entry)
        return removed + len(gone) + self._triton.sweep(names)

    def _sweep_versions(self, digests: Collection[str]) -> int:
        kept = {
            entry.name
            for entry in entries(self._data)
            if not entry.is_symlink()
            and entry.is_dir()
            and self._status(entry).get("digest") in digests
        }
        kept |= {name + _STATUS for name in kept}
        gone = [entry for entry in entries(self._data) if entry.name not in kept]
        # The status goes first: a folder without one is laid out again.
        for entry in sorted(gone, key=lambda entry: not entry.name.endswith(_STATUS)):
            remove(entry)
        if gone:  # before the blobs: no file is laid out whose blob is not here
            sync_folder(self._data)
        return sum(not entry.name.endswith(_STATUS) for entry in gone)

    def _folder(self, package: Package, version: PackageVersion, manifest: Manifest) -> Path:
        name = f"{package.package.replace('/', '-')}-{version.label.replace('.', '_')}"
        folder = self._data / name
        # Two registries may give one label to different files; a folder in use must not
        # change under its session.
        content = self._status(folder).get("content")
        if content is not None and content != manifest.content:
            folder = self._data / f"{name}-{short_digest(manifest.content)}"
        return folder

    def _is_complete(self, folder: Path, manifest: Manifest) -> bool:
        return (
            self._status(folder).get("content") == manifest.content
            and not folder.is_symlink()
            and all(_is_file(folder / entry.path, entry.size) for entry in manifest.files)
        )

    def _lay_out(self, folder: Path, manifest: Manifest) -> None:
        if len(manifest.files) > MAX_FILES:
            raise ManifestError(
                f"a version of {manifest.name!r} has {len(manifest.files)} files, "
                f"expected at most {MAX_FILES}"
            )
        temporary = folder.with_name(f"{TEMPORARY}{folder.name}")
        remove(temporary)
        make_folder(folder.parent)
        try:
            self._fill(temporary, manifest)
            remove(folder)  # what a crash or a stranger left
            temporary.rename(folder)
        except BaseException:
            # A full disk is not left fuller; what stays goes with the next sweep.
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder.parent)

    def _fill(self, folder: Path, manifest: Manifest) -> None:
        folder.mkdir()
        for entry in manifest.files:
            target = folder / entry.path  # FileEntry checked that this stays inside
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(self._blob(entry), target, entry)
            except DigestMismatchError:
                self._storage.delete(entry.digest)
                raise
            except (FileExistsError, NotADirectoryError) as exc:
                raise ManifestError(
                    f"path {entry.path!r} of a version of {manifest.name!r} is in the way of "
                    "another one, or is the same to this file system"
                ) from exc
        for inner in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
            sync_folder(inner)

    def _blob(self, entry: FileEntry) -> Path:
        """The blob of a file, of the right size."""
        if not self._storage.has(entry.digest):
            text = self._damage.get(entry.digest, f"{entry.path!r} is not on this device")
            raise BlobNotFoundError(text, hint=_SEND_AGAIN)
        self._damage.pop(entry.digest, None)
        size = self._storage.size(entry.digest)
        if size != entry.size:
            self._storage.check(entry.digest)  # most probably it is the blob that is wrong
            raise ManifestError(f"{entry.path!r} is {size} bytes, the manifest says {entry.size}")
        return self._storage.path(entry.digest)

    def _status(self, folder: Path) -> dict[str, Any]:
        try:
            status = json.loads(_status_file(folder).read_bytes())
        except (OSError, ValueError):
            return {}  # as good as none: the folder is laid out anew
        return status if isinstance(status, dict) else {}

    def _write_status(
        self, folder: Path, package: Package, version: PackageVersion, manifest: Manifest
    ) -> None:
        status = {
            "package_id": package.package,
            "version": version.label,
            "modified_time": now(),
            "sync_status": "done",
            "digest": version.digest,
            "content": manifest.content,
        }
        write_atomically(_status_file(folder), json.dumps(status, indent=2).encode())


@contextmanager
def _told(name: str, folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` inside into an error that says which package it is about."""
    try:
        yield
    except OSError as exc:
        raise StorageUnavailableError(
            f"cannot lay out package {name!r} in {folder}: {exc.strerror or exc}",
            hint="check free space and permissions of the folder",
        ) from exc


def _digest_of_file(path: Path) -> str | None:
    """Of what is in a file; None when it cannot be read."""
    hashed = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1024 * 1024):
                hashed.update(block)
    except OSError:
        return None
    return f"sha256:{hashed.hexdigest()}"


def _status_file(folder: Path) -> Path:
    return folder.with_name(folder.name + _STATUS)


def _is_file(path: Path, size: int) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def _leads_somewhere(path: Path) -> bool:
    return path.is_symlink() and path.is_dir()


def _link_or_copy(source: Path, target: Path, entry: FileEntry) -> None:
    if source.is_symlink():
        _copy(source, target, entry)
        return
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        _copy(source, target, entry)


def _copy(source: Path, target: Path, entry: FileEntry) -> None:
    """Copy a blob; durable, and what its digest says, when this returns."""
    hashed = hashlib.sha256()
    with source.open("rb") as read, target.open("xb") as written:
        while block := read.read(1024 * 1024):
            hashed.update(block)
            written.write(block)
        written.flush()
        os.fsync(written.fileno())
    actual = f"sha256:{hashed.hexdigest()}"
    if actual != entry.digest:
        raise DigestMismatchError("stored blob", expected=entry.digest, actual=actual)
