"""A tritonserver of our own, started for its first user and ended with its last.

One that dies, or answers nothing for long, is started again. It takes models from a folder of
ours, in explicit model control, and listens on loopback alone. It ends when this process does,
however that ends, and so does whatever it has started.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbmodel.backends.owner import is_left, owner
from nbmodel.backends.triton_client import Client, Endpoint, HttpClient, connect
from nbmodel.errors import InferenceError, PluginError, StorageUnavailableError, UnavailableError

START_S = 120.0  # that a server may take until it answers; one with a GPU takes some ten
STOP_S = 10.0  # that it may take to end by itself
_EXIT_S = 3  # that it gives requests under way
_LONGEST_PAUSE_S = 30.0  # between two attempts to start one that dies at once
SILENT_S = 15.0  # that it may take to say that it is alive
_AGAIN_S = 3.0  # and then again: it may have been short of processors
_PULSE_S = 2.0  # between two such questions
_MAX_LOADS = 4  # under way beside which it is asked: each takes one of its eight threads
_LOOK_S = 0.05
_MAX_LOG = 4 << 20  # bytes
_MAX_QUOTED = 600  # characters of its log
_PREFIX = "nbmodel-triton-"
SHARED = Path("/dev/shm")  # noqa: S108 # where Linux keeps shared memory
#: Where images of Triton have their backends.
USUAL_BACKENDS = Path("/opt/tritonserver/backends")
_ERROR = re.compile(r"^(?:E\d{4} |error: |.*\bInternal - )")
_HARMLESS = re.compile(r"CudaDriverHelper|config modification time")
#: Run in a Python of its own: the server is told to end when the thread that started it does.
_LAUNCH = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15, 0, 0, 0); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
)

_GUARD = Path(__file__).with_name("triton_guard.py")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """What is started.

    Attributes:
        path: Of ``tritonserver``.
        backend_directory: Where its backends are; empty: where it looks itself.
    """

    path: str
    backend_directory: str = ""


class TritonServer:
    """A server, alive or being started again; ``acquire`` one, and ``release`` it.

    Args:
        program: What is started.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._users = 0
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{owner()}-"))
        #: Its model repository.
        self.repository = self._folder / "models"
        self.repository.mkdir()
        self._log = self._folder / "triton.log"
        self._lock = threading.Lock()
        self._up = threading.Event()
        self._stop = threading.Event()
        self._client: Client | None = None
        self._trouble = "tritonserver is being started"
        self._process: subprocess.Popen[bytes] | None = None
        self._failed: Exception | None = None
        self._starts = 0
        self._was_up = False
        self._loads = 0
        self._is_silent = False
        #: How it ended last, without being told to; empty when it never did.
        self.last_end = ""
        self._thread = threading.Thread(target=self._supervise, name="nbmodel-triton", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why it does not answer just now; None: it does."""
        return None if self._up.is_set() else self._trouble

    @property
    def pid(self) -> int | None:
        """Of its process; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def client(self, timeout_s: float = 0.0) -> Client:
        """A client of it, as long as it is not started again.

        Args:
            timeout_s: How long to wait for it, in seconds.

        Raises:
            UnavailableError: It is not up.
            PluginError: There is no such program.
        """
        until = time.monotonic() + timeout_s
        while not self._up.wait(min(_LOOK_S, max(0.0, until - time.monotonic()))):
            if self._failed is not None:
                raise self._failed
            if time.monotonic() >= until:
                raise UnavailableError(self._trouble)
        with self._lock:
            if self._client is None:
                raise UnavailableError(self._trouble)
            return self._client

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Within it, a model is being loaded."""
        with self._lock:
            self._loads += 1
        try:
            yield
        finally:
            with self._lock:
                self._loads -= 1

    def backends(self) -> frozenset[str] | None:
        """Names of the backends that it has; None where that cannot be told."""
        folder = _backend_folder(self._program)
        if folder is None or not folder.is_dir():
            return None
        return frozenset(entry.name for entry in folder.iterdir() if entry.is_dir())

    def _begin(self) -> None:
        if not self._thread.is_alive():
            self._thread.start()

    def _end(self) -> None:
        self._stop.set()
        self._thread.join(START_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _supervise(self) -> None:
        """Keep a server up until the last user is gone; the thread's own work."""
        pause = 1.0
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                with self._running() as process:
                    if process is None:
                        return
                    code = self._watch(process)
                if self._stop.is_set():
                    return
                self._tell_death(code)
                pause = (
                    1.0 if time.monotonic() - began > START_S else min(2 * pause, _LONGEST_PAUSE_S)
                )
                # At once the first time; later less and less often.
                self._stop.wait(0.0 if self._starts == 1 else pause / 2)
        finally:
            self._set_down("tritonserver was ended")

    def _tell_death(self, code: int | None) -> None:
        how, at = _ending(code), time.strftime("%H:%M:%S")
        if self._is_silent:
            how = f"answered nothing for {SILENT_S:.0f} s, and was ended"
        elif code not in (-signal.SIGKILL, -signal.SIGTERM):  # which come without a warning
            how += self._quoted()
        self.last_end = f"tritonserver {how} at {at}"
        self._set_down(f"{self.last_end}, and is started again")
        logger.warning("%s", self._trouble)
        if not self._was_up:  # nobody waits for what may never come
            self._failed = UnavailableError(f"{self._program.path} does not start: it {how}")

    def _watch(self, process: subprocess.Popen[bytes]) -> int | None:
        """Wait until the server answers, and then until it ends; its exit code."""
        client = connect(self._endpoint)
        pulse = threading.Thread(
            target=self._feel_pulse, args=(process,), name="nbmodel-triton-pulse", daemon=True
        )
        pulse.start()
        try:
            until = time.monotonic() + START_S
            while process.poll() is None and not self._stop.is_set():
                if not self._up.is_set() and time.monotonic() < until:
                    with contextlib.suppress(UnavailableError, InferenceError):
                        client.server()
                        self._set_up(client)
                self._shorten_log()
                self._stop.wait(_LOOK_S)
        finally:
            client.close()
        return process.returncode

    def _feel_pulse(self, process: subprocess.Popen[bytes]) -> None:
        """End a server that was up and answers nothing any more; a thread's own work."""
        client = HttpClient(self._endpoint)
        try:
            while process.poll() is None and not self._stop.wait(_PULSE_S):
                if not self._up.is_set() or self._loads > _MAX_LOADS:
                    continue
                if not (client.is_alive(SILENT_S) or client.is_alive(_AGAIN_S)):
                    if process.poll() is None:
                        self._is_silent = True
                        process.kill()
                    return
        finally:
            client.close()

    @contextlib.contextmanager
    def _running(self) -> Iterator[subprocess.Popen[bytes] | None]:
        """A process of the server; None when there can be none."""
        self._endpoint = Endpoint("http", "127.0.0.1", _free_port())
        memory = f"{_PREFIX}{owner()}-{self._endpoint.port}-"
        command = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), self._program.path]
        command += _options(self._program, self.repository, self._endpoint, memory)
        try:
            with self._log.open("ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as exc:
            self._failed = PluginError(
                f"{self._program.path} cannot be started: {exc.strerror or exc}",
                hint="give the path of tritonserver, or the address of one that runs",
            )
            yield None
            return
        self._process, self._starts = process, self._starts + 1
        self._is_silent = False
        guard = _guard(process.pid)
        try:
            yield process
        finally:
            self._process = None
            if guard is not None:
                guard.kill()
                guard.wait()
            _finish(process)
            for region in SHARED.glob(f"{memory}*"):
                region.unlink(missing_ok=True)

    def _shorten_log(self) -> None:
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > _MAX_LOG:
                os.truncate(self._log, 0)  # what is written next goes to its end

    def _set_up(self, client: Client) -> None:
        with self._lock:
            self._client, self._failed, self._was_up = client, None, True
        self._up.set()

    def _set_down(self, trouble: str) -> None:
        self._trouble = trouble
        self._up.clear()
        with self._lock:
            self._client = None

    def _quoted(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        told = [line for line in lines if _ERROR.match(line) and not _HARMLESS.search(line)]
        told = told[-2:] or lines[-1:]
        text = " ".join(" ".join(told).split())[-_MAX_QUOTED:]
        return f" after it said: {text!r}," if text else ""


@atexit.register
def _end_all() -> None:
    for server in list(_servers.values()):
        server._end()  # noqa: SLF001


_servers: dict[Program, TritonServer] = {}
_servers_lock = threading.Lock()


def acquire(program: Program) -> TritonServer:
    """The server of a program in this process; started where this is its first user.

    Raises:
        StorageUnavailableError: The disk does not take its folder.
    """
    with _servers_lock:
        server = _servers.get(program)
        if server is None:
            try:
                _sweep()
                server = _servers[program] = TritonServer(program)
            except OSError as exc:
                raise StorageUnavailableError(
                    f"cannot make a model repository for tritonserver: {exc.strerror or exc}",
                    hint=f"check free space and permissions of {tempfile.gettempdir()}",
                ) from exc
        server._users += 1  # noqa: SLF001 # counted here alone
        server._begin()  # noqa: SLF001
    return server


def release(server: TritonServer) -> None:
    """Let go of a server; it ends with its last user."""
    with _servers_lock:
        server._users -= 1  # noqa: SLF001
        if server._users:  # noqa: SLF001
            return
        for program in [program for program, one in _servers.items() if one is server]:
            del _servers[program]
    server._end()  # noqa: SLF001


def _options(program: Program, repository: Path, endpoint: Endpoint, memory: str) -> Sequence[str]:
    options = [
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        f"--http-address={endpoint.host}",
        f"--http-port={endpoint.port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--log-info=false",
        f"--exit-timeout-secs={_EXIT_S}",
        f"--backend-config=python,shm-region-prefix-name={memory}",
    ]
    folder = _backend_folder(program)
    if folder is not None:
        options.append(f"--backend-directory={folder}")
    return options


def _guard(group: int) -> subprocess.Popen[bytes] | None:
    """A process that ends a group when this one is gone; None where none can be started."""
    command = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(group)]
    quiet = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    except OSError as exc:
        logger.warning("tritonserver may outlive this process: %s", exc)
        return None


def _finish(process: subprocess.Popen[bytes]) -> None:
    """End a server and whatever it has started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # processes of its Python backend
    process.wait()


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _backend_folder(program: Program) -> Path | None:
    """Where its backends are; None: it does not say, and they are in no usual place."""
    if program.backend_directory:
        return Path(program.backend_directory)
    beside = Path(shutil.which(program.path) or program.path).resolve().parents[1] / "backends"
    return next((folder for folder in (USUAL_BACKENDS, beside) if folder.is_dir()), None)


def _sweep() -> None:
    """Remove what servers of processes that are gone have left behind."""
    for folder in (Path(tempfile.gettempdir()), SHARED):
        for entry in folder.glob(f"{_PREFIX}*"):
            if is_left(entry.name):
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        entry.unlink()
