"""The one path of requests through a whole runtime: real engines, real shared memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.errors import (
    ConfigError,
    InputError,
    NbModelError,
    TargetError,
    UnavailableError,
)
from nbmodel.protocol.inference import (
    InferRequest,
    InferResponse,
    Region,
    RequestedOutput,
    SharedTensor,
)
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.scheduler import MAX_BATCH_SIZE, Scheduling
from nbmodel.runtime.shared_memory import SharedMemory

WAIT_S = 30.0
ROWS = np.array([[1, 1], [0, 0]], np.float32)
SUMS = [[15, 27, 39], [10, 20, 30]]  # of linear_onnx, by its docstring

Start = Callable[..., EdgeRuntime]


@pytest.fixture
def start(tmp_path: Path, linear_onnx: Path) -> Iterator[Start]:
    """Start a runtime whose service ``m`` runs linear_onnx with further attributes."""
    started: list[EdgeRuntime] = []

    def runtime(model: str = "onnx_cpu", **attributes: Any) -> EdgeRuntime:
        service = {
            "name": "m",
            "api": "rdk:service:mlmodel",
            "model": model,
            "attributes": {"model_path": str(linear_onnx), **attributes},
        }
        memory = tmp_path / "shm"
        memory.mkdir(exist_ok=True)
        (memory / "both").write_bytes(bytes(64))
        shared = SharedMemory(allowed=True, folder=memory)
        shared.register("both", "both", byte_size=64)
        one = EdgeRuntime(
            tmp_path / f"home{len(started)}", config={"services": [service]}, shared_memory=shared
        )
        started.append(one)
        assert one.wait_settled(WAIT_S)
        return one

    yield runtime
    for one in started:
        one.close()


def ask(**fields: Any) -> InferRequest:
    return InferRequest("m", {"x": ROWS}, **fields)


def submitted(runtime: EdgeRuntime, request: InferRequest) -> InferResponse | NbModelError:
    """What ``submit`` answers, for comparison with ``infer``."""
    results: list[InferResponse | NbModelError] = []
    arrived = threading.Event()

    def done(result: InferResponse | NbModelError) -> None:
        results.append(result)
        arrived.set()

    runtime.submit(request, done)
    assert arrived.wait(WAIT_S)
    assert len(results) == 1
    return results[0]


def test_both_ways_give_the_same_answer(start: Start) -> None:
    runtime = start()
    for answer in (runtime.infer(ask(id="7")), submitted(runtime, ask(id="7"))):
        assert isinstance(answer, InferResponse)
        assert (answer.model, answer.version, answer.id) == ("m", "1", "7")
        assert answer.outputs["y"].tolist() == SUMS


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param(
            {}, Scheduling(max_batch_size=MAX_BATCH_SIZE, is_batching=True), id="found out"
        ),
        pytest.param({"max_batch_size": 0}, Scheduling(), id="switched off"),
        pytest.param(
            {
                "max_batch_size": 16,
                "instances": 2,
                "max_queue_size": 5,
                "max_queue_delay_microseconds": 100,
            },
            Scheduling(2, 16, 100, 5, is_batching=True, is_limit=True),
            id="as configured",
        ),
    ],
)
def test_a_service_says_how_its_requests_share_it(
    start: Start, attributes: dict[str, Any], expected: Scheduling
) -> None:
    assert start(**attributes).service("m").scheduling == expected


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        pytest.param({"instances": 0}, "'instances' must be an integer from 1 to 64", id="none"),
        pytest.param({"instances": 65}, "'instances' must be an integer from 1 to 64", id="many"),
        pytest.param({"max_batch_size": -1}, "'max_batch_size' must be an integer", id="less"),
        pytest.param({"max_queue_size": True}, "'max_queue_size' must be an integer", id="bool"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    start: Start, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        start(**attributes)


def test_a_batch_size_that_the_model_cannot_have_is_told(
    start: Start, tmp_path: Path, counter_onnx: Path
) -> None:
    runtime = start(model_path=str(counter_onnx), max_batch_size=4)
    view = runtime.service("m")
    assert not view.ready
    assert "'max_batch_size' is 4, but tensor 'x' of the model has the fixed shape [1]" in (
        view.reason
    )


def test_tflite_interpreters_are_as_many_as_instances(start: Start, test_models: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="pip install 'nbmodel[runtime]'")
    path = next(iter(sorted(test_models.glob("*mobilenet*quant*.tflite"))), None)
    if path is None:
        pytest.skip("no quantised MobileNet among the real models")
    runtime = start("tflite_cpu", model_path=str(path), instances=2)
    view = runtime.service("m")
    assert view.scheduling == Scheduling(instances=2)
    (tensor,) = view.signature.inputs
    assert tensor.shape is not None
    shape = [1 if dim == -1 else dim for dim in tensor.shape]
    pictures = np.random.default_rng(1).integers(0, 256, (4, *shape), np.uint8)
    requests = [InferRequest("m", {tensor.name: picture}) for picture in pictures]
    expected = [runtime.infer(request).outputs for request in requests]
    wrong: list[int] = []

    def asks(number: int) -> None:
        for turn in range(3):
            place = (number + turn) % 4
            answer = runtime.infer(requests[place]).outputs
            if any((answer[name] != expected[place][name]).any() for name in answer):
                wrong.append(place)

    threads = [threading.Thread(target=asks, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert wrong == []


# Classes


def test_classes_are_given_instead_of_scores(start: Start, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("low\nmiddle\nhigh\n")
    runtime = start(label_path=str(labels))
    request = ask(outputs=(RequestedOutput("y", classification=2),))
    for answer in (runtime.infer(request), submitted(runtime, request)):
        assert isinstance(answer, InferResponse)
        assert answer.outputs["y"].tolist() == [
            [b"39.000000:2:high", b"27.000000:1:middle"],
            [b"30.000000:2:high", b"20.000000:1:middle"],
        ]


def test_without_a_batch_axis_all_scores_are_one_row(start: Start) -> None:
    request = ask(outputs=(RequestedOutput("y", classification=2),))
    answer = start(max_batch_size=0).infer(request)
    assert answer.outputs["y"].tolist() == [b"39.000000:2", b"30.000000:5"]


# Shared memory


def test_tensors_go_through_shared_memory(start: Start, tmp_path: Path) -> None:
    runtime = start()
    (tmp_path / "shm" / "both").write_bytes(ROWS.tobytes() + bytes(48))
    request = InferRequest(
        "m",
        {},
        outputs=(RequestedOutput("y", region=Region("both", 24, 16)),),
        shared_inputs={"x": SharedTensor("FP32", (2, 2), Region("both", 16))},
    )
    for answer in (runtime.infer(request), submitted(runtime, request)):
        assert isinstance(answer, InferResponse)
        assert dict(answer.outputs) == {}
        assert answer.shared_outputs == {"y": SharedTensor("FP32", (2, 3), Region("both", 24, 16))}
        content = (tmp_path / "shm" / "both").read_bytes()
        assert np.frombuffer(content[16:40], np.float32).reshape(2, 3).tolist() == SUMS
        assert content[40:] == bytes(24)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        pytest.param(
            {"outputs": (RequestedOutput("y", region=Region("none", 24)),)},
            TargetError,
            "Unable to find shared memory region: 'none'",
            id="no such region",
        ),
        pytest.param(
            {"outputs": (RequestedOutput("y", region=Region("both", 24, 60)),)},
            InputError,
            "Invalid offset",
            id="not within it",
        ),
        pytest.param(
            {"outputs": (RequestedOutput("y", region=Region("both", 8)),)},
            NbModelError,
            "should be at least 24 bytes",
            id="too small",
        ),
        pytest.param(
            {"parameters": {"timeout": "soon"}},
            InputError,
            "'timeout' must be a whole number of microseconds, found 'soon'",
            id="a timeout that is none",
        ),
        pytest.param({"version": "2"}, TargetError, "'m' version 2 is not found", id="version"),
    ],
)
def test_a_request_that_cannot_be_answered(
    start: Start, fields: dict[str, Any], error: type[NbModelError], message: str
) -> None:
    runtime = start()
    with pytest.raises(error, match=message):
        runtime.infer(ask(**fields))
    refusal = submitted(runtime, ask(**fields))
    assert isinstance(refusal, error)
    assert message in str(refusal)


def test_a_model_that_is_not_there(start: Start, tmp_path: Path) -> None:
    runtime = start()
    refusal = submitted(runtime, InferRequest("q", {}))
    assert isinstance(refusal, TargetError)
    assert str(refusal) == "Request for unknown model: 'q' is not found"
    with pytest.raises(TargetError, match="no service 'q'"):
        runtime.statistics("q")


def test_a_model_that_is_not_ready(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    runtime = start(model_path=str(broken))
    with pytest.raises(UnavailableError, match="service 'm' is not ready: onnx_cpu cannot load"):
        runtime.infer(ask())
    assert runtime.statistics("m") == runtime.statistics() == ()


def test_the_timeout_of_a_request_ends_its_waiting(start: Start, counter_onnx: Path) -> None:
    runtime = start(model_path=str(counter_onnx))

    def count(to: int, **parameters: Any) -> InferRequest:
        return InferRequest("m", {"x": np.array([to])}, parameters=parameters)

    first: list[InferResponse | NbModelError] = []
    slow = threading.Thread(target=lambda: first.append(submitted(runtime, count(800_000))))
    slow.start()
    deadline = time.monotonic() + WAIT_S
    while runtime.do("m", {"command": "stats"})["busy"] == 0:
        assert time.monotonic() < deadline
    with pytest.raises(UnavailableError, match="Request timeout expired"):
        runtime.infer(count(1, timeout=2_000))
    slow.join(WAIT_S)
    assert len(first) == 1
    assert runtime.infer(count(1, timeout=0)).outputs["y"].tolist() == [1]
    (counts,) = runtime.statistics()
    assert (counts.success.count, counts.fail.count) == (2, 1)


def test_answers_are_counted(start: Start) -> None:
    runtime = start()
    for _ in range(3):
        runtime.infer(ask())
    (counts,) = runtime.statistics("m")
    assert counts == runtime.statistics()[0]
    assert (counts.name, counts.version) == ("m", "1")
    assert (counts.inference_count, counts.execution_count) == (6, 3)
    assert runtime.do("m", {"command": "stats"})["inferences"] == 3
