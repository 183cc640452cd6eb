"""The process that a Python model runs in: started, asked, ended, and started again.

It has the environment of its own, limits on time and memory, and a process group, so that
what the model starts ends with it. It is no sandbox: the model can do what the runtime's
user can do.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nbmodel.backends.python_child.wire import WireError, receive, send
from nbmodel.errors import InferenceError, NbModelError, PluginError, UnavailableError

CALM_S = 10.0  # a process that lived so long is started again at once when it ends
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0
MAX_WORDS = 4096  # bytes that are kept of what it prints, the last ones
_QUOTED = 400  # characters of that in a message
_END_S = 2.0  # that a process may take to end when it is told to
_KILLED_S = 5.0  # that the system may take to end one that was killed
_BUFFER = 1 << 20  # bytes of a socket's buffer: tensors go in fewer pieces
_HERE = Path(__file__).parent
#: Only our own folder is added to where its Python looks, and taken out again.
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from python_child.main import main; del sys.path[0]; main()"
)
#: Variables of this process that a model's process has, too; nothing else passes.
_KEPT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "SYSTEMROOT",
)  # fmt: skip
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a process of a model is started, each time anew.

    Attributes:
        name: What the model is called in messages.
        python: The interpreter.
        paths: Where this process finds packages.
        has_own_packages: Whether the interpreter has the model's requirements, so that of
            ``paths`` only numpy is wanted.
        start: The first message to it.
        scratch: Its working folder, which may be written to.
        memory_bytes: That it may ask the system for.
        threads: Of numerical libraries, ≥ 1.
        start_timeout_s: Seconds until the model must be loaded.
    """

    name: str
    python: Path
    paths: tuple[str, ...]
    has_own_packages: bool
    start: Mapping[str, Any]
    scratch: Path
    memory_bytes: int
    threads: int
    start_timeout_s: float


def pause_s(failures: int) -> float:
    """Seconds until a process is started again, after so many ends in a row before this one."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, 20))


class ModelProcess:
    """One process. It ends at the latest when the thread that made this does.

    Args:
        recipe: How it is started.

    Raises:
        PluginError: This system has no way to hand a socket to a child.
        UnavailableError: It cannot be started.
    """

    def __init__(self, recipe: Recipe) -> None:
        if sys.platform == "win32":
            raise PluginError("the 'python' backend needs Unix sockets, which Windows lacks")
        self._recipe = recipe
        self._words = bytearray()
        #: Whether it did not answer, and will not.
        self.is_over = False
        # Held while the socket is in use: its number must not become another's meanwhile.
        self._using = threading.RLock()
        self._ours, theirs = socket.socketpair()
        with theirs:
            for one in (self._ours, theirs):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            told = {
                "socket": theirs.fileno(),
                "parent": os.getpid(),
                "paths": list(recipe.paths),
                "has_own_packages": recipe.has_own_packages,
                "memory_bytes": recipe.memory_bytes,
            }
            command = [str(recipe.python), "-I", "-u", "-c", _BOOT, str(_HERE), json.dumps(told)]
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    cwd=recipe.scratch,
                    env=environment(os.environ, recipe.scratch, recipe.threads),
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as exc:
                self._ours.close()
                raise UnavailableError(f"no process can be started: {exc}") from exc
        self._overhearing = threading.Thread(
            target=self._overhear, name="nbmodel-python-words", daemon=True
        )
        self._overhearing.start()

    def load(self) -> dict[str, Any]:
        """Have it load the model; its configuration, as Triton's.

        Raises:
            InferenceError: It cannot, or not in time.
        """
        most = self._recipe.start_timeout_s
        head, _ = self._exchange(
            self._recipe.start,
            {},
            most,
            late=f"it was not loaded after {most:g} s",
            hint='a model that takes that long needs a larger "start_timeout_s"',
        )
        config = head.get("config")
        if not isinstance(config, dict):
            raise InferenceError(str(head.get("error", "it did not say what it is")))
        return config

    def ask(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, NDArray[Any]]:
        """Run the model once. What is asked again after an error finds the process gone.

        Raises:
            InferenceError: The model failed, its process ended, or it was not done in time,
                for which its process is ended.
        """
        head, answers = self._exchange(
            {"outputs": list(outputs)},
            inputs,
            timeout_s,
            late=f"it did not answer within {timeout_s:g} s, so its process was ended",
            hint='a model that takes that long needs a larger "timeout_s"',
        )
        if "error" in head:
            raise InferenceError(str(head["error"]))
        return answers

    def wait(self) -> str:
        """Wait for its end; how it ended, in words."""
        self._process.wait()
        self._overhearing.join(_END_S)
        return _how(self._process.returncode) + self._quoted()

    def end(self) -> None:
        """Have it finish, and end it when it does not."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self.kill()

    def kill(self) -> None:
        """End it and whatever it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILLED_S)
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)  # who waits for an answer is told
        with self._using:
            self._ours.close()

    def _exchange(
        self,
        head: Mapping[str, Any],
        tensors: Mapping[str, NDArray[Any]],
        timeout_s: float,
        *,
        late: str,
        hint: str,
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        deadline = time.monotonic() + timeout_s
        try:
            with self._using:
                send(self._ours, head, tensors, deadline)
                return receive(self._ours, deadline)
        except TimeoutError:
            self.is_over = True
            self.kill()
            raise InferenceError(f"{late}{self._quoted()}", hint=hint) from None
        except (OSError, WireError) as exc:
            self.is_over = True
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            code = self._process.poll()  # None: it is there, and not to be understood
            self.kill()
            self._overhearing.join(_END_S)
            how = f"its process ended: {_how(code)}" if code is not None else f"it said {exc}"
            raise InferenceError(f"{how}{self._quoted()}") from exc

    def _quoted(self) -> str:
        text = bytes(self._words).decode(errors="replace")
        text = " ".join("".join(one if one.isprintable() else " " for one in text).split())
        return (
            f"; it printed: {'…' if len(text) > _QUOTED else ''}{text[-_QUOTED:]}" if text else ""
        )

    def _overhear(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with pipe, contextlib.suppress(OSError, ValueError):
            while chunk := os.read(pipe.fileno(), 65536):
                self._words += chunk
                del self._words[:-MAX_WORDS]


class Keeper:
    """Keeps a process of a model running, in a thread of its own, until it is closed.

    Args:
        recipe: How it is started.

    Raises:
        InferenceError, UnavailableError, PluginError: It does not start the first time.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._lock = threading.Lock()
        self._current: ModelProcess | None = None  # that runs, loaded or not
        self._ready: ModelProcess | None = None  # that can be asked
        self._trouble: str | None = None
        self._closing = threading.Event()
        self._note: Callable[[str], None] = lambda _: None
        first: Future[dict[str, Any]] = Future()
        # The same thread starts all of them: on Linux they end when it does.
        self._thread = threading.Thread(
            target=self._keep, args=(first,), name="nbmodel-python", daemon=True
        )
        self._thread.start()
        #: What the model says of itself, as Triton's configuration.
        self.config = first.result()

    @property
    def trouble(self) -> str | None:
        """Why nobody can be asked just now; None: the process runs."""
        return self._trouble

    def report_to(self, note: Callable[[str], None]) -> None:
        """Have it tell of each end and each new start."""
        self._note = note

    def ask(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, NDArray[Any]]:
        """Run the model once; one call at a time.

        Raises:
            UnavailableError: Its process is being started again.
            InferenceError: As ``ModelProcess.ask``.
        """
        with self._lock:
            process = self._ready
        if process is None:
            raise UnavailableError(self._trouble or "its process is gone")
        try:
            return process.ask(inputs, outputs, timeout_s)
        except InferenceError as exc:
            if process.is_over:
                self._let_go(process, f"{exc}; it is started again")
            raise

    def close(self) -> None:
        """End the process for good."""
        self._closing.set()
        with self._lock:
            current = self._current
        if current is not None:
            current.end()
        self._thread.join(_KILLED_S)

    def _keep(self, first: Future[dict[str, Any]]) -> None:
        failures = 0
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                config = self._start()
            except NbModelError as exc:
                if not first.done():
                    first.set_exception(exc)
                    return
                why = f"could not be started: {exc}"
            except BaseException as exc:
                if first.done():
                    raise
                first.set_exception(exc)
                return
            else:
                if first.done():
                    self._note("its process runs again")
                else:
                    first.set_result(config)
                why = f"ended: {self._until_its_end()}"
            if self._closing.is_set():
                return
            failures = 0 if time.monotonic() - began > CALM_S else failures
            pause = pause_s(failures)
            failures += 1
            self._trouble = f"its process {why}; it is started again after {pause:g} s"
            self._note(self._trouble)
            self._closing.wait(pause)

    def _start(self) -> dict[str, Any]:
        process = ModelProcess(self._recipe)
        with self._lock:
            self._current = process
        try:
            if self._closing.is_set():
                raise UnavailableError("it is closed")  # noqa: TRY301 # ended as after others
            config = process.load()
        except BaseException:
            process.kill()
            raise
        with self._lock:
            self._ready, self._trouble = process, None
        return config

    def _let_go(self, process: ModelProcess, trouble: str) -> None:
        """Have nobody ask a process any more."""
        with self._lock:
            if self._ready is process:
                self._ready, self._trouble = None, trouble

    def _until_its_end(self) -> str:
        process = self._current
        assert process is not None
        how = process.wait()
        self._let_go(process, f"its process ended: {how}; it is started again")
        process.kill()  # what it has started, and our side of its socket
        return how


def environment(ours: Mapping[str, str], scratch: Path, threads: int) -> dict[str, str]:
    """The variables of a model's process: few of ours, none of which is a secret.

    Args:
        ours: Those of this process.
        scratch: What it may take for its home and for temporary files.
        threads: Of numerical libraries.
    """
    kept = {name: ours[name] for name in _KEPT if name in ours}
    kept |= {name: str(threads) for name in _THREADS}
    return {**kept, "HOME": str(scratch), "TMPDIR": str(scratch)}


def _how(code: int | None) -> str:
    if code is None:
        return "the system does not let go of it"
    if code >= 0:
        return f"exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"signal {-code}"
    return f"{number.name} ({signal.strsignal(number)})"
