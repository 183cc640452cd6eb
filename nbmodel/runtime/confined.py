"""A child process that cannot outlive, outeat or outwait the process that asked for it.

It has a process group of its own, a time and a memory that it may take, and nobody waits for
it once ``cancelled`` says so. What it writes as lines of JSON is told while it runs; of what
it prints besides, the end is kept.

The child does its part itself (``nbmodel.runtime.probe_child``): what cannot be done to it
from here without a fork in a process of many threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nbmodel.errors import UnavailableError
from nbmodel.runtime.proc import process_memory

MAX_TALK = 1024 * 1024  # bytes of lines that a child may write
MAX_WORDS = 4096  # bytes that are kept of what it prints, the last ones
_LOOK_S = 0.02  # between two looks at its memory
_LAST_S = 2.0  # that a child may take to end, once it has closed its output
_KILLED_S = 5.0  # that the system may take to end a child that was killed
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|AUTH|API_?KEY|_KEY$|KEY_?ID", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"://[^/\s@]+@")  # a user, maybe with a password, in an address

Cause = Literal["ended", "done", "time", "memory", "talk", "cancelled"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended.

    Attributes:
        cause: ``ended`` by itself, or killed: it is ``done``, its ``time`` or ``memory`` was
            up, it would not stop its ``talk``, or the wait was ``cancelled``.
        code: Its exit code, negative for a signal; None when the system does not let go of it.
        memory: Bytes that it had when it was last looked at, beyond what it had when it said
            ``memory``; 0 where the platform does not tell.
        words: The end of what it printed.
    """

    cause: Cause
    code: int | None
    memory: int
    words: str


def run_confined(
    command: Sequence[str],
    request: Mapping[str, Any],
    *,
    told: Callable[[Mapping[str, Any]], bool],
    timeout_s: float,
    memory_bytes: int | None,
    cancelled: Callable[[], bool],
) -> Ending:
    """Run a child to its end, or to ours.

    Args:
        command: What to run.
        request: Written to its standard input as a line of JSON. The standard input then
            stays open as long as this process is there.
        told: Called with each line of JSON that it writes to its standard output; says whether
            that was all. A key ``memory`` says how many bytes it has of itself; they do not
            count.
        timeout_s: Seconds until it is killed.
        memory_bytes: Bytes that it may have, where the platform tells; None: any number.
        cancelled: Asked 50 times a second; once it says yes, the child is killed.

    Raises:
        UnavailableError: It cannot be started.
    """
    until = time.monotonic() + timeout_s
    line = json.dumps(request).encode() + b"\n"
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=child_environment(os.environ, sys.path),
            **_OWN_GROUP,
        )
    except OSError as exc:  # no memory, no process, no descriptor left
        raise UnavailableError(f"no process can be started: {exc}") from exc
    pipes = _Pipes(process, line)
    watch = _Watch(process.pid, memory_bytes)
    try:
        pipes.open()
        cause = _wait(pipes, watch, told, until, cancelled)
        if cause == "ended":
            cause = _let_end(process, until, cancelled)
    finally:
        _kill(process)
        pipes.close()
    return Ending(cause, process.returncode, watch.memory, pipes.words())


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables that look like a secret."""
    return {
        name: value
        for name, value in environment.items()
        if not _SECRET.search(name) and not _SECRET_VALUE.search(value)
    }


def child_environment(environment: Mapping[str, str], path: Sequence[str]) -> dict[str, str]:
    """The environment of a child: this process's, without what looks like a secret.

    Engines read many variables, so all others stay.

    Args:
        environment: This process's.
        path: Its ``sys.path``, so that the child finds the same plug-ins.
    """
    kept = without_secrets(environment)
    kept["PYTHONPATH"] = os.pathsep.join(entry or os.curdir for entry in path)
    # The folder that a runtime happens to be in is no place to import from.
    kept["PYTHONSAFEPATH"] = "1"
    return kept


#: Of subprocess.Popen: nothing that is meant for the runtime (Ctrl-C) reaches the child.
_OWN_GROUP: Mapping[str, Any] = (
    {"creationflags": 0x200 | 0x4000}  # CREATE_NEW_PROCESS_GROUP, BELOW_NORMAL_PRIORITY_CLASS
    if sys.platform == "win32"
    else {"start_new_session": True}
)


class _Pipes:
    """The three pipes of a child, each served by a thread: no side ever waits for the other."""

    def __init__(self, process: subprocess.Popen[bytes], request: bytes) -> None:
        self._process = process
        #: Lines as they come; None when there are no more, an int when they are too long.
        self.lines: queue.SimpleQueue[bytes | int | None] = queue.SimpleQueue()
        self._words = bytearray()
        self._threads = [
            threading.Thread(target=target, args=arguments, name="nbmodel-probe", daemon=True)
            for target, arguments in (
                (self._ask, (request,)),
                (self._listen, ()),
                (self._overhear, ()),
            )
        ]

    def open(self) -> None:
        """Begin to serve them.

        Raises:
            UnavailableError: The system gives no more threads.
        """
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as exc:
            raise UnavailableError(f"no thread can be started: {exc}") from exc

    def words(self) -> str:
        """The end of what the child printed, without control characters."""
        text = bytes(self._words).decode(errors="replace")
        return "".join(char if char.isprintable() or char == "\n" else " " for char in text).strip()

    def close(self) -> None:
        """Let go of the pipes of a child that has ended."""
        until = time.monotonic() + _LAST_S
        for thread in self._threads:
            if thread.ident is None:
                continue  # it could not be started
            thread.join(max(0.0, until - time.monotonic()))
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ask(self, request: bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        rest = memoryview(request)
        with contextlib.suppress(OSError, ValueError):  # it ended before it had read all
            while rest:
                rest = rest[pipe.write(rest) or 0 :]

    def _listen(self) -> None:
        pipe, total, rest = self._process.stdout, 0, b""
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError):
            while chunk := pipe.read(65536):
                total += len(chunk)
                if total > MAX_TALK:
                    self.lines.put(total)
                    return
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    self.lines.put(line)
        self.lines.put(None)

    def _overhear(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError):
            while chunk := pipe.read(65536):
                self._words += chunk
                del self._words[:-MAX_WORDS]


class _Watch:
    """Looks at the memory of a child."""

    def __init__(self, pid: int, limit: int | None) -> None:
        self._pid = pid
        self._limit = limit
        self._own: int | None = None
        #: Bytes that it had at the last look, of what counts.
        self.memory = 0

    def own(self, memory: int) -> None:
        """What the child has of itself does not count."""
        self._own = memory

    def is_over(self) -> bool:
        """Look; whether the child has more than it may."""
        if self._own is None:
            return False
        found = process_memory(self._pid).now
        if found:  # a process that is ending has none any more
            self.memory = max(0, found - self._own)
        return self._limit is not None and self.memory > self._limit


def _wait(
    pipes: _Pipes,
    watch: _Watch,
    told: Callable[[Mapping[str, Any]], bool],
    until: float,
    cancelled: Callable[[], bool],
) -> Cause:
    """Listen to a child until it says no more, or something is up."""
    while True:
        try:
            line = pipes.lines.get(timeout=_LOOK_S)
        except queue.Empty:
            line = b""
        if line is None:
            return "ended"
        if isinstance(line, int):
            return "talk"
        if line:
            said = _object(line)
            if isinstance(said.get("memory"), int):
                watch.own(said["memory"])
            if said and told(said):
                return "done"
        if cancelled():
            return "cancelled"
        if watch.is_over():
            return "memory"
        if time.monotonic() >= until:
            return "time"


def _object(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _let_end(
    process: subprocess.Popen[bytes], until: float, cancelled: Callable[[], bool]
) -> Cause:
    """Give a child that has closed its output the time to end."""
    until = min(until, time.monotonic() + _LAST_S)
    while not _has_ended(process):
        if cancelled():
            return "cancelled"
        if time.monotonic() >= until:
            return "time"
        time.sleep(0.002)
    return "ended"


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    if not hasattr(os, "waitid"):  # Windows; macOS before Python 3.13
        return process.poll() is not None
    # Not waited for yet: until then nothing else can have its number, nor its group's.
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return os.waitid(os.P_PID, process.pid, options) is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a child, and on POSIX whatever it has started; forget it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # it is stuck in the system
        process.wait(_KILLED_S)
