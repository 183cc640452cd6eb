"""The data plane over a real runtime in this process, without a server."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory as Block
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbmodel.core.signature import Signature
from nbmodel.errors import NbModelError, UnavailableError
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.runtime.answer import Answer
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.oip import LIGHT, DataPlane
from nbmodel.runtime.oip_control import ControlPlane
from nbmodel.runtime.scheduler import Pending
from nbmodel.runtime.services import ServiceView
from nbmodel.runtime.shared_memory import SharedMemory
from nbmodel.runtime.statistics import ModelStatistics

pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")

Entry = Callable[[str, Path], dict[str, Any]]
INFER = "/v2/models/linear/infer"
ROWS = np.ones((1, 2), np.float32)
ANSWER = [15.0, 27.0, 39.0]
X = {"name": "x", "datatype": "FP32", "shape": [1, 2]}


class Plane(DataPlane):
    """A data plane that is asked in one line."""

    def ask(
        self, method: str, path: str, body: bytes | dict[str, Any] = b"", **headers: str
    ) -> Answer:
        call = self.match(path)
        assert call is not None, path
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.answer(call, method, given, bytearray(data))

    def said(self, method: str, path: str, body: bytes | dict[str, Any] = b"") -> Any:
        answer = self.ask(method, path, body)
        assert answer.status == 200, answer.join()
        return json.loads(answer.join())


class Hoarding:
    """A model that answers nothing until it is told to."""

    ready = True

    def __init__(self) -> None:
        self.waiting: list[Callable[[InferResponse | NbModelError], None]] = []

    def service(self, name: str) -> ServiceView:
        return ServiceView(name, True, "1", Signature())

    def statistics(self, name: str | None = None) -> tuple[ModelStatistics, ...]:
        raise AssertionError(name)

    def infer(self, request: InferRequest) -> InferResponse:
        raise AssertionError(request)

    def submit(
        self, _request: InferRequest, done: Callable[[InferResponse | NbModelError], None]
    ) -> Pending:
        self.waiting.append(done)
        return self

    def cancel(self) -> None:
        raise AssertionError


@pytest.fixture(scope="module")
def runtime(
    tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path, service: Entry
) -> Iterator[EdgeRuntime]:
    home = tmp_path_factory.mktemp("plane")
    runtime = EdgeRuntime(
        home,
        config={"services": [service("linear", linear_onnx), service("gone", home / "no.onnx")]},
        shared_memory=SharedMemory(allowed=True),
    )
    assert runtime.wait_settled(30)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def plane(runtime: EdgeRuntime) -> Iterator[Plane]:
    control = ControlPlane(runtime, version="1.2")
    plane = Plane(runtime, control=control, version="1.2", max_input=1 << 20)
    yield plane
    plane.close()


@pytest.fixture
def calm(plane: Plane) -> Iterator[None]:
    """Whatever a test loads and unloads, the next one finds things as they were."""
    yield
    plane.ask("POST", "/v2/repository/models/linear/load")
    plane.ask("POST", "/v2/repository/models/new/unload")


def asked(*inputs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"inputs": list(inputs), **fields}


def in_json(**fields: Any) -> dict[str, Any]:
    return {**X, "data": [1, 1], **fields}


def binary(rows: bytes, **fields: Any) -> tuple[bytes, str]:
    entry = {**X, "parameters": {"binary_data_size": len(rows)}}
    head = json.dumps(asked(entry, **fields)).encode()
    return head + rows, str(len(head))


def values(answer: Answer) -> list[float]:
    assert answer.status == 200, answer.join()
    body = answer.join()
    length = answer.headers.get("Inference-Header-Content-Length")
    if length is None:
        found: list[float] = json.loads(body)["outputs"][0]["data"]
        return found
    read: list[float] = np.frombuffer(body[int(length) :], np.float32).tolist()
    return read


# Statuses and texts: the transcript of a real Triton and its http_server.cc; where a body is
# malformed 400 instead of its 500.
@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        pytest.param("GET", "/v2/models/nope", 404, "unknown model: 'nope' is not found", id="m"),
        pytest.param("GET", "/v2/models/nope/config", 404, "'nope' is not found", id="config"),
        pytest.param("GET", "/v2/models/nope/ready", 400, "version not ready", id="ready"),
        pytest.param("GET", "/v2/models/linear/versions/9/ready", 400, "not ready", id="9"),
        pytest.param("GET", "/v2/models/gone/stats", 400, "'gone' is not available", id="no stats"),
        pytest.param("GET", "/v2/models/gone", 404, "'gone' has no available", id="not loaded"),
        pytest.param("GET", "/v2/models/gone/config", 404, "no available", id="config of it"),
        pytest.param("GET", "/v2/models/gone/ready", 400, "Model version not ready", id="its"),
        pytest.param(
            "GET", "/v2/models/linear/versions/3", 404, "'linear' version 3 is not", id="version"
        ),
        pytest.param(
            "GET", "/v2/models/linear/versions/3/config", 404, "version 3", id="its config"
        ),
        pytest.param(
            "GET", "/v2/models/nope/stats", 400, "requested model 'nope' is not", id="stats"
        ),
        pytest.param("GET", "/v2/models/linear/versions/3/stats", 400, "version 3", id="its stats"),
        pytest.param(
            "GET",
            f"/v2/models/linear/versions/{'9' * 5000}",
            400,
            "failed to get model version",
            id="an endless version",
        ),
        pytest.param(
            "POST",
            f"/v2/models/linear/versions/{'9' * 5000}/infer",
            400,
            "failed to get model version",
            id="an inference with it",
        ),
        pytest.param("POST", "/v2/models/stats", 405, "Method Not Allowed", id="POST stats"),
        pytest.param("GET", "/v2/repository/index", 405, "Method Not Allowed", id="GET index"),
        pytest.param("PUT", "/v2/logging", 405, "Method Not Allowed", id="PUT logging"),
        pytest.param("POST", "/metrics", 405, "Method Not Allowed", id="POST metrics"),
        pytest.param(
            "POST", "/v2/systemsharedmemory/status", 405, "Method Not Allowed", id="POST status"
        ),
        pytest.param(
            "GET", "/v2/cudasharedmemory/register", 405, "Method Not Allowed", id="GET register"
        ),
        pytest.param(
            "POST",
            "/v2/repository/models/nope/load",
            500,
            "failed to load 'nope', failed to poll from model repository",
            id="load",
        ),
        pytest.param(
            "POST", "/v2/repository/models/gone/load", 400, "load failed for model 'gone'", id="bad"
        ),
        pytest.param(
            "POST", "/v2/repository/r/models/linear/load", 501, "'repository_name'", id="repository"
        ),
        pytest.param(
            "GET", "/v2/models/nope/trace/setting", 400, "unknown model : nope", id="trace"
        ),
        pytest.param("POST", "/v2/trace/setting", 400, "parse the trace request", id="no body"),
        pytest.param("POST", "/v2/logging", 400, "parse the dynamic logging", id="no settings"),
        pytest.param(
            "POST", "/v2/systemsharedmemory/register", 400, "'region name' is necessary", id="anon"
        ),
        pytest.param(
            "POST", "/v2/systemsharedmemory/region/r/register", 400, "no 'key' field", id="no key"
        ),
        pytest.param(
            "GET", "/v2/systemsharedmemory/region/r/status", 404, "Unable to find", id="region"
        ),
        pytest.param(
            "GET", "/v2/cudasharedmemory/region/r/status", 404, "Unable to find", id="CUDA region"
        ),
        pytest.param("POST", "/v2/cudasharedmemory/region/r/register", 501, "CUDA", id="CUDA"),
    ],
)
def test_what_cannot_be_done_is_told(
    plane: Plane, method: str, path: str, status: int, says: str
) -> None:
    answer = plane.ask(method, path)
    assert (answer.status, list(json.loads(answer.join()))) == (status, ["error"])
    assert says in json.loads(answer.join())["error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"", "failed to parse the request JSON", id="nothing"),
        pytest.param(b"\xff", "failed to parse the request JSON", id="no text"),
        pytest.param({}, "Unable to parse 'inputs'", id="no inputs"),
        pytest.param(b'{"inputs":[],"inputs":[]}', "'inputs' is given twice", id="a key twice"),
        pytest.param(
            json.dumps(asked(in_json())).replace("[1, 1]", "[1e400, 1]").encode(),
            "number too big to be stored in double",
            id="1e400",
        ),
        pytest.param(asked(), "missing input 'x'", id="none of its inputs"),
        pytest.param(asked(in_json(), id=7), "Unable to parse 'id'", id="an id that is a number"),
        pytest.param(asked(X), "But no field is set", id="no data"),
        pytest.param(
            asked(in_json(parameters={"binary_data_size": 8})),
            "But set 'data' 'binary_data_size'",
            id="data twice",
        ),
        pytest.param(asked(in_json(shape=[2, -1])), "Unable to parse 'shape'", id="negative"),
        pytest.param(
            asked(in_json(shape=[2**4, 2**60 + 2])),
            "causes total element count to exceed maximum size of",
            id="too many elements",
        ),
        pytest.param(
            asked(in_json(shape=[2**2, 2**60 - 2])), "byte size overflow for input", id="overflow"
        ),
        pytest.param(asked(in_json(), in_json()), "already exists in request", id="twice"),
        pytest.param(asked(in_json(datatype="INT32")), "'x' is FP32, found INT32", id="datatype"),
        pytest.param(asked(in_json(datatype="FP8")), "unknown datatype 'FP8'", id="no datatype"),
        pytest.param(asked(in_json(data=[1])), "Unable to parse 'data'", id="too few values"),
        pytest.param(asked(in_json(data=["1", "2"])), "Unable to parse 'data'", id="text"),
        pytest.param(
            asked(in_json(), parameters={"triton_x": 1}), "are reserved for Triton", id="reserved"
        ),
        pytest.param(asked(in_json(), parameters=[]), "'parameters'", id="no parameters"),
        pytest.param(asked(in_json(), parameters={"a": []}), "parameter 'a'", id="a list"),
        *(
            pytest.param(
                asked(in_json(), parameters={name: value}), f"Unable to parse '{name}'", id=name
            )
            for name, value in {
                "timeout": -1,
                "priority": "1",
                "sequence_id": 1.5,
                "sequence_start": 1,
                "sequence_end": "true",
                "binary_data_output": 1,
            }.items()
        ),
        pytest.param(asked(in_json(), outputs=[{"name": "q"}]), "'q'", id="an unknown output"),
        pytest.param(
            asked(
                in_json(),
                outputs=[
                    {"name": "y", "parameters": {"shared_memory_region": "r", "classification": 1}}
                ],
            ),
            "Output can't set both 'shared_memory_region' and 'classification'",
            id="classes into memory",
        ),
        pytest.param(
            asked(
                in_json(),
                outputs=[
                    {"name": "y", "parameters": {"shared_memory_region": "r", "binary_data": True}}
                ],
            ),
            "Output can't set both 'shared_memory_region' and 'binary_data'",
            id="bytes into memory",
        ),
    ],
)
def test_a_request_that_cannot_be_used_is_told_why(
    plane: Plane, body: bytes | dict[str, Any], says: str
) -> None:
    answer = plane.ask("POST", INFER, body)
    assert answer.status == 400
    assert says in json.loads(answer.join())["error"]


def test_zeros_before_a_version_mean_nothing(plane: Plane) -> None:
    assert plane.ask("GET", "/v2/models/linear/versions/001/ready").status == 200
    path = "/v2/models/linear/versions/01/infer"
    assert values(plane.ask("POST", path, asked(in_json()))) == ANSWER


def test_that_a_model_is_not_there_comes_before_what_is_wrong_with_the_request(
    plane: Plane,
) -> None:
    for path in ("/v2/models/nope/infer", "/v2/models/linear/versions/9/infer"):
        assert plane.ask("POST", path, b"{", content_encoding="br").status == 404


@pytest.mark.parametrize(
    "length", ["x", "", "1.5", "0x1", " 1", "-1", "999", "9" * 99], ids=lambda text: f"{text[:9]!r}"
)
def test_a_wrong_length_of_the_json_is_refused(plane: Plane, length: str) -> None:
    answer = plane.ask("POST", INFER, b"{}", inference_header_content_length=length)
    assert answer.status == 400
    assert length in json.loads(answer.join())["error"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests_are_read_and_answers_written(plane: Plane, coding: str) -> None:
    is_gzip = coding == "gzip"
    body, length = binary(ROWS.tobytes(), parameters={"binary_data_output": True})
    answer = plane.ask(
        "POST",
        INFER,
        gzip.compress(body) if is_gzip else zlib.compress(body),
        content_encoding=coding,
        accept_encoding=coding,
        inference_header_content_length=length,
    )
    assert answer.headers["Content-Encoding"] == coding
    packed = answer.join()
    unpacked = gzip.decompress(packed) if is_gzip else zlib.decompress(packed)
    assert values(Answer(answer.status, (unpacked,), answer.headers)) == ANSWER


def test_an_unknown_coding_is_told_the_known_ones(plane: Plane) -> None:
    answer = plane.ask("POST", INFER, b"{}", content_encoding="br")
    assert answer.status == 501
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"


class Ill(Hoarding):
    """A model whose engine has died, and is being brought back."""

    def service(self, name: str) -> ServiceView:
        return ServiceView(name, False, "1", Signature(), reason="it died", backend="triton")


def test_a_request_to_a_model_that_is_brought_back_is_answered_with_that() -> None:
    models = Ill()
    plane = Plane(models, control=None, version="1", max_input=1 << 20)
    call = plane.match(INFER)
    assert call is not None
    answers: SimpleQueue[Answer] = SimpleQueue()
    plane.begin(call, "POST", {}, bytearray(json.dumps(asked(in_json())).encode()), answers.put)
    deadline = time.monotonic() + 30
    while not models.waiting:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    models.waiting[0](UnavailableError("its process has ended"))
    answer = answers.get(timeout=30)
    assert answer.status == 503
    assert "it is being started again: try again in a moment" in json.loads(answer.join())["error"]
    assert plane.ask("GET", "/v2/models/ill").status == 503
    assert plane.ask("GET", "/v2/models/ill/stats").status == 400


def test_a_bomb_is_refused(plane: Plane) -> None:
    answer = plane.ask("POST", INFER, zlib.compress(bytes(1 << 24)), content_encoding="deflate")
    assert answer.status == 400
    assert str(1 << 20) in json.loads(answer.join())["error"]


def test_decompressed_bodies_are_counted_as_long_as_they_are_under_way(plane: Plane) -> None:
    models = Hoarding()
    hoard = Plane(models, control=None, version="1", max_input=1 << 20)
    rows = np.ones((120_000, 2), np.float32)
    entry = {**X, "shape": rows.shape, "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps(asked(entry)).encode()
    body = bytearray(gzip.compress(head + rows.tobytes()))
    headers = {"content-encoding": "gzip", "inference-header-content-length": str(len(head))}
    call = hoard.match(INFER)
    assert call is not None
    answers: SimpleQueue[Answer] = SimpleQueue()
    for _ in range(5):
        hoard.begin(call, "POST", headers, body, answers.put)
    refused = answers.get(timeout=30)
    assert refused.status == 503
    assert "too many decompressed bytes" in json.loads(refused.join())["error"]
    deadline = time.monotonic() + 30
    while len(models.waiting) < 4:  # the refusal may come before the last of them is decoded
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for done in models.waiting:
        done(UnavailableError("over"))
    assert [answers.get(timeout=30).status for _ in range(4)] == [503] * 4
    hoard.begin(call, "POST", headers, body, answers.put)
    hoard.close()
    assert (len(models.waiting), answers.empty()) == (5, True)


def test_an_empty_answer_has_no_binary_part(plane: Plane) -> None:
    entry = {**X, "shape": [0, 2], "parameters": {"binary_data_size": 0}}
    answer = plane.ask("POST", INFER, asked(entry, parameters={"binary_data_output": True}))
    assert answer.headers == {"Content-Type": "application/json"}
    (output,) = json.loads(answer.join())["outputs"]
    assert (output["shape"], output["parameters"]) == ([0, 3], {"binary_data_size": 0})


class TestWithoutBlocking:
    """``begin`` answers as ``answer`` does."""

    def begin(
        self, plane: Plane, path: str, body: bytes, method: str = "POST", **headers: str
    ) -> tuple[Answer, int]:
        answers: list[tuple[Answer, int]] = []
        done = threading.Event()

        def take(answer: Answer) -> None:
            answers.append((answer, threading.get_ident()))
            done.set()

        call = plane.match(path)
        assert call is not None
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        plane.begin(call, method, given, bytearray(body), take)
        assert done.wait(30)
        (answer,) = answers
        return answer

    def test_a_small_request_is_answered(self, plane: Plane) -> None:
        body, length = binary(ROWS.tobytes())
        answer, _ = self.begin(plane, INFER, body, inference_header_content_length=length)
        assert values(answer) == ANSWER

    def test_much_json_is_read_elsewhere(self, plane: Plane) -> None:
        body = json.dumps(asked(in_json())).encode() + b" " * LIGHT
        answer, thread = self.begin(plane, INFER, body)
        assert values(answer) == ANSWER
        assert thread != threading.get_ident()

    def test_a_compressed_body_is_read_elsewhere(self, plane: Plane) -> None:
        body = gzip.compress(json.dumps(asked(in_json())).encode())
        answer, thread = self.begin(plane, INFER, body, content_encoding="gzip")
        assert values(answer) == ANSWER
        assert thread != threading.get_ident()

    @pytest.mark.parametrize("word", ["BYTES", r"B\u0059TES"])
    def test_text_in_binary_is_read_elsewhere(self, plane: Plane, word: str) -> None:
        texts = bytes(4) * LIGHT
        entry = {**X, "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}}
        head = json.dumps(asked({**entry, "shape": [LIGHT]})).replace("BYTES", word).encode()
        length = str(len(head))
        answer, thread = self.begin(
            plane, INFER, head + texts, inference_header_content_length=length
        )
        assert answer.status == 400
        assert thread != threading.get_ident()

    @pytest.mark.parametrize("path", ["/metrics", "/v2/models/stats", "/v2/models/linear/stats"])
    def test_what_may_ask_other_processes_is_told_elsewhere(self, plane: Plane, path: str) -> None:
        answer, thread = self.begin(plane, path, b"", "GET")
        assert answer.status == 200
        assert thread != threading.get_ident()

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            pytest.param(INFER, b"{", 400, id="malformed"),
            pytest.param(INFER, b"{" * LIGHT * 2, 400, id="much that is malformed"),
            pytest.param("/v2/models/nope/infer", b"{}", 404, id="no model"),
            pytest.param("/v2/models/gone/infer", b'{"inputs":[]}', 404, id="not loaded"),
            pytest.param("/v2/models/linear", b"", 405, id="another method"),
            pytest.param("/v2/repository/index", b"", 200, id="no inference"),
            pytest.param("/v2/repository/models/nope/load", b"", 500, id="a load"),
        ],
    )
    def test_every_answer_comes_once(
        self, plane: Plane, path: str, body: bytes, status: int
    ) -> None:
        answer, _ = self.begin(plane, path, body)
        assert answer.status == status


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is for Linux")
class TestSharedMemory:
    @pytest.fixture
    def block(self, plane: Plane) -> Iterator[Block]:
        block = Block(create=True, size=256)
        assert block.buf is not None
        block.buf[:8] = ROWS.tobytes()
        body = {"key": f"/{block.name}", "byte_size": 256}
        assert plane.ask("POST", "/v2/systemsharedmemory/region/r/register", body).status == 200
        yield block
        assert plane.ask("POST", "/v2/systemsharedmemory/unregister").status == 200
        block.close()
        block.unlink()

    def test_a_region_is_told(self, plane: Plane, block: Block) -> None:
        there = [{"name": "r", "key": f"/{block.name}", "offset": 0, "byte_size": 256}]
        assert plane.said("GET", "/v2/systemsharedmemory/status") == there
        assert plane.said("GET", "/v2/systemsharedmemory/region/r/status") == there
        answer = plane.ask("POST", "/v2/systemsharedmemory/region/r/unregister")
        assert (answer.status, answer.join()) == (200, b"")
        assert plane.said("GET", "/v2/systemsharedmemory/status") == []

    def test_tensors_are_read_and_written_there(self, plane: Plane, block: Block) -> None:
        here = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
        there = {
            "shared_memory_region": "r",
            "shared_memory_byte_size": 12,
            "shared_memory_offset": 64,
        }
        body = asked({**X, "parameters": here}, outputs=[{"name": "y", "parameters": there}])
        (output,) = json.loads(plane.ask("POST", INFER, body).join())["outputs"]
        assert output == {"name": "y", "datatype": "FP32", "shape": [1, 3]}
        assert block.buf is not None
        assert np.frombuffer(bytes(block.buf[64:76]), np.float32).tolist() == ANSWER

    @pytest.mark.parametrize(
        ("parameters", "status", "says"),
        [
            pytest.param({"shared_memory_region": 1}, 400, "'shared_memory_region'", id="number"),
            pytest.param({"shared_memory_region": "q"}, 404, "Unable to find", id="unknown"),
            pytest.param(
                {"shared_memory_region": "r", "shared_memory_byte_size": 257},
                400,
                r"Invalid offset + byte size",
                id="beyond",
            ),
            pytest.param(
                {"shared_memory_region": "r", "shared_memory_byte_size": 4},
                400,
                "Expected 8, got 4",
                id="too short",
            ),
        ],
    )
    def test_what_is_not_there_is_told(
        self, plane: Plane, block: Block, parameters: dict[str, Any], status: int, says: str
    ) -> None:
        answer = plane.ask("POST", INFER, asked({**X, "parameters": parameters}))
        assert answer.status == status
        assert says in json.loads(answer.join())["error"]


@pytest.mark.usefixtures("calm")
class TestLoading:
    def test_a_model_is_unloaded_and_loaded_again(self, plane: Plane) -> None:
        assert plane.ask("POST", "/v2/repository/models/linear/unload").status == 200
        assert plane.ask("GET", "/v2/models/linear/ready").status == 400
        assert plane.ask("POST", INFER, asked(in_json())).status == 404
        assert plane.said("POST", "/v2/repository/index")[0] == {
            "name": "linear",
            "version": "1",
            "state": "UNAVAILABLE",
            "reason": "unloaded",
        }
        assert plane.said("POST", "/v2/repository/index", {"ready": True}) == []
        answer = plane.ask("POST", "/v2/repository/models/linear/load")
        assert (answer.status, answer.join()) == (200, b"")
        assert values(plane.ask("POST", INFER, asked(in_json()))) == ANSWER
        there = {"name": "linear", "version": "1", "state": "READY"}
        assert plane.said("POST", "/v2/repository/index", {"ready": True}) == [there]

    def test_a_config_changes_how_a_model_runs(self, plane: Plane) -> None:
        parameters = {"config": json.dumps({"instance_group": [{"count": 3}]})}
        body = {"parameters": parameters}
        assert plane.ask("POST", "/v2/repository/models/linear/load", body).status == 200
        config = plane.said("GET", "/v2/models/linear/config")
        assert config["instance_group"][0]["count"] == 3
        assert plane.ask("POST", "/v2/repository/models/linear/load").status == 200
        config = plane.said("GET", "/v2/models/linear/config")
        assert config["instance_group"][0]["count"] == 1

    def test_files_make_a_model_and_go_with_it(
        self, plane: Plane, linear_onnx: Path, runtime: EdgeRuntime
    ) -> None:
        content = base64.b64encode(linear_onnx.read_bytes()).decode()
        body = {"parameters": {"config": "{}", "file:7/model.onnx": content}}
        assert plane.ask("POST", "/v2/repository/models/new/load", body).status == 200
        assert values(plane.ask("POST", "/v2/models/new/infer", asked(in_json()))) == ANSWER
        assert plane.said("GET", "/v2/models/new")["versions"] == ["7"]
        assert runtime.status()["services"][-1]["name"] == "new"
        assert plane.ask("POST", "/v2/repository/models/new/unload").status == 200
        assert plane.ask("GET", "/v2/models/new").status == 404

    def test_a_load_that_fails_leaves_what_ran(self, plane: Plane) -> None:
        junk = base64.b64encode(b"junk").decode()
        body = {"parameters": {"config": "{}", "file:1/model.onnx": junk}}
        answer = plane.ask("POST", "/v2/repository/models/linear/load", body)
        assert answer.status == 400
        assert "load failed for model 'linear'" in json.loads(answer.join())["error"]
        assert values(plane.ask("POST", INFER, asked(in_json()))) == ANSWER
        assert plane.said("GET", "/v2/models/linear")["versions"] == ["1"]

    @pytest.mark.parametrize(
        "parameters",
        [
            pytest.param([], id="no object"),
            pytest.param({"config": 1}, id="a config that is a number"),
            pytest.param({"config": "{"}, id="a malformed config"),
            pytest.param({"file:1/../x": ""}, id="a way out"),
            pytest.param({"x": "y"}, id="unknown"),
        ],
    )
    def test_a_wrong_load_is_refused(self, plane: Plane, parameters: Any) -> None:
        body = {"parameters": parameters}
        assert plane.ask("POST", "/v2/repository/models/linear/load", body).status == 400

    def test_what_does_not_run_can_be_unloaded(self, plane: Plane) -> None:
        body: dict[str, Any] = {"parameters": {"unload_dependents": True}}
        for name in ("nope", "gone"):
            assert plane.ask("POST", f"/v2/repository/models/{name}/unload", body).status == 200
        body = {"parameters": {"unload_dependents": 1}}
        assert plane.ask("POST", "/v2/repository/models/linear/unload", body).status == 400

    def test_a_new_machine_config_is_followed(
        self, plane: Plane, runtime: EdgeRuntime, service: Entry, linear_onnx: Path
    ) -> None:
        before, _ = runtime.config
        assert plane.ask("POST", "/v2/repository/models/linear/unload").status == 200
        changed = service("linear", linear_onnx)
        changed["attributes"]["num_threads"] = 2
        runtime.set_config({"services": [changed, before["services"][1]]}, if_match=None)
        assert runtime.wait_settled(30)
        assert plane.ask("GET", "/v2/models/linear/ready").status == 200
        runtime.set_config(before, if_match=None)
        assert runtime.wait_settled(30)


class TestSettings:
    def test_logging_is_changed(self, plane: Plane) -> None:
        logger = logging.getLogger("nbmodel")
        before, level = plane.said("GET", "/v2/logging"), logger.level
        try:
            changed = plane.said("POST", "/v2/logging", {"log_verbose_level": 1})
            assert changed == {**before, "log_verbose_level": 1}
            assert logger.isEnabledFor(logging.DEBUG)
        finally:
            plane.said("POST", "/v2/logging", {"log_verbose_level": 0})
            logger.setLevel(level)

    def test_tracing_is_set_for_a_model(self, plane: Plane) -> None:
        path = "/v2/models/linear/trace/setting"
        assert plane.said("POST", path, {"trace_rate": "5"})["trace_rate"] == "5"
        assert plane.said("GET", path)["trace_rate"] == "5"
        assert plane.said("GET", "/v2/trace/setting")["trace_rate"] == "1000"
        assert plane.said("POST", path, {"trace_rate": None})["trace_rate"] == "1000"


def test_statistics_count_what_was_asked(plane: Plane) -> None:
    def told() -> dict[str, Any]:
        (model,) = plane.said("GET", "/v2/models/linear/stats")["model_stats"]
        found: dict[str, Any] = model
        return found

    before = told()
    assert plane.ask("POST", INFER, asked(in_json(shape=[2, 2], data=[1, 1, 1, 1]))).status == 200
    after = told()
    assert after["inference_stats"]["success"]["count"] == (
        before["inference_stats"]["success"]["count"] + 1
    )
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["last_inference"] > 1.7e12
    assert plane.said("GET", "/v2/models/stats")["model_stats"][0]["name"] == "linear"


def test_metrics_are_told(plane: Plane) -> None:
    answer = plane.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'nv_inference_request_success{model="linear",version="1"}' in answer.join().decode()


def test_paths_of_a_scanner_fill_no_memory(plane: Plane) -> None:
    for number in range(10_000):
        assert plane.match(f"/wp-admin/{number}") is None
    assert len(plane._matches) <= 4096
    assert plane.match("/v2/models/" + "a" * 10_000) is not None
    assert max(map(len, plane._matches)) < 1000


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=300), length=st.none() | st.integers(0, 300))
def test_any_bytes_are_answered(plane: Plane, body: bytes, length: int | None) -> None:
    headers = {} if length is None else {"inference_header_content_length": str(length)}
    answer = plane.ask("POST", INFER, body, **headers)
    assert answer.status in (200, 400)
    assert answer.join()
