"""The table of formats, and telling which of them a file is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import cast

from nbmodel.core.manifest import Manifest
from nbmodel.errors import FormatError, UnknownFormatError
from nbmodel.formats.archive import MAX_DIRECTORY, open_archive
from nbmodel.formats.base import (
    HEAD,
    ZIP,
    Format,
    ModelFacts,
    impostor_hint,
    marked,
    open_source,
    starts_with,
)
from nbmodel.formats.bytesource import ByteSource
from nbmodel.plugins import PluginTable

FORMATS = PluginTable(
    kind="format",
    builtin={
        "onnx": "nbmodel.formats.onnx:Onnx",
        "tflite": "nbmodel.formats.tflite:Tflite",
        "savedmodel": "nbmodel.formats.savedmodel:SavedModel",
        "torchscript": "nbmodel.formats.torchscript:TorchScript",
        "torch_export": "nbmodel.formats.torch_export:TorchExport",
        "tensorrt": "nbmodel.formats.tensorrt:TensorRt",
        "openvino": "nbmodel.formats.openvino:OpenVino",
        "python": "nbmodel.formats.python_model:PythonModel",
    },
    extras={},
)

_KERAS = "model.weights.h5"  # what only Keras's archives have


def read_model(path: Path) -> ModelFacts:
    """What a model file, or a folder that is a model, says about itself.

    Raises:
        InputError: There is no such file, or it may not be read.
        UnknownFormatError: Neither its content nor its name is that of a known format.
        FormatError: It is damaged, its name promises another format, or it is a folder of
            no format.
    """
    return _format_of(path).read(path)


def folder_format(name: str) -> str | None:
    """The format of the folder that a file of this name makes a model; None for most names."""
    return _markers().get(name)


@cache
def _markers() -> dict[str, str]:
    """The names of files that make a folder a model, with the format that it is then of."""
    return {marker: name for name in FORMATS.builtin if (marker := _load(name).marker)}


def format_of(path: Path) -> str:
    """The name of a file's format, from how it starts, else from its suffix.

    Raises:
        InputError, UnknownFormatError, FormatError: As ``read_model``, except that only
            the start of the file is looked at.
    """
    return _format_of(path).name


def model_file(manifest: Manifest) -> str:
    """The path, in a version, of the file or folder that is the model.

    Of several with the framework's suffix it is the one nearest to the root, and the
    first of these by name. A model that is a folder is where the file is that makes it one:
    ``.`` for the version's root.

    Raises:
        PluginError: No format has the framework's name.
        FormatError: No file has a suffix of the framework.
    """
    format_ = _load(manifest.framework)
    paths = [PurePosixPath(entry.path) for entry in manifest.files]
    if format_.marker:
        marked = [path for path in paths if path.name == format_.marker]
        if marked:
            return min(marked, key=_nearness).parent.as_posix()
    fitting = [path for path in paths if path.name.lower().endswith(format_.suffixes)]
    if not fitting:
        raise FormatError(
            f"a version of {manifest.name!r} has no {' or '.join(format_.suffixes)} file, "
            f"though it is a {manifest.framework} model"
        )
    return min(fitting, key=_nearness).as_posix()


def _nearness(path: PurePosixPath) -> tuple[int, str]:
    return len(path.parts), path.as_posix()


def _format_of(path: Path) -> Format:
    for marker, name in _markers().items():
        if marked(path, marker):
            return _load(name)
    with open_source(path) as source:
        head = source.read(0, min(source.size, HEAD))
        found, hint = starts_with(source), impostor_hint(source)
        names = _archived(source) if head.startswith(ZIP) else frozenset()
    # Looking for entry points reads the metadata of every installed package, so formats of
    # other packages are asked only about files that none of our own knows.
    formats = [_load(name) for name in FORMATS.builtin]
    by_content = _by_content(formats, head, names)
    if by_content is None:
        formats = [_load(name) for name in FORMATS.names()]
        by_content = _by_content(formats, head, names)
    suffix = path.suffix.lower()
    by_suffix = next((format_ for format_ in formats if suffix in format_.suffixes), None)
    chosen = by_content or by_suffix
    if chosen is None:
        known = ", ".join(suffix for format_ in formats for suffix in format_.suffixes)
        if _KERAS in names:
            found, hint = "is a Keras model", "model.export(folder) makes a SavedModel of it"
        raise UnknownFormatError(
            f"{path}: not a known model format, it {found}",
            hint=f"{hint}; known formats: {known}" if hint else f"known formats: {known}",
        )
    if by_suffix is not None and by_suffix.name != chosen.name:
        raise FormatError(
            f"{path}: named like {by_suffix.name}, but its content is {chosen.name}",
            hint=f"rename it to {path.with_suffix(chosen.suffixes[0]).name}",
        )
    return chosen


def _load(name: str) -> Format:
    return cast("Format", FORMATS.load(name)())


def _archived(source: ByteSource) -> frozenset[str]:
    """The files of the archive that a file is; none when that cannot be told."""
    with suppress(FormatError):  # which says more when a format reads it
        archive = open_archive(source, "the archive", max_directory=MAX_DIRECTORY)
        if archive is not None:
            return archive.names
    return frozenset()


def _by_content(formats: Iterable[Format], head: bytes, names: frozenset[str]) -> Format | None:
    return next(
        (one for one in formats if one.sniff(head) or (names and one.sniff_archive(names))), None
    )
