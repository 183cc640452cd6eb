"""A runtime of several processes on one port, as its clients see it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbmodel.errors import InputError
from nbmodel.fleet.known import Known
from nbmodel.fleet.local import start_local, stop_local
from nbmodel.runtime.server import serve
from nbmodel.runtime.statistics import BatchStatistics, Duration, ModelStatistics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux shares a port"),
]

WORKERS = 3


def adder(folder: Path, number: int) -> Path:
    """A model that adds a number, in a file of its own."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "n"], ["y"])],
        "adder",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1])],
        [numpy_helper.from_array(np.array([number], np.int64), "n")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"add{number}.onnx"
    onnx.save(model, path)
    return path


def config(path: Path) -> dict[str, Any]:
    service = {
        "name": "add",
        "api": "rdk:service:mlmodel",
        "model": "onnx_cpu",
        "attributes": {"model_path": str(path)},
    }
    return {"services": [service]}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Known]:
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(config(adder(tmp_path, 1))))
    known = start_local("edge", tmp_path / "home", config=file, workers=WORKERS)
    try:
        until(lambda: len(processes(known)) == WORKERS)
        yield known
    finally:
        stop_local(known)


def until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes(known: Known) -> set[int]:
    """All that listen on the runtime's port."""
    port = int(known.url.rpartition(":")[2])
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port and fields[3] == "0A":
            inodes.add(fields[9])
    assert known.pid is not None
    own = [known.pid, *children(known.pid)]
    return {pid for pid in own if inodes & sockets(pid)}


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        threads = [p.name for p in Path(f"/proc/{pid}/task").iterdir()]
        text = " ".join(Path(f"/proc/{pid}/task/{t}/children").read_text() for t in threads)
    except OSError:
        return []
    return [int(one) for one in text.split()]


def sockets(pid: int) -> set[str]:
    found = set()
    try:
        for one in Path(f"/proc/{pid}/fd").iterdir():
            target = str(one.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


def infer(http: httpx.Client, value: int) -> httpx.Response:
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [value]}
    return http.post("/v2/models/add/infer", json={"inputs": [tensor]})


def fresh(known: Known) -> httpx.Client:
    return httpx.Client(base_url=known.url, trust_env=False, timeout=10)


def answers(known: Known, count: int) -> set[int]:
    """What ``count`` clients get, each on a connection of its own, for 100."""
    found = set()
    for _ in range(count):
        with fresh(known) as http:
            answer = infer(http, 100)
            assert answer.status_code == 200, answer.text
            found.add(answer.json()["outputs"][0]["data"][0])
    return found


def served_by(known: Known) -> int:
    with fresh(known) as http:
        statistics = http.get("/v2/models/add/stats").json()["model_stats"]
    return int(statistics[0]["inference_stats"]["success"]["count"])


def test_every_request_is_answered_and_counted_once(runtime: Known) -> None:
    def ask(start: int) -> None:
        with fresh(runtime) as http:
            for value in range(start, start + 20):
                assert infer(http, value).json()["outputs"][0]["data"] == [value + 1]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(0, 800, 20)))
    assert served_by(runtime) == 800


def test_one_connection_reaches_everything(runtime: Known) -> None:
    for _ in range(6):
        with fresh(runtime) as http:
            assert infer(http, 1).json()["outputs"][0]["data"] == [2]
            assert http.get("/nbmodel/version").json()["pid"] == runtime.pid
            assert infer(http, 2).json()["outputs"][0]["data"] == [3]
            assert http.get("/v2/models/add").json()["name"] == "add"
            assert http.get("/v2/models/nope").status_code == 404
            assert http.get("/v2/health/ready").status_code == 200


def test_a_body_that_came_with_a_request_is_passed_on(runtime: Known) -> None:
    blob = os.urandom(1_000_000)
    for _ in range(4):
        with fresh(runtime) as http:
            location = http.post("/v2/digits/blobs/uploads/").headers["Location"]
            answer = http.patch(location, content=blob)
            assert answer.headers["Range"] == f"0-{len(blob) - 1}"


def test_a_change_is_live_everywhere_once_it_is_settled(runtime: Known, tmp_path: Path) -> None:
    for number in (10, 20):
        with fresh(runtime) as http:
            wanted = config(adder(tmp_path, number))
            answer = http.put("/nbmodel/config", json=wanted, headers={"If-Match": "*"})
            assert answer.status_code == 200
            until(lambda: bool(http.get("/nbmodel/status").json()["settled"]))
        assert answers(runtime, 12) == {100 + number}


def test_what_is_unloaded_is_gone_everywhere(runtime: Known) -> None:
    with fresh(runtime) as http:
        assert http.post("/v2/repository/models/add/unload").status_code == 200
    for _ in range(12):
        with fresh(runtime) as http:
            assert infer(http, 1).status_code in (400, 404)
    with fresh(runtime) as http:
        assert http.post("/v2/repository/models/add/load").status_code == 200
    assert answers(runtime, 6) == {101}


def test_a_worker_that_dies_is_started_again(runtime: Known) -> None:
    assert runtime.pid is not None
    victim = min(processes(runtime) - {runtime.pid})
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(processes(runtime) - {victim}) == WORKERS)
    assert answers(runtime, 12) == {101}


def test_what_workers_told_is_not_lost_when_they_die(runtime: Known) -> None:
    answers(runtime, 30)
    assert served_by(runtime) == 30
    victims = processes(runtime) - {runtime.pid}
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    until(lambda: not victims & processes(runtime))
    assert served_by(runtime) == 30
    until(lambda: len(processes(runtime)) == WORKERS)
    assert served_by(runtime) == 30
    answers(runtime, 12)
    assert served_by(runtime) == 42


@pytest.mark.usefixtures("runtime")
def test_what_workers_log_has_one_level_and_its_loggers_name(tmp_path: Path) -> None:
    log = tmp_path / "home" / "runtime.log"
    until(lambda: "worker 1: Started server process" in log.read_text())
    lines = [line for line in log.read_text().splitlines() if "worker 1: Started" in line]
    assert all(re.search(r"Z INFO uvicorn\.error: worker 1: Started server", one) for one in lines)


def test_statistics_do_not_wait_for_a_worker_that_hangs(runtime: Known) -> None:
    assert runtime.pid is not None
    with fresh(runtime) as http:
        http.get("/nbmodel/version")  # from here on, the connection is the runtime's own
        workers = processes(runtime) - {runtime.pid}
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        try:
            answer = http.get("/v2/models/add/stats")
        finally:
            for worker in workers:
                os.kill(worker, signal.SIGCONT)
    assert answer.status_code == 200
    assert answer.json()["model_stats"][0]["name"] == "add"


def test_workers_end_with_their_runtime_however_it_ends(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        home = tmp_path / number.name
        known = start_local("edge", home, workers=WORKERS)
        try:
            until(lambda: len(processes(known)) == WORKERS)  # noqa: B023
            assert known.pid is not None
            own = processes(known) - {known.pid}
            os.kill(known.pid, number)
            until(lambda: not any(Path(f"/proc/{pid}/fd").is_dir() and sockets(pid) for pid in own))  # noqa: B023
        finally:
            stop_local(known)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        pytest.param({"workers": 0}, "1 or more", id="no process"),
        pytest.param(
            {"workers": 2, "allow_shared_memory": True}, "do not go together", id="shared memory"
        ),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        serve(home=tmp_path, **options)


def test_counts_of_two_processes_are_one_models() -> None:
    one, two = Duration(1, 10), Duration(2, 30)
    first = ModelStatistics(
        "add", "3", 5, 1, 1, success=one, batch_stats=(BatchStatistics(1, one, one, one),)
    )
    second = ModelStatistics(
        "add",
        "3",
        4,
        6,
        2,
        success=two,
        batch_stats=(BatchStatistics(1, two, one, one), BatchStatistics(4, one, one, one)),
        pending=2,
    )
    both = first + second
    assert (both.last_inference, both.inference_count, both.execution_count) == (5, 7, 3)
    assert (both.success, both.pending) == (Duration(3, 40), 2)
    assert [size.batch_size for size in both.batch_stats] == [1, 4]
    assert both.batch_stats[0].compute_input == Duration(3, 40)
