"""Triton's ``config.pbtxt`` of a version, written from its manifest; no I/O.

Batches are left to the model: ``max_batch_size`` is 0 and every dimension is written, a
variable one as -1. A signature does not say whether rows are independent of each other, and
a batch size would make Triton merge requests and refuse larger ones.

Source: Triton's ``model_config.proto`` and "Model Configuration"; the text format language
specification of protocol buffers for literals.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from nbmodel.backends.triton_config import PYTHON
from nbmodel.core.manifest import Manifest
from nbmodel.core.signature import Tensor
from nbmodel.errors import NbModelError
from nbmodel.formats import model_file
from nbmodel.runtime.triton_names import data_type, engine_of_format

_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def config_pbtxt(
    name: str, manifest: Manifest, *, number: int, label_files: Mapping[str, str]
) -> str:
    """The configuration of a model of which Triton serves one version.

    Args:
        name: Of its folder in the repository.
        manifest: Of the version.
        number: Which of the version folders is served, ≥ 1.
        label_files: Output → name of the file beside the configuration with its labels.
    """
    engine = engine_of_format(manifest.framework)
    fields = {
        "name": name,
        "platform": engine.platform,
        "backend": engine.backend,
        "default_model_filename": _file(manifest, engine.file),
    }
    lines = [f"{field}: {_text(value)}" for field, value in fields.items() if value]
    lines.append("max_batch_size: 0")
    lines.append(f"version_policy {{ specific {{ versions: [ {number} ] }} }}")
    for tensor in manifest.signature.inputs:
        lines += _tensor("input", tensor, "")
    for tensor in manifest.signature.outputs:
        lines += _tensor("output", tensor, label_files.get(tensor.name, ""))
    return "\n".join(lines) + "\n"


def _file(manifest: Manifest, usual: str) -> str:
    try:
        path = model_file(manifest)
    except NbModelError:
        return usual  # of a format that is not installed here: its own default
    if manifest.framework == PYTHON.format:  # whose model is a folder, and Triton's its program
        return (PurePosixPath(path) / PYTHON.file).as_posix()
    return path


def _tensor(side: str, tensor: Tensor, label_file: str) -> list[str]:
    lines = [
        f"{side} {{",
        f"  name: {_text(tensor.name)}",
        f"  data_type: {data_type(tensor.datatype)}",
        f"  dims: [ {', '.join(map(str, _dims(tensor)))} ]",
    ]
    if label_file:
        lines.append(f"  label_filename: {_text(label_file)}")
    return [*lines, "}"]


def _dims(tensor: Tensor) -> tuple[int, ...]:
    """All dimensions, as Triton takes them: there is at least one, and none is 0."""
    if tensor.shape is None:
        return (-1,)
    return tuple(dim or -1 for dim in tensor.shape) or (1,)


def _text(value: str) -> str:
    """A string literal."""
    return '"' + "".join(_ESCAPED.get(char) or _character(char) for char in value) + '"'


def _character(char: str) -> str:
    return f"\\{ord(char):03o}" if ord(char) < 0x20 or ord(char) == 0x7F else char
