"""A runtime as a process of its own that can be killed, traced and given faults."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.runtime.server import READY
from nbmodel.storage import Storage
from tests.tools.toy_versions import MODEL, ROW, SERVICE, Toy

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE_S = 60.0
_POLL_S = 0.01


class Device:
    """A runtime's process and its client.

    Args:
        home: Its home folder.
        program: What runs ``nbmodel``.
        under: Makes the command that is run of the runtime's own.
        environment: Variables besides those of this process.
    """

    def __init__(
        self,
        home: Path,
        *,
        program: Sequence[str] = (sys.executable, "-m", "nbmodel"),
        under: Callable[[Sequence[str]], Sequence[str]] = list,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        command = [*program, "runtime", "start", "--home", str(home)]
        command += ["--http", "127.0.0.1:0", "--drain-s", "1"]
        self.process = subprocess.Popen(
            under(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        self.said: list[str] = []
        self.remote = RemoteRuntime(self._ready(), timeout_s=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.remote.close()

    def push(self, storage: Storage, toy: Toy, *tags: str) -> None:
        """Push a version under its own tags, then under others."""
        self.remote.distribution.push(MODEL, storage, toy.digest, tags=(*toy.tags, *tags))

    def configure(self, config: Mapping[str, Any]) -> str:
        """Replace its config; the etag of the new one."""
        self.remote.put_config(config, if_match=None)
        return self.remote.config()[1]

    def answer(self) -> float:
        """What its service scales by."""
        return float(self.remote.infer(SERVICE, {"x": ROW})["y"][0, 0])

    def status(self) -> dict[str, Any]:
        """Of its service; empty when it has none."""
        for entry in self.remote.status()["services"]:
            if entry["name"] == SERVICE:
                return dict(entry)
        return {}

    def wait(self, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a status of the service, and give it."""
        deadline = time.monotonic() + PATIENCE_S
        while not until(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(_POLL_S)
        return status

    def wait_committed(self, toy: Toy) -> None:
        """Wait until a version serves, and will after a restart."""
        self.wait(lambda status: is_committed(status, toy.digest))

    def children(self) -> set[int]:
        """Pids of the processes that its process has started, and they theirs."""
        found: set[int] = set()
        waiting = [self.process.pid]
        while waiting:
            for file in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
                with contextlib.suppress(FileNotFoundError):
                    waiting += [int(pid) for pid in file.read_text().split()]
            found.update(waiting)
        return found

    def stop(self) -> None:
        """End it as a service manager does."""
        self._signal(signal.SIGTERM)
        self._end()

    def kill(self) -> None:
        """End it at once, with all its children."""
        self._signal(signal.SIGKILL)
        self._end()

    def kill_alone(self) -> None:
        """End its own process at once."""
        self.process.kill()
        self._end()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _end(self) -> None:
        try:
            rest, _ = self.process.communicate(timeout=PATIENCE_S)
            self.said += rest.splitlines()
        except ValueError:
            pass  # it was read to its end before

    def _ready(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
        self.process.communicate()
        raise AssertionError(f"the runtime did not start: {''.join(self.said)}")


def is_committed(status: Mapping[str, Any], digest: str) -> bool:
    """Whether a service runs a version and keeps it."""
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    return (
        status.get("state") == "ready"
        and status.get("digest") == digest
        and status.get("phase") == "ready"
        and conditions.get("Committed") == "True"
    )
