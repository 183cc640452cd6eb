"""The servers that are measured, each a process of its own, on the core that it is given."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.harness import ROOT
from tests.bench.load import pinned
from tests.tools.example_models import Model, write_machine_config, write_triton_repository
from tests.tools.triton import packages, triton

PEERS = ROOT / "build" / "peers"
_START_S = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        pid: Of the process; its descendants belong to it.
        http: ``host:port``, or empty.
        grpc: ``host:port``, or empty.
        token: What it wants to be shown, or None.
        start_s: Seconds from its start until it was ready.
    """

    pid: int
    http: str = ""
    grpc: str = ""
    token: str | None = None
    start_s: float = 0.0


@contextmanager
def runtime(
    folder: Path,
    config: Path,
    *,
    on: Sequence[int],
    root: Path = ROOT,
    grpc: bool = True,
    options: Sequence[str] = (),
) -> Iterator[Server]:
    """A runtime of ours, which wants a token.

    Args:
        folder: For its home; made.
        config: The machine config.
        on: Cores.
        root: The checkout whose code runs.
        grpc: Whether it speaks gRPC.
        options: Further ones of ``runtime start``.
    """
    command = [sys.executable, "-m", "nbmodel", "runtime", "start", "--require-token"]
    command += ["--config", str(config), "--home", str(folder / "home"), *options]
    if grpc:
        command += ["--grpc", "127.0.0.1:0"]
    folder.mkdir(parents=True)
    began = time.monotonic()
    with _process(command, folder / "output", on=on, cwd=root) as process:
        url = _said(process, folder / "output", "nbmodel runtime ready on http://")
        grpc_at = _said(process, folder / "output", "nbmodel runtime gRPC on ") if grpc else ""
        _until_ready(process, url)
        took = time.monotonic() - began
        token = (folder / "home" / "token").read_text().strip()
        yield Server(process.pid, url, grpc_at, token, took)


@contextmanager
def real_triton(folder: Path, models: Sequence[Model], *, on: Sequence[int]) -> Iterator[Server]:
    """The real tritonserver with its Python backend."""
    repository = write_triton_repository(folder / "models", models, packages=packages())
    (folder / "scratch").mkdir()
    names = [model.name for model in models]
    with ExitStack() as stack:
        with pinned(*on):
            server = stack.enter_context(triton(repository, folder / "scratch", models=names))
        yield Server(server.process.pid, server.http, server.grpc)


@contextmanager
def fastapi(folder: Path, models: Sequence[Model], *, on: Sequence[int]) -> Iterator[Server]:
    """uvicorn with FastAPI and a route that reads and writes binary tensors by hand."""
    write_machine_config(folder, models)
    python = _peer("fastapi", "fastapi", "uvicorn[standard]", "onnxruntime", "numpy")
    program = ROOT / "tests" / "bench" / "peer_fastapi.py"
    with _process([str(python), str(program), str(folder)], folder / "output", on=on) as process:
        address = _said(process, folder / "output", "ready on ")
        _until_ready(process, address)
        yield Server(process.pid, address)


@contextmanager
def mlserver(folder: Path, models: Sequence[Model], *, on: Sequence[int]) -> Iterator[Server]:
    """MLServer, which has JSON only."""
    write_machine_config(folder, models)
    python = _peer("mlserver", "mlserver", "onnxruntime", "numpy")
    program = ROOT / "tests" / "bench" / "peer_mlserver.py"
    with _process([str(python), str(program), str(folder)], folder / "output", on=on) as process:
        address = _said(process, folder / "output", "ready on ")
        _until_ready(process, address)
        yield Server(process.pid, address)


@contextmanager
def viam_server(folder: Path, model: Model, *, on: Sequence[int]) -> Iterator[Server]:
    """Viam's own Python server with an ML model service."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.onnx())
    program = ROOT / "tests" / "bench" / "peer_viam.py"
    command = [sys.executable, str(program), str(folder / "model.onnx"), model.name]
    with _process(command, folder / "output", on=on) as process:
        yield Server(process.pid, grpc=_said(process, folder / "output", "ready on "))


def _peer(name: str, *requirements: str) -> Path:
    """The Python of an environment made for one server, and kept."""
    home = PEERS / name
    python = home / "bin" / "python"
    if not (home / ".installed").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*install, *requirements], check=True)
        (home / ".installed").touch()
    return python


@contextmanager
def _process(
    command: Sequence[str], output: Path, *, on: Sequence[int], cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with ExitStack() as stack:
        file = stack.enter_context(output.open("wb"))
        with pinned(*on):
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=cwd, env=environment
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _said(process: subprocess.Popen[bytes], output: Path, start: str) -> str:
    """What follows ``start`` on the line that a program prints when it is ready."""

    def look() -> str:
        for line in output.read_text(errors="replace").splitlines():
            if line.startswith(start):
                return line.removeprefix(start)
        return ""

    return _wait(process, look, lambda: output.read_text(errors="replace")[-2000:])


def _until_ready(process: subprocess.Popen[bytes], address: str) -> None:
    def look() -> str:
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("GET", "/v2/health/ready")
            return "ready" if connection.getresponse().status == 200 else ""
        except OSError:
            return ""
        finally:
            connection.close()

    _wait(process, look, lambda: f"{address} is not ready")


def _wait(process: subprocess.Popen[bytes], look: Callable[[], str], why: Callable[[], str]) -> str:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := look():
            return found
        time.sleep(0.005)
    raise RuntimeError(f"not ready: {why()}")
