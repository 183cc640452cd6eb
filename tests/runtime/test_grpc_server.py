"""The gRPC server: who may call, what it takes, and how it ends; the health service."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.unhurried

grpc = pytest.importorskip("grpc", reason="pip install 'nbmodel[runtime]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")

from nbmodel.errors import InputError  # noqa: E402
from nbmodel.protocol.messages import message  # noqa: E402
from nbmodel.runtime.auth import Gate  # noqa: E402
from nbmodel.runtime.edge import EdgeRuntime  # noqa: E402
from nbmodel.runtime.grpc_server import MESSAGE_SLACK, GrpcServer  # noqa: E402
from nbmodel.runtime.limits import TOO_MUCH, Limits  # noqa: E402
from nbmodel.runtime.server import Address  # noqa: E402

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
HEALTH = "/grpc.health.v1.Health/"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
TOKEN = "s3cret"

Start = Callable[..., tuple[GrpcServer, str]]


@pytest.fixture(scope="module")
def runtime(
    tmp_path_factory: pytest.TempPathFactory,
    linear_onnx: Path,
    counter_onnx: Path,
    service: Callable[[str, Path], dict[str, Any]],
) -> Iterator[EdgeRuntime]:
    config = {"services": [service("linear", linear_onnx), service("counter", counter_onnx)]}
    runtime = EdgeRuntime(tmp_path_factory.mktemp("grpc"), config=config)
    assert runtime.wait_settled(30)
    yield runtime
    runtime.close()


@pytest.fixture
def start(runtime: EdgeRuntime) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(token: str | None = None, **options: Any) -> tuple[GrpcServer, str]:
            server = GrpcServer(
                runtime, Gate(token, None), Address("127.0.0.1", 0), version="0.0", **options
            )
            address = server.start()
            stack.callback(server.stop, 0)
            return server, address

        yield begin


@pytest.fixture
def dial() -> Iterator[Callable[[str], Any]]:
    with ExitStack() as stack:

        def connect(address: str) -> Any:
            channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
            return stack.enter_context(channel)

        yield connect


def request(model: str, *values: float) -> bytes:
    datatype = np.float32 if model == "linear" else np.int64
    shape = [1, 2] if model == "linear" else [1]
    made = message("inference.ModelInferRequest")(model_name=model)
    made.inputs.add(name="x", datatype="FP32" if model == "linear" else "INT64", shape=shape)
    made.raw_input_contents.append(np.array(values, datatype).tobytes())
    encoded: bytes = made.SerializeToString()
    return encoded


LINEAR = request("linear", 1, 1)


def code_of(call: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as info:
        call()
    return info.value.code()


def health(channel: Any, service: str = "") -> int:
    asked = message("grpc.health.v1.HealthCheckRequest")(service=service).SerializeToString()
    return status_in(channel.unary_unary(f"{HEALTH}Check")(asked))


def status_in(data: bytes) -> int:
    status: int = message("grpc.health.v1.HealthCheckResponse").FromString(data).status
    return status


# Who may call


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param([], id="none"),
        pytest.param([("authorization", "Bearer other")], id="another"),
        pytest.param([("authorization", f"Basic {TOKEN}")], id="another scheme"),
    ],
)
def test_a_call_without_the_token_is_refused(
    start: Start, dial: Callable[[str], Any], metadata: list[tuple[str, str]]
) -> None:
    channel = dial(start(TOKEN)[1])
    unary, stream = channel.unary_unary(INFER), channel.stream_stream(STREAM)
    assert code_of(lambda: unary(LINEAR, metadata=metadata)) is grpc.StatusCode.UNAUTHENTICATED
    assert (
        code_of(lambda: list(stream(iter([LINEAR]), metadata=metadata)))
        is grpc.StatusCode.UNAUTHENTICATED
    )


def test_a_call_with_the_token_is_answered(start: Start, dial: Callable[[str], Any]) -> None:
    channel = dial(start(TOKEN)[1])
    metadata = [("authorization", f"Bearer {TOKEN}")]
    assert channel.unary_unary(INFER)(LINEAR, metadata=metadata)


def test_health_needs_no_token(start: Start, dial: Callable[[str], Any]) -> None:
    channel = dial(start(TOKEN)[1])
    assert health(channel) == SERVING
    for method in ("ServerLive", "ServerReady"):
        assert channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(b"") == b"\x08\x01"


# What it takes


def test_an_unknown_method_is_told(start: Start, dial: Callable[[str], Any]) -> None:
    channel = dial(start()[1])
    for method in ("/inference.GRPCInferenceService/Nope", "/other.Service/ModelInfer"):
        call = channel.unary_unary(method)
        assert code_of(lambda call=call: call(b"")) is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_limit_is_refused(start: Start, dial: Callable[[str], Any]) -> None:
    channel = dial(start(limits=Limits(max_request_bytes=1024))[1])
    call = channel.unary_unary(INFER)
    assert call(LINEAR)
    too_large = bytes(1024 + MESSAGE_SLACK + 1)
    assert code_of(lambda: call(too_large)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    stream = channel.stream_stream(STREAM)
    assert code_of(lambda: list(stream(iter([too_large])))) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_limit_above_what_grpc_knows_is_none(start: Start, dial: Callable[[str], Any]) -> None:
    limits = Limits(max_request_bytes=10**12, max_bytes_in_flight=10**12)
    call = dial(start(limits=limits)[1]).unary_unary(INFER)
    # It is read, and found to be no request.
    assert code_of(lambda: call(bytes(8 * MESSAGE_SLACK))) is grpc.StatusCode.INVALID_ARGUMENT


def test_bytes_in_flight_have_a_bound_of_calls_and_streams(
    start: Start, dial: Callable[[str], Any]
) -> None:
    channel = dial(start(limits=Limits(max_bytes_in_flight=len(LINEAR) + 1))[1])
    call, stream = channel.unary_unary(INFER), channel.stream_stream(STREAM)
    slow = request("counter", 500_000)
    for begin, end in (
        (lambda: call.future(slow), lambda one: one.result()),
        (lambda: stream(iter([slow])), list),
    ):
        under_way = begin()
        time.sleep(0.1)
        for other in (lambda: call(LINEAR), lambda: list(stream(iter([LINEAR])))):
            with pytest.raises(grpc.RpcError) as info:
                other()
            assert info.value.code() is grpc.StatusCode.UNAVAILABLE
            assert info.value.details() == TOO_MUCH
        assert end(under_way)


def test_calls_under_way_have_a_bound(start: Start, dial: Callable[[str], Any]) -> None:
    call = dial(start(limits=Limits(max_connections=1))[1]).unary_unary(INFER)
    under_way = call.future(request("counter", 500_000))
    time.sleep(0.1)
    assert code_of(lambda: call(LINEAR)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert under_way.result()


def test_streams_leave_threads_to_calls(start: Start, dial: Callable[[str], Any]) -> None:
    channel = dial(start(threads=4)[1])
    ends = [threading.Event() for _ in range(2)]

    def requests(end: threading.Event) -> Iterator[bytes]:
        yield LINEAR
        end.wait(10)

    stream = channel.stream_stream(STREAM)
    calls = [stream(requests(end)) for end in ends]
    for call in calls:
        assert next(call)
    assert code_of(lambda: next(stream(iter([LINEAR])))) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert channel.unary_unary(INFER)(LINEAR)
    for end, call in zip(ends, calls, strict=True):
        end.set()
        assert list(call) == []
    deadline = time.monotonic() + 5
    answers: list[bytes] = []
    while not answers:  # until the places are free again
        assert time.monotonic() < deadline
        with suppress(grpc.RpcError):
            answers = list(stream(iter([LINEAR])))


def test_what_cannot_be_answered_is_logged_and_not_told(
    start: Start,
    dial: Callable[[str], Any],
    runtime: EdgeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(EdgeRuntime, "services", lambda _: 1 / 0)
    channel = dial(start()[1])
    call = channel.unary_unary("/inference.GRPCInferenceService/RepositoryIndex")
    with pytest.raises(grpc.RpcError) as info:
        call(b"")
    assert info.value.code() is grpc.StatusCode.INTERNAL
    assert "division" not in info.value.details()
    assert "ZeroDivisionError" in caplog.text


# How it begins and ends


def test_an_address_in_use_is_told(runtime: EdgeRuntime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        server = GrpcServer(runtime, Gate(None, None), address, version="0.0")
        with pytest.raises(InputError, match="for gRPC: Address already in use") as info:
            server.start()
        server.stop(0)
    assert info.value.hint == "port 0 takes a free one"


def test_a_call_under_way_is_answered_before_the_end(
    start: Start, dial: Callable[[str], Any]
) -> None:
    server, address = start()
    channel = dial(address)
    under_way = channel.unary_unary(INFER).future(request("counter", 300_000))
    time.sleep(0.1)
    server.stop(10)
    answer = message("inference.ModelInferResponse").FromString(under_way.result(timeout=1))
    assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == [300_000]
    call = channel.unary_unary(INFER)
    assert code_of(lambda: call(LINEAR)) is grpc.StatusCode.UNAVAILABLE


# Health


def test_the_server_and_its_services_are_healthy(start: Start, dial: Callable[[str], Any]) -> None:
    channel = dial(start()[1])
    for service in ("", "inference.GRPCInferenceService", "grpc.health.v1.Health"):
        assert health(channel, service) == SERVING
    assert code_of(lambda: health(channel, "nope")) is grpc.StatusCode.NOT_FOUND
    listed = message("grpc.health.v1.HealthListResponse").FromString(
        channel.unary_unary(f"{HEALTH}List")(b"")
    )
    assert listed.statuses["inference.GRPCInferenceService"].status == SERVING


def test_a_watcher_is_told_of_changes(start: Start, dial: Callable[[str], Any]) -> None:
    server, address = start()
    channel = dial(address)
    kind = message("grpc.health.v1.HealthCheckRequest")
    watch = channel.unary_stream(f"{HEALTH}Watch")
    watched = watch(b"")
    assert status_in(next(watched)) == SERVING
    unknown = watch(kind(service="nope").SerializeToString())
    assert status_in(next(unknown)) == SERVICE_UNKNOWN
    unknown.cancel()
    stopping = threading.Thread(target=server.stop, args=(5,))
    stopping.start()
    assert status_in(next(watched)) == NOT_SERVING
    watched.cancel()
    stopping.join(10)
