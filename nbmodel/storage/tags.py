"""Tags on a device: repository → tag → manifest digest, one small file a tag.

The desktop's registry keeps names in SQLite; a device has few of them, and a folder that
can be read with ``cat`` when it misbehaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nbmodel.core.digest import check_digest, is_digest
from nbmodel.core.reference import check_name
from nbmodel.errors import RefError, StorageError, StorageUnavailableError
from nbmodel.storage.atomic import sync_folder, write_atomically

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def check_tag(tag: str) -> str:
    """Return ``tag`` unchanged when it is one by OCI's grammar.

    Raises:
        RefError: It is not.

    Source: OCI distribution specification 1.1, "Pulling manifests".
    """
    if _TAG.fullmatch(tag) is None:
        raise RefError(
            f"not a tag: {tag[:140]!r}",
            hint="at most 128 letters, digits, '.', '_' and '-', the first not '.' or '-'",
        )
    return tag


class TagStore:
    """The tags of all repositories of one device.

    A tag is there as a whole or not at all, whatever happens while it is written. Methods
    may be called from several threads. On a file system that folds case, tags that differ
    in case alone are one tag.

    Args:
        root: Folder of the tags; made when the first one is set.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> tuple[str, ...]:
        """Names of the repositories that have tags, sorted."""
        return tuple(
            sorted(
                folder.name.replace("+", "/")
                for folder in _entries(self.root)
                if folder.is_dir() and any(_entries(folder))
            )
        )

    def tags(self, name: str) -> dict[str, str]:
        """Tag → manifest digest, sorted by tag; empty for an unknown repository.

        Raises:
            RefError: ``name`` cannot name a repository.
        """
        found = {}
        for file in sorted(_entries(self._folder(name))):
            digest = _read(file)
            if digest is not None:
                found[file.name] = digest
        return found

    def get(self, name: str, tag: str) -> str | None:
        """The digest of the manifest a tag is on, or None.

        Raises:
            RefError: ``name`` or ``tag`` is malformed.
        """
        return _read(self._folder(name) / check_tag(tag))

    def age(self, name: str, tag: str, *, now: float) -> float:
        """Seconds from when the tag was last set until ``now``; infinite without a tag."""
        try:
            return now - (self._folder(name) / check_tag(tag)).stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def set(self, name: str, tag: str, digest: str) -> None:
        """Put a tag on a manifest, new or moved; on disk when this returns.

        Raises:
            RefError: ``name`` or ``tag`` is malformed.
            ManifestError: ``digest`` is.
            StorageUnavailableError: The disk does not take it.
        """
        check_digest(digest, f"tag {tag!r}")
        target = self._folder(name) / check_tag(tag)
        try:
            write_atomically(target, digest.encode())
        except OSError as exc:
            raise StorageUnavailableError(f"cannot set tag {name}:{tag}: {exc.strerror}") from exc

    def delete(self, name: str, tag: str) -> bool:
        """Take a tag away, for good when this returns; whether it was there.

        Raises:
            RefError: ``name`` or ``tag`` is malformed.
            StorageUnavailableError: The disk does not let it go.
        """
        file = self._folder(name) / check_tag(tag)
        try:
            file.unlink()
            sync_folder(file.parent)
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise StorageUnavailableError(
                f"cannot delete tag {name}:{tag}: {exc.strerror}"
            ) from exc
        return True

    def all(self) -> Iterator[tuple[str, str, str]]:
        """Repository, tag and digest of every tag."""
        for name in self.names():
            for tag, digest in self.tags(name).items():
                yield name, tag, digest

    def _folder(self, name: str) -> Path:
        # "team/fruit" must not be a folder inside "team", where it could be a tag.
        return self.root / check_name(name).replace("/", "+")


def _entries(folder: Path) -> list[Path]:
    # Files that are being written begin with a dot; no repository or tag does.
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise StorageError(f"cannot read tag file {file}: {exc}") from exc
    if not is_digest(text):
        raise StorageError(f"tag file {file}: expected a digest, found {text[:80]!r}")
    return text
