"""What a request costs a server: ours, the real Triton, FastAPI, Viam's own, side by side.

CPU time of the server's processes is measured, not wall time, with the server alone on one
core and the client on another. Our runtime runs as it does on an edge machine, with its
token, its metrics and all checks; ONNX Runtime has one thread everywhere.

MLServer, slow to install and to measure, joins when ``NBMODEL_BENCH_MLSERVER`` is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nbmodel.inference import InferenceClient
from tests.bench import servers
from tests.bench.harness import ROOT, Row, Spread, answer_of, start_child
from tests.bench.load import (
    Arrays,
    RawGrpc,
    RawHttp,
    cores,
    cpu_s,
    cpu_us,
    oip_grpc_request,
    pinned,
    resident_mb,
    viam_request,
)
from tests.bench.models import write_dense_onnx
from tests.bench.servers import Server
from tests.tools.example_models import PICTURE, SIMPLE, Model, write_machine_config

ROUNDS = 15
SMALL, LARGE = 400, 60  # requests a round: short ones, so that contention hits all servers
OIP_INFER = "/inference.GRPCInferenceService/ModelInfer"
VIAM_INFER = "/viam.service.mlmodel.v1.MLModelService/Infer"
MOBILENET = "mobilenet_v2_1.0_224_quant.tflite"
CLIENTS = 16
LOAD_S = 3.0
LOAD_ROUNDS = 5
IDLE_S = 10.0

_SIMPLE_INPUTS: Arrays = {
    f"INPUT{i}": np.arange(16, dtype=np.int32).reshape(1, 16) for i in range(2)
}
_PICTURE_INPUTS: Arrays = {
    "x": np.random.default_rng(0).random((1, 150528), np.float32),
}
#: A picture in, one number out.
_MEAN = Model(
    "mean",
    PICTURE.inputs,
    (("y", "FP32", (1, 1)),),
    (("ReduceMean", ["x"], ["y"], {"axes": [1], "keepdims": 1}),),
)
_MODELS = (SIMPLE, PICTURE, _MEAN)

Ask = Callable[[], object]


def rows(folder: Path) -> Iterator[Row]:
    """Everything; the client on the first core, each server on the last."""
    client, server = cores()[0], cores()[-1]
    with ExitStack() as stack:
        config = write_machine_config(folder / "models", _MODELS)
        enter = stack.enter_context
        ours = enter(servers.runtime(folder / "ours", config, on=[server]))
        triton = enter(servers.real_triton(folder / "triton", _MODELS, on=[server]))
        fastapi = enter(servers.fastapi(folder / "fastapi", _MODELS, on=[server]))
        others = {"uvicorn + FastAPI": fastapi}
        with pinned(client):
            yield from _http(ours, triton, others)
            yield from _grpc(ours, triton)
            yield from _round_trips(ours, triton)
            viam = enter(servers.viam_server(folder / "viam", _MEAN, on=[server]))
            yield from _viam(ours, viam)
    if os.environ.get("NBMODEL_BENCH_MLSERVER"):
        yield from _mlserver(folder, config, client, server)
    yield from _mobilenet(folder)
    yield from _at_rest(folder)


def in_turn_us(asks: Mapping[str, tuple[Server, Ask]], count: int) -> dict[str, Spread]:
    """CPU µs a request of each server, in turn, so that the machine's moods hit all."""
    for _, ask in asks.values():
        for _ in range(count // 10):
            ask()
    taken: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(ROUNDS):
        for name, (server, ask) in asks.items():
            taken[name].append(cpu_us(server.pid, ask, count))
    return {name: Spread(tuple(values), "µs") for name, values in taken.items()}


def _http(ours: Server, triton: Server, others: Mapping[str, Server]) -> Iterator[Row]:
    all_ = {"ours": ours, "Triton": triton, **others}
    kinds: tuple[tuple[str, str, Arrays, int, float], ...] = (
        ("2 × INT32[1,16], HTTP binary", "simple", _SIMPLE_INPUTS, SMALL, 0.45),
        ("602 KB FP32 each way, HTTP binary", "picture", _PICTURE_INPUTS, LARGE, 0.3),
    )
    for what, model, inputs, count, bar in kinds:
        asks = {name: (s, _raw_http(s, model, inputs)) for name, s in all_.items()}
        taken = in_turn_us(asks, count)
        yield from _compare(what, taken, {"Triton": bar})
    asks = {
        name: (s, RawHttp(s.http, "simple", _SIMPLE_INPUTS, token=s.token, binary=False))
        for name, s in {"ours": ours, "Triton": triton}.items()
    }
    yield from _compare("2 × INT32[1,16], HTTP JSON", in_turn_us(asks, SMALL), {})


def _raw_http(server: Server, model: str, inputs: Arrays) -> Ask:
    return RawHttp(server.http, model, inputs, token=server.token)


def _compare(what: str, taken: Mapping[str, Spread], bars: Mapping[str, float]) -> Iterator[Row]:
    """A row for each server that ours is held against."""
    for name, spread in taken.items():
        if name != "ours":
            row = Row(f"CPU of a request: {what}", taken["ours"], name, spread, judged="ratio")
            yield replace(row, bar=bars.get(name))


def _grpc(ours: Server, triton: Server) -> Iterator[Row]:
    kinds: tuple[tuple[str, str, Arrays, int, float], ...] = (
        ("2 × INT32[1,16], gRPC", "simple", _SIMPLE_INPUTS, SMALL, 1.25),
        ("602 KB FP32 each way, gRPC", "picture", _PICTURE_INPUTS, LARGE, 1.0),
    )
    for what, model, inputs, count, bar in kinds:
        request = oip_grpc_request(model, inputs)
        with _grpc_asks({"ours": ours, "Triton": triton}, OIP_INFER, request) as asks:
            yield from _compare(what, in_turn_us(asks, count), {"Triton": bar})


@contextmanager
def _grpc_asks(
    all_: Mapping[str, Server], method: str, request: bytes
) -> Iterator[dict[str, tuple[Server, Ask]]]:
    with ExitStack() as stack:
        asks: dict[str, tuple[Server, Ask]] = {}
        for name, server in all_.items():
            raw = RawGrpc(server.grpc, method, request, token=server.token)
            stack.callback(raw.close)
            asks[name] = (server, raw)
        yield asks


def _viam(ours: Server, viam: Server) -> Iterator[Row]:
    request = viam_request("mean", _PICTURE_INPUTS)
    all_ = {"ours": ours, "Viam's Python server": viam}
    with _grpc_asks(all_, VIAM_INFER, request) as asks:
        taken = in_turn_us(asks, LARGE // 3)
    yield from _compare("602 KB FP32 in, Viam's gRPC", taken, {"Viam's Python server": 0.2})


def _round_trips(ours: Server, triton: Server) -> Iterator[Row]:
    """Median wall time of a call: our client to us, tritonclient to Triton."""
    import tritonclient.http as official

    kinds: tuple[tuple[str, str, Arrays, int], ...] = (
        ("2 × INT32[1,16]", "simple", _SIMPLE_INPUTS, SMALL),
        ("602 KB FP32 each way", "picture", _PICTURE_INPUTS, LARGE),
    )
    theirs = official.InferenceServerClient(triton.http)
    with InferenceClient(f"http://{ours.http}", token=ours.token) as client:
        for what, model, inputs, count in kinds:

            def ask_ours(model: str = model, inputs: Arrays = inputs) -> object:
                return client.infer(model, inputs).outputs

            def ask_theirs(model: str = model, inputs: Arrays = inputs) -> object:
                tensors = []
                for name, array in inputs.items():
                    datatype = {"int32": "INT32", "float32": "FP32"}[array.dtype.name]
                    tensors.append(official.InferInput(name, array.shape, datatype))
                    tensors[-1].set_data_from_numpy(array)
                answer = theirs.infer(model, tensors)
                return [answer.as_numpy(o["name"]) for o in answer.get_response()["outputs"]]

            measured, baseline = _medians_us(count, ask_ours, ask_theirs)
            yield Row(
                f"round trip of our client, median: {what}",
                measured,
                "tritonclient to Triton",
                baseline,
                bar=0.6,
                judged="ratio",
            )
    theirs.close()


def _medians_us(count: int, *asks: Ask) -> tuple[Spread, ...]:
    columns: list[list[float]] = [[] for _ in asks]
    for _ in range(ROUNDS):
        for ask, column in zip(asks, columns, strict=True):
            times = []
            for _ in range(count):
                began = time.perf_counter()
                ask()
                times.append(time.perf_counter() - began)
            column.append(float(np.median(times)) * 1e6)
    return tuple(Spread(tuple(column), "µs") for column in columns)


def _mlserver(folder: Path, config: Path, client: int, server: int) -> Iterator[Row]:
    with (
        servers.runtime(folder / "ours2", config, on=[server]) as ours,
        servers.mlserver(folder / "mlserver", (SIMPLE,), on=[server]) as theirs,
        pinned(client),
    ):
        asks: dict[str, tuple[Server, Ask]] = {}
        for name, s in {"ours": ours, "MLServer": theirs}.items():
            asks[name] = (s, RawHttp(s.http, "simple", _SIMPLE_INPUTS, token=s.token, binary=False))
        yield from _compare("2 × INT32[1,16], HTTP JSON", in_turn_us(asks, SMALL // 2), {})


# All cores


def _mobilenet(folder: Path) -> Iterator[Row]:
    given = os.environ.get("NBMODEL_TEST_MODELS")
    path = (Path(given) if given else ROOT.parent / "shared" / "models") / MOBILENET
    what = "a picture through MobileNetV2 uint8 (LiteRT), 16 clients, all cores"
    if not path.is_file():
        yield Row(what, Spread(()), broken=f"no {path}")
        return
    all_cores = cores()
    attributes = {"model_path": str(path), "num_threads": 1, "instances": len(all_cores)}
    config = _config(folder / "mobilenet.json", "tflite_cpu", attributes)
    picture = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    with servers.runtime(folder / "mobilenet", config, on=all_cores, grpc=False) as server:
        name = _input_name(server)
        ours, raw = [], []
        for _ in range(LOAD_ROUNDS):
            raw.append(1000 / sum(_raw_litert_rates(path)))
            ours.append(1000 / _rate(lambda: _raw_http(server, "model", {name: picture})))
    yield Row(
        what,
        Spread(tuple(ours)),
        "LiteRT in a loop, one process a core",
        Spread(tuple(raw)),
        bar=round(1 / 0.95, 3),
        judged="ratio",
    )


def _config(path: Path, backend: str, attributes: Mapping[str, Any]) -> Path:
    service = {"name": "model", "api": "rdk:service:mlmodel", "model": backend}
    path.write_text(json.dumps({"services": [{**service, "attributes": attributes}]}))
    return path


def _input_name(server: Server) -> str:
    with InferenceClient(f"http://{server.http}", token=server.token) as client:
        return client.model_metadata("model").signature.inputs[0].name


def _raw_litert_rates(path: Path) -> list[float]:
    children: list[subprocess.Popen[str]] = []
    for core in cores():
        with pinned(core):
            children.append(start_child(litert_rate, str(path), LOAD_S))
    return [float(answer_of(child)) for child in children]


def litert_rate(path: str, seconds: float) -> float:
    """Inferences a second of an interpreter with one thread, in a loop."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    picture = np.random.default_rng(0).integers(0, 256, taken["shape"], np.uint8)
    for _ in range(5):
        interpreter.invoke()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        interpreter.set_tensor(taken["index"], picture)
        interpreter.invoke()
        interpreter.get_tensor(given["index"])
        count += 1
    return count / (time.perf_counter() - began)


def _rate(connect: Callable[[], Ask]) -> float:
    """Answers a second of ``CLIENTS`` connections, each of which always waits for one."""
    asks = [connect() for _ in range(CLIENTS)]
    began = time.perf_counter()

    def keep_asking(ask: Ask) -> int:
        count = 0
        while time.perf_counter() - began < LOAD_S:
            ask()
            count += 1
        return count

    with ThreadPoolExecutor(CLIENTS) as pool:
        count = sum(pool.map(keep_asking, asks))
    return count / (time.perf_counter() - began)


def _at_rest(folder: Path) -> Iterator[Row]:
    """One model of 4 MB: memory, idle CPU, time to be ready."""
    path = write_dense_onnx(folder / "dense.onnx", inputs=1000, outputs=1000, seed=0)
    config = _config(folder / "dense.json", "onnx_cpu", {"model_path": str(path), "num_threads": 1})
    inputs = {"x": np.ones((1, 1000), np.float32)}
    starts, memory, idle = [], [], []
    for run in range(3):
        with servers.runtime(folder / f"rest{run}", config, on=cores()) as server:
            starts.append(server.start_s * 1000)
            ask = _raw_http(server, "model", inputs)
            for _ in range(200):
                ask()
            memory.append(resident_mb(server.pid))
            time.sleep(1)
            before, began = cpu_s(server.pid), time.perf_counter()
            time.sleep(IDLE_S)
            idle.append((cpu_s(server.pid) - before) / (time.perf_counter() - began) * 100)
    yield Row("CPU of a runtime that nobody asks", Spread(tuple(idle), "%"), bar=0.5)
    yield Row("resident memory with one model of 4 MB", Spread(tuple(memory), "MB"), bar=120)
    yield Row("start of a runtime until it is ready", Spread(tuple(starts)), bar=1000)
