"""The data plane as the official client sees it: a server process and tritonclient."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from nbmodel.core.signature import DATATYPES
from nbmodel.fleet.known import Known

triton = pytest.importorskip("tritonclient.http", reason="pip install 'nbmodel[triton]'")
from tritonclient.utils import InferenceServerException  # noqa: E402

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
IN_JSON = [name for name in DATATYPES if name not in ("FP16", "BF16")]


@pytest.fixture
def client(toys: Known) -> Iterator[Any]:
    with triton.InferenceServerClient(urlsplit(toys.url).netloc) as client:
        yield client


@pytest.fixture
def http(toys: Known) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=toys.url, trust_env=False) as http:
        yield http


def tensor(datatype: str, array: NDArray[Any], *, binary: bool = True) -> Any:
    given = triton.InferInput("x", list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def test_the_server_tells_how_it_is(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "nbmodel"
    assert "binary_tensor_data" in metadata["extensions"]


def test_a_model_tells_what_it_takes(client: Any) -> None:
    assert client.is_model_ready("linear")
    metadata = client.get_model_metadata("linear")
    assert metadata["name"] == "linear"
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    assert client.get_model_metadata("linear", "1") == metadata


def test_a_model_answers(client: Any) -> None:
    result = client.infer("linear", [tensor("FP32", np.ones((1, 2), np.float32))], request_id="é7")
    assert result.as_numpy("y").tolist() == [[15, 27, 39]]
    assert result.get_response()["id"] == "é7"
    assert result.get_response()["model_version"] == "1"


@pytest.mark.parametrize("out", [True, False], ids=["binary out", "JSON out"])
@pytest.mark.parametrize("into", [True, False], ids=["binary in", "JSON in"])
@pytest.mark.parametrize("datatype", IN_JSON)
def test_every_datatype_passes(client: Any, datatype: str, into: bool, out: bool) -> None:
    array = EXAMPLES[datatype]
    result = client.infer(
        datatype.lower(),
        [tensor(datatype, array, binary=into)],
        outputs=[triton.InferRequestedOutput("y", binary_data=out)],
    )
    read = result.as_numpy("y")
    if datatype == "BYTES" and not out:  # the client leaves JSON's text as it is
        read = np.array([[item.encode() for item in read.flat]], object)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_short_floats_pass_as_binary(client: Any, datatype: str) -> None:
    array = EXAMPLES[datatype]
    read = client.infer(datatype.lower(), [tensor(datatype, array)]).as_numpy("y")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_an_empty_batch_passes(client: Any) -> None:
    array = np.empty((0, 2), np.float32)
    assert client.infer("linear", [tensor("FP32", array)]).as_numpy("y").shape == (0, 3)


def test_a_raw_request_is_the_only_input(http: httpx.Client) -> None:
    answer = http.post(
        "/v2/models/linear/infer",
        content=np.ones((2, 2), np.float32).tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
    )
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["outputs"][0]["shape"] == [2, 3]
    values = np.frombuffer(answer.content[length:], np.float32)
    assert values.tolist() == [15, 27, 39, 15, 27, 39]


def test_many_clients_get_their_own_answers(toys: Known) -> None:
    def ask(number: int) -> bool:
        with triton.InferenceServerClient(urlsplit(toys.url).netloc) as client:
            array = np.full((1, 2), number, np.float32)
            expected = [[5 * number + 10, 7 * number + 20, 9 * number + 30]]
            return all(
                client.infer("linear", [tensor("FP32", array)]).as_numpy("y").tolist() == expected
                for _ in range(10)
            )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))


@pytest.mark.parametrize(
    ("model", "version", "says"),
    [
        pytest.param("nope", "", "Request for unknown model: 'nope' is not found", id="model"),
        pytest.param("linear", "3", "unknown model: 'linear' version 3 is not found", id="version"),
        pytest.param("a 50%", "", "Request for unknown model: 'a 50%' is not found", id="escaped"),
    ],
)
def test_an_unknown_model_is_named(client: Any, model: str, version: str, says: str) -> None:
    given = [tensor("FP32", np.ones((1, 2), np.float32))]
    for ask in (
        lambda: client.infer(model, given, model_version=version),
        lambda: client.get_model_metadata(model, version),
    ):
        with pytest.raises(InferenceServerException) as caught:
            ask()
        assert says in caught.value.message()
        assert caught.value.status() == "404"
    assert not client.is_model_ready(model, version)


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "says"),
    [
        pytest.param("z", "FP32", (1, 2), ["unexpected input 'z'", "missing input 'x'"], id="name"),
        pytest.param("x", "FP64", (1, 2), ["'x' is FP32, found FP64"], id="datatype"),
        pytest.param("x", "FP32", (1, 3), ["'x' has shape [-1, 2], found [1, 3]"], id="shape"),
    ],
)
def test_a_wrong_input_is_named(
    client: Any, name: str, datatype: str, shape: tuple[int, ...], says: list[str]
) -> None:
    given = triton.InferInput(name, list(shape), datatype)
    given.set_data_from_numpy(np.ones(shape, triton_dtype(datatype)))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("linear", [given])
    assert caught.value.status() == "400"
    assert all(part in caught.value.message() for part in says)
    assert "the model takes x FP32[-1,2]" in caught.value.message()


def triton_dtype(datatype: str) -> Any:
    return {"FP32": np.float32, "FP64": np.float64}[datatype]


def test_an_unknown_output_is_named(client: Any) -> None:
    given = [tensor("FP32", np.ones((1, 2), np.float32))]
    with pytest.raises(InferenceServerException, match="unexpected output 'q'"):
        client.infer("linear", given, outputs=[triton.InferRequestedOutput("q")])


def test_a_short_float_in_json_is_refused(http: httpx.Client) -> None:
    data = {"inputs": [{"name": "x", "datatype": "FP16", "shape": [1, 1], "data": [1]}]}
    answer = http.post("/v2/models/fp16/infer", json=data)
    assert answer.status_code == 400
    assert "sending FP16 data via JSON is not supported" in answer.json()["error"]


@pytest.mark.parametrize(
    ("request_line", "headers", "status", "says"),
    [
        pytest.param("POST /v2/models/linear/infer", {}, 400, "JSON", id="malformed JSON"),
        pytest.param("GET /v2/models/linear/infer", {}, 405, "Method Not Allowed", id="GET"),
        pytest.param("PUT /v2/models/linear/infer", {}, 405, "Method Not Allowed", id="PUT"),
        pytest.param("POST /v2", {}, 405, "Method Not Allowed", id="POST to the server"),
        pytest.param("GET /v2/models/a/versions/v1", {}, 404, "", id="a version in letters"),
        pytest.param("GET /v2/nope", {}, 404, "Not Found", id="an unknown path"),
        pytest.param("GET /", {}, 404, "Not Found", id="the root"),
        pytest.param(
            "POST /v2/models/linear/infer",
            {"Content-Encoding": "br"},
            501,
            "Unsupported compression type: br",
            id="brotli",
        ),
        pytest.param(
            "POST /v2/models/linear/infer",
            {"Inference-Header-Content-Length": "99"},
            400,
            "inference header size should be in range (0, 1), got: 99",
            id="a header length beyond the body",
        ),
        pytest.param(
            "POST /v2/models/linear/infer",
            {"Inference-Header-Content-Length": "-1"},
            400,
            "range (0, 1), got: -1",
            id="a negative header length",
        ),
    ],
)
def test_what_cannot_be_served_is_told_in_json(
    http: httpx.Client, request_line: str, headers: dict[str, str], status: int, says: str
) -> None:
    method, path = request_line.split()
    answer = http.request(method, path, headers=headers, content=b"{")
    assert answer.status_code == status
    assert says in answer.json()["error"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_the_client_may_compress_both_ways(client: Any, coding: str) -> None:
    result = client.infer(
        "linear",
        [tensor("FP32", np.ones((1, 2), np.float32))],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert result.as_numpy("y").tolist() == [[15, 27, 39]]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_the_client_may_ask_for_classes(client: Any, binary: bool) -> None:
    wanted = triton.InferRequestedOutput("y", binary_data=binary, class_count=2)
    given = [tensor("FP32", np.ones((1, 2), np.float32))]
    classes = client.infer("linear", given, outputs=[wanted]).as_numpy("y")
    texts = [item.decode() if isinstance(item, bytes) else item for item in classes.flat]
    assert texts == ["39.000000:2", "27.000000:1"]


def test_the_client_controls_models(client: Any) -> None:
    assert {"name": "linear", "version": "1", "state": "READY"} in (
        client.get_model_repository_index()
    )
    client.unload_model("int8")
    assert not client.is_model_ready("int8")
    client.load_model("int8", config=json.dumps({"instance_group": [{"count": 2}]}))
    assert client.is_model_ready("int8")
    assert client.get_model_config("int8")["instance_group"][0]["count"] == 2
    client.load_model("int8")
    with pytest.raises(InferenceServerException, match="failed to load"):
        client.load_model("nope")


def test_the_client_brings_a_model(client: Any, linear_onnx: Path) -> None:
    client.load_model("brought", config="{}", files={"file:3/model.onnx": linear_onnx.read_bytes()})
    given = [tensor("FP32", np.ones((1, 2), np.float32))]
    result = client.infer("brought", given, model_version="3")
    assert result.as_numpy("y").tolist() == [[15, 27, 39]]
    client.unload_model("brought")
    assert not client.is_model_ready("brought")


def test_the_client_reads_statistics_and_settings(client: Any) -> None:
    client.infer("linear", [tensor("FP32", np.ones((1, 2), np.float32))])
    (model,) = client.get_inference_statistics("linear")["model_stats"]
    assert model["inference_stats"]["success"]["count"] >= 1
    assert client.get_model_config("linear")["name"] == "linear"
    assert client.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert client.update_log_settings({"log_verbose_level": 0}) == client.get_log_settings()
    assert client.update_trace_settings("linear", {"trace_rate": "5"})["trace_rate"] == "5"
    assert client.get_trace_settings()["trace_level"] == ["OFF"]
    assert client.get_cuda_shared_memory_status() == []


def test_memory_is_not_shared_unless_it_may_be(client: Any) -> None:
    assert client.get_system_shared_memory_status() == []
    with pytest.raises(InferenceServerException, match="Client shared memory is disabled") as told:
        client.register_system_shared_memory("r", "/r", 8)
    assert told.value.status() == "501"


def test_metrics_are_on_the_same_address(http: httpx.Client) -> None:
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'nv_inference_request_success{model="linear",version="1"}' in answer.text


def test_queries_are_ignored(http: httpx.Client) -> None:
    assert http.get("/v2/models/linear?a=b").status_code == 200


def test_the_same_address_is_a_registry(http: httpx.Client) -> None:
    answer = http.get("/v2/")
    assert answer.json()["name"] == "nbmodel"
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    assert http.get("/v2/nope/tags/list").json()["errors"][0]["code"] == "NAME_UNKNOWN"
