"""The table of formats, and telling which of them a file is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from nbmodel.core.manifest import Manifest
from nbmodel.errors import FormatError, UnknownFormatError
from nbmodel.formats.base import HEAD, Format, ModelFacts, open_source, starts_with
from nbmodel.plugins import PluginTable

FORMATS = PluginTable(
    kind="format",
    builtin={
        "onnx": "nbmodel.formats.onnx:Onnx",
        "tflite": "nbmodel.formats.tflite:Tflite",
    },
    extras={},
)


def read_model(path: Path) -> ModelFacts:
    """What a model file says about itself, whatever its format.

    Raises:
        InputError: There is no such file, or it may not be read.
        UnknownFormatError: Neither its content nor its name is that of a known format.
        FormatError: It is damaged, or its name promises another format.
    """
    return _format_of(path).read(path)


def format_of(path: Path) -> str:
    """The name of a file's format, from how it starts, else from its suffix.

    Raises:
        InputError, UnknownFormatError, FormatError: As ``read_model``, except that only
            the start of the file is looked at.
    """
    return _format_of(path).name


def model_file(manifest: Manifest) -> str:
    """The path, in a version, of the file that is the model.

    Of several with the framework's suffix it is the one nearest to the root, and the
    first of these by name.

    Raises:
        PluginError: No format has the framework's name.
        FormatError: No file has a suffix of the framework.
    """
    suffixes = _load(manifest.framework).suffixes
    fitting = [entry.path for entry in manifest.files if entry.path.lower().endswith(suffixes)]
    if not fitting:
        raise FormatError(
            f"a version of {manifest.name!r} has no {' or '.join(suffixes)} file, "
            f"though it is a {manifest.framework} model"
        )
    return min(fitting, key=lambda path: (path.count("/"), path))


def _format_of(path: Path) -> Format:
    with open_source(path) as source:
        head = source.read(0, min(source.size, HEAD))
        found = starts_with(source)
    # Looking for entry points reads the metadata of every installed package, so formats of
    # other packages are asked only about files that none of our own knows.
    formats = [_load(name) for name in FORMATS.builtin]
    by_content = _by_content(formats, head)
    if by_content is None:
        formats = [_load(name) for name in FORMATS.names()]
        by_content = _by_content(formats, head)
    suffix = path.suffix.lower()
    by_suffix = next((format_ for format_ in formats if suffix in format_.suffixes), None)
    chosen = by_content or by_suffix
    if chosen is None:
        known = ", ".join(suffix for format_ in formats for suffix in format_.suffixes)
        raise UnknownFormatError(
            f"{path}: not a known model format, it {found}", hint=f"known formats: {known}"
        )
    if by_suffix is not None and by_suffix.name != chosen.name:
        raise FormatError(
            f"{path}: named like {by_suffix.name}, but its content is {chosen.name}",
            hint=f"rename it to {path.with_suffix(chosen.suffixes[0]).name}",
        )
    return chosen


def _load(name: str) -> Format:
    return cast("Format", FORMATS.load(name)())


def _by_content(formats: Iterable[Format], head: bytes) -> Format | None:
    return next((format_ for format_ in formats if format_.sniff(head)), None)
