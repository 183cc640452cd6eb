"""The packages of a device as a Triton model repository, without a copy of any file.

::

    <root>/<package>/config.pbtxt           which version is served, and its tensors
    <root>/<package>/labels-<number>….txt   names of classes
    <root>/<package>/<number>               leads to the folder of a version's files

``tritonserver --model-repository=<root>`` reads it, while it runs too: what a configuration
names is there before the configuration is.

Source: Triton's "Model Repository"; Viam's triton module for links to folders.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from nbmodel.core.manifest import Manifest
from nbmodel.runtime.folders import entries, link_folder, remove
from nbmodel.runtime.pbtxt import config_pbtxt
from nbmodel.storage.atomic import write_atomically

CONFIG = "config.pbtxt"


class TritonFolder:
    """The model repository of one device.

    Args:
        root: Its folder; made when the first package is in it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def serve(self, name: str, number: int, folder: Path, manifest: Manifest) -> None:
        """Make a version the one that Triton serves for a package.

        Nothing is written where it is so already. Links to other versions stay.

        Args:
            name: Of the package on this device.
            number: Of the version, ≥ 1.
            folder: Where the version's files are.
            manifest: What it is.

        Raises:
            OSError: The disk does not take it; what was served before still is, unless the
                new version has the same number.
        """
        model = self._root / name
        link_folder(model / str(number), folder)
        label_files = {}
        for index, tensor in enumerate(manifest.signature.outputs):
            if tensor.labels:
                file = f"labels-{number}-{index}.txt"
                label_files[tensor.name] = file
                # One a line, whatever is in it: Triton counts lines.
                lines = (" ".join(label.split()) for label in tensor.labels)
                _write(model / file, "\n".join(lines) + "\n")
        text = config_pbtxt(name, manifest, number=number, label_files=label_files)
        _write(model / CONFIG, text)

    def sweep(self, names: Collection[str]) -> int:
        """Remove what belongs to no package and what leads nowhere; how many things went.

        Args:
            names: Of the packages that stay.

        Raises:
            OSError: The disk does not let it go.
        """
        removed = 0
        for model in entries(self._root):
            if model.name not in names or model.is_symlink() or not model.is_dir():
                remove(model)
                removed += 1
            else:
                removed += _sweep(model)
        return removed


def _sweep(model: Path) -> int:
    config = _read(model / CONFIG)
    gone = [entry for entry in entries(model) if not _belongs(entry, config)]
    for entry in gone:
        remove(entry)
    if any(entry.is_symlink() for entry in entries(model)):
        return len(gone)
    remove(model)  # without a version it is no model
    return len(gone) + 1


def _belongs(entry: Path, config: str) -> bool:
    if entry.is_symlink():
        return entry.name.isascii() and entry.name.isdecimal() and entry.is_dir()
    return entry.is_file() and (entry.name == CONFIG or f'"{entry.name}"' in config)


def _write(file: Path, text: str) -> None:
    if _read(file) != text:
        write_atomically(file, text.encode())


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
