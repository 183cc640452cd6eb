"""Both clients against servers that misbehave, or differ."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from nbmodel.errors import (
    InferenceError,
    InputError,
    NbModelError,
    TargetUnreachableError,
    TensorNameError,
    UnavailableError,
)
from nbmodel.inference import AsyncInferenceClient
from nbmodel.inference.channel import MAX_TOLD

pytestmark = pytest.mark.unhurried

METADATA = {
    "name": "m",
    "versions": ["1"],
    "platform": "test",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


@dataclass
class Scripted:
    """A server whose answers to inference are given, one a request, then again from the first.

    Everything else is answered with ``told``: metadata. An answer of ``None`` closes the connection
    without a byte; one that ends in ``CLOSE`` closes it afterwards.
    """

    url: str = ""
    answers: list[bytes | None] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    told: bytes = b""


CLOSE = b"<close>"


def ok(body: bytes = b"", **headers: str) -> bytes:
    """An answer of 200 with a body."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def tensor(values: list[float], version: str = "1") -> bytes:
    """The JSON of an answer with one row of output y."""
    output = {"name": "y", "datatype": "FP32", "shape": [1, len(values)], "data": values}
    return json.dumps({"model_name": "m", "model_version": version, "outputs": [output]}).encode()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    """Starts a server with given answers."""
    listeners: list[socket.socket] = []
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(*answers: bytes | None) -> Scripted:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        server = Scripted(f"http://127.0.0.1:{listener.getsockname()[1]}", list(answers))
        server.told = ok(json.dumps(METADATA).encode())
        position = iter(range(10_000))

        def serve(peer: socket.socket) -> None:
            with peer:
                while (request := _read_request(peer)) is not None:
                    if b"/infer HTTP" not in request.split(b"\r\n", 1)[0]:
                        peer.sendall(server.told)
                        continue
                    server.requests.append(request)
                    answer = server.answers[next(position) % len(server.answers)]
                    if answer is None:
                        return
                    peer.sendall(answer.removesuffix(CLOSE))
                    if answer.endswith(CLOSE):
                        return

        def accept() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                server.connections += 1
                open_sockets.append(peer)
                thread = threading.Thread(target=serve, args=(peer,))
                thread.start()
                threads.append(thread)

        thread = threading.Thread(target=accept)
        thread.start()
        threads.append(thread)
        return server

    yield start
    for one in (*listeners, *open_sockets):
        with suppress(OSError):  # the other side was first
            one.shutdown(socket.SHUT_RDWR)
        one.close()
    for thread in threads:
        thread.join(5)


def _read_request(peer: socket.socket) -> bytes | None:
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            piece = peer.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            piece = peer.recv(65536)
            if not piece:
                return None
            body += piece
    except OSError:
        return None
    return head + b"\r\n\r\n" + body


Start = Callable[..., Scripted]
Open = Callable[..., Any]
ONES = np.ones((1, 2), np.float32)
FINE = ok(tensor([1.0, 2.0]))


class TestAServerThatMisbehaves:
    @pytest.mark.parametrize(
        ("answer", "error", "says"),
        [
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{" + CLOSE,
                InferenceError,
                "in the middle of the answer's body",
                id="breaks off in the body",
            ),
            pytest.param(
                b"HTTP/1.1 20" + CLOSE, InferenceError, "answer's head", id="breaks off in the head"
            ),
            pytest.param(
                b"220 mail.example ESMTP\r\n",
                InferenceError,
                "not an answer",
                id="is no web server",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nA: " + b"a" * 20_000 + b"\r\n\r\n",
                InferenceError,
                "longer than 16384 bytes",
                id="has a long head",
            ),
            pytest.param(ok(b"<html>"), InferenceError, "JSON", id="answers with a page"),
            pytest.param(ok(b"[" * 5000), InferenceError, "cannot be read", id="nests deeply"),
            pytest.param(
                ok(b"{}", Inference_Header_Content_Length="x"),
                InferenceError,
                "cannot be read",
                id="has a length that is none",
            ),
            pytest.param(
                ok(b"{}", Inference_Header_Content_Length="-1"),
                InferenceError,
                "cannot be read",
                id="has a negative length",
            ),
            pytest.param(
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 38\r\n\r\n"
                b'{"error":"Exceeds maximum queue size"}',
                UnavailableError,
                "Exceeds maximum queue size",
                id="is busy",
            ),
            pytest.param(
                b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
                InferenceError,
                "500 Oops",
                id="500",
            ),
            pytest.param(
                b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
                NbModelError,
                "302 Found",
                id="points elsewhere",
            ),
            pytest.param(None, TargetUnreachableError, "without an answer", id="says nothing"),
        ],
    )
    def test_it_is_told(
        self,
        scripted: Start,
        connect: Open,
        answer: bytes | None,
        error: type[NbModelError],
        says: str,
    ) -> None:
        server = scripted(answer)
        client = connect(server.url)
        with pytest.raises(error, match=says) as caught:
            client.infer("m", ONES)
        assert server.url in str(caught.value)
        server.answers[:] = [FINE]  # and nothing of it is left over
        assert client.infer("m", ONES).outputs["y"].tolist() == [[1, 2]]

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(FINE, id="with a length"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
                % (len(tensor([1, 2])), tensor([1, 2])),
                id="in chunks",
            ),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + tensor([1, 2]) + CLOSE, id="until the end"),
            pytest.param(
                ok(tensor([1, 2]), Connection="close") + CLOSE, id="and says that it closes"
            ),
            pytest.param(FINE + CLOSE, id="and closes without a word"),
        ],
    )
    def test_answers_of_every_framing_are_read(
        self, scripted: Start, connect: Open, answer: bytes
    ) -> None:
        server = scripted(answer)
        client = connect(server.url)
        for _ in range(3):
            assert client.infer("m", ONES).outputs["y"].tolist() == [[1, 2]]
            time.sleep(0.01)  # for the end to arrive
        assert len(server.requests) == 3

    def test_a_connection_is_kept(self, scripted: Start, connect: Open) -> None:
        server = scripted(FINE)
        client = connect(server.url)
        for _ in range(5):
            client.infer("m", ONES)
        assert server.connections == 2  # that of the metadata is another

    def test_what_a_kept_connection_lost_is_sent_again(
        self, scripted: Start, connect: Open
    ) -> None:
        server = scripted(FINE, None, FINE)
        client = connect(server.url)
        assert client.infer("m", ONES)
        assert client.infer("m", ONES).outputs["y"].tolist() == [[1, 2]]
        assert len(server.requests) == 3

    def test_a_request_of_a_sequence_is_not_sent_again(
        self, scripted: Start, connect: Open
    ) -> None:
        server = scripted(FINE, None, FINE)
        client = connect(server.url)
        client.infer("m", ONES)
        with pytest.raises(TargetUnreachableError, match="without an answer"):
            client.infer("m", ONES, parameters={"sequence_id": 7, "sequence_end": True})
        assert len(server.requests) == 2

    def test_a_half_answered_request_is_not_sent_again(
        self, scripted: Start, connect: Open
    ) -> None:
        server = scripted(FINE, b"HTTP/1.1 200" + CLOSE)
        client = connect(server.url)
        client.infer("m", ONES)
        with pytest.raises(InferenceError, match="in the middle"):
            client.infer("m", ONES)
        assert len(server.requests) == 2

    def test_an_answer_that_does_not_come_is_told(self, scripted: Start, connect: Open) -> None:
        server = scripted(b"HTTP/1.1 200 OK\r\n", FINE)
        client = connect(server.url, timeout_s=5)
        began = time.monotonic()
        with pytest.raises(TargetUnreachableError, match=r"no answer within 0\.1 s"):
            client.infer("m", ONES, timeout_s=0.1)
        assert time.monotonic() - began < 3
        assert client.infer("m", ONES).outputs["y"].tolist() == [[1, 2]]

    def test_a_refused_connection_is_told(self, connect: Open) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        client = connect(f"127.0.0.1:{port}")
        with pytest.raises(TargetUnreachableError, match=f"cannot reach http://127.0.0.1:{port}: "):
            client.infer("m", ONES)
        with pytest.raises(TargetUnreachableError):
            client.is_live()

    def test_another_version_has_its_signature_asked_for(
        self, scripted: Start, connect: Open
    ) -> None:
        server = scripted(ok(tensor([1, 2], "1")), ok(tensor([1, 2], "2")), ok(tensor([1, 2], "2")))
        client = connect(server.url)
        assert [client.infer("m", ONES).version for _ in range(3)] == ["1", "2", "2"]

    def test_requests_carry_token_headers_and_parameters(
        self, scripted: Start, connect: Open
    ) -> None:
        server = scripted(FINE)
        client = connect(f"{server.url}/base/", token="secret")
        client.infer("m", ONES, ["y"], parameters={"priority": 2}, headers={"X-Trace": "1"})
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /base/v2/models/m/infer HTTP/1.1"
        assert {"Authorization: Bearer secret", "X-Trace: 1", "Accept-Encoding: identity"} <= {
            *lines
        }
        length = int(next(line for line in lines if line.startswith("Inference")).split(": ")[1])
        said = json.loads(body[:length])
        assert said["parameters"] == {"priority": 2, "binary_data_output": True}
        assert [output["name"] for output in said["outputs"]] == ["y"]
        assert body[length:] == ONES.tobytes()

    @pytest.mark.parametrize("headers", [{"X": "1\r\nY: 2"}, {"X Y": "1"}])
    def test_a_header_that_would_be_two_is_refused(
        self, scripted: Start, connect: Open, headers: dict[str, str]
    ) -> None:
        server = scripted(FINE)
        with pytest.raises(InputError, match="not an HTTP header"):
            connect(server.url).infer("m", ONES, headers=headers)
        assert server.requests == []

    def test_a_cancelled_task_takes_its_request_back(self, scripted: Start) -> None:
        server = scripted(b"HTTP/1.1 200 OK\r\n", FINE)

        async def main() -> Any:
            async with AsyncInferenceClient(server.url) as client:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.infer("m", ONES), 0.2)
                return await client.infer("m", ONES)

        assert asyncio.run(main()).outputs["y"].tolist() == [[1, 2]]


def test_a_proxy_of_the_environment_is_gone_through(
    scripted: Start, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = scripted(
        FINE, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200" + CLOSE
    )
    monkeypatch.setenv("http_proxy", proxy.url)
    client = connect("http://nowhere.invalid:8000", token="secret")
    y = client.infer("m", ONES).outputs["y"]
    assert y.tolist() == [[1, 2]]
    y += 1
    head = proxy.requests[0].split(b"\r\n\r\n")[0].decode()
    assert head.startswith("POST http://nowhere.invalid:8000/v2/models/m/infer HTTP/1.1\r\n")
    assert "accept-encoding: identity" in head.lower()
    with pytest.raises(UnavailableError, match="503"):
        client.infer("m", ONES)
    with pytest.raises(TargetUnreachableError, match=r"cannot reach http://nowhere\.invalid:8000"):
        client.infer("m", ONES)


def test_optional_inputs_may_be_left_out(connect: Open) -> None:
    # Answered by path: the inputs of the metadata are two, of which the config calls one optional.
    metadata = {
        **METADATA,
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "mask", "datatype": "BOOL", "shape": [-1]},
        ],
    }
    config = {"input": [{"name": "x"}, {"name": "mask", "optional": True}]}

    class Server(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, body: bytes) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer(json.dumps(config if self.path.endswith("/config") else metadata).encode())

        def do_POST(self) -> None:
            self._answer(tensor([3, 4]))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = connect(f"http://127.0.0.1:{server.server_address[1]}")
        for _ in range(2):
            assert client.infer("m", {"x": ONES}).outputs["y"].tolist() == [[3, 4]]
        with pytest.raises(TensorNameError, match="missing input 'x'"):
            client.infer("m", {"mask": [True]})
        server.shutdown()
        thread.join()


def test_metadata_that_swells_when_it_is_unpacked_is_refused(
    scripted: Callable[..., Scripted], connect: Any
) -> None:
    server = scripted()
    server.told = ok(gzip.compress(b" " * (MAX_TOLD + 1)), Content_Encoding="gzip")
    with pytest.raises(InferenceError, match=f"longer than {MAX_TOLD} bytes"):
        connect(server.url).model_metadata("m")
