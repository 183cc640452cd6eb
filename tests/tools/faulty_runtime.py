"""A runtime to which something happens in one state of a deployment.

``python -m tests.tools.faulty_runtime STATE FAULT MARK HOME …`` runs a runtime with the rest
of the arguments in that home. When it is in that state for the first time after the file MARK
appears, MARK is removed and the fault happens there: ``error`` (the disk takes nothing),
``kill``, ``hang``. States are recognised by what a runtime does to files and processes, through
Python's audit events, so nothing in it is changed.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tools.toy_versions import MODEL, stamp_of

FAULTS = ("error", "kill", "hang")
_FOR_EVER_S = 3600.0


class _Home:
    """What the audit events say about a runtime's home."""

    def __init__(self, home: Path) -> None:
        self._uploads = f"{home}/blobs/uploads/"
        self._packages = f"{home}/packages/data/ml_model/"
        self._state = f"{home}/state.json"
        self._config = f"{home}/config.json"

    def fetching(self, event: str, args: tuple[Any, ...]) -> bool:
        """A blob begins to come in."""
        return event == "open" and str(args[0]).startswith(self._uploads)

    def unpacking(self, event: str, args: tuple[Any, ...]) -> bool:
        """A file of a version is laid out."""
        return event == "os.link" and str(args[1]).startswith(self._packages)

    def probing(self, event: str, args: tuple[Any, ...]) -> bool:
        """A process is started."""
        return event in ("subprocess.Popen", "os.posix_spawn", "os.fork")

    def loading(self, event: str, args: tuple[Any, ...]) -> bool:
        """The golden sample is read in the runtime's own process."""
        return (
            event == "open"
            and str(args[0]).endswith("golden.npz")
            and str(args[0]).startswith(self._packages)
            and "r" in (args[1] or "r")
        )

    def activating(self, event: str, args: tuple[Any, ...]) -> bool:
        """A version is about to be provisional."""
        before, after = self._states(event, args)
        return after.get("provisional") is not None and before.get("provisional") is None

    def committing(self, event: str, args: tuple[Any, ...]) -> bool:
        """A version is about to be current."""
        before, after = self._states(event, args)
        current = after.get("current")
        return current is not None and before.get("current") != current

    def rolling_back(self, event: str, args: tuple[Any, ...]) -> bool:
        """A version is about to be called failed."""
        before, after = self._states(event, args)
        return len(after.get("failed") or ()) > len(before.get("failed") or ())

    def reconfiguring(self, event: str, args: tuple[Any, ...]) -> bool:
        """Another config is about to be the machine's."""
        return event == "os.rename" and str(args[1]) == self._config

    def cleaning_up(self, event: str, args: tuple[Any, ...]) -> bool:
        """The first version's folder is about to be removed."""
        return event in ("shutil.rmtree", "os.remove", "os.rename") and str(args[0]).startswith(
            f"{self._packages}local-{MODEL}-{stamp_of(1)}"
        )

    def _states(self, event: str, args: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the state says of the one service, and is about to say; nothing otherwise."""
        if event != "os.rename" or str(args[1]) != self._state:
            return {}, {}
        return _service(Path(self._state)), _service(Path(args[0]))


def _service(file: Path) -> dict[str, Any]:
    try:
        services = json.loads(file.read_bytes())["services"]
    except FileNotFoundError:
        return {}
    return dict(next(iter(services.values()), {}))


def happens(fault: str) -> None:
    """The fault, here and now."""
    if fault == "error":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(_FOR_EVER_S)


def watch(is_there: Callable[[str, tuple[Any, ...]], bool], fault: str, mark: Path) -> None:
    """Have the fault happen in a state, once."""
    looking = threading.local()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if not event.startswith(("open", "os.", "shutil.", "subprocess.")):
            return
        if getattr(looking, "now", False):
            return
        looking.now = True  # looking makes events of its own
        try:
            if not is_there(event, args):
                return
            try:
                mark.unlink()
            except FileNotFoundError:
                return
        finally:
            looking.now = False
        happens(fault)

    sys.addaudithook(hook)


def main() -> None:
    state, fault, mark, home, *arguments = sys.argv[1:]
    if fault != "none":
        watch(getattr(_Home(Path(home)), state), fault, Path(mark))
    sys.argv = ["nbmodel", *arguments]
    from nbmodel.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
