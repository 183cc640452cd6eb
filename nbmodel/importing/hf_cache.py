"""A model in the cache of the Hugging Face hub: ``models--org--name/{blobs,refs,snapshots}``.

A snapshot's files are links to blobs, which are called by what they are: 64 digits are the
sha256 of a large file, 40 the SHA-1 of a Git blob. Both are checked.

Source: huggingface_hub's documentation, "Understand caching".
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from nbmodel.core.origin import Origin
from nbmodel.errors import DigestMismatchError, InputError, StorageUnavailableError
from nbmodel.importing.base import Fetched, Import, Layout, name_from
from nbmodel.importing.choice import chosen
from nbmodel.importing.hf_card import read_card, read_labels
from nbmodel.storage.base import translated

_FOLDER = re.compile(r"models--([A-Za-z0-9._-]{1,96}?)(?:--([A-Za-z0-9._-]{1,96}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHUNK = 1 << 20


class HuggingFaceCache(Layout):
    """The folder of a model in a cache, or one of its snapshots."""

    name = "hf-cache"
    form = "models--ORG--NAME"

    def recognises(self, path: Path) -> bool:
        """Whether it is such a folder."""
        return _place(path) is not None

    def read(self, path: Path, job: Import) -> Fetched:
        """The snapshot of a revision, which is ``main`` when nobody says."""
        place = _place(path)
        if place is None:
            raise InputError(f"{path} is no models--ORG--NAME/snapshots/COMMIT")
        root, commit = place
        commit = commit or _commit(root, job.revision)
        snapshot = root / "snapshots" / commit
        if not snapshot.is_dir():
            raise InputError(f"{root.name} has no snapshot {commit}")
        files = {}
        for one in sorted(snapshot.rglob("*")):
            job.check()
            if one.is_file():
                files[one.relative_to(snapshot).as_posix()] = _checked(one, root)
            job.check_count(len(files), root.name)
        sizes = {name: file.stat().st_size for name, file in files.items()}
        wanted = chosen(sizes, job, root.name)
        for name in wanted:
            verify_blob(files[name], files[name].name, job)
        folder = job.gather({name: files[name] for name in wanted})
        return described(folder, _name(root), self.here(commit), job)


def described(folder: Path, repo: str, origin: Origin, job: Import) -> Fetched:
    """Files of a repository with what its card says.

    Args:
        folder: With the files.
        repo: ``org/name``.
        origin: Whose revision is the commit.
        job: The import.
    """
    facts, model_type = read_card(folder, job.room("card"))
    commit = origin.revision
    return Fetched(
        folder,
        origin,
        name=name_from(repo),
        labels=read_labels(folder),
        model_type=model_type,
        metadata={"hf": {"repo": repo, "commit": commit, **facts}},
        tags={"hf.repo": repo, "hf.commit": commit},
    )


def verify_blob(file: Path, name: str, job: Import) -> None:
    """Check a file against the name that the hub gives to its content.

    Raises:
        DigestMismatchError: It is another.
    """
    size = file.stat().st_size
    if re.fullmatch(r"[0-9a-f]{64}", name):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", name):
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    else:
        return
    with translated(f"read {file.name}"), file.open("rb") as content:
        while piece := content.read(_CHUNK):
            job.check()
            digest.update(piece)
    if digest.hexdigest() != name:
        raise DigestMismatchError(f"blob {name[:12]}", expected=name, actual=digest.hexdigest())


def _place(path: Path) -> tuple[Path, str] | None:
    """The model's folder and the commit of a snapshot; the commit is empty for the model's."""
    if _FOLDER.fullmatch(path.name) and (path / "snapshots").is_dir():
        return path, ""
    root = path.parent.parent
    if path.parent.name == "snapshots" and _FOLDER.fullmatch(root.name) and path.is_dir():
        return root, path.name
    return None


def _commit(root: Path, revision: str) -> str:
    if _COMMIT.fullmatch(revision):
        return revision
    name = revision or "main"
    if ".." in name.split("/") or name.startswith("/"):
        raise InputError(f"not a revision: {name[:80]!r}")
    ref = root / "refs" / name
    try:
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    except (OSError, ValueError) as exc:
        raise StorageUnavailableError(f"cannot read {ref}") from exc
    if _COMMIT.fullmatch(commit):
        return commit
    there = sorted(one.name for one in (root / "snapshots").iterdir() if one.is_dir())
    matching = [one for one in there if revision and one.startswith(revision)]
    found = matching if revision else there
    if len(found) != 1:
        raise InputError(
            f"{root.name} has no revision {name!r}",
            hint=f"--revision one of {', '.join(there[:8])}",
        )
    return found[0]


def _checked(file: Path, root: Path) -> Path:
    real = file.resolve()
    if not real.is_relative_to(root.resolve()):
        raise InputError(f"{file.name} is a link that leads out of {root.name}")
    return real


def _name(root: Path) -> str:
    return root.name.removeprefix("models--").replace("--", "/", 1)
