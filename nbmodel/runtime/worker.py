"""A worker process of a runtime: the models that are live, and requests about them.

Started by ``runtime.workers`` as ``python -m nbmodel.runtime.worker``, with two sockets: one
for lines of JSON, one for connections that are the runtime's to serve. It ends when the
runtime does.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, cast
from urllib.parse import unquote

import uvicorn

from nbmodel.errors import NbModelError
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.runtime.answer import Call
from nbmodel.runtime.auth import Gate
from nbmodel.runtime.channel import lines, pass_connection, send_line, source_from_json
from nbmodel.runtime.http_connection import FrontEnd, HttpConnection
from nbmodel.runtime.lookup import unknown
from nbmodel.runtime.memory import share_one_heap
from nbmodel.runtime.oip import DataPlane
from nbmodel.runtime.scheduler import Pending
from nbmodel.runtime.services import LiveService, ServiceView, load_service
from nbmodel.runtime.serving import Serving
from nbmodel.runtime.shared_memory import SharedMemory
from nbmodel.runtime.statistics import ModelStatistics
from nbmodel.runtime.workers import Setup
from nbmodel.storage import OciLayout
from nbmodel.storage.base import Storage

logger = logging.getLogger("nbmodel.runtime.worker")  # this module is __main__

#: What a worker answers, of a service that is live in it.
_OURS = re.compile(r"/v2/models/([^/]+)(?:/versions/[0-9]+)?(?:/(?:infer|ready|config))?")


class LiveModels:
    """The services that this process was told to serve.

    Args:
        storage: Where manifests are.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._live: dict[str, LiveService] = {}
        self._serving = Serving(self._find, SharedMemory())

    @property
    def names(self) -> frozenset[str]:
        """Of the services that are live."""
        return frozenset(self._live)

    def follow(self, services: Mapping[str, Mapping[str, Any]]) -> None:
        """Serve these services and no others.

        One that cannot be loaded here is left to the runtime's own process, which has it.

        Args:
            services: Name → source, as ``channel.source_to_json`` wrote it.
        """
        for name in self._live.keys() - services.keys():
            self._live.pop(name).retire()
        for name, data in services.items():
            try:
                self._bring(name, data)
            except Exception:  # an engine may raise anything
                logger.exception("cannot load %s", name)
                old = self._live.pop(name, None)
                if old is not None:
                    old.retire()

    @property
    def ready(self) -> bool:
        """Whether it was told what to serve; it takes no requests before."""
        return True

    def service(self, name: str) -> ServiceView:
        """A service that is live here."""
        return self._find(name).view(name)

    def infer(self, request: InferRequest) -> InferResponse:
        """Run a service's model, waiting for it."""
        return self._serving.infer(request)

    def submit(
        self, request: InferRequest, done: Callable[[InferResponse | NbModelError], None]
    ) -> Pending:
        """Run a service's model; ``done`` is called once, now or later."""
        return self._serving.submit(request, done)

    def statistics(self, name: str | None = None) -> tuple[ModelStatistics, ...]:
        """What a service, or all of them, did here; nothing of one that is not live."""
        return tuple(counts for _key, counts in self.keyed_statistics(name))

    def keyed_statistics(self, name: str | None = None) -> tuple[tuple[str, ModelStatistics], ...]:
        """As ``statistics``, each with the key of the source that the model is loaded from."""
        live = dict(self._live)
        return tuple(
            (live[one].key, live[one].statistics(one)) for one in live if name in (None, one)
        )

    def _bring(self, name: str, data: Mapping[str, Any]) -> None:
        source = source_from_json(data, self._storage)
        old = self._live.get(name)
        if old is not None and old.key == source.key:
            if source.installed is not None:
                old.relabel(source.installed)
            return
        self._live[name] = load_service(source)
        if old is not None:
            old.retire()

    def _find(self, name: str) -> LiveService:
        live = self._live.get(name)
        if live is None:
            raise unknown(name)
        return live


class WorkerPlane(DataPlane):
    """The routes that a worker serves: those of the services that are live in it.

    Args:
        models: What is live.
        max_input: Most bytes that a compressed body may hold.
    """

    def __init__(self, models: LiveModels, *, max_input: int) -> None:
        super().__init__(models, control=None, version=version("nbmodel"), max_input=max_input)
        self._mine = models

    def match(self, path: str) -> Call | None:
        """The route of a path, or None when the runtime's own process must answer it."""
        found = _OURS.fullmatch(path)
        if found is None or unquote(found[1]) not in self._mine.names:
            return None
        return super().match(path)


class WorkerFrontEnd(FrontEnd):
    """A front end that passes on to the runtime what it cannot answer.

    Args:
        plane: Answers what can be answered here.
        setup: The worker's.
        runtime: Where connections go.
    """

    takes_sockets = True

    def __init__(self, plane: WorkerPlane, setup: Setup, runtime: socket.socket) -> None:
        super().__init__(plane, Gate(setup.token, setup.hosts), setup.limits)
        self._runtime = runtime

    def hand_over(self, connection: HttpConnection, head: bytes, rest: bytes) -> None:
        """Pass a connection to the runtime's own process."""
        transport = connection.leave()
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        transport.abort()  # this process's end of it; the connection goes on
        # In a thread: the runtime may be slow to take it.
        asyncio.get_running_loop().run_in_executor(None, self._pass, descriptor, head + rest)

    def _pass(self, descriptor: int, data: bytes) -> None:
        try:
            pass_connection(self._runtime, descriptor, data)
        except (OSError, ValueError) as exc:
            logger.warning("a connection is lost: %s", exc)
        finally:
            os.close(descriptor)


class ChannelHandler(logging.Handler):
    """Sends what is logged to the runtime, which has the log file.

    Args:
        channel: For lines of JSON.
        lock: Held while a line is sent.
    """

    def __init__(self, channel: socket.socket, lock: threading.Lock) -> None:
        super().__init__(logging.INFO)
        self._channel = channel
        self._send_lock = lock

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; without a runtime there is nobody to tell."""
        try:
            with self._send_lock:
                send_line(
                    self._channel,
                    {"log": self.format(record), "level": record.levelno, "name": record.name},
                )
        except OSError:
            return


def main(arguments: list[str]) -> None:
    """Serve until the runtime ends or says so.

    Args:
        arguments: File descriptors of the two sockets.
    """
    share_one_heap()
    channel, runtime = (socket.socket(fileno=int(one)) for one in arguments)
    lock = threading.Lock()
    # Level and name travel beside it, and are the runtime's to write.
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[ChannelHandler(channel, lock)]
    )
    told = lines(channel)
    setup = Setup.from_json(next(told))
    models = LiveModels(OciLayout(setup.home / "blobs"))
    plane = WorkerPlane(models, max_input=setup.limits.max_request_bytes)
    front = WorkerFrontEnd(plane, setup, runtime)

    def answer(line: Mapping[str, Any]) -> None:
        if line["verb"] == "follow":
            models.follow(line["services"])
            front.forget()
        named = line.get("service")
        counts = [(key, asdict(one)) for key, one in models.keyed_statistics(named)]
        with lock:
            send_line(channel, {"id": line["id"], "statistics": counts})

    for line in told:  # nothing is served before it is known what is
        answer(line)
        if line["verb"] == "follow":
            break
    _serve(front, setup, told, answer)
    plane.close()


def _serve(
    front: WorkerFrontEnd,
    setup: Setup,
    told: Iterator[dict[str, Any]],
    answer: Callable[[Mapping[str, Any]], None],
) -> None:
    async def unused(_scope: Any, _receive: Any, _send: Any) -> None:
        """Take no request: uvicorn's own connections are the runtime's."""

    server = uvicorn.Server(
        uvicorn.Config(
            cast("Any", unused),
            http=cast("type[asyncio.Protocol]", front.protocol),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(setup.limits.drain_s),
        )
    )

    def listen() -> None:
        for line in told:
            answer(line)
        server.should_exit = True  # the runtime is gone

    threading.Thread(target=listen, name="nbmodel-told", daemon=True).start()
    family = socket.AF_INET6 if ":" in setup.host else socket.AF_INET
    listener = socket.create_server(
        (setup.host, setup.port), family=family, backlog=2048, reuse_port=True
    )
    with listener:
        server.run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1:])
