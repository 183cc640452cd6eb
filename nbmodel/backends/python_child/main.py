"""The start of the process of a Python model; what it is told is in the arguments.

Nothing but the standard library may be imported here: where packages are is only settled now.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "800"  # of at most 1000: it goes before its runtime when memory is short


def main() -> None:
    """Run a model until the other side of the socket has gone."""
    told = json.loads(sys.argv[-1])
    _end_with_parent(told["parent"])
    _step_back(told["memory_bytes"])
    sys.dont_write_bytecode = True  # the folder of a version is to stay as it is
    sys.argv = ["model.py"]
    if told["has_own_packages"]:
        sys.meta_path.append(_Numpy(told["paths"]))
    else:
        sys.path += [path for path in told["paths"] if path not in sys.path]
    serve = importlib.import_module(f"{__package__}.serve")
    with socket.socket(fileno=told["socket"]) as connection:
        serve.serve(connection)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads of the model are not waited for


class _Numpy:
    """Finds the runtime's numpy, where requirements name none."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 # importlib gives it
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Where a module is: only numpy is known here."""
        return PathFinder.find_spec(name, self._paths) if name == "numpy" else None


def _end_with_parent(parent: int) -> None:
    """See to it that this process ends when its parent does, even while the model runs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _step_back(memory_bytes: int) -> None:
    """Keep within memory, and be the first to go when the machine has none.

    Args:
        memory_bytes: That it may ask the system for.
    """
    import resource

    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    for limit, most in (("RLIMIT_CORE", 0), ("RLIMIT_DATA", memory_bytes)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, limit), (most, most))
