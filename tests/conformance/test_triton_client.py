"""The official client against a runtime: what its examples show, over HTTP and gRPC alike."""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from tests.conformance.conftest import Served

grpc = pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
grpc_aio = pytest.importorskip("tritonclient.grpc.aio")
http = pytest.importorskip("tritonclient.http")
http_aio = pytest.importorskip("tritonclient.http.aio")
shm = pytest.importorskip("tritonclient.utils.shared_memory")

NUMBERS = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)
_regions = itertools.count()

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the client's shared memory is POSIX's")


@pytest.fixture(params=["http", "grpc"])
def api(request: pytest.FixtureRequest) -> Any:
    return {"http": http, "grpc": grpc}[request.param]


@pytest.fixture
def client(api: Any, our_runtime: Served) -> Iterator[Any]:
    address = our_runtime.http if api is http else our_runtime.grpc
    with closing(api.InferenceServerClient(address)) as client:
        yield client


def tensors(api: Any, first: Any, second: Any, datatype: str = "INT32") -> list[Any]:
    inputs = [api.InferInput(f"INPUT{i}", [1, 16], datatype) for i in range(2)]
    for tensor, array in zip(inputs, (first, second), strict=True):
        tensor.set_data_from_numpy(array)
    return inputs


def check(answer: Any, first: Any = NUMBERS, second: Any = ONES) -> None:
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), first + second)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), first - second)


def test_the_server_and_a_model_are_described(client: Any, api: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert not client.is_model_ready("nope")
    as_json = {} if api is http else {"as_json": True}
    assert client.get_model_metadata("simple", **as_json)["name"] == "simple"
    config = client.get_model_config("simple", **as_json)
    assert (config if api is http else config["config"])["max_batch_size"] == 8
    stats = client.get_inference_statistics("simple", **as_json)["model_stats"]
    assert [entry["name"] for entry in stats] == ["simple"]
    with pytest.raises(Exception, match="Request for unknown model: 'nope' is not found"):
        client.get_model_metadata("nope")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_it_answers_over_http(our_runtime: Served, binary: bool) -> None:
    with closing(http.InferenceServerClient(our_runtime.http)) as client:
        inputs = [http.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in range(2)]
        inputs[0].set_data_from_numpy(NUMBERS, binary_data=binary)
        inputs[1].set_data_from_numpy(ONES, binary_data=not binary)
        outputs = [http.InferRequestedOutput(f"OUTPUT{i}", binary_data=binary) for i in range(2)]
        check(client.infer("simple", inputs, outputs=outputs, query_params={"a": 1}))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways(our_runtime: Served, coding: str) -> None:
    with closing(http.InferenceServerClient(our_runtime.http)) as client:
        check(
            client.infer(
                "simple",
                tensors(http, NUMBERS, ONES),
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
        )


def test_an_answer_bears_the_request(client: Any, api: Any) -> None:
    answer = client.infer(
        "simple", tensors(api, NUMBERS, ONES), request_id="seven", model_version="1"
    )
    check(answer)
    told = answer.get_response() if api is http else answer.get_response(as_json=True)
    assert (told["id"], told["model_name"], told["model_version"]) == ("seven", "simple", "1")


def test_text_passes(client: Any, api: Any) -> None:
    first = np.array([[str(i).encode() for i in range(16)]], object)
    second = np.array([[b"1"] * 16], object)
    answer = client.infer("simple_string", tensors(api, first, second, "BYTES"))
    assert answer.as_numpy("OUTPUT0").astype(int).tolist() == [list(range(1, 17))]
    words = np.array([["", "größe".encode(), b"a\nb"]], object)
    words[0, 0] = b""
    tensor = api.InferInput("INPUT0", [1, 3], "BYTES")
    tensor.set_data_from_numpy(words)
    answer = client.infer("simple_identity", [tensor])
    assert answer.as_numpy("OUTPUT0").tolist() == words.tolist()


def test_requests_under_way_together_are_answered_each(client: Any, api: Any) -> None:
    expected = [NUMBERS + i for i in range(20)]
    if api is http:
        pending = [client.async_infer("simple", tensors(http, x, ONES)) for x in expected]
        answers = [one.get_result() for one in pending]
    else:
        done: queue.Queue[Any] = queue.Queue()
        for i, x in enumerate(expected):
            client.async_infer(
                "simple",
                tensors(grpc, x, ONES),
                callback=lambda result, error, i=i: done.put((i, result, error)),
            )
        found = sorted((done.get(timeout=20) for _ in expected), key=lambda entry: entry[0])
        assert all(error is None for _, _, error in found)
        answers = [result for _, result, _ in found]
    for answer, x in zip(answers, expected, strict=True):
        check(answer, x)


@pytest.mark.parametrize("which", ["http", "grpc"])
def test_it_may_be_awaited(our_runtime: Served, which: str) -> None:
    api, address = {
        "http": (http_aio, our_runtime.http),
        "grpc": (grpc_aio, our_runtime.grpc),
    }[which]

    async def ask() -> list[Any]:
        async with api.InferenceServerClient(address) as client:
            asked = [client.infer("simple", tensors(api, NUMBERS + i, ONES)) for i in range(8)]
            return list(await asyncio.gather(*asked))

    for i, answer in enumerate(asyncio.run(ask())):
        check(answer, NUMBERS + i)


def test_a_stream_is_answered_in_order(our_runtime: Served) -> None:
    done: queue.Queue[Any] = queue.Queue()
    with closing(grpc.InferenceServerClient(our_runtime.grpc)) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        for i in range(20):
            client.async_stream_infer("simple", tensors(grpc, NUMBERS + i, ONES), request_id=str(i))
        answers = [done.get(timeout=20) for _ in range(20)]
        client.stop_stream()
    for i, (answer, error) in enumerate(answers):
        assert error is None
        assert answer.get_response().id == str(i)
        check(answer, NUMBERS + i)


def test_classes_come_with_their_labels(client: Any, api: Any) -> None:
    tensor = api.InferInput("x", [2, 4], "FP32")
    tensor.set_data_from_numpy(np.array([[0, 3, 2, 1], [8, 7, 6, 5]], np.float32))
    wanted = [api.InferRequestedOutput("y", class_count=2)]
    classes = client.infer("scores", [tensor], outputs=wanted).as_numpy("y")
    assert [[entry.split(b":")[1:] for entry in row] for row in classes] == [
        [[b"1", b"banana"], [b"2", b"cherry"]],
        [[b"0", b"apple"], [b"1", b"banana"]],
    ]


def test_tensors_stay_in_shared_memory(client: Any, api: Any) -> None:
    region = f"nbmodel-test-{os.getpid()}-{next(_regions)}"
    handle = shm.create_shared_memory_region(region, f"/{region}", 256)
    try:
        shm.set_shared_memory_region(handle, [NUMBERS, ONES])
        client.register_system_shared_memory(region, f"/{region}", 256)
        inputs = [api.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in range(2)]
        outputs = [api.InferRequestedOutput(f"OUTPUT{i}") for i in range(2)]
        for i in range(2):
            inputs[i].set_shared_memory(region, 64, offset=64 * i)
            outputs[i].set_shared_memory(region, 64, offset=128 + 64 * i)
        client.infer("simple", inputs, outputs=outputs)
        found = shm.get_contents_as_numpy(handle, np.int32, [4, 16])
        np.testing.assert_array_equal(found[2:3], NUMBERS + ONES)
        np.testing.assert_array_equal(found[3:4], NUMBERS - ONES)
        del found
        client.unregister_system_shared_memory(region)
        assert region not in str(client.get_system_shared_memory_status())
    finally:
        shm.destroy_shared_memory_region(handle)


def test_models_are_unloaded_loaded_and_changed(client: Any, api: Any) -> None:
    client.unload_model("raw")
    assert not client.is_model_ready("raw")
    client.load_model("raw", config='{"max_batch_size": "16"}')
    assert client.is_model_ready("raw")
    config = client.get_model_config("raw")
    assert (config["max_batch_size"] if api is http else config.config.max_batch_size) == 16
    client.load_model("raw")
    with pytest.raises(Exception, match="failed to load 'nope'"):
        client.load_model("nope")
    index = client.get_model_repository_index()
    names = {m["name"] for m in index} if api is http else {m.name for m in index.models}
    assert {"simple", "raw"} <= names


def test_settings_are_read_and_written(client: Any, api: Any) -> None:
    as_json = {} if api is http else {"as_json": True}
    assert "trace_rate" in str(client.get_trace_settings(**as_json))
    assert "log_verbose_level" in str(client.get_log_settings(**as_json))
    client.update_log_settings({"log_verbose_level": 0})


def test_parameters_of_a_sequence_harm_no_model_without_one(client: Any, api: Any) -> None:
    answer = client.infer(
        "simple",
        tensors(api, NUMBERS, ONES),
        sequence_id=7,
        sequence_start=True,
        sequence_end=True,
        priority=1,
        timeout=5_000_000,
    )
    check(answer)
