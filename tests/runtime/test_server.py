"""The runtime as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from nbmodel.errors import InputError
from nbmodel.fleet.local import start_local, stop_local
from nbmodel.runtime.limits import Limits
from nbmodel.runtime.listener import host_for_others
from nbmodel.runtime.server import GRPC, OTHERS, READY, Address

pytestmark = pytest.mark.unhurried

COUNT = 1_500_000
REQUEST = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [COUNT]}]}


def command(home: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "nbmodel", "runtime", "start", "--home", str(home), *options]


@contextmanager
def started(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A runtime that is ready, and what it printed until it was."""
    process = subprocess.Popen(
        command(home, *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, _until_ready(process.stdout)
        finally:
            process.kill()


def _until_ready(output: IO[str]) -> list[str]:
    lines = []
    for line in output:
        lines.append(line.rstrip())
        if line.startswith(READY):
            return lines
    raise AssertionError(f"ended before it was ready: {lines}")


def failed(home: Path, *options: str) -> str:
    done = subprocess.run(
        command(home, *options), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_runtime_starts_answers_and_ends(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, "edge", "--foreground") as (process, lines):
        assert re.fullmatch(r"nbmodel runtime ready on http://127\.0\.0\.1:\d+", lines[-1])
        assert len(lines) == 1
        url = lines[-1].removeprefix(READY)
        answer = httpx.get(f"{url}/nbmodel/version", trust_env=False).json()
        assert (answer["name"], answer["pid"]) == ("edge", process.pid)
        process.send_signal(number)
        assert process.wait(10) == 0
    log = (tmp_path / "runtime.log").read_text()
    assert f"ready on {url}" in log
    assert "told to end" in log
    assert "Traceback" not in log


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_full_disk_refuses_what_comes_and_harms_nothing(tmp_path: Path) -> None:
    import resource

    def limit_files(size: int) -> None:
        # A limit on the size of files fails a write as a full disk does.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    with (
        started(tmp_path) as (process, lines),
        httpx.Client(base_url=lines[-1].removeprefix(READY), trust_env=False) as http,
    ):
        location = http.post("/v2/digits/blobs/uploads/").headers["Location"]
        limit_files(1_000_000)
        answer = http.patch(location, content=bytes(3_000_000))
        assert answer.status_code == 507
        assert list((tmp_path / "blobs" / "uploads").iterdir()) == [], "it frees what it had"
        before = http.get("/nbmodel/config")
        limit_files(1)
        answer = http.put("/nbmodel/config", json={"x": 1}, headers={"If-Match": "*"})
        assert (answer.status_code, answer.json()["type"]) == (507, "StorageUnavailableError")
        assert http.get("/nbmodel/config").headers["ETag"] == before.headers["ETag"]
        limit_files(resource.RLIM_INFINITY)
        answer = http.put("/nbmodel/config", json={"x": 1}, headers={"If-Match": "*"})
        assert answer.status_code == 200
        deadline = time.monotonic() + 10
        while list(tmp_path.glob(".new-*")):  # it is written down that this one works
            assert time.monotonic() < deadline
            time.sleep(0.01)


class TestWhileAModelIsBusy:
    """A request that takes about a second and a half, and what happens besides."""

    @pytest.fixture
    def busy(
        self,
        tmp_path: Path,
        counter_onnx: Path,
        service: Callable[[str, Path], dict[str, Any]],
    ) -> Iterator[tuple[subprocess.Popen[str], str, Future[httpx.Response]]]:
        config = tmp_path / "machine.json"
        config.write_text(json.dumps({"services": [service("counter", counter_onnx)]}))
        with started(tmp_path / "home", "--config", str(config)) as (process, lines):
            url = lines[-1].removeprefix(READY)
            with httpx.Client(base_url=url, trust_env=False) as http, ThreadPoolExecutor() as pool:
                while http.get("/v2/health/ready").status_code != 200:
                    time.sleep(0.02)
                path = f"{url}/v2/models/counter/infer"
                answer = pool.submit(httpx.post, path, json=REQUEST, timeout=60, trust_env=False)
                time.sleep(0.3)  # it is under way
                yield process, url, answer

    def test_others_are_answered(self, busy: Any) -> None:
        _, url, answer = busy
        for path in ("/v2/health/live", "/v2/models/counter", "/nbmodel/status"):
            assert httpx.get(url + path, trust_env=False).status_code == 200
        assert not answer.done()
        assert answer.result().json()["outputs"][0]["data"] == [COUNT]

    def test_the_end_waits_for_it(self, busy: Any) -> None:
        process, url, answer = busy
        with httpx.Client(base_url=url, trust_env=False) as http:
            assert http.get("/v2/health/ready").status_code == 200
            process.terminate()
            time.sleep(0.3)
            with pytest.raises(httpx.TransportError):
                http.get("/v2/health/ready")
        assert answer.result().json()["outputs"][0]["data"] == [COUNT]
        assert process.wait(10) == 0


def test_the_end_does_not_wait_longer_than_it_is_told(
    tmp_path: Path, counter_onnx: Path, service: Callable[[str, Path], dict[str, Any]]
) -> None:
    config = tmp_path / "machine.json"
    config.write_text(json.dumps({"services": [service("counter", counter_onnx)]}))
    options = ("--config", str(config), "--drain-s", "0.5")
    endless = {"inputs": [{**REQUEST["inputs"][0], "data": [COUNT * 100]}]}
    with started(tmp_path / "home", *options) as (process, lines), ThreadPoolExecutor() as pool:
        url = lines[-1].removeprefix(READY)
        while httpx.get(f"{url}/v2/health/ready", trust_env=False).status_code != 200:
            time.sleep(0.02)
        path = f"{url}/v2/models/counter/infer"
        answer = pool.submit(httpx.post, path, json=endless, timeout=60, trust_env=False)
        time.sleep(0.3)
        process.terminate()
        assert process.wait(10) == 0
        with pytest.raises(httpx.TransportError):
            answer.result()


def test_grpc_has_an_address_of_its_own_which_is_told(tmp_path: Path) -> None:
    grpc = pytest.importorskip("grpc", reason="pip install 'nbmodel[runtime]'")
    with started(tmp_path, "--grpc", "127.0.0.1:0") as (process, lines):
        assert re.fullmatch(r"nbmodel runtime gRPC on 127\.0\.0\.1:\d+", lines[-2])
        address = lines[-2].removeprefix(GRPC)
        url = lines[-1].removeprefix(READY)
        assert httpx.get(f"{url}/nbmodel/version", trust_env=False).json()["grpc"] == address
        with grpc.insecure_channel(address) as channel:
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert live(b"", timeout=10) == b"\x08\x01"  # live: true
        process.terminate()
        assert process.wait(10) == 0


def test_grpc_off_loopback_wants_a_token_everywhere(tmp_path: Path) -> None:
    with started(tmp_path, "--grpc", "0.0.0.0:0") as (_, lines):
        url = lines[-1].removeprefix(READY)
        assert httpx.get(f"{url}/nbmodel/status", trust_env=False).status_code == 401


def test_a_runtime_in_the_background_gets_the_same_options(tmp_path: Path) -> None:
    limits = Limits(max_request_bytes=1000, drain_s=12.5)
    runtime = start_local("edge", tmp_path, grpc="127.0.0.1:0", limits=limits)
    try:
        with httpx.Client(base_url=runtime.url, trust_env=False) as http:
            told = http.get("/nbmodel/version").json()
            assert told["grpc"].startswith("127.0.0.1:")
            assert told["drain_s"] == 12.5
            answer = http.post("/v2/models/x/infer", content=bytes(1001))
            assert answer.status_code == 413
    finally:
        assert stop_local(runtime)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_as_many_files_may_be_open_as_there_may_be_connections(tmp_path: Path) -> None:
    import resource

    with started(tmp_path, "--max-connections", "1500") as (process, _):
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    assert soft >= min(1500, hard)


def test_a_limit_that_is_none_is_told(tmp_path: Path) -> None:
    assert "--max-headers must be a whole number greater than 0" in failed(
        tmp_path, "--max-headers", "0"
    )


def test_it_starts_fast(tmp_path: Path) -> None:
    began = time.perf_counter()
    with started(tmp_path):
        took = time.perf_counter() - began
    # The bar is 1 s on a machine of its own; tests share theirs.
    assert took < 4


def test_off_loopback_a_token_is_made_and_shown_once(tmp_path: Path) -> None:
    with started(tmp_path, "--http", "0.0.0.0:0") as (_, lines):
        token = lines[0].removeprefix("token, shown this once: ")
        assert token == (tmp_path / "token").read_text().strip()
        url = lines[-1].removeprefix(READY)
        with httpx.Client(base_url=url, trust_env=False) as http:
            assert http.get("/v2/health/live").status_code == 200
            assert http.get("/nbmodel/status").status_code == 401
            http.headers["Authorization"] = f"Bearer {token}"
            assert http.get("/nbmodel/status").status_code == 200
    assert token not in (tmp_path / "runtime.log").read_text()
    with started(tmp_path, "--http", "0.0.0.0:0") as (_, lines):
        port = lines[-1].rpartition(":")[2]
        others = f"{OTHERS}http://{host_for_others('0.0.0.0')}:{port}"
        assert lines == [others, f"{READY}http://127.0.0.1:{port}"]


def test_a_token_can_be_wanted_on_loopback(tmp_path: Path) -> None:
    with started(tmp_path, "--require-token") as (_, lines):
        url = lines[-1].removeprefix(READY)
        assert httpx.get(f"{url}/nbmodel/status", trust_env=False).status_code == 401


def test_on_loopback_other_host_names_are_refused(tmp_path: Path) -> None:
    with started(tmp_path) as (_, lines):
        url = lines[-1].removeprefix(READY)
        answer = httpx.get(
            f"{url}/nbmodel/status", headers={"Host": "evil.example"}, trust_env=False
        )
    assert answer.status_code == 403


def test_a_home_is_one_runtimes(tmp_path: Path) -> None:
    with started(tmp_path):
        assert "home of a runtime that is running" in failed(tmp_path)


def test_a_killed_runtime_leaves_its_home_usable(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        with started(tmp_path) as (again, _):
            assert again.poll() is None


def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"cannot listen on {address}: " in failed(tmp_path, "--http", address)
        told = failed(tmp_path, "--grpc", address)
        assert f"cannot listen on {address} for gRPC: Address already in use" in told
        assert "chttp2" not in told  # a line of gRPC's own


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "cannot read the machine config", id="missing"),
        pytest.param("{", "cannot read the machine config", id="malformed"),
        pytest.param("[]", "expected a JSON object, found list", id="a list"),
        pytest.param(
            json.dumps({"services": [{"name": ""}, {"name": "b c", "api": "x"}]}),
            "problems\n  - services.0: empty service name\n  - ",
            id="several problems",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_told(
    tmp_path: Path, content: str | None, says: str
) -> None:
    config = tmp_path / "machine.json"
    if content is not None:
        config.write_text(content)
    assert says in failed(tmp_path / "home", "--config", str(config))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("0.0.0.0:8080", "0.0.0.0", 8080),
        ("[::1]:65535", "::1", 65535),
        ("pi.local:80", "pi.local", 80),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "localhost", "localhost:", "::1:80", "h:65536", "h:-1", "h:٣"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError, match="not an address to listen on"):
        Address.parse(text)


def test_taking_a_config_file_is_said(tmp_path: Path) -> None:
    config = tmp_path / "machine.json"
    for content, says in (('{"x": 1}', "config taken from the file"), ('{"x": 2}', "replaces")):
        config.write_text(content)
        with started(tmp_path / "home", "--config", str(config)) as (_, lines):
            assert says in lines[0]
        with started(tmp_path / "home", "--config", str(config)) as (_, lines):
            assert len(lines) == 1  # it is as before
