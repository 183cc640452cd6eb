"""Asking Jupyter servers of this machine which notebook a kernel is of.

The last resort, where neither environment nor front end tell: asked once in a process, in a
thread of its own, and waited for a moment at most. Colab's server is asked the same way.

Source: Jupyter Server's REST API, ``GET /api/sessions``, and the files ``jpserver-*.json`` that
servers leave in the runtime folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

WAIT_S = 0.2  # the most that asking holds anybody up, once in a process
_TIMEOUT_S = 2.0  # of a server
_MAX_SERVERS = 8
_MAX_ANSWER = 1024 * 1024  # bytes
_LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Server:
    """A Jupyter server.

    Attributes:
        url: Ends in ``/``.
        token: What it wants to be shown; may be empty.
        root: The folder that its paths are relative to; empty where that is not known.
    """

    url: str
    token: str = field(default="", repr=False)
    root: str = ""


def path_of_session() -> str | None:
    """Path of the notebook of this process's kernel; None where no server tells in time."""
    found = _looking()
    found.done.wait(WAIT_S)
    return found.path


class _Look:
    """The question to the servers, under way or answered."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.done = threading.Event()
        threading.Thread(target=self._ask, name="nbmodel-sessions", daemon=True).start()

    def _ask(self) -> None:
        try:
            # Nothing that a server or a file of the system says may be told as an error here.
            with contextlib.suppress(Exception):
                self.path = ask(servers(), _kernel_id())
        finally:
            self.done.set()


@cache
def _looking() -> _Look:
    return _Look()


def servers() -> Iterator[Server]:
    """Colab's server, else those of this user that run on this machine."""
    host, port = os.environ.get("COLAB_JUPYTER_IP"), os.environ.get("KMP_TARGET_PORT")
    if host and port:
        yield Server(f"http://{host}:{port}/")
        return
    from jupyter_core.paths import jupyter_runtime_dir

    files = Path(jupyter_runtime_dir()).glob("*server-*.json")
    newest = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
    for file in newest[:_MAX_SERVERS]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(file.read_text(encoding="utf-8"))
            if urlsplit(said["url"]).hostname in _LOCAL:  # a token goes nowhere else
                yield Server(said["url"], said.get("token", ""), said.get("root_dir", ""))


def ask(asked: Iterable[Server], kernel: str | None) -> str | None:
    """The path that one of the servers knows for a kernel.

    Args:
        asked: The servers, in this order; who does not answer is passed over.
        kernel: Its id; None: that of the only session.
    """
    for server in asked:
        with contextlib.suppress(OSError, HTTPException, ValueError):
            path = path_in(json.loads(_get(server)), kernel)
            if path is not None:
                return str(Path(server.root, path)) if server.root else path
    return None


def _get(server: Server) -> bytes:
    """What a server answers; its redirects are not followed, nor are proxies asked."""
    place = urlsplit(f"{server.url}api/sessions")
    kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
    headers = {"Authorization": f"token {server.token}"} if server.token else {}
    connection = kind(place.hostname or "", place.port, timeout=_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("GET", place.path, headers=headers)
        return connection.getresponse().read(_MAX_ANSWER)


def path_in(sessions: Any, kernel: str | None) -> str | None:
    """The path of a kernel's notebook in an answer of ``/api/sessions``.

    Colab's kernel knows another id than its server, which has one session; its path is an id
    in Google Drive, and its name that of the notebook.
    """
    told = [one for one in sessions if isinstance(one, Mapping)] if _is_list(sessions) else []
    for one in told:
        runs = one.get("kernel")
        is_it = isinstance(runs, Mapping) and runs.get("id") == kernel
        if is_it or (kernel is None and len(told) == 1):
            path, name = str(one.get("path") or ""), str(one.get("name") or "")
            return unquote(name if path.startswith("fileId=") and name else path) or None
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _kernel_id() -> str | None:
    """The id of this process's kernel, by the file that its server made for it."""
    if os.environ.get("COLAB_JUPYTER_IP"):
        return None
    connect = sys.modules["ipykernel.connect"]
    name = Path(connect.get_connection_file()).stem
    return str(name.removeprefix("kernel-"))
