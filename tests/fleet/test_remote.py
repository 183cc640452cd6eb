from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from nbmodel.errors import (
    AuthenticationError,
    ConfigConflictError,
    ConfigError,
    DatatypeError,
    DeployError,
    InferenceError,
    NbModelError,
    ShapeError,
    TargetError,
    TargetUnreachableError,
    TensorNameError,
)
from nbmodel.fleet.known import Known
from nbmodel.fleet.remote import RemoteRuntime

EXPECTED = [[15, 27, 39]]


@pytest.fixture
def remote(guarded: Known) -> Iterator[RemoteRuntime]:
    with RemoteRuntime(guarded.url, token=guarded.token, name="edge") as remote:
        yield remote


class TestInference:
    @pytest.mark.parametrize(
        "given",
        [
            pytest.param({"x": np.ones((1, 2), np.float32)}, id="what the model takes"),
            pytest.param({"x": np.ones((1, 2))}, id="a notebook's float64"),
            pytest.param({"x": [[1, 1]]}, id="lists of integers"),
            pytest.param(np.ones((1, 2)), id="the only input without its name"),
            pytest.param([1, 1], id="a row without its batch axis"),
            pytest.param({"x": np.ones((2, 2), order="F")[:1]}, id="a view"),
        ],
    )
    def test_what_a_notebook_has_is_taken(self, remote: RemoteRuntime, given: Any) -> None:
        outputs = remote.infer("linear", given)
        assert outputs["y"].tolist() == EXPECTED
        assert outputs["y"].dtype == np.float32
        outputs["y"] += 1  # they are the caller's

    def test_what_is_served_has_a_version_and_a_signature(self, remote: RemoteRuntime) -> None:
        served = remote.served("linear")
        assert served.version.isdigit()
        assert [tensor.name for tensor in served.signature.inputs] == ["x"]

    def test_outputs_are_chosen(self, remote: RemoteRuntime) -> None:
        assert list(remote.infer("linear", [[1, 1]], outputs=["y"])) == ["y"]
        with pytest.raises(NbModelError, match="unexpected output 'z'"):
            remote.infer("linear", [[1, 1]], outputs=["z"])

    @pytest.mark.parametrize(
        ("given", "error", "says"),
        [
            pytest.param({"z": [[1, 1]]}, TensorNameError, "'z'", id="another name"),
            pytest.param(
                {"x": [[[1, 1]]]}, ShapeError, r"\[-1, 2\], found \[1, 1, 2\]", id="another rank"
            ),
            pytest.param({"x": [["a", "b"]]}, DatatypeError, "found BYTES", id="text"),
            pytest.param({"x": [[1e300, 0]]}, DatatypeError, "1e\\+300", id="too large for FP32"),
        ],
    )
    def test_what_does_not_fit_is_told_before_it_is_sent(
        self, remote: RemoteRuntime, given: Any, error: type[NbModelError], says: str
    ) -> None:
        with pytest.raises(error, match=says):
            remote.infer("linear", given)

    def test_an_unknown_service_is_named_with_those_there(self, remote: RemoteRuntime) -> None:
        with pytest.raises(TargetError, match="nope") as caught:
            remote.infer("nope", [[1, 1]])
        assert "linear" in f"{caught.value} {caught.value.hint}"


class TestControl:
    def test_it_tells_who_and_how_it_is(self, remote: RemoteRuntime, guarded: Known) -> None:
        assert remote.version()["pid"] == guarded.pid
        assert [entry["name"] for entry in remote.status()["services"]] == ["linear"]
        assert all(isinstance(line, str) for line in remote.logs(5))
        assert len(remote.logs(1)) == 1
        remote.reconcile()

    def test_a_config_is_replaced_by_who_read_it(self, remote: RemoteRuntime) -> None:
        config, etag = remote.config()
        remote.put_config({**config, "mine": 1}, if_match=etag)
        with pytest.raises(ConfigConflictError):
            remote.put_config(config, if_match=etag)
        remote.put_config(config, if_match=None)
        assert remote.config() == (config, etag)

    def test_a_config_that_is_wrong_comes_back_with_all_problems(
        self, remote: RemoteRuntime
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            remote.put_config({"services": [{}], "packages": [{}]}, if_match=None, dry_run=True)
        assert len(caught.value.problems) > 2

    @pytest.mark.parametrize("value", [float("nan"), "\ud800", object()])
    def test_a_config_that_is_no_json_is_not_sent(
        self, remote: RemoteRuntime, value: object
    ) -> None:
        with pytest.raises(ConfigError, match="cannot be written as JSON"):
            remote.put_config({"x": value}, if_match=None)

    def test_nothing_to_go_back_to_is_said(self, remote: RemoteRuntime) -> None:
        with pytest.raises(DeployError):
            remote.rollback("linear")

    @pytest.mark.parametrize("token", [None, "wrong"])
    def test_the_token_is_wanted(self, guarded: Known, token: str | None) -> None:
        with (
            RemoteRuntime(guarded.url, token=token, name="edge") as remote,
            pytest.raises(AuthenticationError, match=r"'edge'.*token") as caught,
        ):
            remote.status()
        assert "runtime add edge" in (caught.value.hint or "")

    def test_the_distribution_api_takes_the_same_token(self, remote: RemoteRuntime) -> None:
        remote.distribution.check()


class TestTheNetwork:
    def test_a_refused_connection_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with (
            RemoteRuntime(f"127.0.0.1:{port}", name="edge") as remote,
            pytest.raises(TargetUnreachableError) as caught,
        ):
            remote.status()
        assert str(caught.value) == (
            f"cannot reach runtime 'edge' at http://127.0.0.1:{port}: connection refused"
        )
        assert "is it running?" in (caught.value.hint or "")

    def test_a_name_that_does_not_resolve_is_told(self) -> None:
        with (
            RemoteRuntime("http://nowhere.invalid:1", name="edge") as remote,
            pytest.raises(TargetUnreachableError, match=r"'edge' at http://nowhere\.invalid:1: "),
        ):
            remote.status()

    def test_an_answer_that_does_not_come_is_told(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            RemoteRuntime(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.1) as remote,
            pytest.raises(TargetUnreachableError, match=r"no answer within 0\.1 s"),
        ):
            remote.status()

    @pytest.mark.parametrize("path", ["/nbmodel/status", "infer"])
    def test_another_server_is_told_from_a_runtime(self, foreign: str, path: str) -> None:
        with RemoteRuntime(foreign, name="edge") as remote, pytest.raises(NbModelError) as caught:
            remote.infer("m", [1]) if path == "infer" else remote.status()
        assert isinstance(caught.value, (DeployError, InferenceError))
        assert foreign in str(caught.value)


@pytest.fixture
def foreign() -> Iterator[str]:
    """A web server that answers everything with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
