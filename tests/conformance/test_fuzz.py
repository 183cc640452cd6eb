"""Nearly right requests, by the hundred thousand: each is answered or refused, and nothing else.

A case is made by ``random.Random(number)``, so the number that a failure tells makes it again.
"""

from __future__ import annotations

import gc
import gzip
import json
import queue
import random
import re
import resource
import socket
import struct
import time
import tracemalloc
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
uvicorn = pytest.importorskip("uvicorn", reason="pip install 'nbmodel[runtime]'")
h11 = pytest.importorskip("h11", reason="comes with uvicorn")

from nbmodel.core.machine import MLMODEL_API  # noqa: E402
from nbmodel.errors import NbModelError  # noqa: E402
from nbmodel.fleet.local import OUTPUT_FILE, start_local, stop_local  # noqa: E402
from nbmodel.protocol.compression import decompress  # noqa: E402
from nbmodel.protocol.viam import decode_infer_request  # noqa: E402
from nbmodel.runtime.answer import Answer, Call  # noqa: E402
from nbmodel.runtime.app import make_plane  # noqa: E402
from nbmodel.runtime.auth import Gate  # noqa: E402
from nbmodel.runtime.edge import EdgeRuntime  # noqa: E402
from nbmodel.runtime.http_connection import FrontEnd, HttpConnection  # noqa: E402
from nbmodel.runtime.limits import Limits  # noqa: E402
from nbmodel.runtime.oip import DataPlane  # noqa: E402
from nbmodel.runtime.server import GRPC  # noqa: E402

ITEMS = 4  # parts of one sort of cases, which test processes share out
CONNECTIONS = 25_000  # cases of one item each
BODIES = 50_000
MESSAGES_EACH = 50_000
COMPRESSED = 30_000
SOCKETS = 3000
MOST = 1 << 20  # bytes of a body
LIMITS = Limits(max_request_bytes=MOST, max_bytes_in_flight=2 * MOST, max_head_bytes=4000)
#: What a client's own fault may be answered with; never 500, which is ours.
STATUSES = {200, 400, 401, 404, 405, 408, 413, 417, 431, 501, 503}
#: What a model or a load failed with, which is 500 as in Triton.
FAILURES = (b"failed to poll from model repository",)
ANSWER_S = 20  # nothing here takes as long

LINEAR = [[15.0, 27.0, 39.0]]
Answered = tuple[int, Mapping[str, str], bytes]
Check = Callable[[Answered], bool]


# -- requests that are right ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Valid:
    """A request, and what tells that its answer is right."""

    data: bytes
    check: Check


def request(path: str, body: bytes = b"", *lines: str, method: str = "POST") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def chunked(path: str, *chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n"
    return request(path, b"", "Transfer-Encoding: chunked") + body


def _is_linear(answered: Answered) -> bool:
    status, headers, body = answered
    length = headers.get("inference-header-content-length")
    if status != 200:
        return False
    (output,) = json.loads(body if length is None else body[: int(length)])["outputs"]
    if (output["name"], output["datatype"], output["shape"]) != ("y", "FP32", [1, 3]):
        return False
    if length is None:
        return bool(output["data"] == LINEAR[0])
    return body[int(length) :] == struct.pack("<3f", *LINEAR[0])


def _gives(status: int, *words: bytes) -> Check:
    def check(answered: Answered) -> bool:
        return answered[0] == status and all(word in answered[2] for word in words)

    return check


def _x(**entries: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], **entries}


TEXT = json.dumps({"id": "7", "inputs": [_x(data=[[1, 1]])]}).encode()
HEAD = json.dumps(
    {
        "inputs": [_x(parameters={"binary_data_size": 8})],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
).encode()
TAIL = struct.pack("<2f", 1, 1)
BYTES = json.dumps(
    {
        "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "bé"]}],
        "parameters": {"sequence_id": 3, "priority": 1},
    }
).encode()
INFER = "/v2/models/linear/infer"
HEAD_LINE = "Inference-Header-Content-Length: {}"
VALID = (
    Valid(request("/v2/health/live", method="GET"), _gives(200)),
    Valid(request("/v2/models/linear", method="GET"), _gives(200, b'"inputs"', b'"FP32"')),
    Valid(request("/v2/models/linear/versions/1/config", method="GET"), _gives(200, b"linear")),
    Valid(request("/v2/models/linear/stats", method="GET"), _gives(200, b"inference_count")),
    Valid(request("/v2/repository/index", b'{"ready":true}'), _gives(200, b"linear")),
    Valid(request("/v2/models/no/infer", TEXT), _gives(404, b'"error"')),
    Valid(request("/v2/health/live", b"x"), _gives(405, b'"error"')),
    Valid(request(INFER, TEXT), _is_linear),
    Valid(request("http://localhost:8000" + INFER + "?a=b", TEXT), _is_linear),
    Valid(request(INFER, HEAD + TAIL, HEAD_LINE.format(len(HEAD))), _is_linear),
    Valid(request(INFER, TAIL, HEAD_LINE.format(0)), _is_linear),
    Valid(request(INFER, gzip.compress(TEXT), "Content-Encoding: gzip"), _is_linear),
    Valid(request(INFER, TEXT, "Expect: 100-continue"), _is_linear),
    Valid(request("/v2/models/bytes/infer", BYTES), _gives(200, b'["a","b')),
    Valid(chunked(INFER, TEXT[:10], TEXT[10:]), _is_linear),
    Valid(chunked(INFER, TEXT), _is_linear),
    Valid(chunked("/v2/models/no/infer", TEXT[:3]), _gives(404, b'"error"')),
)

#: What breaks readers of HTTP: ends of lines, lengths, codings, numbers, sizes.
HTTP_PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t", b":", b"\x00", b"\xff", b"\r\n "),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: -1\r\n"),
    *(b"Content-Length: 1_0\r\n", b"Content-Length: 5, 5\r\n", b"content-length:\t7\r\n"),
    *(
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 1000000\r\n",
        b"Content-Length: 2000000\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"chunked"),
    *(b"Transfer-Encoding: gzip, chunked\r\n", b"transfer-encoding : chunked\r\n"),
    *(b"0\r\n\r\n", b"ffffffff\r\n", b"fffffffff\r\n", b"5;x=y\r\n", b"0x5\r\n", b"+", b"-", b"0x"),
    *(b"Transfer-Encoding: xchunked\r\n", b"5\r\n", b"_", b",", b"a\n", b"A\r", b"00000000a\r\n"),
    *(b"Host: y\r\n", b"Host:\r\n", b"Expect: 100-continue\r\n", b"Expect: 200-ok\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"HTTP/1.0", b"HTTP/2.0"),
    *(b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b"Accept-Encoding: gzip\r\n"),
    *(b"Inference-Header-Content-Length: 0\r\n", b"Inference-Header-Content-Length: -1\r\n"),
    *(b"GET ", b"HEAD ", b"POST ", b"CONNECT ", b"OPTIONS ", b"/", b"%2f", b"%00", b"..", b"*"),
    *(b"A" * 5000, b"x: y\r\n" * 120, b"\r\n" * 50, b"a" * 100 + b": b\r\n"),
)
#: What breaks readers of JSON and tensors.
BODY_PIECES = (
    *(b"-1", b"0", b"1e999", b"NaN", b"-0", b"2147483648", b"9223372036854775808", b"1.5"),
    *(b"18446744073709551616", b'"x"', b"null", b"true", b"[]", b"{}", b"[[]]", b'"\\ud800"'),
    *(b",", b":", b'"inputs":', b'"data":', b'"shape":', b'"datatype":', b'"BYTES"', b'"BF16"'),
    *(b'"parameters":', b'"binary_data_size":', b'"shared_memory_region":', b'"outputs":'),
    *(b'"classification":2', b'"timeout":1', b'"priority":-1', b'"FP16"', b'"FP32"', b'"INT64"'),
    *(b"\x00", b"\xff\xff\xff\xff", b"\xc3", b"[" * 200, b" " * 50, b"[1,1]", b"[0,2]", b"[2,0]"),
)


_LINE_END = re.compile(b"\r\n")


def mutated(data: bytes, chance: random.Random, pieces: Sequence[bytes], *, most: int = 4) -> bytes:
    result = bytearray(data)
    for _ in range(chance.randint(1, most)):
        lines = [0, *(found.end() for found in _LINE_END.finditer(result))]
        is_line = len(lines) > 1 and chance.random() < 0.4  # framing is a matter of lines
        at = chance.choice(lines) if is_line else chance.randrange(len(result) + 1)
        end = result.find(b"\r\n", at) + 2 if is_line else at + chance.randint(1, 60)
        kind = chance.randrange(8)
        if kind == 0:
            result[at:at] = chance.choice(pieces)
        elif kind == 1:
            result[at : max(at, end)] = chance.choice(pieces)
        elif kind == 2 and at < len(result):
            result[at] ^= 1 << chance.randrange(8)
        elif kind == 3 and at < len(result):
            result[at] = chance.randrange(256)
        elif kind == 4:
            del result[at : at + chance.randint(1, 20)]
        elif kind == 5:
            result[at : at + chance.randint(1, 12)] = chance.choice(pieces)
        elif kind == 6 and chance.random() < 0.3:
            del result[at:]
        else:  # something that is there, once more
            result[at:at] = result[at : max(at, end)]
    return bytes(result)


@contextmanager
def no_growth(warm_up: Callable[[], object]) -> Iterator[None]:
    """After some rounds that fill caches, memory stays as it is."""
    warm_up()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 20_000  # KiB


def failed(number: int, case: object, why: object) -> AssertionError:
    return AssertionError(f"random.Random({number}): {why}\n{case!r}")


# -- connections ------------------------------------------------------------------------------


class Loop:
    """An event loop's clock and queues, turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.from_threads: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]] = (
            queue.SimpleQueue()
        )

    def time(self) -> float:
        return self.now

    def call_soon(self, action: Callable[..., None], *args: Any) -> None:
        self.soon.append((action, args))

    def call_soon_threadsafe(self, action: Callable[..., None], *args: Any) -> None:
        self.from_threads.put((action, args))

    def call_later(self, *_: Any) -> None:
        return None

    def turn(self) -> None:
        """Do what is to be done, without waiting."""
        while self.soon or not self.from_threads.empty():
            action, args = self.soon.popleft() if self.soon else self.from_threads.get()
            action(*args)

    def wait(self) -> None:
        """Wait for a thread, and do what it asks for."""
        action, args = self.from_threads.get(timeout=ANSWER_S)
        action(*args)
        self.turn()


class Recording(DataPlane):
    """A data plane that keeps what it was asked."""

    asked: list[tuple[str, bytes]]
    under_way = 0

    def begin(
        self,
        call: Call,
        method: str,
        headers: Mapping[str, str],
        body: bytes | bytearray,
        done: Callable[[Answer], None],
    ) -> Any:
        self.asked.append((method, bytes(body)))
        self.under_way += 1

        def finish(answer: Answer) -> None:
            self.under_way -= 1  # the interpreter's lock makes one thread at a time of it
            done(answer)

        return super().begin(call, method, headers, body, finish)


class Front(FrontEnd):
    """A front end that ends the connections which uvicorn would go on with."""

    def hand_over(self, connection: HttpConnection, head: bytes, rest: bytes) -> None:
        connection.leave().close()


@dataclass
class Wire:
    """The transport of a connection: what was written, and whether the client is heard."""

    chance: random.Random
    protocol: Any = None
    out: bytearray = field(default_factory=bytearray)
    is_reading: bool = True
    is_closed: bool = False
    has_ended: bool = False
    holds_back: bool = False

    def get_extra_info(self, _name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        assert not self.has_ended, "written after the end"
        if not self.is_closed:
            self.out += data
            if not self.holds_back and len(data) > 100 and self.chance.random() < 0.1:
                self.holds_back = True
                self.protocol.pause_writing()

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.write(b"".join(parts))

    def take(self) -> None:
        """The client takes what it is sent."""
        if self.holds_back:
            self.holds_back = False
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return 1 if self.holds_back else 0

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def feed(self, data: bytes) -> bytes:
        """Bytes come, as many as the protocol has room for; what is left of them."""
        buffer = memoryview(self.protocol.get_buffer(-1))
        assert buffer.nbytes, "there is no room for what comes"
        size = min(buffer.nbytes, len(data))
        buffer[:size] = data[:size]
        buffer.release()
        self.protocol.buffer_updated(size)
        return data[size:]


class Server:
    """A front end without sockets, over a runtime."""

    def __init__(self, runtime: EdgeRuntime) -> None:
        plane = make_plane(runtime, max_input=MOST)
        plane.__class__ = Recording
        self.plane: Any = plane
        self.plane.asked = []
        self.front = Front(self.plane, Gate(None, None), LIMITS)
        self.loop = Loop()
        self.config = uvicorn.Config(None, lifespan="off", ws="none", log_config=None)
        self.state = uvicorn.server.ServerState()

    def connect(self, chance: random.Random) -> Wire:
        wire = Wire(chance)
        loop: Any = self.loop
        wire.protocol = self.front.protocol(self.config, self.state, {}, loop)
        transport: Any = wire
        wire.protocol.connection_made(transport)
        return wire

    def settle(self, *wires: Wire) -> None:
        """Answer what is under way, its answers taken."""
        while True:
            self.loop.turn()
            for wire in wires:
                wire.take()
            if self.plane.under_way:
                self.loop.wait()
            elif not self.loop.soon and self.loop.from_threads.empty():
                return


def send(server: Server, wire: Wire, data: bytes, chance: random.Random) -> None:
    """A client's bytes arrive, in whichever pieces."""
    rest = data
    while rest and not wire.is_closed:
        if not wire.is_reading:
            server.settle(wire)
            assert wire.is_reading or wire.is_closed, "never reads on"
            continue
        size = chance.choice((1, 2, 7, 40, 300, len(rest), len(rest), len(rest)))
        rest = wire.feed(rest[:size]) + rest[size:]
        if chance.random() < 0.2:
            server.settle(wire)
    server.settle(wire)


_ANSWER = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [A-Za-z -]+\r\n((?:[a-zA-Z-]+: [^\r\n]*\r\n)*)\r\n")


def answers(out: bytes, methods: Sequence[str]) -> list[Answered]:
    """The answers in what a server wrote; fails where it is no HTTP."""
    found: list[Answered] = []
    at = 0
    while at < len(out):
        head = _ANSWER.match(out, at)
        assert head is not None, f"no answer: {out[at : at + 300]!r}"
        at = head.end()
        status = int(head[1])
        if status == 100:
            continue
        lines = [line.split(": ", 1) for line in head[2].decode().splitlines()]
        headers = {name.lower(): value for name, value in lines}
        assert len(headers) == len(lines), lines
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        size = 0 if method == "HEAD" else int(headers["content-length"])
        body = out[at : at + size]
        assert len(body) == size, "an answer is cut off"
        at += size
        found.append((status, headers, body))
        if method != "HEAD":
            _check_answer(status, headers, body)
    return found


def _check_answer(status: int, headers: Mapping[str, str], body: bytes) -> None:
    assert status in STATUSES, (status, body)
    assert b"internal error" not in body
    if status == 200:
        return
    body = _plain(headers, body)
    if body or status != 400:  # a server or a model that is not ready says so with a status alone
        error = json.loads(body)["error"]
        assert isinstance(error, str), body
        assert error, body


def _plain(headers: Mapping[str, str], body: bytes) -> bytes:
    return zlib.decompress(body, 47) if "content-encoding" in headers else body


def as_h11_reads(data: bytes) -> tuple[list[tuple[str, bytes]], bool]:
    """Method and body of each whole request in a stream, as another implementation reads it.

    Returns:
        Them, and whether that is all: h11 checks lengths in trailers, which we drop as
        RFC 9112 7.1.2 has it, so what follows such a trailer has nothing to be compared to.
    """
    requests: list[tuple[str, bytes]] = []
    rest = data
    while True:
        # h11 knows no empty lines before a request, which RFC 9112 2.2 wants to be ignored.
        while rest.startswith(b"\r\n"):
            rest = rest[2:]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
        connection.receive_data(rest)
        method, body = "", bytearray()
        try:
            while True:
                event = connection.next_event()
                if isinstance(event, h11.Request):
                    method = event.method.decode()
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return requests, True
        except h11.RemoteProtocolError as exc:
            if method and ("Content-Length" in str(exc) or "Transfer-Encoding" in str(exc)):
                return [*requests, (method, bytes(body))], False
            return requests, True
        requests.append((method, bytes(body)))
        if method == "CONNECT":
            return requests, True
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        rest = connection.trailing_data[0]
        if connection.our_state is not h11.DONE or not rest:
            return requests, True


def run_connection(server: Server, number: int) -> None:
    """One case: what is right, then what is damaged, then perhaps what is right again."""
    chance = random.Random(number)
    before = [chance.choice(VALID) for _ in range(chance.choice((0, 0, 1, 2)))]
    damaged = mutated(chance.choice(VALID).data, chance, HTTP_PIECES)
    after = b"".join(chance.choice(VALID).data for _ in range(chance.choice((0, 0, 1))))
    stream = b"".join(one.data for one in before) + damaged + after
    try:
        _check_connection(server, stream, before, chance)
    except Exception as exc:
        raise failed(number, stream, exc) from exc


def _check_connection(
    server: Server, stream: bytes, before: Sequence[Valid], chance: random.Random
) -> None:
    server.plane.asked.clear()
    wire = server.connect(chance)
    send(server, wire, stream, chance)
    asked = list(server.plane.asked)
    seen, is_all = as_h11_reads(stream)
    # Framing: every body is the one that another reader finds in its place.
    for mine, theirs in zip(asked, seen, strict=False):
        method = "GET" if theirs[0] == "HEAD" else theirs[0]
        assert mine == (method, theirs[1]), f"read {mine}, h11 reads {theirs}"
    assert len(asked) <= len(seen) or not is_all, f"read {asked[len(seen) :]}, which h11 refuses"
    found = answers(bytes(wire.out), [method for method, _ in seen[: len(asked)]])
    for valid, answered in zip(before, found, strict=False):
        assert valid.check(answered), answered
    assert len(found) >= len(before)
    refused = found[len(asked) :]
    assert len(refused) <= 1, refused
    if refused:
        assert refused[0][1].get("connection") == "close"
        assert wire.has_ended or wire.is_closed
    # Whatever it waits for has an end.
    for _ in range(3):
        server.loop.now += 1000
        if not wire.is_closed:
            wire.protocol.check_time(server.loop.now)
    assert wire.is_closed
    wire.protocol.connection_lost(None)
    server.settle(wire)
    assert server.front.budget.taken == 0
    assert not server.front.connections
    if chance.random() < 0.1:
        _check_fresh(server, chance)


def _check_fresh(server: Server, chance: random.Random) -> None:
    wire = server.connect(chance)
    one = chance.choice(VALID)
    send(server, wire, one.data, chance)
    (answered,) = answers(bytes(wire.out), [])
    assert one.check(answered), answered
    wire.protocol.connection_lost(None)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Iterator[EdgeRuntime]:
    runtime = EdgeRuntime(tmp_path_factory.mktemp("fuzz"), config=_config(linear_onnx))
    assert runtime.wait_settled(30)
    yield runtime
    runtime.close()


def _config(linear: Path) -> dict[str, Any]:
    from onnx import TensorProto, helper

    kind = TensorProto.STRING
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "bytes",
        [helper.make_tensor_value_info("x", kind, ["rows", "columns"])],
        [helper.make_tensor_value_info("y", kind, ["rows", "columns"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = linear.with_name("bytes.onnx")
    path.write_bytes(model.SerializeToString())
    return {
        "services": [
            {
                "name": name,
                "api": MLMODEL_API,
                "model": "onnx_cpu",
                "attributes": {"model_path": str(file)},
            }
            for name, file in (("linear", linear), ("bytes", path))
        ]
    }


@pytest.fixture
def server(runtime: EdgeRuntime) -> Iterator[Server]:
    server = Server(runtime)
    yield server
    server.plane.close()


def test_requests_that_are_right_are_answered_however_they_arrive(server: Server) -> None:
    for number in range(200):
        chance = random.Random(number)
        wire = server.connect(chance)
        sent = [chance.choice(VALID) for _ in range(5)]
        send(server, wire, b"".join(one.data for one in sent), chance)
        found = answers(bytes(wire.out), [])
        assert len(found) == len(sent)
        for one, answered in zip(sent, found, strict=True):
            assert one.check(answered), failed(number, one.data, answered)
        wire.protocol.connection_lost(None)
        assert server.front.budget.taken == 0


def test_chunks_that_waited_for_their_turn_may_be_for_a_model_that_there_is_not(
    server: Server,
) -> None:
    chance = random.Random(0)
    wire = server.connect(chance)
    first = chunked("/v2/models/no/infer", TEXT)
    wire.feed(first[:-20])
    wire.protocol._rest += first[-20:-1]  # as after a pause
    gc.disable()  # which would let go of the error
    try:
        send(server, wire, first[-1:] + request(INFER, TEXT), chance)
    finally:
        gc.enable()
    unknown, right = answers(bytes(wire.out), [])
    assert unknown[0] == 404
    assert _is_linear(right)
    wire.protocol.connection_lost(None)


def test_damaged_streams_are_answered_or_refused(server: Server) -> None:
    for number in range(300):
        run_connection(server, number)


@pytest.mark.slow
@pytest.mark.parametrize("item", range(ITEMS))
def test_a_great_many_damaged_streams(server: Server, item: int) -> None:
    with no_growth(lambda: [run_connection(server, number) for number in range(1000)]):
        for number in range(CONNECTIONS):
            run_connection(server, (item + 1) * 10_000_000 + number)


# -- bodies -----------------------------------------------------------------------------------

W = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
B = np.array([10, 20, 30], np.float32)
CLASSES = json.dumps(
    {
        "inputs": [_x(shape=[2, 2], data=[1, 2, 3, 4])],
        "outputs": [{"name": "y", "parameters": {"classification": 2}}],
        "parameters": {"binary_data_output": True, "timeout": 1_000_000},
    }
).encode()
LOAD = json.dumps(
    {"parameters": {"config": '{"backend":"onnxruntime"}', "file:1/model.onnx": "AAAA"}}
).encode()
SETTINGS = b'{"log_info":true,"log_verbose_level":1,"log_format":"default"}'
TRACE = (
    b'{"trace_level":["TIMESTAMPS"],"trace_rate":"1000","trace_count":"-1","log_frequency":null}'
)
REGION = b'{"key":"/r","offset":0,"byte_size":64}'
WORDS = json.dumps(
    {
        "inputs": [
            {
                "name": "x",
                "datatype": "BYTES",
                "shape": [1, 2],
                "parameters": {"binary_data_size": 11},
            }
        ],
        "outputs": [{"name": "y"}],
    }
).encode()
#: Path, header, body.
POSTS = (
    (INFER, None, TEXT),
    (INFER, str(len(HEAD)), HEAD + TAIL),
    (INFER, "0", TAIL),
    (INFER, None, CLASSES),
    ("/v2/models/bytes/infer", None, BYTES),
    ("/v2/models/bytes/infer", str(len(WORDS)), WORDS + b"\3\0\0\0abc\0\0\0\0"),
    ("/v2/models/linear/versions/1/infer", None, TEXT),
    ("/v2/repository/index", None, b'{"ready":true}'),
    ("/v2/repository/models/ghost/load", None, LOAD),
    ("/v2/repository/models/ghost/unload", None, b'{"parameters":{"unload_dependents":false}}'),
    ("/v2/systemsharedmemory/region/r/register", None, REGION),
    ("/v2/logging", None, SETTINGS),
    ("/v2/models/linear/trace/setting", None, TRACE),
)
INFERS = 7  # of them, the first ones


def run_body(plane: DataPlane, number: int) -> None:
    """One case: a damaged body, answered as the rules for it say."""
    chance = random.Random(number)
    is_rare = chance.random() < 0.1
    path, length, body = chance.choice(POSTS if is_rare else POSTS[:INFERS])
    damaged = mutated(body, chance, BODY_PIECES)
    if chance.random() < 0.1:
        length = chance.choice((None, "0", "-1", "x", "9" * 30, str(chance.randrange(300))))
    headers = {} if length is None else {"inference-header-content-length": length}
    content = damaged
    if chance.random() < 0.1:
        coding = chance.choice(("gzip", "deflate"))
        headers["content-encoding"] = coding
        content = gzip.compress(content, 1) if coding == "gzip" else zlib.compress(content, 1)
    if chance.random() < 0.05:
        headers["accept-encoding"] = chance.choice(("gzip", "deflate;q=0.5, *", "br;q=x", ""))
    call = plane.match(path)
    assert call is not None
    try:
        answer = plane.answer(call, "POST", headers, bytearray(content))
        told = {name.lower(): value for name, value in answer.headers.items()}
        if answer.status != 500 or not any(word in answer.join() for word in FAILURES):
            _check_answer(answer.status, told, answer.join())
        if answer.status == 200 and path.endswith("infer"):
            _check_outputs(damaged, length, _plain(told, answer.join()), told)
    except Exception as exc:
        raise failed(number, (path, headers, damaged), exc) from exc


def _check_outputs(
    asked: bytes, length: str | None, answered: bytes, headers: Mapping[str, str]
) -> None:
    """The shapes and values of an answer to ``linear`` or ``bytes``, reckoned anew."""
    end = headers.get("inference-header-content-length")
    head = json.loads(answered if end is None else answered[: int(end)])
    (output,) = head["outputs"]
    shape, datatype = output["shape"], output["datatype"]
    if end is None:
        found = np.array(output["data"]).reshape(shape)
    else:
        raw = answered[int(end) :]
        assert output["parameters"]["binary_data_size"] == len(raw)
        if datatype == "BYTES":
            assert len(_strings(raw)) == int(np.prod(shape))
            return
        found = np.frombuffer(raw, "<f4").reshape(shape)
    if head["model_name"] == "bytes":
        assert datatype == "BYTES"
        text = asked if length is None else asked[: int(length)]
        if length != "0":
            assert shape == json.loads(text)["inputs"][0]["shape"]
        return
    if length == "0":
        given = np.frombuffer(asked, "<f4")
        shape = [len(given) // 2, 2]
    else:
        text = json.loads(asked if length is None else asked[: int(length)])
        (tensor,) = text["inputs"]
        shape = tensor["shape"]
        tail = asked[int(length) :] if length is not None else b""
        given = np.hstack(tensor["data"]) if "data" in tensor else np.frombuffer(tail, "<f4")
    if datatype == "BYTES":  # classes
        assert found.shape[0] == shape[0]
        assert found.shape[1] <= 3
        return
    with np.errstate(all="ignore"):
        wanted = np.asarray(given, np.float32).reshape(shape) @ W + B
        assert found.shape == wanted.shape
        assert np.allclose(found.astype(np.float32), wanted, rtol=1e-4, equal_nan=True)


def _strings(raw: bytes) -> list[bytes]:
    """The elements of a tensor of BYTES, each behind its length."""
    found, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + size])
        assert len(found[-1]) == size
        at += 4 + size
    return found


@pytest.fixture(scope="module")
def plane(runtime: EdgeRuntime) -> Iterator[DataPlane]:
    with closing(make_plane(runtime, max_input=MOST)) as plane:
        yield plane


def test_damaged_bodies_are_answered_or_refused(plane: DataPlane) -> None:
    for number in range(1000):
        run_body(plane, number)


@pytest.mark.slow
@pytest.mark.parametrize("item", range(2))
def test_a_great_many_damaged_bodies(plane: DataPlane, item: int) -> None:
    with no_growth(lambda: [run_body(plane, number) for number in range(3000)]):
        for number in range(BODIES):
            run_body(plane, (item + 1) * 10_000_000 + number)


# -- messages of gRPC -------------------------------------------------------------------------


class Context:
    """What grpcio gives with a call that has no deadline and whose client waits."""

    def is_active(self) -> bool:
        return True

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def time_remaining(self) -> None:
        return None

    def add_callback(self, _callback: Callable[[], None]) -> bool:
        return True


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


#: What breaks readers of protobuf: numbers without end, lengths beyond it, groups, odd tags.
WIRE_PIECES = (
    *(b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x01", b"\xff" * 5, b"\x80\x00", b"\x00"),
    *(b"\x0b", b"\x0c", b"\x3a\x00", b"\x3a\x08", b"\x1a\x02\xff\xfe", b"\x0a\x01x", b"\x2a"),
    *(b"\x08\x01", b"\x0d\x00\x00\x00\x00", b"\x09" + bytes(8), b"\x0f", b"\x18\x01", b"\x12"),
    *(b"FP16", b"BYTES", b"BOOL", b"INT64", b"linear", b"bytes", bytes(8), TAIL, b"\x0a" * 30),
)


def _infer_message(*, typed: bool) -> bytes:
    tensor = _field(1, b"x") + _field(2, b"FP32") + _field(3, b"\x01\x02")
    if typed:
        tensor += _field(5, _field(6, TAIL))
    message = _field(1, b"linear") + _field(3, b"7")
    message += _field(4, _field(1, b"timeout") + _field(2, b"\x10\xc0\x84\x3d"))
    message += _field(5, tensor) + _field(6, _field(1, b"y"))
    return message if typed else message + _field(7, TAIL)


def _viam_message(number: int, data: bytes) -> bytes:
    tensor = _field(1, struct.pack("<2Q", 1, 2)) + _field(number, data)
    return _field(1, b"linear") + _field(3, _field(1, _field(1, b"x") + _field(2, tensor)))


NAMED = _field(1, b"linear") + _field(2, b"1")
#: Service and method → a request that is right.
MESSAGES = {
    "inference.GRPCInferenceService": {
        "ModelInfer": _infer_message(typed=False),
        "ModelMetadata": NAMED,
        "ModelConfig": NAMED,
        "ModelReady": NAMED,
        "ModelStatistics": NAMED,
        "ServerMetadata": b"",
        "RepositoryIndex": b"\x10\x01",
        "RepositoryModelLoad": _field(2, b"ghost")
        + _field(3, _field(1, b"config") + _field(2, _field(3, b"{}"))),
        "RepositoryModelUnload": _field(2, b"ghost"),
        "SystemSharedMemoryStatus": _field(1, b"r"),
        "SystemSharedMemoryRegister": _field(1, b"r") + _field(2, b"/r") + b"\x20\x40",
        "SystemSharedMemoryUnregister": _field(1, b"r"),
        "TraceSetting": _field(1, _field(1, b"trace_rate") + _field(2, _field(1, b"1000"))),
        "LogSettings": _field(1, _field(1, b"log_info") + _field(2, b"\x08\x01")),
    },
    "viam.service.mlmodel.v1.MLModelService": {
        "Infer": _viam_message(10, _field(1, TAIL)),
        "Metadata": _field(1, b"linear"),
        "GetStatus": _field(1, b"linear"),
        "DoCommand": _field(1, b"linear")
        + _field(2, _field(1, _field(1, b"status") + _field(2, b"\x20\x01"))),
    },
}
INFERENCES = (
    ("inference.GRPCInferenceService", "ModelInfer", _infer_message(typed=False)),
    ("inference.GRPCInferenceService", "ModelInfer", _infer_message(typed=True)),
    ("viam.service.mlmodel.v1.MLModelService", "Infer", _viam_message(10, _field(1, TAIL))),
    ("viam.service.mlmodel.v1.MLModelService", "Infer", _viam_message(4, _field(1, TAIL))),
    ("viam.service.mlmodel.v1.MLModelService", "Infer", _viam_message(3, _field(1, b"ab"))),
    ("viam.service.mlmodel.v1.MLModelService", "Infer", _viam_message(8, _field(1, bytes(16)))),
)


class Methods:
    """The methods of the gRPC services over a runtime, without a server."""

    def __init__(self, runtime: EdgeRuntime) -> None:
        from nbmodel.runtime import viam_mlmodel
        from nbmodel.runtime.grpc_calls import Call as GrpcCall
        from nbmodel.runtime.grpc_oip import oip_service

        services = (oip_service(runtime, version="0"), *viam_mlmodel.services(runtime))
        self._methods = {service.name: service.methods for service in services}
        self._call = GrpcCall(Context(), runtime)

    def ask(self, service: str, method: str, data: bytes) -> bytes | NbModelError:
        try:
            return self._methods[service][method](data, self._call)
        except NbModelError as exc:
            return exc


def run_message(methods: Methods, official: Any, number: int) -> None:
    """One case: a damaged message, read as protobuf reads it or refused."""
    chance = random.Random(number)
    if chance.random() < 0.8:
        service, method, data = chance.choice(INFERENCES)
    else:
        service = chance.choice(tuple(MESSAGES))
        method, data = chance.choice(tuple(MESSAGES[service].items()))
    damaged = mutated(data, chance, WIRE_PIECES)
    try:
        answer = methods.ask(service, method, damaged)
        if method == "Infer":
            _check_flat_tensors(damaged, official)
        if isinstance(answer, bytes) and method in ("ModelInfer", "Infer"):
            request, response = (kind.FromString for kind in official[method])
            _check_inference(method, request(damaged), response(answer))
    except Exception as exc:
        raise failed(number, (service, method, damaged), exc) from exc


def _check_flat_tensors(data: bytes, official: Any) -> None:
    """What is read of Viam's tensors is what the official message has of them."""
    try:
        mine = decode_infer_request(data).inputs
    except NbModelError:
        return
    for name, tensor in official["Infer"][0].FromString(data).input_tensors.tensors.items():
        kind = tensor.WhichOneof("tensor")
        theirs = getattr(tensor, kind).data
        array = mine[name].reshape(-1)
        assert list(mine[name].shape) == list(tensor.shape)
        if kind in ("int8_tensor", "uint8_tensor"):
            assert array.tobytes() == theirs
        elif kind in ("int16_tensor", "uint16_tensor"):
            if len(theirs) == array.size:  # else two to an entry
                extended = array.astype(np.int32).view(np.uint32)
                wide, entries = array.astype(np.uint16), np.array(theirs, np.uint32)
                assert np.all((entries == wide) | (entries == extended))
        else:
            assert np.array_equal(array, np.array(theirs, array.dtype), equal_nan=True)


def _check_inference(method: str, request: Any, response: Any) -> None:
    """What was answered to a request, as the official messages read both."""
    if method == "Infer":
        if len(request.input_tensors.tensors) != 1:
            return  # official readers drop a map's entry that has unknown fields
        (x,) = request.input_tensors.tensors.values()
        y = response.output_tensors.tensors["y"]
        given, found = np.array(x.float_tensor.data, np.float32), y.float_tensor.data
        rows, columns = x.shape
        assert list(y.shape) == [rows, 3]
    else:
        (tensor,) = request.inputs
        (y,) = response.outputs
        assert response.id == request.id
        raw = request.raw_input_contents
        if request.model_name == "bytes":
            assert list(y.shape) == list(tensor.shape)
            return
        given = (
            np.frombuffer(raw[0], "<f4")
            if raw
            else np.array(tensor.contents.fp32_contents, np.float32)
        )
        found = np.frombuffer(response.raw_output_contents[0], "<f4")
        rows, columns = tensor.shape
        if y.datatype == "BYTES":  # classes
            return
        assert (y.datatype, list(y.shape)) == ("FP32", [rows, 3])
    with np.errstate(all="ignore"):
        wanted = given.reshape(rows, columns) @ W + B
        assert np.allclose(np.array(found).reshape(rows, 3), wanted, rtol=1e-4, equal_nan=True)


@pytest.fixture(scope="module")
def methods(runtime: EdgeRuntime) -> Methods:
    pytest.importorskip("grpc", reason="pip install 'nbmodel[runtime]'")
    return Methods(runtime)


@pytest.fixture(scope="module")
def official() -> Any:
    """The official messages of request and answer, by method."""
    pb = pytest.importorskip(
        "tritonclient.grpc.service_pb2", reason="pip install 'nbmodel[triton]'"
    )
    viam = pytest.importorskip(
        "viam.gen.service.mlmodel.v1.mlmodel_pb2", reason="pip install 'nbmodel[viam]'"
    )
    return {
        "ModelInfer": (pb.ModelInferRequest, pb.ModelInferResponse),
        "Infer": (viam.InferRequest, viam.InferResponse),
    }


def test_messages_that_are_right_are_answered(methods: Methods, official: Any) -> None:
    for service, method, data in (INFERENCES[0], INFERENCES[1], INFERENCES[2]):
        answer = methods.ask(service, method, data)
        assert isinstance(answer, bytes), answer
        request, response = (kind.FromString for kind in official[method])
        _check_inference(method, request(data), response(answer))


def test_damaged_messages_are_answered_or_refused(methods: Methods, official: Any) -> None:
    for number in range(1000):
        run_message(methods, official, number)


@pytest.mark.slow
@pytest.mark.parametrize("item", range(2))
def test_a_great_many_damaged_messages(methods: Methods, official: Any, item: int) -> None:
    def rounds(first: int, count: int) -> None:
        for number in range(first, first + count):
            run_message(methods, official, number)

    with no_growth(lambda: rounds(0, 3000)):
        rounds((item + 1) * 10_000_000, MESSAGES_EACH)


# -- compressed bodies ------------------------------------------------------------------------


def run_compressed(number: int) -> None:
    chance = random.Random(number)
    plain = chance.choice((TEXT, HEAD + TAIL, bytes(chance.randrange(5000)), chance.randbytes(300)))
    pack = chance.choice((gzip.compress, zlib.compress))
    damaged = mutated(pack(plain), chance, (*WIRE_PIECES, pack(b"abc")), most=2)
    limit = chance.choice((100, 4096, MOST))
    try:
        result = decompress(damaged, limit=limit)
    except NbModelError:
        return
    except Exception as exc:
        raise failed(number, damaged, exc) from exc
    stream = zlib.decompressobj(47)
    assert result == stream.decompress(damaged), failed(number, damaged, "read otherwise")
    assert not stream.unused_data, failed(number, damaged, "not read to its end")
    assert len(result) <= limit, failed(number, damaged, "more than the limit")


def test_damaged_compressed_bodies_are_read_or_refused() -> None:
    for number in range(1000):
        run_compressed(number)


@pytest.mark.slow
def test_a_great_many_damaged_compressed_bodies() -> None:
    for number in range(COMPRESSED):
        run_compressed(10_000_000 + number)


@pytest.mark.parametrize("window", [15 | 16, 15], ids=["gzip", "deflate"])
def test_a_bomb_is_refused_before_it_grows(plane: DataPlane, window: int) -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, window)
    zeros = bytes(1 << 20)
    bomb = b"".join(stream.compress(zeros) for _ in range(64)) + stream.flush()
    assert len(bomb) < MOST
    call = plane.match(INFER)
    assert call is not None
    tracemalloc.start()
    try:
        started = time.process_time()
        answer = plane.answer(call, "POST", {"content-encoding": "gzip"}, bomb)
        took, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status == 400
    assert b"exceeds the maximum" in answer.join()
    assert peak < 6 * MOST
    assert took < 1


# -- sockets ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Process:
    """A runtime in a process of its own."""

    http: tuple[str, int]
    grpc: tuple[str, int]
    pid: int

    def resident(self) -> int:
        """Bytes of its memory."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Iterator[Process]:
    pytest.importorskip("grpc", reason="pip install 'nbmodel[runtime]'")
    folder = tmp_path_factory.mktemp("process")
    config = folder / "machine.json"
    config.write_text(json.dumps(_config(linear_onnx)))
    home = folder / "home"
    known = start_local("fuzzed", home, config=config, grpc="127.0.0.1:0", limits=LIMITS)
    try:
        said = (home / OUTPUT_FILE).read_text().splitlines()
        (grpc,) = (line.removeprefix(GRPC) for line in said if line.startswith(GRPC))
        assert known.pid is not None
        yield Process(_address(known.url.removeprefix("http://")), _address(grpc), known.pid)
    finally:
        assert stop_local(known)


def _address(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port)


def exchange(address: tuple[str, int], parts: Sequence[bytes], *, is_rude: bool = False) -> bytes:
    """What a server answers to parts, after which nothing more comes; nothing to the rude."""
    found = bytearray()
    with socket.create_connection(address, timeout=ANSWER_S) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with _while_connected():
            for part in parts:
                wire.sendall(part)
            if is_rude:
                linger = struct.pack("ii", 1, 0)  # it is torn down
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return b""
            wire.shutdown(socket.SHUT_WR)
            while data := wire.recv(1 << 16):
                found += data
    return bytes(found)


@contextmanager
def _while_connected() -> Iterator[None]:
    """Until the server has closed; one that does not answer is a failure."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError:  # reset, broken, or not connected any more
        return


def run_sockets(process: Process, number: int) -> None:
    chance = random.Random(number)
    damaged = mutated(chance.choice(VALID).data, chance, HTTP_PIECES)
    at = chance.randrange(len(damaged) + 1)
    try:
        if number % 10 == 0:
            preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
            exchange(process.grpc, [mutated(preface, chance, WIRE_PIECES), chance.randbytes(40)])
        out = exchange(process.http, [damaged[:at], damaged[at:]], is_rude=chance.random() < 0.2)
        assert not out or out.startswith(b"HTTP/1.1 "), out
        assert not re.match(rb"HTTP/1.1 5(?!01)", out), out
        if number % 20 == 0:
            _check_process(process, chance)
    except Exception as exc:
        raise failed(number, damaged, exc) from exc


def _check_process(process: Process, chance: random.Random) -> None:
    one = chance.choice([one for one in VALID if b"100-continue" not in one.data])
    data = one.data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with socket.create_connection(process.http, timeout=ANSWER_S) as wire:
        wire.sendall(data)
        out = bytearray()
        while part := wire.recv(1 << 16):
            out += part
    (answered,) = answers(bytes(out), [])
    assert one.check(answered), answered


def _check_grpc(process: Process) -> None:
    import grpc

    with grpc.insecure_channel("{}:{}".format(*process.grpc)) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=ANSWER_S) == b"\x08\x01"


def test_damaged_streams_over_sockets_leave_a_runtime_well(process: Process) -> None:
    for number in range(100):
        run_sockets(process, number)
    _check_grpc(process)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_great_many_damaged_streams_over_sockets(process: Process) -> None:
    for number in range(1000):
        run_sockets(process, number)
    before = process.resident()
    for number in range(SOCKETS):
        run_sockets(process, 10_000_000 + number)
    assert process.resident() < before * 1.05 + 2e6
    _check_grpc(process)
