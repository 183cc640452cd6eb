"""A backend for tests, which misbehaves as its model file says.

A model of it is a JSON object: ``{"load": "hang"}`` or ``{"run": "segfault", "on": 2}``. What
it does right is ``y = 2x`` for x FP32[-1,2]. It is found through the entry points of an
installed distribution: ``install_bad_backend`` makes one in a folder, for ``sys.path`` or
``PYTHONPATH``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends.base import FileBackend, Session, file_attributes
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import StorageUnavailableError, UnavailableError

NAME = "bad"
SIGNATURE = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2)),))


class BadBackend(FileBackend):
    """Runs models that misbehave."""

    name = NAME
    formats = ("bad", "onnx")  # the second so that it can be deployed under a known name
    attributes = file_attributes("")

    def _load(self, path: Path, attributes: Mapping[str, Any]) -> Session:
        behaviour = json.loads(path.read_bytes())
        misbehave(behaviour.get("load", ""))
        return BadSession(behaviour)


class BadSession(Session):
    """A model that misbehaves, at its first request or a later one."""

    def __init__(self, behaviour: Mapping[str, Any]) -> None:
        super().__init__(SIGNATURE, name="bad")
        self._behaviour = behaviour
        self._requests = 0

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        self._requests += 1
        answer = np.float32(self._behaviour.get("factor", 2)) * inputs["x"]
        if self._requests >= self._behaviour.get("on", 1):
            does = self._behaviour.get("run", "")
            if does == "nan":
                answer[-1, -1] = np.nan
            elif does == "shape":
                answer = answer[:, :1]
            elif does == "datatype":
                answer = answer.astype(np.int64)
            else:
                misbehave(does)
        return {"y": answer}

    def _close(self) -> None:
        misbehave(self._behaviour.get("close", ""))


def misbehave(does: str) -> None:
    """Do one of the things that a model can do to a process."""
    kind, _, rest = does.partition(" ")
    if kind == "segfault":
        ctypes.string_at(0)
    elif kind == "abort":
        print("the engine: assertion `tensor != nullptr' failed", file=sys.stderr, flush=True)
        os.abort()
    elif kind == "hang":
        time.sleep(3600)
    elif kind == "hold":  # hang, and let no other thread of the process run
        ctypes.PyDLL(None).sleep(3600)
    elif kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "exit":
        os._exit(int(rest))
    elif kind == "raise":
        raise RuntimeError(rest)
    elif kind == "full":
        raise StorageUnavailableError(rest)
    elif kind == "away":
        raise UnavailableError(rest)
    elif kind == "allocate":
        ballast = [bytearray(os.urandom(1)) * (1 << 20) for _ in range(int(rest))]
        time.sleep(0.5)
        del ballast
    elif kind == "print":
        print("noise " * int(rest), flush=True)
    elif kind == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        Path(rest).write_text(str(child.pid))
    elif kind == "tell":
        Path(rest).write_text(json.dumps({"pid": os.getpid(), "environment": dict(os.environ)}))


def install_bad_backend(folder: Path) -> Path:
    """Make a distribution of the backend in a folder that is then one to import from."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbmodel_bad_backend.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    info = folder / "nbmodel_bad_backend-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nbmodel-bad-backend\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        f"[nbmodel.backends]\n{NAME} = nbmodel_bad_backend:BadBackend\n"
    )
    return folder
