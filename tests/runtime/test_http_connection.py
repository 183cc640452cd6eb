"""The HTTP front end as it is on the wire: raw sockets against a server on a thread."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

pytestmark = pytest.mark.unhurried

uvicorn = pytest.importorskip("uvicorn", reason="pip install 'nbmodel[runtime]'")
from starlette.requests import Request  # noqa: E402
from starlette.responses import Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from nbmodel.runtime.answer import Answer, Call  # noqa: E402
from nbmodel.runtime.app import DataPlaneApp, GateApp, guarded_routes  # noqa: E402
from nbmodel.runtime.auth import Gate  # noqa: E402
from nbmodel.runtime.http_connection import FrontEnd, HttpConnection  # noqa: E402
from nbmodel.runtime.limits import Limits  # noqa: E402
from nbmodel.runtime.oip import DataPlane  # noqa: E402

OPEN = Gate(None, None)
HOST = b"Host: x\r\n"


class Echo(DataPlane):
    """A data plane whose models give back what they get: at once, in a thread, when told to."""

    def __init__(self) -> None:
        models: Any = None
        super().__init__(models, control=None, version="1")
        self.go_on = threading.Event()
        self.waiting = threading.Semaphore(0)  # counts those that wait
        self.cancelled = threading.Event()

    def match(self, path: str) -> Call | None:
        kinds = {"/echo": self._echo, "/thread": self._echo, "/held": self._held}
        kind = kinds.get(path)
        return None if kind is None else Call(("GET", "POST"), kind, waits=path != "/echo")

    def begin(self, call: Call, *args: Any, **kwargs: Any) -> Any:
        super().begin(call, *args, **kwargs)
        return self

    def cancel(self) -> None:
        self.cancelled.set()

    def _echo(self, _method: str, body: bytes | bytearray) -> Answer:
        return Answer(200, (memoryview(body),), {"Content-Type": "application/octet-stream"})

    def _held(self, method: str, body: bytes | bytearray) -> Answer:
        self.waiting.release()
        assert self.go_on.wait(10)
        return self._echo(method, body)


@dataclass
class Served:
    """A server on a thread."""

    port: int
    plane: Echo
    front: FrontEnd
    server: Any
    thread: threading.Thread

    @contextmanager
    def connect(self) -> Iterator[Wire]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            yield Wire(connection)


class Wire:
    """One connection of a client."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self._read = b""

    def send(self, *parts: bytes) -> Wire:
        for part in parts:
            self.socket.sendall(part)
        return self

    def answer(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers by lower-case name, body."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, self._read = self._read.split(b"\r\n\r\n", 1)
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        length = int(headers.get("content-length", 0)) if has_body else 0
        while len(self._read) < length:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        version, status = line.split(" ")[:2]
        assert version == "HTTP/1.1"
        return int(status), headers, body

    def status(self) -> int:
        return self.answer()[0]

    def is_ended(self) -> bool:
        """Whether the server has closed, with nothing more to say."""
        try:
            return not self._read and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise EOFError(f"the server has closed after {self._read!r}")
        self._read += data


class Passing(FrontEnd):
    """Ends a connection that is not the data plane's as a process does that passes it on."""

    takes_sockets = True

    def add(self, connection: Any) -> None:
        connection._transport.set_write_buffer_limits(1 << 30)  # however slow the client is
        super().add(connection)

    def hand_over(self, connection: HttpConnection, _head: bytes, _rest: bytes) -> None:
        connection.leave().abort()


@contextmanager
def served(gate: Gate = OPEN, kind: type[FrontEnd] = FrontEnd, **limits: Any) -> Iterator[Served]:
    async def other(request: Request) -> Response:
        return Response(b"other " + await request.body())

    plane = Echo()
    front = kind(plane, gate, Limits(**limits))
    rest = guarded_routes([Route("/other", other, methods=["GET", "POST"])])
    app = DataPlaneApp(plane, rest, max_input=front.limits.max_request_bytes, budget=front.budget)
    http: Any = front.protocol
    config = uvicorn.Config(
        GateApp(gate, app), http=http, lifespan="off", ws="none", log_config=None
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(listener.getsockname()[1], plane, front, server, thread)
        finally:
            plane.go_on.set()
            server.should_exit = True
            thread.join()
            plane.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    limits = {"max_request_bytes": 1_000_000, "max_head_bytes": 2000, "max_headers": 20}
    with served(**limits) as one:
        yield one


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with served(Gate("s3cret", frozenset({"x"}))) as one:
        yield one


@pytest.fixture
def wire(server: Served) -> Iterator[Wire]:
    with server.connect() as wire:
        yield wire


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def post(path: str, body: bytes, *lines: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode()
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunked(path: str, *chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks) + end


PATHS = pytest.mark.parametrize("path", ["/echo", "/thread", "/other"])


def said(path: str, body: bytes) -> bytes:
    return b"other " + body if path == "/other" else body


class TestOneConnection:
    @PATHS
    def test_requests_are_answered_one_after_the_other(self, wire: Wire, path: str) -> None:
        for body in (b"one", b"", b"three" * 100_000):
            status, headers, answer = wire.send(post(path, body)).answer()
            assert (status, answer) == (200, said(path, body))
            assert "connection" not in headers
            assert headers["content-length"] == str(len(answer))
            assert headers["date"].endswith("GMT")

    @PATHS
    def test_a_request_may_come_byte_by_byte(self, wire: Wire, path: str) -> None:
        for whole in (post(path, b"abc"), chunked(path, b"a", b"bc")):
            for byte in whole:
                wire.send(bytes([byte]))
            assert wire.answer()[::2] == (200, said(path, b"abc"))

    @PATHS
    def test_a_request_may_be_split_anywhere(self, wire: Wire, path: str) -> None:
        for whole in (post(path, b"abcd"), chunked(path, b"ab", b"cd", end=b"0\r\nA: b\r\n\r\n")):
            for cut in range(1, len(whole)):
                wire.send(whole[:cut])
                time.sleep(0.0005)
                assert wire.send(whole[cut:]).answer()[::2] == (200, said(path, b"abcd"))

    @PATHS
    def test_what_is_sent_ahead_is_answered_in_order(self, wire: Wire, path: str) -> None:
        bodies = [b"%d" % n * (n % 7 * 1000) for n in range(60)]
        sender = threading.Thread(target=wire.send, args=[post(path, body) for body in bodies])
        sender.start()
        assert [wire.answer()[::2] for _ in bodies] == [(200, said(path, body)) for body in bodies]
        sender.join()

    def test_requests_of_both_planes_share_a_connection(self, wire: Wire) -> None:
        paths = ["/echo", "/thread", "/echo", "/other", "/echo", "/thread", "/other", "/echo"]
        wire.send(b"".join(post(path, path.encode()) for path in paths))
        for path in paths:
            assert wire.answer()[::2] == (200, said(path, path.encode()))

    def test_large_answers_are_written_as_the_client_takes_them(self, wire: Wire) -> None:
        body = bytes(range(250)) * 4000
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sender = threading.Thread(target=wire.send, args=[post("/echo", body)] * 3)
        sender.start()
        for _ in range(3):
            time.sleep(0.02)
            assert wire.answer()[::2] == (200, body)
        sender.join()

    def test_an_answer_is_sent_before_the_connection_is_passed_on(self) -> None:
        body = bytes(8_000_000)
        with served(kind=Passing) as server, server.connect() as wire:
            wire.send(post("/echo", body), post("/other", b""))
            assert wire.answer()[::2] == (200, body)
            assert wire.is_ended()

    def test_a_body_that_is_waited_for_is_asked_for(self, wire: Wire) -> None:
        request = post("/echo", b"abc", b"Expect: 100-continue")
        assert wire.send(request[:-3]).answer()[0] == 100
        assert wire.send(b"abc").answer()[::2] == (200, b"abc")

    def test_a_body_that_is_refused_is_not_asked_for(self, wire: Wire) -> None:
        wire.send(b"POST /echo HTTP/1.1\r\n", HOST, b"Expect: 100-continue\r\n")
        assert wire.send(b"Content-Length: 1000001\r\n\r\n").status() == 413

    def test_queries_and_empty_lines_between_requests_do_not_matter(self, wire: Wire) -> None:
        wire.send(post("/echo?a=/b", b"1"), b"\r\n\r\n", post("http://y:1/echo?c", b"2"), b"\r\n")
        assert [wire.answer()[::2] for _ in range(2)] == [(200, b"1"), (200, b"2")]

    @pytest.mark.parametrize(
        ("request_line", "header", "stays"),
        [
            (b"GET /echo HTTP/1.1", b"", True),
            (b"GET /echo HTTP/1.1", b"Connection: close\r\n", False),
            (b"GET /echo HTTP/1.1", b"Connection: x, Close\r\n", False),
            (b"GET /thread HTTP/1.1", b"Connection: close\r\n", False),
            (b"GET /echo HTTP/1.0", b"", False),
            (b"GET /echo HTTP/1.0", b"Connection: keep-alive\r\n", True),
        ],
    )
    def test_it_is_kept_open_as_the_client_asks(
        self, wire: Wire, request_line: bytes, header: bytes, stays: bool
    ) -> None:
        status, headers, _ = wire.send(request_line, b"\r\n", HOST, header, b"\r\n").answer()
        assert status == 200
        assert (headers.get("connection") == "close") is not stays
        if stays:
            assert wire.send(post("/echo", b"")).status() == 200
        else:
            assert wire.is_ended()

    def test_head_is_get_without_its_body(self, wire: Wire) -> None:
        head = b"HEAD /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        status, headers, _ = wire.send(head, post("/echo", b"x")).answer(has_body=False)
        assert (status, headers["content-length"]) == (200, "3")
        assert wire.answer()[::2] == (200, b"x")

    def test_another_method_is_told_which_there_are(self, wire: Wire) -> None:
        status, headers, _ = wire.send(b"PUT /thread HTTP/1.1\r\n", HOST, b"\r\n").answer()
        assert (status, headers["allow"]) == (405, "GET, POST")

    def test_an_upgrade_that_is_offered_is_declined(self, wire: Wire) -> None:
        offer = (b"Connection: Upgrade", b"Upgrade: h2c")
        for path in ("/echo", "/other"):
            assert wire.send(post(path, b"a", *offer)).answer()[::2] == (200, said(path, b"a"))


SMUGGLED = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("path", [b"/echo", b"/other"])
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b" HTTP/1.1\nHost: x\n\n", id="bare line feeds"),
        pytest.param(b" HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", id="a bare line feed"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", id="a bare carriage return"),
        pytest.param(
            b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            id="two lengths",
        ),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc", id="a list"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", id="a signed one"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc", id="hexadecimal"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", id="a negative one"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", id="an empty one"),
        pytest.param(
            b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775808\r\n\r\n", id="a huge one"
        ),
        pytest.param(
            b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n",
            id="a length with chunks",
        ),
        pytest.param(
            b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            id="an unknown coding",
        ),
        pytest.param(
            b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            id="nearly chunked",
        ),
        pytest.param(
            b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="chunked twice",
        ),
        pytest.param(
            b" HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="chunks in HTTP/1.0",
        ),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", id="a folded header"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", id="a space before the colon"),
        pytest.param(b" HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n", id="a space before the name"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n", id="a null in a name"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", id="a null in a value"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", id="no colon"),
        pytest.param(b" HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", id="two hosts"),
        pytest.param(b" HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"\r\n\r\n", id="HTTP/0.9"),
        pytest.param(b" HTTP/0.9\r\nHost: x\r\n\r\n", id="HTTP/0.9 by name"),
        pytest.param(b" HTTP/1.2\r\nHost: x\r\n\r\n", id="HTTP/1.2"),
        pytest.param(b" HTTP/2.0\r\nHost: x\r\n\r\n", id="HTTP/2"),
        pytest.param(b" RTSP/1.0\r\nHost: x\r\n\r\n", id="another protocol"),
        pytest.param(b"  HTTP/1.1\r\nHost: x\r\n\r\n", id="two spaces"),
        pytest.param(b"\t HTTP/1.1\r\nHost: x\r\n\r\n", id="a tab in the target"),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_ends_the_connection(
    wire: Wire, path: bytes, lines: bytes
) -> None:
    wire.send(b"POST " + path + lines + SMUGGLED)
    status, headers, body = wire.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert json.loads(body)["error"].startswith("malformed request: ")
    assert wire.is_ended()


@pytest.mark.parametrize("line", [b"CONNECT x:1", b"get /echo", b"FOO /echo", b"\x16\x03\x01"])
def test_no_request_line(wire: Wire, line: bytes) -> None:
    assert wire.send(line, b" HTTP/1.1\r\n", HOST, b"\r\n").status() == 400
    assert wire.is_ended()


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"-1\r\na\r\n", id="negative"),
        pytest.param(b"0x1\r\na\r\n", id="with a prefix"),
        pytest.param(b"+1\r\na\r\n", id="signed"),
        pytest.param(b"1_0\r\na\r\n", id="with an underscore"),
        pytest.param(b" 1\r\na\r\n", id="after a space"),
        pytest.param(b"\r\na\r\n", id="empty"),
        pytest.param(b"123456789\r\na\r\n", id="nine digits"),
        pytest.param(b"1\na\r\n", id="a bare line feed"),
        pytest.param(b"1;a\nb\r\na\r\n", id="a line feed in an extension"),
        pytest.param(b"1;a\rb\r\na\r\n", id="a carriage return in an extension"),
        pytest.param(b"1\r\nabc\r\n", id="more than its size"),
        pytest.param(b"1\r\na\n0\r\n\r\n", id="a bare line feed after the data"),
        pytest.param(b"1\r\na\rX0\r\n\r\n", id="a bare carriage return after the data"),
        pytest.param(b"0\r\nA : b\r\n\r\n", id="a malformed trailer"),
        pytest.param(b"0\r\n b\r\n\r\n", id="a folded trailer"),
        pytest.param(b"1;" + b"a" * 300, id="an endless extension"),
    ],
)
def test_a_malformed_chunk_ends_the_connection(wire: Wire, chunks: bytes) -> None:
    wire.send(chunked("/echo", end=chunks) + SMUGGLED)
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert wire.is_ended()


def test_extensions_and_trailers_are_passed_over(wire: Wire) -> None:
    end = b'3;a=b; c="d"\r\nabc\r\n00\r\nA: b\r\nC:\r\n\r\n'
    wire.send(chunked("/echo", b"x" * 70_000, end=end), post("/echo", b"y"))
    assert wire.answer()[::2] == (200, b"x" * 70_000 + b"abc")
    assert wire.answer()[::2] == (200, b"y")


class TestLimits:
    @pytest.mark.parametrize("path", ["/echo", "/thread"])
    def test_of_a_body(self, server: Served, path: str) -> None:
        for request in (
            post(path, bytes(1_000_001)),
            chunked(path, bytes(600_000), bytes(400_001)),
        ):
            with server.connect() as wire:
                status, _, body = wire.send(request).answer()
                assert status == 413
                assert (
                    "larger than 1000000 bytes (--max-request-bytes)" in json.loads(body)["error"]
                )
                assert wire.is_ended()
        with server.connect() as wire:
            assert wire.send(post(path, bytes(1_000_000))).status() == 200
        assert eventually(lambda: server.front.budget.taken == 0)

    def test_of_a_body_after_the_connection_was_handed_over(self, wire: Wire) -> None:
        assert wire.send(post("/other", b"")).status() == 200
        assert wire.send(post("/echo", bytes(1_000_000))).status() == 200
        assert wire.send(chunked("/echo", bytes(600_000), bytes(400_001))).status() == 413

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(b"A: " + b"b" * 3000 + b"\r\n\r\n", id="at once"),
            pytest.param(b"A: " + b"b" * 3000, id="without an end"),
            pytest.param(b"".join(b"A%d: b\r\n" % n for n in range(20)) + b"\r\n", id="headers"),
        ],
    )
    def test_of_a_head(self, wire: Wire, line: bytes) -> None:
        assert wire.send(b"GET /echo HTTP/1.1\r\n", HOST, line).status() == 431
        assert wire.is_ended()

    @pytest.mark.parametrize(
        ("start", "part"),
        [
            pytest.param(b"GET /other HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n", id="headers"),
            pytest.param(b"GET /other HTTP/1.1\r\nHost: x\r\nA: ", b"bbb", id="a value"),
            pytest.param(b"GET /", b"aaa", id="a path"),
            pytest.param(chunked("/other", end=b"0\r\n"), b"A: b\r\n", id="trailers"),
            pytest.param(chunked("/other", end=b"0\r\nA: "), b"bbb", id="a trailer"),
            pytest.param(chunked("/other", end=b"1;"), b"aaa", id="an extension"),
        ],
    )
    def test_of_what_has_no_end_after_the_connection_was_handed_over(
        self, wire: Wire, start: bytes, part: bytes
    ) -> None:
        assert wire.send(post("/other", b"")).status() == 200
        wire.send(start)
        endless = (part * 1000 for _ in range(1000))
        with pytest.raises(ConnectionError):
            wire.send(*endless)

    def test_of_trailers(self, wire: Wire) -> None:
        trailers = b"0\r\n" + b"A: b\r\n" * 1000
        assert wire.send(chunked("/echo", b"a", end=trailers)).status() == 431

    def test_of_connections(self) -> None:
        with served(max_connections=2) as server:
            with server.connect() as one, server.connect() as two:
                assert one.send(post("/echo", b"")).status() == 200
                assert two.send(post("/other", b"")).status() == 200
                with server.connect() as three:
                    status, headers, body = three.answer()
                    assert (status, headers["connection"]) == (503, "close")
                    assert "(--max-connections)" in json.loads(body)["error"]
                    assert three.is_ended()
            assert eventually(lambda: not server.front.connections)
            with server.connect() as four:
                assert four.send(post("/echo", b"")).status() == 200

    @pytest.mark.parametrize("before", [b"", post("/other", b"")], ids=["fast", "handed over"])
    def test_of_bytes_in_flight(self, before: bytes) -> None:
        with served(max_bytes_in_flight=100_000) as server:
            with server.connect() as one, server.connect() as two:
                one.send(post("/held", bytes(90_000)))
                assert server.plane.waiting.acquire(timeout=5)
                if before:
                    assert two.send(before).status() == 200
                status, _, body = two.send(post("/echo", bytes(20_000))).answer()
                assert status == 503
                assert "too many bytes in flight" in json.loads(body)["error"]
                with server.connect() as three:
                    assert three.send(post("/echo", bytes(10_000))).status() == 200
                server.plane.go_on.set()
                assert one.status() == 200
            with server.connect() as alone:
                assert alone.send(post("/echo", bytes(200_000))).status() == 200, "one always fits"
            assert eventually(lambda: server.front.budget.taken == 0)

    def test_of_bytes_in_flight_hold_for_the_gone(self) -> None:
        with served(max_bytes_in_flight=100_000) as server:
            with server.connect() as one:
                one.send(post("/held", bytes(90_000)))
                assert server.plane.waiting.acquire(timeout=5)
            assert server.plane.cancelled.wait(5), "the client is gone"
            assert server.front.budget.taken == 90_000, "its body is in memory still"
            server.plane.go_on.set()
            assert eventually(lambda: server.front.budget.taken == 0)


@pytest.mark.parametrize("before", [b"", post("/other", b"")], ids=["fast", "handed over"])
class TestTimes:
    """Slow clients, on both sides of the hand-over."""

    def ended_within(self, wire: Wire, low: float, high: float) -> bool:
        began = time.monotonic()
        wire.socket.settimeout(high)
        try:
            while wire.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return time.monotonic() - began > low

    def test_to_send_a_head(self, before: bytes) -> None:
        with served(head_timeout_s=0.3) as server, server.connect() as wire:
            if before:
                assert wire.send(before).status() == 200
            stop = time.monotonic() + 8
            wire.send(b"GET /echo HTTP/1.1\r\nHost: x\r\nA: ")
            try:
                while time.monotonic() < stop:  # a byte now and then, as a slow loris does
                    wire.send(b"b")
                    time.sleep(0.05)
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert time.monotonic() < stop
            assert eventually(lambda: not server.front.connections)

    def test_to_send_a_body(self, before: bytes) -> None:
        with served(body_timeout_s=0.3, min_rate=1_000_000) as server, server.connect() as wire:
            if before:
                assert wire.send(before).status() == 200
            wire.send(post("/echo", bytes(1000))[:-900])
            assert self.ended_within(wire, 0.2, 5)
            assert eventually(lambda: server.front.budget.taken == 0)

    def test_to_take_an_answer(self, before: bytes) -> None:
        with served(body_timeout_s=0.3, min_rate=1_000_000_000) as server:
            with server.connect() as wire:
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                if before:
                    assert wire.send(before).status() == 200
                wire.send(post("/echo", bytes(10_000_000)))
                assert eventually(lambda: not server.front.connections)
            assert server.front.budget.taken == 0

    def test_unused(self, before: bytes) -> None:
        with served(idle_timeout_s=0.3) as server, server.connect() as wire:
            wire.send(before or post("/echo", b""))
            assert wire.status() == 200
            assert self.ended_within(wire, 0.1, 5)

    @pytest.mark.unhurried
    def test_used(self, before: bytes) -> None:
        # Long enough for a machine that does much else; what is used is used for longer.
        limits = {"idle_timeout_s": 1.5, "head_timeout_s": 1.5, "body_timeout_s": 1.5}
        with served(**limits) as server, server.connect() as wire:
            for _ in range(7):
                assert wire.send(before or post("/echo", b"")).status() == 200
                time.sleep(0.3)
            server.plane.go_on.clear()
            wire.send(post("/held", b"patient"))
            time.sleep(2)
            server.plane.go_on.set()
            assert wire.answer()[::2] == (200, b"patient"), "the time it takes us is ours"


def test_the_last_answer_may_be_taken_slowly() -> None:
    body = bytes(20_000_000)
    with served(head_timeout_s=0.2) as server, server.connect() as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        wire.send(post("/echo", body, b"Connection: close"))
        time.sleep(0.8)  # longer than a client is lingered for that was refused
        assert wire.answer()[::2] == (200, body)
        assert wire.is_ended()


def test_a_slow_head_is_told() -> None:
    with served(head_timeout_s=0.2) as short, short.connect() as wire:
        status, _, body = wire.send(b"GET /ec").answer()
        assert (status, json.loads(body)) == (
            408,
            {"error": "no whole head in 0.2 s (--head-timeout-s)"},
        )
        assert wire.is_ended()


def test_a_client_that_goes_while_its_request_waits_cancels_it(server: Served) -> None:
    server.plane.go_on.clear()
    server.plane.cancelled.clear()
    with server.connect() as wire:
        wire.send(post("/held", b"x"))
        assert server.plane.waiting.acquire(timeout=5)
    assert server.plane.cancelled.wait(5)
    server.plane.go_on.set()


class TestAnswersOfThreads:
    """What a worker thread writes to the socket itself, beside the event loop."""

    def test_those_to_requests_sent_ahead_come_whole_and_in_order(self, server: Served) -> None:
        chance = random.Random(5)
        bodies = [chance.randbytes(chance.choice((0, 7, 900, 30_000, 40_000))) for _ in range(100)]
        with server.connect() as wire:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)  # parts do not fit
            requests = b"".join(post("/thread", body) for body in bodies)
            sender = threading.Thread(target=wire.send, args=(requests,))
            sender.start()
            for body in bodies:
                assert wire.answer()[::2] == (200, body)
            sender.join()
        assert eventually(lambda: server.front.budget.taken == 0)

    def test_those_to_clients_that_left_harm_nobody(self, server: Served) -> None:
        body = bytes(20_000)
        for turn in range(200):
            with server.connect() as wire:
                wire.send(post("/thread", body))
                if turn % 2:
                    linger = struct.pack("ii", 1, 0)  # a reset instead of a farewell
                    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with server.connect() as wire:
            assert wire.send(post("/thread", b"a")).answer()[::2] == (200, b"a")
        assert eventually(lambda: server.front.budget.taken == 0)
        assert eventually(lambda: not server.front.connections)

    def test_they_wait_for_what_is_on_its_way_already(self) -> None:
        before = bytes(3_000_000)
        with served() as server, server.connect() as wire:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            wire.send(post("/echo", before), post("/thread", b"after"))
            time.sleep(0.1)
            assert wire.answer()[::2] == (200, before)
            assert wire.answer()[::2] == (200, b"after")


class TestGate:
    @pytest.mark.parametrize("path", ["/echo", "/other"])
    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            ((b"Host: x:80", b"Authorization: Bearer s3cret"), 200),
            ((b"Host: x", b"authorization: bearer  s3cret "), 200),
            ((b"Host: x",), 401),
            ((b"Host: x", b"Authorization: Bearer s3cre"), 401),
            ((b"Host: x", b"Authorization: Bearer s3cret", b"Authorization: Bearer a"), 401),
            ((b"Host: evil", b"Authorization: Bearer s3cret"), 403),
            ((b"Host: x", b"Authorization: Bearer s3cret", b"Origin: http://evil"), 403),
            ((b"Host: x", b"Authorization: Bearer s3cret", b"Origin: http://x"), 200),
        ],
    )
    def test_holds_on_each_request(
        self, guarded: Served, path: str, lines: tuple[bytes, ...], status: int
    ) -> None:
        good = (b"Host: x", b"Authorization: Bearer s3cret")
        with guarded.connect() as wire:
            for given, expected in ((good, 200), (good, 200), (lines, status)):
                head = f"POST {path} HTTP/1.1\r\nContent-Length: 1\r\n".encode()
                wire.send(head + b"\r\n".join(given) + b"\r\n\r\na")
                got, headers, body = wire.answer()
                assert got == expected
            if status != 200:
                assert set(json.loads(body)) == {"error", "hint"}
                assert ("www-authenticate" in headers) == (status == 401)

    def test_asks_the_host_of_an_absolute_target(self) -> None:
        with served(Gate(None, frozenset({"x"}))) as server, server.connect() as wire:
            assert wire.send(b"GET http://x:1/echo HTTP/1.1\r\nHost: evil\r\n\r\n").status() == 200
            assert wire.send(b"GET http://evil/echo HTTP/1.1\r\nHost: x\r\n\r\n").status() == 403


class TestTheEnd:
    def test_requests_under_way_are_answered(self) -> None:
        with served() as server:
            with server.connect() as busy, server.connect() as idle, server.connect() as other:
                assert idle.send(post("/echo", b"")).status() == 200
                assert other.send(post("/other", b"")).status() == 200
                busy.send(post("/held", b"last"))
                assert server.plane.waiting.acquire(timeout=5)
                server.server.should_exit = True
                assert idle.is_ended()
                assert other.is_ended()
                with pytest.raises(ConnectionError), server.connect():
                    pass
                server.plane.go_on.set()
                status, headers, body = busy.answer()
                assert (status, headers["connection"], body) == (200, "close", b"last")
                assert busy.is_ended()
            server.thread.join(5)
            assert not server.thread.is_alive()

    def test_a_body_that_is_coming_is_waited_for(self) -> None:
        with served() as server, server.connect() as wire:
            whole = post("/echo", b"abc")
            wire.send(whole[:-1])
            assert eventually(lambda: server.front.budget.taken == 3)
            server.server.should_exit = True
            time.sleep(0.2)
            status, headers, _ = wire.send(whole[-1:]).answer()
            assert (status, headers["connection"]) == (200, "close")
