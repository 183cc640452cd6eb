"""What a format is: a way to tell a file, and to read what it says about its tensors."""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, final

from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError, InputError, TensorNameError
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.sidecar import CONFIG, signature_beside

HEAD = 4096  # bytes from the start of a file that are enough to tell its format
ZIP = b"PK\x03\x04"  # how a ZIP archive starts
#: What is often saved under a model's name by mistake: how it starts, what it is, what to do.
_IMPOSTORS = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
    (b"<!DOCTYPE", "a web page", "download the file itself, not the page about it"),
    (b"<html", "a web page", "download the file itself, not the page about it"),
    (ZIP, "a ZIP archive", "unpack it, or give the model file that is in it"),
    (b"\x1f\x8b", "gzip-compressed", "unpack it first: gunzip"),
    (b"\x89HDF", "an HDF5 file", "of a Keras model, model.export(folder) makes a SavedModel"),
    *(
        (bytes([0x80, protocol]), "a Python pickle", "log the object itself, or export it")
        for protocol in (2, 3, 4, 5)
    ),
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model file says about itself.

    Attributes:
        framework: The format's name.
        signature: Inputs and outputs as the engine names them.
        model_type: What it is for, or None when the file does not tell.
        description: For people; may be empty.
        metadata: JSON values by name: producer, versions, what the format has besides.
        external: Further files that the model needs, as POSIX paths relative to its
            folder; none of them leads out of it. They need not exist.
        gap: What the file does not tell of its tensors, as a sentence; empty when the
            signature is whole. What a person says then stands in its place.
        labels: Class names that the file tells though it does not tell its outputs.
    """

    framework: str
    signature: Signature
    model_type: str | None = None
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    gap: str = ""
    labels: tuple[str, ...] = ()


class Format(ABC):
    """One kind of model file.

    Readers work on untrusted files: they run nothing from the file, load no engine and
    no weights, and their time and memory do not depend on the size of the weights.

    Attributes:
        name: Key in the table of formats, and the framework of a version.
        suffixes: Of its files, in lower case.
        marker: Of a format whose models are folders, the name of the file that makes a
            folder one and is read; empty for formats of files.
        is_archive: Whether its files are ZIP archives, told by ``sniff_archive``.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    marker: ClassVar[str] = ""
    is_archive: ClassVar[bool] = False

    @abstractmethod
    def sniff(self, head: bytes) -> bool:
        """Whether a file that starts like this surely is of this format.

        Args:
            head: The first ``HEAD`` bytes, or all that the file has.
        """

    def sniff_archive(self, names: Collection[str]) -> bool:  # noqa: ARG002 - most are no archives
        """Whether a ZIP archive of these files surely is of this format.

        Args:
            names: Of its files, without the folder that all of them are in.
        """
        return False

    @final
    def read(self, path: Path) -> ModelFacts:
        """What the file says, or the file in a folder that makes it a model.

        What a file does not tell of its tensors is taken from a Triton ``config.pbtxt``
        beside it, where there is one.

        Raises:
            InputError: There is no such file, or it may not be read.
            FormatError: It is not what the format says; names the file, the place in it
                and what was expected there.
        """
        path = marked(path, self.marker) or path
        with open_source(path) as source:
            try:
                return _completed(self._read(source), path)
            except FormatError as exc:
                raise FormatError(
                    f"{path}: {exc}", hint=exc.hint or _own_hint(self, source)
                ) from exc
            except Exception as exc:
                # A reader that trips over a file has met one it did not foresee. That is
                # still the file's fault to the one who uploads it.
                raise FormatError(f"{path}: cannot be read as {self.name}: {exc!r}") from exc

    @abstractmethod
    def _read(self, source: ByteSource) -> ModelFacts:
        """What the file says; a ``FormatError`` of it need not name the file."""


@contextmanager
def open_source(path: Path) -> Iterator[ByteSource]:
    """The bytes of a model file.

    Raises:
        InputError: There is no such file, or it may not be read.
        FormatError: It is a folder, a device or empty.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # before opening: a pipe would wait for ever
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise FormatError(f"{path} is {kind}, expected a model file")
        if status.st_size == 0:
            raise FormatError(f"{path} is empty, expected a model file")
        file = path.open("rb", buffering=0)
    except (OSError, ValueError) as exc:  # ValueError: NUL in the path
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise InputError(f"cannot read {str(path)[:200]!r}: {reason}") from exc
    with file:
        yield ByteSource(file, status.st_size, path)


def starts_with(source: ByteSource) -> str:
    """How a file starts, for messages: ``starts with b'hello world'``."""
    impostor = _impostor(source)
    head = source.read(0, min(source.size, 16))
    return f"starts with {head!r}" + (f": {impostor[0]}" if impostor else "")


def marked(path: Path, marker: str) -> Path | None:
    """The file of a name in a folder; None when it is no folder, or has none."""
    try:
        return path / marker if marker and path.is_dir() and (path / marker).is_file() else None
    except OSError:  # a name that is too long, a folder that may not be looked into
        return None


def fill_gap(facts: ModelFacts, signature: Signature) -> ModelFacts:
    """The facts with what somebody says of the tensors where the file does not.

    Args:
        facts: With a gap.
        signature: What is said; a side without tensors is taken from the file.

    Raises:
        TensorNameError: The file tells how many tensors there are, and it is another number.
    """
    read = facts.signature
    filled = Signature(
        _filled("input", read.inputs, signature.inputs),
        _filled("output", read.outputs, signature.outputs),
    )
    if facts.labels and not filled.labels:
        filled = filled.with_labels(facts.labels)
    is_whole = bool(filled.inputs and filled.outputs) and all(
        tensor.datatype != "UNKNOWN" for tensor in filled.inputs + filled.outputs
    )
    return replace(
        facts,
        signature=filled,
        model_type=facts.model_type or model_type_of(filled),
        gap="" if is_whole else facts.gap,
    )


def _filled(side: str, read: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # What is no single tensor, such as a list of them, may be any number.
    is_counted = bool(read) and all(tensor.datatype == "UNKNOWN" for tensor in read)
    if given and is_counted and len(given) != len(read):
        raise TensorNameError(
            f"expected {len(read)} {side}s as the model has, "
            f"{', '.join(tensor.name for tensor in read)}; "
            f"found {', '.join(tensor.name for tensor in given)}"
        )
    return given or read


def _completed(facts: ModelFacts, path: Path) -> ModelFacts:
    """The facts with a signature from beside the file, where it is needed and there is one."""
    signature = signature_beside(path) if facts.gap else None
    try:
        return facts if signature is None else fill_gap(facts, signature)
    except TensorNameError as exc:
        raise FormatError(f"{CONFIG} beside it: {exc}") from exc


def _own_hint(format_: Format, source: ByteSource) -> str | None:
    if format_.is_archive and source.read(0, min(source.size, 4)) == ZIP:
        return None  # a damaged one, but no impostor
    return impostor_hint(source)


def impostor_hint(source: ByteSource) -> str | None:
    """What to do with a file that is often saved under a model's name; None for others."""
    impostor = _impostor(source)
    return impostor[1] if impostor else None


def _impostor(source: ByteSource) -> tuple[str, str | None] | None:
    head = source.read(0, min(source.size, 32))
    return next(((what, hint) for start, what, hint in _IMPOSTORS if head.startswith(start)), None)


def distinct_names(names: Sequence[str], side: str) -> tuple[str, ...]:
    """Names that can be keys, for tensors that an engine tells apart by position alone.

    An empty name becomes ``input_0``, ``output_1`` …; the second of two equal names gets
    ``:1`` behind it, the third ``:2``.

    Args:
        names: As the model has them, in its order.
        side: ``input`` or ``output``.
    """
    named = [name or f"{side}_{position}" for position, name in enumerate(names)]
    reserved = set(named)
    seen: Counter[str] = Counter()
    distinct = []
    for name in named:
        unique = name
        while seen[name] and (unique == name or unique in reserved):
            unique = f"{name}:{seen[name]}"
            seen[name] += 1
        seen[name] = seen[name] or 1
        reserved.add(unique)
        distinct.append(unique)
    return tuple(distinct)
