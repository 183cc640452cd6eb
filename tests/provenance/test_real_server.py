"""A real Jupyter server: what its kernels are told, and what it answers them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

client = pytest.importorskip("jupyter_client", reason="needs nbmodel[notebook]")
pytest.importorskip("jupyter_server", reason="needs nbmodel[notebook]")

pytestmark = pytest.mark.unhurried
WAIT_S = 240.0
TOKEN = "abc"


class Server:
    """A Jupyter server."""

    def __init__(self, port: int, runtime: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/api"
        self.runtime = runtime

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {TOKEN}"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.load(answer)

    def session(self, path: str) -> dict[str, Any]:
        kernel = {"name": "python3"}
        body = {"path": path, "name": "", "type": "notebook", "kernel": kernel}
        made: dict[str, Any] = self.ask("POST", "/sessions", body)
        return made

    def run(self, session: dict[str, Any], code: str) -> str:
        """What a cell in the session's kernel prints."""
        file = self.runtime / f"kernel-{session['kernel']['id']}.json"
        until = time.monotonic() + WAIT_S
        while not file.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        kernel = client.BlockingKernelClient(connection_file=str(file))
        kernel.load_connection_file()
        kernel.start_channels()
        try:
            kernel.wait_for_ready(timeout=WAIT_S)
            printed: list[str] = []

            def hook(message: dict[str, Any]) -> None:
                if message["msg_type"] == "stream":
                    printed.append(message["content"]["text"])
                assert message["msg_type"] != "error", message

            kernel.execute_interactive(code, timeout=WAIT_S, output_hook=hook)
            return "".join(printed).strip()
        finally:
            kernel.stop_channels()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    runtime = folder / "runtime"
    (folder / "root" / "work").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = (
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder / 'root'}",
        f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.open_browser=False",
        "--ServerApp.allow_root=True",
        "--ServerApp.jpserver_extensions={}",
    )
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime)}
    environment.pop("JPY_SESSION_NAME", None)
    log = (folder / "log.txt").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", *words], env=environment, stdout=log, stderr=log
    )
    started = Server(port, runtime)
    try:
        until = time.monotonic() + WAIT_S
        while True:
            assert process.poll() is None, (folder / "log.txt").read_text()[-2000:]
            assert time.monotonic() < until
            try:
                started.ask("GET", "/status")
                break
            except OSError:
                time.sleep(0.1)
        yield started
        for session in started.ask("GET", "/sessions"):
            request = urllib.request.Request(
                f"{started.url}/sessions/{session['id']}",
                headers={"Authorization": f"token {TOKEN}"},
                method="DELETE",
            )
            urllib.request.urlopen(request, timeout=WAIT_S).close()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


LOOK = (
    "import time\n"
    "from nbmodel.provenance.notebook import place_here\n"
    "until = time.monotonic() + 120\n"
    "while place_here().path is None and time.monotonic() < until:\n"
    "    time.sleep(0.05)\n"  # a moment is all that one call waits
    "found = place_here()\n"
    "print(found.front_end, found.path)"
)


def test_a_notebook_that_had_its_name_when_its_kernel_began(server: Server) -> None:
    session = server.session("work/train.ipynb")
    root = server.runtime.parent / "root"
    assert server.run(session, LOOK) == f"jupyter {root / 'work' / 'train.ipynb'}"


def test_a_notebook_that_got_its_name_later(server: Server) -> None:
    """JupyterLab begins a session under an id, and gives it the path when it is there."""
    session = server.session("work/34361149-e3d8-4dbc-9302-0e86431b3e8c")
    server.ask("PATCH", f"/sessions/{session['id']}", {"path": "work/late.ipynb"})
    root = server.runtime.parent / "root"
    assert server.run(session, LOOK) == f"jupyter {root / 'work' / 'late.ipynb'}"
