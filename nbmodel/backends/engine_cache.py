"""Where TensorRT's engines lie that were built for models of this device.

An engine runs on the GPU, the TensorRT and the ONNX Runtime that it was built with, and on no
other. ONNX Runtime names engines by the graph alone, not by its weights, so two models of one
graph must never share a folder.

::

    engines/sm_87-orin-trt10.3.0-ort1.23.2/             of one device, with its timing cache
    engines/sm_87-orin-trt10.3.0-ort1.23.2/5f1e…-09ab/  of one model, with one set of options

A folder counts when it is sealed: a process that is killed while it writes leaves an engine that
TensorRT refuses, or crashes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nbmodel.backends.cuda import Gpu

SEAL = "sealed.json"
MAX_FOLDERS = 16  # of models; those that were not used for longest go
_CHUNK = 1024 * 1024  # bytes
_OTHERS = re.compile(r"[^a-z0-9.]+")
#: Options that say how an engine is kept, or how much memory it gets: none changes what it is.
_IDLE = re.compile(r"trt_(engine_cache|timing_cache|force_timing_cache|max_workspace)|device_id")


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine belongs to.

    Attributes:
        architecture: Of the GPU: ``sm_87``.
        gpu: Its name: engines are tuned to the number of its processors.
        tensorrt: Version of TensorRT.
        onnxruntime: Version of ONNX Runtime.
        model: Digest of the model's files, 64 hex digits.
        options: Digest of the options that it is built with, hex digits.
    """

    architecture: str
    gpu: str
    tensorrt: str
    onnxruntime: str
    model: str
    options: str

    @property
    def device(self) -> str:
        """The name of the folder of all that was built on such a device."""
        parts = (
            self.architecture,
            _slug(self.gpu),
            f"trt{self.tensorrt}",
            f"ort{self.onnxruntime}",
        )
        return "-".join(parts)

    def folder(self, root: Path) -> Path:
        """Where its engines lie, under the folder of all engines."""
        return root / self.device / f"{self.model[:24]}-{self.options[:12]}"


def engine_key(
    gpu: Gpu, *, tensorrt: str, onnxruntime: str, model: str, options: Mapping[str, str]
) -> EngineKey:
    """The key of the engines of a model.

    Args:
        gpu: What it runs on.
        tensorrt: Version of TensorRT.
        onnxruntime: Version of ONNX Runtime.
        model: Digest of the model's files.
        options: Of the TensorRT provider.
    """
    chosen = {name: value for name, value in options.items() if _IDLE.match(name) is None}
    text = json.dumps(chosen, sort_keys=True).encode()
    return EngineKey(
        gpu.architecture, gpu.name, tensorrt, onnxruntime, model, hashlib.sha256(text).hexdigest()
    )


def cache_options(folder: Path) -> dict[str, str]:
    """Options with which the TensorRT provider keeps its engines in a folder."""
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder.parent),
    }


def files_digest(files: Iterable[tuple[str, Path]]) -> str:
    """One digest of all files of a model, 64 hex digits.

    Args:
        files: Names as the model knows them, and where they are.

    Raises:
        OSError: One cannot be read.
    """
    total = hashlib.sha256()
    for name, path in files:
        content = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                content.update(chunk)
        total.update(f"{len(name)}:{name}:{content.hexdigest()}\n".encode())
    return total.hexdigest()


def prepare(root: Path, key: EngineKey) -> Path:
    """The folder of a model's engines: made when it is missing, emptied when it is not whole.

    Raises:
        OSError: The disk does not take it, or does not let go of what is in it.
    """
    folder = key.folder(root)
    if folder.is_dir() and not is_whole(folder):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    folder.touch()  # it is the one used last
    return folder


def seal(folder: Path) -> None:
    """Say that all engines of a folder are whole, as they are now.

    Raises:
        OSError: They cannot be read, or the disk does not take it.
    """
    temporary = folder / f".{SEAL}.{os.getpid()}"
    temporary.write_text(json.dumps(_contents(folder)), encoding="utf-8")
    temporary.replace(folder / SEAL)


def is_whole(folder: Path) -> bool:
    """Whether the engines of a folder are those that it was sealed with."""
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        return bool(sealed == _contents(folder))
    except (OSError, ValueError):
        return False


def engines_in(folder: Path) -> int:
    """How many engines a folder has."""
    return sum(1 for _ in folder.glob("*.engine"))


def sweep(root: Path, *, most: int = MAX_FOLDERS) -> int:
    """Remove what was not used for longest; how many folders of models went.

    An engine that is in use is in memory, so that nothing stops when its file goes.

    Args:
        root: The folder of all engines.
        most: Folders of models that stay.
    """
    folders = []
    for folder in filter(Path.is_dir, root.glob("sm_*/*")):
        try:
            folders.append((folder.stat().st_mtime, folder))
        except OSError:  # another process has removed it
            continue
    gone = [folder for _, folder in sorted(folders, reverse=True)[most:]]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return len(gone)


def _contents(folder: Path) -> dict[str, str]:
    paths = sorted(folder.glob("*.engine"))
    return {path.name: files_digest([(path.name, path)]) for path in paths}


def _slug(name: str) -> str:
    return _OTHERS.sub("-", name.lower()).strip("-") or "gpu"
