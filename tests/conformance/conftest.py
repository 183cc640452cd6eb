"""A real tritonserver and a runtime of ours, with the same models."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbmodel.fleet.local import OUTPUT_FILE, start_local, stop_local
from nbmodel.runtime.server import GRPC, SERVER_NAME

if TYPE_CHECKING:
    from tests.tools.example_models import Model

from tests.tools.triton import NoTritonError, Triton, installed, packages, triton


@pytest.fixture(scope="session")
def real_triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A tritonserver with every toy model loaded; skips where there can be none."""
    pytest.importorskip("onnx", reason="toy models are made with onnx")
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    from tests.tools.example_models import ALL, write_triton_repository

    try:
        installed()
    except NoTritonError as exc:
        pytest.skip(f"no tritonserver: {exc}")
    repository = tmp_path_factory.mktemp("triton") / "models"
    write_triton_repository(repository, packages=packages())
    names = [model.name for model in ALL]
    with triton(repository, tmp_path_factory.mktemp("triton-scratch"), models=names) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Served:
    """A runtime of ours that runs.

    Attributes:
        http: ``host:port`` of its HTTP front end.
        grpc: ``host:port`` of its gRPC front end.
        pid: Of its process.
    """

    http: str
    grpc: str
    pid: int


@pytest.fixture(scope="session")
def our_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A runtime in a process of its own that serves every toy model, shared memory allowed."""
    pytest.importorskip("onnx", reason="toy models are made with onnx")
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    pytest.importorskip("grpc", reason="pip install 'nbmodel[runtime]'")
    from tests.tools.example_models import ALL

    with serving(tmp_path_factory.mktemp("ours"), ALL) as served:
        yield served


@contextmanager
def serving(
    folder: Path, models: Sequence[Model], *, server_name: str = SERVER_NAME
) -> Iterator[Served]:
    """A runtime with some toy models, until the block ends; what it keeps is in ``folder``."""
    from tests.tools.example_models import write_machine_config

    config = write_machine_config(folder / "models", models)
    home = folder / "home"
    runtime = start_local(
        "oracle",
        home,
        config=config,
        grpc="127.0.0.1:0",
        allow_shared_memory=True,
        server_name=server_name,
        timeout_s=60,
    )
    try:
        assert runtime.pid is not None
        address = runtime.url.removeprefix("http://")
        said = (home / OUTPUT_FILE).read_text().splitlines()
        (grpc,) = (line.removeprefix(GRPC) for line in said if line.startswith(GRPC))
        _wait_ready(address)
        yield Served(address, grpc, runtime.pid)
    finally:
        stop_local(runtime)


def _wait_ready(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return
        finally:
            connection.close()
        assert time.monotonic() < deadline, "the runtime was not ready in time"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def triton_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real tritonserver without models, which takes them."""
    scratch = tmp_path_factory.mktemp("triton")
    (scratch / "models").mkdir()
    try:
        with triton(scratch / "models", scratch, models=[]) as server:
            yield f"http://{server.http}"
    except NoTritonError as exc:
        pytest.skip(str(exc))
