"""The Open Inference Protocol over gRPC, as the official client sees it."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
triton = pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
import grpc  # noqa: E402
import tritonclient.grpc.aio  # noqa: E402
from tritonclient.grpc import service_pb2 as pb  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402
from tritonclient.utils import shared_memory as shm  # noqa: E402

from nbmodel.runtime.auth import Gate  # noqa: E402
from nbmodel.runtime.edge import EdgeRuntime  # noqa: E402
from nbmodel.runtime.grpc_server import GrpcServer  # noqa: E402
from nbmodel.runtime.server import Address  # noqa: E402
from nbmodel.runtime.shared_memory import SharedMemory  # noqa: E402

EXAMPLES: dict[str, NDArray[Any]] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.5, -65504]], np.float16),
    "FP32": np.array([[0.1, -3.4e38]], np.float32),
    "FP64": np.array([[0.1, -1.7e308]], np.float64),
    "BF16": np.array([[0.5, -1]], ml_dtypes.bfloat16),
    "BYTES": np.array([[b"", "größe".encode()]], np.object_),
}
ONES = np.ones((1, 2), np.float32)
LINEAR = [[15, 27, 39]]
COUNT = 800_000  # takes the counter about a second


@dataclass(frozen=True, slots=True)
class Served:
    """A runtime in this process, and where its gRPC services are."""

    runtime: EdgeRuntime
    address: str


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    toy_config: Path,
    counter_onnx: Path,
    service: Callable[[str, Path], dict[str, Any]],
) -> Iterator[Served]:
    config = json.loads(toy_config.read_text())
    config["services"].append(service("counter", counter_onnx))
    runtime = EdgeRuntime(
        tmp_path_factory.mktemp("grpc"), config=config, shared_memory=SharedMemory(allowed=True)
    )
    server = GrpcServer(runtime, Gate(None, None), Address("127.0.0.1", 0), version="0.0")
    address = server.start()
    assert runtime.wait_settled(30)
    yield Served(runtime, address)
    server.stop(1)
    runtime.close()


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with triton.InferenceServerClient(served.address) as client:
        yield client


@pytest.fixture
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as channel:
        yield channel


def tensor(datatype: str, array: NDArray[Any], name: str = "x") -> Any:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def ask(channel: grpc.Channel, method: str, request: Any, answer: Any) -> Any:
    call = channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return call(request)


# Health and metadata


def test_the_server_tells_how_it_is(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "nbmodel"
    assert metadata.version == "0.0"
    assert "binary_tensor_data" in metadata.extensions


def test_a_model_tells_what_it_takes(client: Any) -> None:
    assert client.is_model_ready("linear")
    assert client.is_model_ready("linear", "1")
    metadata = client.get_model_metadata("linear", as_json=True)
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["-1", "3"]}]


def test_a_model_tells_its_configuration(client: Any) -> None:
    config = client.get_model_config("linear").config
    assert (config.name, config.backend, config.platform) == (
        "linear",
        "onnxruntime",
        "onnxruntime_onnx",
    )
    assert [(one.name, one.data_type) for one in config.input] == [("x", 11)]
    assert config.instance_group[0].count == 1


def test_a_model_counts_its_requests(client: Any) -> None:
    client.infer("linear", [tensor("FP32", ONES)])
    before = client.get_inference_statistics("linear").model_stats[0]
    client.infer("linear", [tensor("FP32", np.ones((3, 2), np.float32))])
    after = client.get_inference_statistics("linear", "1").model_stats[0]
    assert after.inference_count == before.inference_count + 3
    assert after.execution_count == before.execution_count + 1
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    names = [one.name for one in client.get_inference_statistics().model_stats]
    assert {"linear", "fp32"} <= set(names)


# Inference


def test_a_model_answers(client: Any) -> None:
    result = client.infer("linear", [tensor("FP32", ONES)], model_version="1", request_id="é7")
    assert result.as_numpy("y").tolist() == LINEAR
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("é7", "linear", "1")


@pytest.mark.parametrize("datatype", EXAMPLES)
def test_every_datatype_passes(client: Any, datatype: str) -> None:
    array = EXAMPLES[datatype]
    read = client.infer(
        datatype.lower(),
        [tensor(datatype, array)],
        outputs=[triton.InferRequestedOutput("y")],
    ).as_numpy("y")
    np.testing.assert_array_equal(read.astype(array.dtype), array)


def test_typed_contents_are_answered_raw(channel: grpc.Channel) -> None:
    request = pb.ModelInferRequest(model_name="linear")
    given = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    given.contents.fp32_contents.extend([1, 1])
    answer = ask(channel, "ModelInfer", request, pb.ModelInferResponse)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == LINEAR[0]
    assert not answer.outputs[0].HasField("contents")


def test_an_empty_batch_passes(client: Any) -> None:
    array = np.empty((0, 2), np.float32)
    assert client.infer("linear", [tensor("FP32", array)]).as_numpy("y").shape == (0, 3)


def test_a_message_larger_than_grpcs_default_passes(client: Any) -> None:
    array = np.arange(2 * 1024 * 1024, dtype=np.float32).reshape(1, -1)  # 8 MiB
    read = client.infer("fp32", [tensor("FP32", array)]).as_numpy("y")
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_message_passes(client: Any, algorithm: str) -> None:
    result = client.infer("linear", [tensor("FP32", ONES)], compression_algorithm=algorithm)
    assert result.as_numpy("y").tolist() == LINEAR


def test_an_output_comes_as_classes(client: Any) -> None:
    result = client.infer(
        "linear",
        [tensor("FP32", ONES)],
        outputs=[triton.InferRequestedOutput("y", class_count=2)],
    )
    assert result.as_numpy("y").shape == (1, 2)
    assert [text.split(b":")[1] for text in result.as_numpy("y")[0]] == [b"2", b"1"]


def test_requests_from_many_threads_are_answered_each(client: Any) -> None:
    def one(number: int) -> bool:
        array = np.full((1, 2), number, np.float32)
        return bool((client.infer("fp32", [tensor("FP32", array)]).as_numpy("y") == array).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(200)))


def test_the_awaiting_client_is_answered(served: Served) -> None:
    async def talk() -> tuple[Any, bool]:
        async with tritonclient.grpc.aio.InferenceServerClient(served.address) as client:
            answers = await asyncio.gather(
                *(client.infer("linear", [tensor("FP32", ONES)]) for _ in range(5))
            )
            return [one.as_numpy("y").tolist() for one in answers], await client.is_server_ready()

    assert asyncio.run(talk()) == ([LINEAR] * 5, True)


def test_tensors_stay_in_shared_memory(client: Any) -> None:
    name = "/nbmodel-test-grpc"
    handle = shm.create_shared_memory_region("both", name, 20)
    try:
        shm.set_shared_memory_region(handle, [ONES])
        client.register_system_shared_memory("both", name, 20)
        status = client.get_system_shared_memory_status("both", as_json=True)
        assert status["regions"]["both"]["byte_size"] == "20"
        given = triton.InferInput("x", [1, 2], "FP32")
        given.set_shared_memory("both", 8)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("both", 12, offset=8)
        response = client.infer("linear", [given], outputs=[wanted]).get_response()
        assert list(response.raw_output_contents) == [b""]
        assert list(response.outputs[0].shape) == [1, 3]
        read = shm.get_contents_as_numpy(handle, np.float32, [1, 3], offset=8)
        assert read.tolist() == LINEAR
        client.unregister_system_shared_memory("both")
        assert not client.get_system_shared_memory_status().regions
    finally:
        shm.destroy_shared_memory_region(handle)


# Errors

FLOATS = tensor("FP32", ONES)


@pytest.mark.parametrize(
    ("ask_for", "status", "message"),
    [
        pytest.param(
            lambda client: client.infer("nope", [FLOATS]),
            "NOT_FOUND",
            "Request for unknown model: 'nope' is not found",
            id="unknown model",
        ),
        pytest.param(
            lambda client: client.infer("linear", [FLOATS], model_version="9"),
            "NOT_FOUND",
            "'linear' version 9 is not found",
            id="unknown version",
        ),
        pytest.param(
            lambda client: client.get_model_metadata("linear", "v1"),
            "INVALID_ARGUMENT",
            "version should be an integral value > 0",
            id="a version that is no number",
        ),
        pytest.param(
            lambda client: client.get_model_config("nope"), "NOT_FOUND", "'nope'", id="config"
        ),
        pytest.param(
            lambda client: client.get_inference_statistics("nope"),
            "INVALID_ARGUMENT",
            "requested model 'nope' is not available",
            id="statistics",
        ),
        pytest.param(
            lambda client: client.infer("linear", [tensor("FP32", ONES, "z")]),
            "INVALID_ARGUMENT",
            "'z'",
            id="unknown input",
        ),
        pytest.param(
            lambda client: client.infer("linear", [tensor("FP32", np.ones((1, 5), np.float32))]),
            "INVALID_ARGUMENT",
            r"found \[1, 5\]",
            id="another shape",
        ),
        pytest.param(
            lambda client: client.infer("linear", [tensor("INT32", np.ones((1, 2), np.int32))]),
            "INVALID_ARGUMENT",
            "INT32",
            id="another datatype",
        ),
        pytest.param(
            lambda client: client.infer(
                "linear", [FLOATS], outputs=[triton.InferRequestedOutput("q")]
            ),
            "INVALID_ARGUMENT",
            "'q'",
            id="unknown output",
        ),
        pytest.param(
            lambda client: client.load_model("nope"), "INTERNAL", "failed to load", id="load"
        ),
        pytest.param(
            lambda client: client.register_cuda_shared_memory("a", b"aaaa", 0, 4),
            "UNIMPLEMENTED",
            "CUDA shared memory",
            id="CUDA",
        ),
        pytest.param(
            lambda client: client.get_cuda_shared_memory_status("a"),
            "NOT_FOUND",
            "cuda shared memory region: 'a'",
            id="CUDA region",
        ),
        pytest.param(
            lambda client: client.get_system_shared_memory_status("a"),
            "NOT_FOUND",
            "'a'",
            id="region",
        ),
        pytest.param(
            lambda client: client.update_trace_settings(settings={"trace_rate": ["1", "2"]}),
            "INVALID_ARGUMENT",
            "expect only 1 value for 'trace_rate'",
            id="trace",
        ),
        pytest.param(
            lambda client: client.update_trace_settings("nope", {"trace_rate": "1"}),
            "INVALID_ARGUMENT",
            "unknown model : nope",
            id="trace of a model",
        ),
        pytest.param(
            lambda client: client.update_log_settings({"log_format": "x"}),
            "INVALID_ARGUMENT",
            "log_format, got: x",
            id="log format",
        ),
        pytest.param(
            lambda client: client.update_log_settings({"log_file": "x"}),
            "UNIMPLEMENTED",
            "log file location",
            id="log file",
        ),
    ],
)
def test_an_error_has_its_status(
    client: Any, ask_for: Callable[[Any], Any], status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message) as info:
        ask_for(client)
    assert info.value.status() == f"StatusCode.{status}"


def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as info:
        call(b"\x0a\xff")
    assert info.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_another_repository_is_not_served(channel: grpc.Channel) -> None:
    request = pb.RepositoryIndexRequest(repository_name="other")
    with pytest.raises(grpc.RpcError) as info:
        ask(channel, "RepositoryIndex", request, pb.RepositoryIndexResponse)
    assert info.value.code() is grpc.StatusCode.UNIMPLEMENTED


# Streams


class Stream:
    """A stream of the client, whose answers are waited for one at a time."""

    def __init__(self, client: Any, **headers: str) -> None:
        self._answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._client = client
        client.start_stream(
            lambda result, error: self._answers.put((result, error)), headers=headers or None
        )

    def send(self, array: NDArray[Any], model: str = "fp32", id_: str = "") -> None:
        self._client.async_stream_infer(model, [tensor("FP32", array)], request_id=id_)

    def next(self) -> tuple[Any, Any]:
        return self._answers.get(timeout=10)


def test_a_stream_answers_in_order(client: Any) -> None:
    stream = Stream(client)
    for number in range(20):
        stream.send(np.full((1, 2), number, np.float32), id_=str(number))
    for number in range(20):
        result, error = stream.next()
        assert error is None
        response = result.get_response()
        assert response.id == str(number)
        assert result.as_numpy("y").tolist() == [[number, number]]
        assert response.parameters["triton_final_response"].bool_param
    client.stop_stream()


def test_a_stream_survives_an_error(client: Any) -> None:
    stream = Stream(client)
    stream.send(ONES)
    stream.send(ONES, model="nope")
    stream.send(np.ones((1, 9), np.float32), model="linear")
    stream.send(ONES)
    answers = [stream.next() for _ in range(4)]
    assert [error is None for _, error in answers] == [True, False, False, True]
    assert "'nope' is not found" in str(answers[1][1])
    client.stop_stream()


def test_the_error_of_a_stream_names_its_request(channel: grpc.Channel) -> None:
    call = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelStreamInferResponse.FromString,
    )
    (answer,) = call(iter([pb.ModelInferRequest(model_name="nope", id="7")]))
    assert answer.error_message
    assert answer.infer_response.id == "7"


def test_a_stream_ends_on_an_error_where_it_is_asked_to(client: Any) -> None:
    stream = Stream(client, triton_grpc_error="true")
    stream.send(ONES, model="nope")
    _, error = stream.next()
    assert error.status() == "StatusCode.NOT_FOUND"
    client.stop_stream()


# Time


def test_a_call_waits_no_longer_than_its_deadline(served: Served, client: Any) -> None:
    slow = tensor("INT64", np.array([COUNT]))
    quick = tensor("INT64", np.array([1]))
    busy = threading.Thread(target=lambda: client.infer("counter", [slow]))
    busy.start()
    time.sleep(0.1)
    before = served.runtime.statistics("counter")[0]
    with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
        client.infer("counter", [quick], client_timeout=0.1)
    with pytest.raises(InferenceServerException, match="timeout expired") as info:
        client.infer("counter", [quick], timeout=100_000)
    assert info.value.status() == "StatusCode.UNAVAILABLE"
    busy.join(30)
    # Neither was run when its turn came.
    after = served.runtime.statistics("counter")[0]
    assert after.execution_count == before.execution_count + 1


def test_a_call_whose_client_went_away_is_dropped(served: Served, client: Any) -> None:
    slow = tensor("INT64", np.array([COUNT]))
    busy = threading.Thread(target=lambda: client.infer("counter", [slow]))
    busy.start()
    time.sleep(0.1)
    before = served.runtime.statistics("counter")[0]
    context = client.async_infer(
        "counter", [tensor("INT64", np.array([1]))], callback=lambda *_: None
    )
    time.sleep(0.1)
    context.cancel()
    deadline = time.monotonic() + 5
    while served.runtime.statistics("counter")[0].cancel.count == before.cancel.count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    busy.join(30)
    after = served.runtime.statistics("counter")[0]
    assert after.execution_count == before.execution_count + 1


# Control


def test_the_repository_is_listed(client: Any) -> None:
    index = client.get_model_repository_index().models
    listed = {one.name: (one.version, one.state) for one in index}
    assert listed["linear"] == ("1", "READY")
    assert len(listed) == len(EXAMPLES) + 2


def test_models_are_unloaded_and_loaded(client: Any, linear_onnx: Path) -> None:
    client.unload_model("uint8")
    assert not client.is_model_ready("uint8")
    with pytest.raises(InferenceServerException, match="'uint8'"):
        client.infer("uint8", [tensor("UINT8", EXAMPLES["UINT8"])])
    client.load_model("uint8")
    assert client.is_model_ready("uint8")
    client.load_model("linear", config='{"max_batch_size": "16"}')
    assert client.get_model_config("linear").config.max_batch_size == 16
    client.load_model("linear")
    client.load_model("new", config="{}", files={"file:3/model.onnx": linear_onnx.read_bytes()})
    result = client.infer("new", [tensor("FP32", ONES)])
    assert result.as_numpy("y").tolist() == LINEAR
    assert result.get_response().model_version == "3"
    client.unload_model("new")


def test_trace_settings_are_kept(client: Any) -> None:
    told = client.update_trace_settings(settings={"trace_rate": "7", "trace_level": ["TENSORS"]})
    assert list(told.settings["trace_rate"].value) == ["7"]
    assert list(client.get_trace_settings("linear").settings["trace_level"].value) == ["TENSORS"]
    told = client.update_trace_settings(settings={"trace_rate": None, "trace_level": []})
    assert list(told.settings["trace_rate"].value) == ["1000"]
    assert list(told.settings["trace_level"].value) == ["OFF"]


def test_log_settings_are_kept(client: Any) -> None:
    before = client.get_log_settings()
    assert before.settings["log_error"].bool_param
    told = client.update_log_settings({"log_verbose_level": 1, "log_format": "ISO8601"})
    assert told.settings["log_verbose_level"].uint32_param == 1
    assert told.settings["log_format"].string_param == "ISO8601"
    client.update_log_settings(
        {
            "log_verbose_level": before.settings["log_verbose_level"].uint32_param,
            "log_format": "default",
        }
    )


def test_there_is_no_cuda_memory(client: Any) -> None:
    assert not client.get_cuda_shared_memory_status().regions
    client.unregister_cuda_shared_memory()
