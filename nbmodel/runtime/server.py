"""The runtime as a process: addresses, lock, log, token, signals, and uvicorn around it all.

When it takes requests, it prints one line, which programs may read too, and before it one
for gRPC where that was asked for, and one for people where other machines can reach it::

    nbmodel runtime gRPC on 127.0.0.1:8124
    others reach it at http://192.168.1.20:8123
    nbmodel runtime ready on http://127.0.0.1:8123

Its services may still be loading then; ``/v2/health/ready`` tells when they are done.
SIGTERM and SIGINT end it: it is not ready from then on, takes no connection any more, and
answers what is under way.

Under systemd it says when it is ready, what it is at, and, while its event loop and its
reconciler live, that it is alive.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nbmodel import config as settings
from nbmodel.core.address import is_loopback
from nbmodel.core.summary import summary
from nbmodel.errors import ConfigError, InputError
from nbmodel.plugins import require
from nbmodel.runtime.auth import Gate, ensure_token
from nbmodel.runtime.limits import DEFAULT_LIMITS, Limits
from nbmodel.runtime.listener import host_for_others, listen
from nbmodel.runtime.maintenance import MaintenanceHook
from nbmodel.runtime.memory import share_one_heap
from nbmodel.runtime.notify import JournalFormatter, Notifier, is_kept_by_journal
from nbmodel.runtime.process import allow_files, ending_on_signals
from nbmodel.runtime.trust_policy import load_policy
from nbmodel.runtime.workers import Setup, Workers, check_workers
from nbmodel.storage.lock import file_lock

if TYPE_CHECKING:
    import asyncio

    from nbmodel.runtime.edge import EdgeRuntime
    from nbmodel.runtime.grpc_server import GrpcServer

logger = logging.getLogger(__name__)

SERVER_NAME = "nbmodel"  # in the metadata of the inference protocol
DEFAULT_HTTP = "127.0.0.1:0"
READY = "nbmodel runtime ready on "
GRPC = "nbmodel runtime gRPC on "
OTHERS = "others reach it at "
LOG_FILE = "runtime.log"
LOCK_FILE = "lock"
_LOG_BYTES = 1024 * 1024  # of one log file
_LOG_FILES = 5  # besides the present one
_MAX_CONFIG = 4 * 1024 * 1024  # bytes of a machine config
_SWITCH_S = 0.0005
_LAST_S = 0.2  # given to threads that have nothing left to do
_KILL_S = 5.0  # after the time to drain, what is left of a worker is ended
_SIGNS = 3  # of life in the time in which one is wanted
_TELL_S = 2.0  # between looks at what the service manager is told
_OTHER_FILES = 256  # descriptors that a runtime has open besides its clients' connections


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        host: Name or IP address.
        port: 0 for any free one.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT`` or ``[IPV6]:PORT``.

        Raises:
            InputError: It is neither.
        """
        host, colon, port = text.rpartition(":")
        is_v6 = host.startswith("[") and host.endswith("]")
        if (
            not colon
            or not host
            or (":" in host and not is_v6)
            or not (port.isascii() and port.isdecimal() and int(port[:6]) <= 65535)
        ):
            raise InputError(
                f"not an address to listen on: {text!r}",
                hint="HOST:PORT, for example 127.0.0.1:8080, or 0.0.0.0:8080 for all networks",
            )
        return cls(host[1:-1] if is_v6 else host, int(port))


def serve(
    *,
    config: str | Path | None = None,
    http: str = DEFAULT_HTTP,
    home: str | Path | None = None,
    name: str | None = None,
    require_token: bool = False,
    grpc: str | None = None,
    allow_shared_memory: bool = False,
    workers: int = 1,
    server_name: str = SERVER_NAME,
    maintenance_hook: str | os.PathLike[str] | None = None,
    trust_policy: str | os.PathLike[str] | None = None,
    trusted_key: str | os.PathLike[str] | None = None,
    allow_code: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Run a runtime until it is told to end.

    Args:
        config: File with the machine config to start with.
        http: ``HOST:PORT`` to listen on; port 0 is any free one.
        home: Where the runtime keeps models, config, token and log;
            ``<NBMODEL_HOME>/runtime`` when not given.
        name: What it calls itself; the machine's name when not given.
        require_token: Want a token on loopback too; off it, one is always wanted. It is kept
            in the home folder, and shown when it was made.
        grpc: ``HOST:PORT`` to listen on for gRPC; None: it is not spoken.
        allow_shared_memory: Let clients on this machine register shared memory.
        workers: Processes that answer inference requests over HTTP, this one included; each
            has the models in its own memory.
        server_name: What the inference protocol calls it.
        maintenance_hook: A program that is asked before a version is taken up: it ends with
            0 for yes.
        trust_policy: File that says whose signatures count for which model; others run no
            more. Given here and not in the config, which whoever has the token may change.
        trusted_key: File with a public key: a policy that trusts it alone, for all models.
        allow_code: Run models that are code of their own, each in a process of its own. Given
            here and not in the config, as the trust policy is. A token is always wanted then.
        limits: What clients may use, of each process.

    Raises:
        InputError: The address cannot be read or listened on, or the hook is no program.
        PluginError: The runtime extra is not installed.
        ConfigError: The config or the trust policy cannot be used, the home folder is another
            runtime's or cannot be written, or the token file is not private.
    """
    require("a runtime", "httptools", "starlette", "uvicorn", extra="runtime")
    if grpc is not None:
        require("gRPC", "grpc", extra="runtime")
    check_workers(workers)
    if workers > 1 and allow_shared_memory:
        raise InputError(
            "--workers and --allow-shared-memory do not go together",
            hint="a region is registered with one process",
        )
    address = Address.parse(http)
    grpc_address = None if grpc is None else Address.parse(grpc)
    wanted = None if config is None else _read_config(Path(config))
    hook = None if maintenance_hook is None else check_hook(maintenance_hook)
    trust = load_policy(
        None if trust_policy is None else Path(trust_policy).expanduser(),
        None if trusted_key is None else Path(trusted_key).expanduser(),
    )
    notifier = Notifier.from_environment()
    folder = settings.home() / "runtime" if home is None else Path(home).expanduser().absolute()
    share_one_heap()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_held(folder))
        stack.enter_context(_logging_to(folder / LOG_FILE))
        listener = stack.enter_context(
            contextlib.closing(listen(address.host, address.port, is_shared=workers > 1))
        )
        is_local = is_loopback(listener.getsockname()[0])
        is_open = not is_local or not (grpc_address is None or is_loopback(grpc_address.host))
        # Who may deploy may run code: not everybody on this machine.
        token = _token(folder) if require_token or is_open or allow_code else None
        gate = Gate(token, frozenset({address.host.lower()}) if is_local else None)
        allow_files(limits.max_connections + _OTHER_FILES)
        stack.enter_context(ending_on_signals())

        # Engines and web server come last: what is wrong with the arguments is told fast.
        from nbmodel.runtime.edge import EdgeRuntime
        from nbmodel.runtime.shared_memory import SharedMemory

        memory = SharedMemory(allowed=allow_shared_memory)
        runtime = EdgeRuntime(
            folder,
            config=wanted,
            name=name,
            shared_memory=memory,
            server_name=server_name,
            maintenance=None if hook is None else MaintenanceHook(hook),
            trust=trust,
            allow_code=allow_code,
        )
        stack.callback(runtime.close)
        if runtime.config_note is not None:
            _say(runtime.config_note)
        grpc_server = None if grpc_address is None else _grpc(runtime, gate, grpc_address, limits)
        _run(
            runtime,
            gate,
            listener,
            home=folder,
            limits=limits,
            grpc=grpc_server,
            workers=workers,
            notifier=notifier,
        )


def leave() -> None:
    """End the process after ``serve``, at once if an engine still computes.

    What is not answered when the time to drain is over cannot be broken off: the end of the
    interpreter would wait for such a thread, or crash when it comes back from its engine.
    """
    deadline = time.monotonic() + _LAST_S
    for thread in threading.enumerate():
        if thread.name.startswith("nbmodel-"):
            thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.name.startswith("nbmodel-") for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def url_of(listener: socket.socket, *, scheme: str = "http") -> str:
    """The address that a listening socket is reached at from this machine."""
    host, port = listener.getsockname()[:2]
    return _url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port, scheme)  # noqa: S104 # not bound here


def url_for_others(listener: socket.socket, *, scheme: str = "http") -> str | None:
    """The address that other machines may reach a listening socket at; None on loopback."""
    host, port = listener.getsockname()[:2]
    return None if is_loopback(host) else _url(host_for_others(host), port, scheme)


def _url(host: str, port: int, scheme: str) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _grpc(runtime: EdgeRuntime, gate: Gate, address: Address, limits: Limits) -> GrpcServer:
    # Else its library writes lines of its own to standard error. Read when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from nbmodel.runtime.grpc_server import GrpcServer

    return GrpcServer(runtime, gate, address, version=version("nbmodel"), limits=limits)


def _run(
    runtime: EdgeRuntime,
    gate: Gate,
    listener: socket.socket,
    *,
    home: Path,
    limits: Limits,
    grpc: GrpcServer | None,
    workers: int,
    notifier: Notifier,
) -> None:
    import asyncio

    import uvicorn

    from nbmodel.runtime.app import make_app, make_plane
    from nbmodel.runtime.http_connection import FrontEnd

    # With Python's 5 ms, a thread that decodes would hold up every other request so long.
    sys.setswitchinterval(_SWITCH_S)
    url, others_at = url_of(listener), url_for_others(listener)
    grpc_at = None if grpc is None else grpc.start()
    plane = make_plane(runtime, max_input=limits.max_request_bytes)
    front = FrontEnd(plane, gate, limits)
    app = make_app(
        runtime,
        gate,
        plane=plane,
        max_input=limits.max_request_bytes,
        budget=front.budget,
        grpc=grpc_at,
        drain_s=limits.drain_s,
    )

    class Server(uvicorn.Server):
        """uvicorn, which says when it takes requests, and ends gRPC beside it."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if workers > 1:
                self._share(asyncio.get_running_loop())
            gc.freeze()  # what is there now stays; looking through it again and again is waste
            if grpc_at is not None:
                logger.info("gRPC on %s", grpc_at)
                _say(f"{GRPC}{grpc_at}")
            if others_at is not None:
                _say(f"{OTHERS}{others_at}")
            _say(f"{READY}{url}")
            runtime.journal.note(f"nbmodel {version('nbmodel')} is ready on {url}", type="Started")
            notifier.ready(f"ready on {url}")
            if notifier.is_listened_to:
                loop = asyncio.get_running_loop()
                telling.extend(
                    map(loop.create_task, (keep_alive(notifier, runtime), _tell(notifier, runtime)))
                )

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            notifier.stopping()
            for task in telling:
                task.cancel()
            runtime.drain()
            # Also wakes who waits for events: no answer shall hold up the end.
            runtime.journal.note("told to end", type="Ending")
            loop = asyncio.get_running_loop()
            until = loop.time() + limits.drain_s + _KILL_S
            for others in sharing:
                others.end()
            ending = None if grpc is None else loop.run_in_executor(None, grpc.stop, limits.drain_s)
            await super().shutdown(sockets)
            if ending is not None:
                await ending
            for others in sharing:
                await loop.run_in_executor(None, others.join, max(0.0, until - loop.time()))

        def _share(self, loop: asyncio.AbstractEventLoop) -> None:
            """Start the workers, and go on with the connections that they pass on."""

            def adopt(given: socket.socket, data: bytes) -> None:
                adopted = front.adopt(given, data, self.config, self.server_state)
                try:
                    asyncio.run_coroutine_threadsafe(adopted, loop)
                except RuntimeError:  # the loop has ended: nobody is left to serve it
                    adopted.close()
                    given.close()

            host, port = listener.getsockname()[:2]
            setup = Setup(home, host, port, gate.token, gate.hosts, limits)
            sharing.append(Workers(workers - 1, setup, adopt))
            runtime.share(sharing[0])

    sharing: list[Workers] = []
    telling: list[asyncio.Task[None]] = []
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", front.protocol),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=math.ceil(limits.idle_timeout_s),
        timeout_graceful_shutdown=math.ceil(limits.drain_s),
    )
    try:
        Server(config).run(sockets=[listener])
    finally:
        plane.close()


def check_hook(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a maintenance hook.

    Raises:
        InputError: It is no file that can be run.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file() or not os.access(file, os.X_OK):
        raise InputError(
            f"the maintenance hook {file} is no program that can be run",
            hint=f"chmod +x {file}" if file.is_file() else "give the path of an executable file",
        )
    return file


async def keep_alive(notifier: Notifier, runtime: EdgeRuntime) -> None:
    """Signs of life, while the event loop and the thread that follows the config live."""
    import asyncio

    while notifier.watchdog_s is not None:
        if runtime.is_alive:
            notifier.alive()
        await asyncio.sleep(notifier.watchdog_s / _SIGNS)


async def _tell(notifier: Notifier, runtime: EdgeRuntime) -> None:
    """What the runtime is at, in the service manager's words."""
    import asyncio

    while True:
        status = await asyncio.to_thread(runtime.status)
        notifier.status(summary(status))
        await asyncio.sleep(_TELL_S)


def _read_config(path: Path) -> object:
    try:
        if path.stat().st_size > _MAX_CONFIG:
            raise ConfigError(f"machine config {path} is larger than {_MAX_CONFIG} bytes")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"cannot read the machine config {path}: {exc}") from exc


def _token(home: Path) -> str:
    token, is_new = ensure_token(home)
    if is_new:
        _say(f"token, shown this once: {token}")
    return token


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 # a program's message


@contextlib.contextmanager
def _held(home: Path) -> Iterator[None]:
    """The home folder, made where it is missing, for this process alone."""
    with contextlib.ExitStack() as stack:
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(file_lock(home / LOCK_FILE, wait=False))
        except BlockingIOError as exc:
            raise ConfigError(
                f"{home} is the home of a runtime that is running", hint="give another --home"
            ) from exc
        except OSError as exc:
            raise ConfigError(f"cannot use {home} as the home of a runtime: {exc}") from exc
        yield


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Everything that is logged, into a file that is turned over before it gets large.

    Where systemd keeps what the process writes, it is there too. A disk that does not take
    it keeps no model from running: then standard error has it.
    """
    handler: logging.Handler
    refusal: OSError | None = None
    try:
        handler = RotatingFileHandler(
            path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8"
        )
    except OSError as exc:
        handler, refusal = logging.StreamHandler(), exc
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handlers = [handler]
    if is_kept_by_journal() and refusal is None:
        handlers.append(logging.StreamHandler())
        handlers[-1].setFormatter(JournalFormatter("%(message)s"))
    root = logging.getLogger()
    level = root.level
    for one in handlers:
        root.addHandler(one)
    root.setLevel(logging.INFO)
    if refusal is not None:
        logger.warning("cannot log to %s: %s", path, refusal.strerror)
    try:
        yield
    finally:
        root.setLevel(level)
        for one in handlers:
            root.removeHandler(one)
            one.close()
