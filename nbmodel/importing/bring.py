"""Bringing a model: a transport fetches files, layouts say what they are, some are chosen."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from nbmodel.errors import DigestMismatchError, InputError
from nbmodel.importing.base import (
    Fetched,
    Import,
    Layout,
    Limits,
    file_digest,
    picked,
    shown,
    tree_digest,
)
from nbmodel.importing.parts import KEPT_S
from nbmodel.importing.table import importer_named, importer_of, layouts
from nbmodel.storage.base import translated

_JOB = "job-"  # what the name of an import's folder begins with
_DEPTH = 4  # an archive in an archive, and what is in there


@contextmanager
def workplace(
    home: Path,
    *,
    max_size: int | None = None,
    sha256: str | None = None,
    **given: Any,
) -> Iterator[Import]:
    """An import's place on this machine, removed at the end but for what was broken off.

    Args:
        home: Folder for all imports; made when it is missing.
        max_size: The most bytes that may come; None: as usual.
        sha256: 64 hex digits, in any case, that the file must have.
        given: Further fields of the ``Import``.

    Raises:
        InputError: ``sha256`` or ``max_size`` is none.
        StorageUnavailableError: The folder takes nothing.
    """
    wanted = None if sha256 is None else sha256.lower().removeprefix("sha256:")
    if wanted is not None and re.fullmatch(r"[0-9a-f]{64}", wanted) is None:
        raise InputError(f"not a sha256 digest: {sha256!r:.90}", hint="64 hex digits")
    if max_size is not None and max_size < 1:
        raise InputError(f"expected a size of at least one byte, found {max_size}")
    limits = Limits() if max_size is None else Limits(size=max_size)
    with translated("import"):
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        folder = Path(tempfile.mkdtemp(prefix=_JOB, dir=home))
    try:
        yield Import(folder, home / "parts", limits, wanted, **given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Remove what imports left whose process was killed."""
    oldest = time.time() - KEPT_S
    with suppress(OSError):
        for one in home.iterdir():
            if one.name.startswith(_JOB) and one.stat().st_mtime < oldest:
                shutil.rmtree(one, ignore_errors=True)


def bring(uri: str, job: Import, importer: str | None = None) -> Fetched:
    """Bring what an address means, and say everything that is known of it.

    Args:
        uri: An address or a path.
        job: What the import is allowed, where it writes and whom it tells.
        importer: The name of the one to use; None: the one that the address is for.

    Raises:
        InputError: The address is for no importer, or there is no such thing.
        PluginError: No importer has that name, or what it needs is not installed.
        DigestMismatchError: It is not what ``job.sha256`` says.
        NbModelError: As ``Importer.fetch``.
    """
    chosen = importer_of(uri) if importer is None else importer_named(importer)
    with translated("import"):  # what no importer foresaw
        fetched = chosen.fetch(uri, job)
        fetched = _laid_out(fetched, job, {chosen.name})
        if job.paths:
            fetched = replace(fetched, path=_chosen(fetched.path, job))
        origin = fetched.origin
        if not origin.digest:
            origin = replace(origin, digest=_digest(fetched.path, job))
    if job.sha256 is not None and origin.digest != f"sha256:{job.sha256}":
        raise DigestMismatchError(
            f"what {shown(uri)} is",
            expected=f"sha256:{job.sha256}",
            actual=origin.digest,
            hint="it is something else than that digest is of",
        )
    return replace(fetched, origin=origin)


def _laid_out(fetched: Fetched, job: Import, seen: set[str]) -> Fetched:
    """With what the layouts say that its files lie in, one inside of the other."""
    for _ in range(_DEPTH):
        job.check()
        layout = _layout(fetched.path, seen)
        if layout is None:
            return fetched
        seen.add(layout.name)
        inner = layout.read(fetched.path, job)
        origin = fetched.origin
        if not origin.revision:
            origin = replace(origin, revision=inner.origin.revision)
        fetched = replace(fetched.over(inner), path=inner.path, origin=origin)
    return fetched


def _layout(path: Path, seen: set[str]) -> Layout | None:
    for layout in layouts():
        if layout.name not in seen and layout.recognises(path):
            return layout
    return None


def _chosen(path: Path, job: Import) -> Path:
    """A folder with the files that were asked for, or the only one of them."""
    files = dict(_files(path, job))
    paths = picked(sorted(files), job.paths, "what came")
    parent = os.path.commonpath([PurePosixPath(one).parent for one in paths])
    room = job.gather(
        {PurePosixPath(one).relative_to(parent).as_posix(): files[one] for one in paths}
    )
    return room if len(paths) > 1 else room / PurePosixPath(paths[0]).name


def _digest(path: Path, job: Import) -> str:
    if path.is_file():
        return file_digest(path, job)
    return tree_digest({name: file_digest(file, job) for name, file in _files(path, job)})


def _files(path: Path, job: Import) -> Iterator[tuple[str, Path]]:
    """The files that would be uploaded, with their paths."""
    if path.is_file():
        yield path.name, path
        return
    count = 0
    for file in sorted(path.rglob("*")):
        job.check()
        inside = file.relative_to(path)
        if any(part.startswith(".") or part == "__pycache__" for part in inside.parts):
            continue
        if not file.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{inside} is a link that leads out of what is imported")
        if file.is_file():
            count += 1
            job.check_count(count, "what came")
            yield inside.as_posix(), file
