"""Packages on disk: the files of a version in a folder of its own, as Viam lays it out.

``packages/data/ml_model/<package>-<version>/`` holds the files, ``….status.json`` beside
it says which version they are, and ``packages/<name>`` points there. Files are hard links
of the storage's blobs, so a package costs no disk. A folder appears complete or not at
all. Which version a package wants is ``resolve``'s to say.

Source: viamrobotics/rdk ``robot/packages`` for the layout.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.core.machine import ML_MODEL, Package
from nbmodel.core.manifest import Manifest
from nbmodel.core.version import now
from nbmodel.errors import StorageUnavailableError
from nbmodel.runtime.resolve import PackageVersion
from nbmodel.storage.atomic import TEMPORARY, sync_folder, write_atomically
from nbmodel.storage.base import Storage

_STATUS = ".status.json"


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
        root: ``packages`` in the runtime's home.
        storage: Where the blobs are.
    """

    def __init__(self, root: Path, storage: Storage) -> None:
        self._root = root
        self._data = root / "data" / ML_MODEL
        self._storage = storage

    def link(self, name: str) -> Path:
        """Where the package called ``name`` is found, whichever version it is."""
        return self._root / name

    def install(self, package: Package, version: PackageVersion, manifest: Manifest) -> Installed:
        """Lay out a version's files and point the package's name at them.

        Nothing is written when they are there already.

        Raises:
            BlobNotFoundError: A file of the version is not in the storage.
            StorageUnavailableError: The disk does not take it.
        """
        folder = self._folder(package, version, manifest)
        try:
            if not self._is_complete(folder, manifest):
                self._lay_out(folder, manifest)
            status = self._status(folder)
            if status.get("digest") != version.digest:
                self._write_status(folder, package, version, manifest)
            self._point(package.name, folder)
        except OSError as exc:
            raise StorageUnavailableError(
                f"cannot lay out package {package.name!r} in {folder}: {exc.strerror or exc}"
            ) from exc
        return Installed(version, manifest, folder)

    def sweep(self, *, names: Collection[str], digests: Collection[str]) -> int:
        """Remove what no package and no service uses; how many folders went.

        Args:
            names: Local names of the packages that stay.
            digests: Manifests of the versions that stay.
        """
        for entry in _entries(self._root):
            if entry.is_symlink() and entry.name not in names:
                entry.unlink(missing_ok=True)
        removed = 0
        for entry in _entries(self._data):
            if entry.is_dir() and self._status(entry).get("digest") not in digests:
                # The status goes first: a folder without one is laid out again.
                _status_file(entry).unlink(missing_ok=True)
                shutil.rmtree(entry, ignore_errors=True)
                removed += 1
        return removed

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
        return self._status(folder).get("content") == manifest.content and all(
            (folder / entry.path).is_file() and (folder / entry.path).stat().st_size == entry.size
            for entry in manifest.files
        )

    def _lay_out(self, folder: Path, manifest: Manifest) -> None:
        temporary = folder.with_name(f"{TEMPORARY}{folder.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for entry in manifest.files:
            target = temporary / entry.path  # FileEntry checked that this stays inside
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(self._storage.path(entry.digest), target)
        for inner in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            sync_folder(inner)
        shutil.rmtree(folder, ignore_errors=True)  # what a crash or a stranger left
        temporary.rename(folder)
        sync_folder(folder.parent)

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

    def _point(self, name: str, folder: Path) -> None:
        link = self.link(name)
        target = os.path.relpath(folder, link.parent)
        if link.is_symlink() and str(link.readlink()) == target:
            return
        temporary = link.with_name(f"{TEMPORARY}{name}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(link)
        sync_folder(link.parent)


def _status_file(folder: Path) -> Path:
    return folder.with_name(folder.name + _STATUS)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
