"""What an importer is: it takes an address, brings files, and says what is known of them.

Two kinds of places there are. A *transport* (a web server, Git, an object store, a hub)
brings files that may be anything; a *layout* (a Viam package, an ``hs`` folder, an MLflow
model) is a way in which files on this machine lie, with facts about them. What a transport
brings is looked at by every layout, so a Viam package behind an address is still one.

All of it is hostile: importers run nothing that they bring.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from nbmodel.core.golden import Golden
from nbmodel.core.manifest import check_path
from nbmodel.core.origin import Origin, without_credentials
from nbmodel.core.reference import MAX_NAME
from nbmodel.core.signature import Signature
from nbmodel.errors import DigestMismatchError, InputError, ManifestError
from nbmodel.source import MAX_FILES
from nbmodel.storage.base import translated
from nbmodel.storage.copying import pump

if TYPE_CHECKING:
    from nbmodel.source import LabelsGiven

MAX_BYTES = 20 * 10**9  # of one import, when nobody says otherwise
_FAMILIAR = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an import may bring.

    Attributes:
        size: Bytes that come, and again bytes that come out of archives.
        files: How many; folders that a tape or a server lists count too.
    """

    size: int = MAX_BYTES
    files: int = MAX_FILES


@dataclass(frozen=True)
class Import:
    """One import under way: where it writes, whom it tells, and when it ends.

    Attributes:
        folder: Empty at first, removed at the end.
        parts: Where what was broken off is kept for the next time.
        limits: How much it may bring.
        sha256: 64 hex digits that the digest of its origin must have; None: any.
        revision: Which one, where the address does not say; empty: the newest.
        paths: What of it: files, folders or patterns; nothing: all.
        progress: Told of bytes that came; of less than nothing when they have to come again.
        expect: Told how many bytes will come, where somebody knows.
        note: Told what goes on.
        cancelled: Whether nobody wants to go on.
    """

    folder: Path
    parts: Path
    limits: Limits = Limits()
    sha256: str | None = None
    revision: str = ""
    paths: tuple[str, ...] = ()
    progress: Callable[[int], None] = lambda _: None
    expect: Callable[[int], None] = lambda _: None
    note: Callable[[str], None] = lambda _: None
    cancelled: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raise when nobody wants to go on.

        Raises:
            CancelledError: ``cancelled`` says so.
        """
        if self.cancelled():
            raise CancelledError

    def room(self, what: str = "files") -> Path:
        """A folder of its own in ``folder``, empty."""
        with translated("make a folder for what is imported"):
            return Path(tempfile.mkdtemp(prefix=f"{what}-", dir=self.folder))

    def check_size(self, size: int, what: str) -> None:
        """Raise when something is larger than an import may be.

        Raises:
            InputError: It is; the hint says how to allow more.
        """
        if size > self.limits.size:
            raise InputError(
                f"{what} has {size:,} bytes, expected at most {self.limits.size:,}",
                hint="--max-size allows more",
            )

    def check_count(self, count: int, what: str) -> None:
        """Raise when something is more files than an import may be.

        Raises:
            InputError: It is.
        """
        if count > self.limits.files:
            raise InputError(
                f"{what} has more than {self.limits.files:,} files", hint="--path chooses some"
            )

    def gather(self, files: Mapping[str, Path]) -> Path:
        """A folder with some files under other paths: the files themselves where that can be.

        Args:
            files: Path there → file on this machine.

        Raises:
            InputError: A path leads out of the folder, or there are too many, or too much.
        """
        self.check_count(len(files), "the model")
        room = self.room()
        total = 0
        for path, file in files.items():
            self.check()
            target = room / safe_path(path)
            with translated(f"take {path} along"):
                real = file.resolve()
                total += real.stat().st_size
                self.check_size(total, "the model")
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(real, target)
                except OSError:  # another file system, or one without hard links
                    shutil.copyfile(real, target)
        return room


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came, and what its source says of it.

    Attributes:
        path: The file or folder.
        origin: Where it came from.
        name: What the model is called there; may be empty.
        labels: Class names, as a person may give them; None: what the files tell.
        signature: What the source says of the tensors; None: nothing.
        model_type: What it is for, in our words; None: not told.
        description: Free text.
        metadata: JSON values by name.
        metrics: Finite numbers by name.
        tags: Words by key.
        columns: Names of what its only input has along the last axis.
        golden: The acceptance test; its arrays are one of the files.
        notes: Sentences that whoever imports it must see.
    """

    path: Path
    origin: Origin
    name: str = ""
    labels: LabelsGiven = None
    signature: Signature | None = None
    model_type: str | None = None
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    golden: Golden | None = None
    notes: tuple[str, ...] = ()

    def over(self, below: Fetched) -> Fetched:
        """The same with what another one says where this one says nothing."""
        return replace(
            self,
            name=self.name or below.name,
            labels=below.labels if self.labels is None else self.labels,
            signature=self.signature or below.signature,
            model_type=self.model_type or below.model_type,
            description=self.description or below.description,
            metadata={**below.metadata, **self.metadata},
            metrics={**below.metrics, **self.metrics},
            tags={**below.tags, **self.tags},
            columns=self.columns or below.columns,
            golden=self.golden or below.golden,
            notes=(*below.notes, *self.notes),
        )


class Importer(ABC):
    """One kind of place that models are kept in.

    Attributes:
        name: Key in the table of importers; the ``kind`` of its origins.
        form: How its addresses look, for help: ``https://HOST/FILE``.
    """

    name: ClassVar[str]
    form: ClassVar[str]

    @abstractmethod
    def takes(self, uri: str) -> bool:
        """Whether an address is of this kind; nothing is fetched to tell."""

    @abstractmethod
    def fetch(self, uri: str, job: Import) -> Fetched:
        """Bring what an address means.

        Raises:
            InputError: There is no such thing, or it is too large.
            FormatError: It is damaged, or not what it says.
            DigestMismatchError: It is not what ``job.sha256`` promised.
            TargetUnreachableError, AuthenticationError: Who has it is away, or refuses.
            StorageUnavailableError: There is no room for it here.
            CancelledError: Nobody wants to go on.
        """


class Layout(Importer):
    """A way in which the files of a model lie, on this machine or after a transport."""

    @final
    def takes(self, uri: str) -> bool:
        """Whether the address is a path, and what is there lies in this way."""
        path = local_path(uri)
        try:
            return path is not None and path.exists() and self.recognises(path)
        except OSError:
            return False

    @final
    def fetch(self, uri: str, job: Import) -> Fetched:
        """Read what a path leads to.

        Raises:
            InputError, FormatError: As ``read``; or nothing is at the path.
        """
        path = local_path(uri)
        if path is None or not path.exists():
            raise InputError(f"no such file or folder: {uri[:200]!r}")
        digest = file_digest(path, job) if path.is_file() else ""
        if digest and job.sha256 is not None and digest != f"sha256:{job.sha256}":
            # Before anything in it is unpacked or read.
            raise DigestMismatchError(path.name, expected=f"sha256:{job.sha256}", actual=digest)
        fetched = self.read(path, job)
        origin = replace(fetched.origin, uri=str(path.absolute()), digest=digest)
        return replace(fetched, origin=origin)

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether a file or folder lies in this way, from names and a few bytes."""

    @abstractmethod
    def read(self, path: Path, job: Import) -> Fetched:
        """What lies there. Of its origin, only ``kind`` and ``revision`` count.

        Raises:
            InputError, FormatError: It cannot be used.
        """

    def here(self, revision: str = "") -> Origin:
        """An origin that says the kind, for ``read``."""
        return Origin(self.name, "", revision)


def local_path(uri: str) -> Path | None:
    """The path that an address is, or None when it has a scheme."""
    if uri.startswith("file://"):
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(uri)
        return Path(unquote(parts.path)) if parts.netloc in ("", "localhost") else None
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(?!\\)", uri):
        return None
    try:
        return Path(uri).expanduser()
    except (RuntimeError, ValueError):
        return None


def safe_path(path: str) -> str:
    """A path inside a folder, unchanged.

    Raises:
        InputError: It leads out of the folder, or has characters that no path may have.
    """
    try:
        return check_path(path)
    except ManifestError as exc:
        raise InputError(
            f"unsafe path in what is imported: {path[:80]!r}",
            hint="paths are relative, with '/', without '..', ':' and '\\'",
        ) from exc


def file_digest(path: Path, job: Import) -> str:
    """The sha256 digest of a file."""

    def watched(_: memoryview) -> None:
        job.check()

    with translated(f"read {path}"), path.open("rb", buffering=0) as file:
        return f"sha256:{pump(file, watched).hexdigest()}"


def tree_digest(files: Mapping[str, str]) -> str:
    """One digest of paths and the digests of their files, as a version's content has it."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def name_from(text: str) -> str:
    """A model name made of whatever something is called elsewhere; may be empty.

    >>> name_from("MobileNet V2 (1.0).tflite")
    'mobilenet-v2-1.0'
    """
    name = text.rpartition("/")[2].lower()
    for suffix in _FAMILIAR:
        name = name.removesuffix(suffix)
    name = re.sub(r"\.(onnx|tflite|pt|pt2|pth|plan|engine|xml|pb|pkl|joblib)$", "", name)
    name = re.sub(r"[^a-z0-9._-]+", "-", name)
    return re.sub(r"[._-]*([._-])[._-]*", r"\1", name).strip("._-")[:MAX_NAME].strip("._-")


def shown(uri: str) -> str:
    """An address for a message: without credentials, and not too long."""
    clean = without_credentials(uri)
    return clean if len(clean) <= 200 else f"{clean[:197]}…"


def kept_tags(tags: Mapping[str, object], prefix: str) -> tuple[dict[str, str], dict[str, str]]:
    """Words of another system, as tags where their keys and values can be, and the rest.

    Args:
        tags: As they are there.
        prefix: What goes before each key, as ``mlflow.``.
    """
    fitting: dict[str, str] = {}
    rest: dict[str, str] = {}
    for key, value in tags.items():
        text = str(value)
        fits = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", key) and len(prefix + key) <= 128
        if fits and len(text) <= 1024:
            fitting[f"{prefix}{key}"] = text
        else:
            rest[str(key)[:200]] = text[:4096]
    return fitting, rest


def picked(files: Sequence[str], patterns: Sequence[str], what: str) -> tuple[str, ...]:
    """The paths among many that somebody wants.

    Args:
        files: POSIX paths.
        patterns: Each a path, a folder, or with ``*`` a pattern; none: all.
        what: What the files are of, for the message.

    Raises:
        InputError: A pattern finds nothing.
    """
    from difflib import get_close_matches
    from fnmatch import fnmatchcase

    if not patterns:
        return tuple(files)
    chosen: dict[str, None] = {}
    for pattern in patterns:
        plain = pattern.strip("/")
        found = [
            path
            for path in files
            if path == plain or path.startswith(f"{plain}/") or fnmatchcase(path, plain)
        ]
        if not found:
            near = get_close_matches(plain, files, n=1)
            raise InputError(
                f"{what} has no {pattern[:80]!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(files[:8])}",
            )
        chosen.update(dict.fromkeys(found))
    return tuple(chosen)
