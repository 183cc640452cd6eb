"""A registry as a server: an address, who may enter, and a thread or a process around it.

On the command line it runs until it is told to end; in a notebook, in a thread of its own.
Either way it takes no connection any more when it ends, and answers what is under way.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nbmodel.core.address import is_loopback
from nbmodel.errors import ConfigError, InputError, StorageUnavailableError
from nbmodel.plugins import require
from nbmodel.registry import Registry
from nbmodel.runtime.auth import Gate, ensure_token_in
from nbmodel.runtime.limits import DEFAULT_LIMITS, Limits
from nbmodel.runtime.listener import listen
from nbmodel.runtime.process import allow_files, ending_on_signals
from nbmodel.runtime.server import OTHERS, url_for_others, url_of
from nbmodel.storage.atomic import make_folder

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self
    from uvicorn import Config, Server
    from uvicorn.server import ServerState

READY = "nbmodel registry ready on "
MAX_BLOB = 1024**4  # bytes
_WHAT = "registry"
_CHALLENGE = 'Basic realm="nbmodel registry"'
_OTHER_FILES = 256  # descriptors open besides the clients' connections and what they read


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """How a registry is offered.

    Attributes:
        host: Name or IP address of this machine to listen on.
        port: 0 for any free one.
        read_only: Whether nothing can be pushed or deleted.
        token_file: Keeps the token, made when it is missing; None for the usual place.
        require_token: None: off loopback; True: everywhere; False: nowhere, which off
            loopback is for what is read-only alone.
        tls_cert: PEM file of the certificate and its chain; None: no TLS.
        tls_key: PEM file of its key, without a password; None where the certificate's file
            has it too.
        max_blob: Largest blob that is taken, in bytes, > 0.
        limits: What clients may use.

    Raises:
        InputError: A value is out of range, or two do not go together.
    """

    host: str = "127.0.0.1"
    port: int = 0
    read_only: bool = True
    token_file: Path | None = None
    require_token: bool | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_blob: int = MAX_BLOB
    limits: Limits = field(default_factory=lambda: DEFAULT_LIMITS)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise InputError(f"port {self.port}: expected 0 to 65535")
        if self.max_blob <= 0:
            raise InputError(f"largest blob of {self.max_blob} bytes, expected more than 0")
        if self.tls_key is not None and self.tls_cert is None:
            raise InputError("a key for TLS without a certificate", hint="add --tls-cert FILE")
        if self.token_file is not None and self.require_token is False:
            raise InputError("a token file, and no token wanted", hint="leave one of them out")


class RegistryServer:
    """The registry of a folder, offered over the distribution API.

    It listens from when it is made, and answers from ``start`` or ``run`` on. Other processes
    may use the folder meanwhile.

    Args:
        root: The registry's folder.
        home: Where the token is kept, unless the offer says where.
        offer: How it is offered.

    Attributes:
        url: Where this machine reaches it.
        url_for_others: Where others reach it; None on loopback.
        token: What has to be shown to it; None: nothing.
        new_token: The token, where it was made just now and has to be shown once.
        token_file: Where the token is kept; None without one.
        read_only: Whether nothing can be pushed or deleted.

    Raises:
        PluginError: The runtime extra is not installed.
        InputError: It cannot be listened on, or it would be open to a network.
        ConfigError: The token is not private, or the certificate cannot be used.
    """

    def __init__(self, root: Path, home: Path, offer: Offer) -> None:
        require("serving a registry", "httptools", "starlette", "uvicorn", extra="runtime")
        self.read_only = offer.read_only
        self._tls = None if offer.tls_cert is None else _check_tls(offer.tls_cert, offer.tls_key)
        self._offer = offer
        with ExitStack() as undo:
            self._listener = listen(offer.host, offer.port)
            undo.callback(self._listener.close)
            is_local = is_loopback(self._listener.getsockname()[0])
            self.token_file, self.token, self.new_token = _token(offer, home, is_local=is_local)
            hosts = frozenset({offer.host.lower()}) if is_local else None
            self._gate = Gate(self.token, hosts, _WHAT, _CHALLENGE)
            scheme = "http" if self._tls is None else "https"
            self.url = url_of(self._listener, scheme=scheme)
            self.url_for_others = url_for_others(self._listener, scheme=scheme)
            # One of its own: what the verbs do meanwhile, in other threads, does not wait for it.
            self._registry = Registry(root)
            undo.callback(self._registry.close)
            self._ready = threading.Event()
            self._on_ready: Callable[[], object] = self._ready.set
            self._server = self._make_server()
            undo.pop_all()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve in a thread, and return when it takes requests.

        Raises:
            StorageUnavailableError: It does not come up.
        """
        self._thread = threading.Thread(
            target=self._serve, name="nbmodel-registry-server", daemon=True
        )
        self._thread.start()
        while not self._ready.wait(0.05):
            if not self._thread.is_alive():
                self.close()
                raise StorageUnavailableError("the registry's server ended at its start")

    def run(self, say: Callable[[str], None]) -> None:
        """Serve in this thread, the main one, until a signal ends it.

        Args:
            say: Told what people and programs have to know, a line each.
        """
        with ending_on_signals():
            if self.new_token is not None:
                say(f"token, shown this once: {self.new_token}")
            if self.url_for_others is not None:
                say(f"{OTHERS}{self.url_for_others}")
            self._on_ready = partial(say, f"{READY}{self.url}")
            try:
                self._serve()
            finally:
                self.close()

    def close(self) -> None:
        """End: take no connection any more, and wait for what is under way, for a while."""
        self._server.should_exit = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._listener.close()
        self._registry.close()

    @property
    def is_running(self) -> bool:
        """Whether it serves in its thread."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        allow_files(2 * self._offer.limits.max_connections + _OTHER_FILES)
        self._server.run(sockets=[self._listener])

    def _make_server(self) -> Server:
        import uvicorn

        from nbmodel.runtime.watch import Watch
        from nbmodel.serving.app import registry_app
        from nbmodel.serving.connection import RegistryConnection

        limits, owner = self._offer.limits, self
        watch = Watch(limits)

        def connection(
            config: Config,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> RegistryConnection:
            return RegistryConnection(watch, config, server_state, app_state, _loop)

        class Serving(uvicorn.Server):
            """uvicorn, which says when it takes requests."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                owner._on_ready()

        app = registry_app(
            self._registry.storage,
            self._registry.repositories(),
            self._gate,
            max_blob=self._offer.max_blob,
            read_only=self.read_only,
        )
        config = uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", connection),
            lifespan="off",
            ws="none",
            log_config=None,
            # Of clients that try TLS first it would warn, in whatever cell runs just then.
            log_level=logging.ERROR,
            access_log=False,
            server_header=False,
            timeout_keep_alive=math.ceil(limits.idle_timeout_s),
            timeout_graceful_shutdown=math.ceil(limits.drain_s),
            ssl_certfile=None if self._tls is None else self._tls[0],
            ssl_keyfile=None if self._tls is None else self._tls[1],
        )
        return Serving(config)


def _token(
    offer: Offer, home: Path, *, is_local: bool
) -> tuple[Path | None, str | None, str | None]:
    """Where the token is, what it is, and once more if it was made just now."""
    if offer.require_token is False:
        if not is_local and not offer.read_only:
            raise InputError(
                f"a registry that anybody on the network of {offer.host} may write to",
                hint="leave out --no-token, or make it --read-only",
            )
        return None, None, None
    if offer.require_token is None and offer.token_file is None and is_local:
        return None, None, None
    file = home / "serving" / "token" if offer.token_file is None else offer.token_file
    if offer.token_file is None:
        try:
            make_folder(file.parent)
        except OSError as exc:
            raise ConfigError(f"cannot make {file.parent}: {exc.strerror or exc}") from exc
    token, is_new = ensure_token_in(file, "this registry")
    return file, token, token if is_new else None


def _check_tls(certificate: Path, key: Path | None) -> tuple[Path, Path | None]:
    """The files of TLS, when they can be used.

    Raises:
        ConfigError: They cannot be read, do not belong together, or the key has a password.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    given = f"{certificate}" if key is None else f"{certificate} and {key}"
    try:
        context.load_cert_chain(certificate, key, password=lambda: "\0")
    except OSError as exc:  # an SSLError is one too
        reason = getattr(exc, "reason", None) or exc.strerror or exc
        raise ConfigError(
            f"cannot speak TLS with {given}: {reason}",
            hint="PEM files of a certificate and of its key, which has no password",
        ) from exc
    return certificate, key
