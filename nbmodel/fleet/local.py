"""Runtimes on this machine: started as processes of their own, and ended again.

Such a process outlives the notebook that started it. What it prints goes to a file in its
home folder, where the line that says it is ready is waited for.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from nbmodel.core.address import is_loopback
from nbmodel.errors import DeployError, StorageUnavailableError, TargetUnreachableError
from nbmodel.fleet.known import Known
from nbmodel.fleet.options import StartOptions
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.plugins import require
from nbmodel.runtime.auth import ensure_token
from nbmodel.runtime.limits import DEFAULT_LIMITS, Limits
from nbmodel.runtime.server import DEFAULT_HTTP, GRPC, LOG_FILE, READY, SERVER_NAME, Address

OUTPUT_FILE = "output.log"
START_TIMEOUT_S = (
    60.0  # a small board that boots and starts it reads its libraries from a slow card
)
TIDY_S = 10.0  # given to a runtime that ends, besides the time that it gives its requests
_POLL_S = 0.01
_GIVE_UP_S = 2.0
_LOG_TAIL = 1024 * 1024  # bytes of a log file that are looked at
_TAIL = 2000  # characters of a failed start's output that are told

#: Processes started from here, by pid. One that ended stays a zombie until its parent
#: asks for it, and would look alive.
_children: dict[int, subprocess.Popen[bytes]] = {}


def start_local(
    name: str,
    home: Path,
    *,
    config: Path | None = None,
    http: str = DEFAULT_HTTP,
    require_token: bool = False,
    grpc: str | None = None,
    allow_shared_memory: bool = False,
    workers: int = 1,
    server_name: str = SERVER_NAME,
    maintenance_hook: str | None = None,
    trust_policy: str | None = None,
    trusted_key: str | None = None,
    allow_code: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    before: Known | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Known:
    """Start a runtime on this machine, and return when it takes requests.

    Args:
        name: What it is called.
        home: Its home folder; made when it is not there.
        config: File with the machine config to start with.
        http: ``HOST:PORT``; port 0 is the one it had before, if that is free, else any
            free one; so is gRPC's.
        require_token: Want a token on loopback too; off it, one is always wanted. It is made
            at the first start in that home.
        grpc: ``HOST:PORT`` for gRPC; None: it is not spoken.
        allow_shared_memory: Let clients register shared memory.
        workers: Processes that answer inference requests over HTTP.
        server_name: What the inference protocol calls it.
        maintenance_hook: Path of a program that is asked before a version is taken up.
        trust_policy: Path of a file that says whose signatures count.
        trusted_key: Path of a public key whose signatures alone count.
        allow_code: Run models that are code of their own; a token is always wanted then.
        limits: What clients may use.
        before: How it was reached when it ran last; None: it is new.
        timeout_s: Seconds until it must be ready.

    Returns:
        How to reach it, with its pid and the options given.

    Raises:
        DeployError: It ended, or was not ready in time; with what it said.
        ConfigError: The token cannot be kept, or can be read by others.
        StorageUnavailableError: ``home`` cannot be made or written to.
        InputError: ``name`` cannot be a runtime's, or ``http`` or ``grpc`` is no address.
        PluginError: The runtime extra is not installed.
    """
    require("a runtime", "starlette", "uvicorn", extra="runtime")
    Known(name, "http://localhost")  # the name is checked before anything is started
    options = StartOptions(
        http=http,
        require_token=require_token,
        grpc=grpc,
        allow_shared_memory=allow_shared_memory,
        workers=workers,
        server_name=server_name,
        maintenance_hook=maintenance_hook,
        trust_policy=trust_policy,
        trusted_key=trusted_key,
        allow_code=allow_code,
        limits=limits,
    )
    addresses = [Address.parse(text) for text in (http, grpc) if text is not None]
    is_open = not all(is_loopback(address.host) for address in addresses)
    needs_token = require_token or allow_code or is_open
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageUnavailableError(
            f"cannot make {home}, the home of runtime {name!r}: {exc.strerror}",
            hint="give another --home",
        ) from exc
    command = [sys.executable, "-m", "nbmodel", "runtime", "start", name, "--foreground"]
    command += ["--home", str(home)]
    if config is not None:
        command += ["--config", str(config.absolute())]
    http_before = None if before is None else before.url
    grpc_before = None if before is None or before.grpc is None else f"//{before.grpc}"
    run_with = replace(
        options,
        http=as_before(http, http_before),
        grpc=None if grpc is None else as_before(grpc, grpc_before),
        require_token=needs_token,
    )
    command += run_with.words()
    # Made here: the runtime would show it, and what it says is kept in a file.
    token = ensure_token(home)[0] if needs_token else None
    output = home / OUTPUT_FILE
    try:
        file = open(output, "wb", opener=_private)  # noqa: SIM115 # closed by the block below
    except OSError as exc:
        raise StorageUnavailableError(
            f"cannot write {output}, of runtime {name!r}: {exc.strerror}",
            hint="give another --home",
        ) from exc
    with file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl+C in the terminal or kernel is not meant for it.
            start_new_session=True,
        )
    _children[process.pid] = process
    ready = _wait_ready(name, process, output, timeout_s)
    return Known(
        name,
        ready.url,
        token=token,
        pid=process.pid,
        home=home,
        options=options,
        grpc=ready.grpc,
    )


def stop_local(runtime: Known, *, timeout_s: float | None = None) -> bool:
    """End a runtime that was started here.

    Args:
        runtime: As ``start_local`` gave it.
        timeout_s: Seconds until its process must be gone; None: ``TIDY_S`` more than the
            runtime gives requests under way (``--drain-s``).

    Returns:
        Whether it was running.

    Raises:
        DeployError: The address answers as another process, or the process did not end.
    """
    if runtime.pid is None:
        raise DeployError(
            f"runtime {runtime.name!r} was not started here", hint="stop it where it runs"
        )
    try:
        with RemoteRuntime(runtime.url, token=runtime.token, name=runtime.name) as remote:
            answer = remote.version()
    except TargetUnreachableError:
        is_running(runtime.pid)  # one of our own that ended is taken note of
        return False
    # Pids and ports are used again: only what says that it is the same is ended.
    if (answer.get("pid"), answer.get("name")) != (runtime.pid, runtime.name):
        raise DeployError(
            f"{runtime.url} is runtime {answer.get('name')!r} with pid {answer.get('pid')}, "
            f"not {runtime.name!r} with pid {runtime.pid}: left alone"
        )
    if timeout_s is None:
        timeout_s = float(answer.get("drain_s", DEFAULT_LIMITS.drain_s)) + TIDY_S
    os.kill(runtime.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while is_running(runtime.pid):
        if time.monotonic() > deadline:
            raise DeployError(
                f"runtime {runtime.name!r} (pid {runtime.pid}) did not end within {timeout_s:g} s",
                hint=f"kill -9 {runtime.pid}",
            )
        time.sleep(_POLL_S)
    return True


def is_running(pid: int) -> bool:
    """Whether there is a process of that pid; one that ended and was started here is not."""
    child = _children.get(pid)
    if child is not None:
        if child.poll() is None:
            return True
        del _children[pid]
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def last_words(home: Path, count: int) -> list[str]:
    """The last lines that a runtime left in its home folder: its log, then what it printed.

    Args:
        home: Its home folder.
        count: How many lines at most.

    Raises:
        StorageUnavailableError: A file there cannot be read.
    """
    lines: list[str] = []
    # The log is turned over: its last lines may be the only ones of the present file.
    for name in (f"{LOG_FILE}.1", LOG_FILE, OUTPUT_FILE):
        try:
            with (home / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL))
                text = file.read(_LOG_TAIL).decode(errors="replace")
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise StorageUnavailableError(f"cannot read {home / name}: {exc.strerror}") from exc
        # That it was ready, its log says too.
        lines += [line for line in text.splitlines() if not line.startswith((READY, GRPC))]
    return lines[-count:]


@dataclass(frozen=True, slots=True)
class _Ready:
    """Where a runtime said that it takes requests."""

    url: str
    grpc: str | None


def as_before(text: str, before: str | None) -> str:
    """``HOST:PORT`` with the port of ``before``, a URL, in place of 0 if it is free.

    Raises:
        InputError: ``text`` is no address.
    """
    address = Address.parse(text)
    try:
        port = None if before is None else urlsplit(before).port
    except ValueError:
        port = None
    if address.port or not port or not _is_free(Address(address.host, port)):
        return text
    return f"{text.rpartition(':')[0]}:{port}"


def _is_free(address: Address) -> bool:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        socket.create_server((address.host, address.port), family=found[0][0]).close()
    except OSError:
        return False
    return True


def _said(text: str, start: str) -> str | None:
    """The rest of the first whole line that starts so."""
    for line in text.splitlines(keepends=True):
        if line.startswith(start) and line.endswith("\n"):
            return line.removeprefix(start).strip()
    return None


def _wait_ready(
    name: str, process: subprocess.Popen[bytes], output: Path, timeout_s: float
) -> _Ready:
    deadline = time.monotonic() + timeout_s
    while True:
        has_ended = process.poll() is not None  # before reading: what it said last counts
        text = output.read_text(encoding="utf-8", errors="replace")
        url = _said(text, READY)
        if url is not None:
            return _Ready(url, _said(text, GRPC))
        if has_ended:
            del _children[process.pid]
            raise DeployError(
                f"runtime {name!r} ended with status {process.returncode} before it was ready: "
                f"{text[-_TAIL:].strip() or 'it said nothing'}"
            )
        if time.monotonic() > deadline:
            _give_up(process)
            raise DeployError(
                f"runtime {name!r} was not ready within {timeout_s:g} s: "
                f"{text[-_TAIL:].strip() or 'it said nothing'}"
            )
        time.sleep(_POLL_S)


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """End a process that was not ready in time, and take note of its end."""
    process.terminate()
    try:
        process.wait(_GIVE_UP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    del _children[process.pid]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
