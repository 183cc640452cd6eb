"""A runtime under mixed load for a while: every answer right, memory flat.

``python -m tests.tools.soak [SECONDS]`` starts a runtime with a token, HTTP and gRPC, and
has clients of every kind at it, those that die and those that are slow among them, while
its config changes and models come and go. It prints what happened, and its exit status is
1 when an answer was wrong, memory grew or the log has an error.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import queue
import random
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends import load_backend
from nbmodel.core.machine import MLMODEL_API
from nbmodel.errors import TargetError
from nbmodel.fleet.known import Known
from nbmodel.fleet.local import OUTPUT_FILE, start_local, stop_local
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.inference import AsyncInferenceClient, InferenceClient
from nbmodel.runtime.server import GRPC, LOG_FILE
from tests.bench.load import cpu_s, resident_mb

SECONDS = 600.0
WARM_UP = 0.25  # of the time, before memory counts
GROWTH = 1.05
ROOT = Path(__file__).resolve().parents[2]
PICTURE_FILE = "mobilenet_v2_1.0_224_quant.tflite"
WIDE = 150_528  # elements of a tensor of a picture's size
TIMEOUT_S = 60
_MOST_TOLD = 20  # failures


@dataclass
class Work:
    """What one sort of client did.

    Attributes:
        name: For the table.
        answers: That came and were right.
        failures: What went wrong.
        step: Does one thing and checks it; says how many answers that were.
        pause_s: Between two steps.
    """

    name: str
    step: Callable[[], int]
    pause_s: float = 0.001
    answers: int = 0
    failures: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        while not stop.wait(self.pause_s):
            try:
                self.answers += self.step()
            except Exception as exc:
                self.failures.append(f"{self.name}: {type(exc).__name__}: {str(exc)[:300]}")
                time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Sample:
    """A runtime's process at one time: seconds since the start, and what it holds."""

    at: float
    resident_mb: float
    files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Attributes:
        work: Of each sort of client.
        samples: Of the process, in order.
        cpu_s: CPU time that the process took.
        errors: Lines of its log.
    """

    work: tuple[Work, ...]
    samples: tuple[Sample, ...]
    cpu_s: float
    errors: tuple[str, ...]

    @property
    def growth(self) -> float:
        """Memory at the end, in parts of that after the warm-up."""
        first, last = self._ends(lambda sample: sample.resident_mb)
        return last / first

    def problems(self) -> list[str]:
        """What is wrong; nothing when all is well."""
        found = [failure for one in self.work for failure in one.failures]
        found += [f"{one.name}: no answers at all" for one in self.work if not one.answers]
        found += [f"in the log: {line}" for line in self.errors]
        if self.growth > GROWTH:
            found.append(f"memory grew to {self.growth:.3f} of what it was")
        for what in ("files", "threads"):
            first, last = self._ends(lambda sample, what=what: getattr(sample, what))
            if last > first + 20:
                found.append(f"{what} grew from {first:.0f} to {last:.0f}")
        return found

    def table(self) -> str:
        """What happened, for people."""
        lines = [f"{'client':<28}{'answers':>10}{'failures':>10}"]
        lines += [f"{w.name:<28}{w.answers:>10,}{len(w.failures):>10,}" for w in self.work]
        total = sum(one.answers for one in self.work)
        lines += [f"{'together':<28}{total:>10,}{sum(len(w.failures) for w in self.work):>10,}", ""]
        step = max(1, len(self.samples) // 10)
        lines += [f"{'seconds':>8}{'memory MB':>12}{'files':>8}{'threads':>9}"]
        lines += [
            f"{one.at:>8.0f}{one.resident_mb:>12.1f}{one.files:>8}{one.threads:>9}"
            for one in self.samples[::step]
        ]
        first, last = self._ends(lambda sample: sample.resident_mb)
        lines += [
            "",
            f"memory after the warm-up {first:.1f} MB, at the end {last:.1f} MB",
            f"growth {(self.growth - 1) * 100:+.1f} %",
            f"CPU of the runtime: {self.cpu_s:.0f} s",
        ]
        return "\n".join(lines)

    def _ends(self, value: Callable[[Sample], float]) -> tuple[float, float]:
        """Medians of the first and the last fifth after the warm-up."""
        counted = [value(one) for one in self.samples[int(len(self.samples) * WARM_UP) :]]
        part = max(1, len(counted) // 5)
        return statistics.median(counted[:part]), statistics.median(counted[-part:])


# -- models -----------------------------------------------------------------------------------


def _onnx(kind: str, constant: float, *, width: int = 4) -> bytes:
    """``y = x <kind> constant``, FP32[-1,width]."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "c"], ["y"])],
        "soak",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor("c", TensorProto.FLOAT, [1], [constant])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def _service(name: str, path: Path, **attributes: Any) -> dict[str, Any]:
    backend = "tflite_cpu" if path.suffix == ".tflite" else "onnx_cpu"
    return {
        "name": name,
        "api": MLMODEL_API,
        "model": backend,
        "attributes": {"model_path": str(path), "num_threads": 1, **attributes},
    }


@dataclass(frozen=True, slots=True)
class Models:
    """Files of the models that are served.

    Attributes:
        folder: Where ``small`` (x + 1), ``wide`` (x × 2), ``one`` (x + 10) and ``two``
            (x + 20) are.
        picture: A model that classifies pictures, when there is one here.
    """

    folder: Path
    picture: Path | None

    @classmethod
    def write(cls, folder: Path) -> Models:
        """Make them, and look for the model of pictures."""
        for name, content in {
            "small": _onnx("Add", 1),
            "wide": _onnx("Mul", 2, width=WIDE),
            "one": _onnx("Add", 10),
            "two": _onnx("Add", 20),
        }.items():
            (folder / f"{name}.onnx").write_bytes(content)
        given = os.environ.get("NBMODEL_TEST_MODELS")
        picture = (Path(given) if given else ROOT.parent / "shared" / "models") / PICTURE_FILE
        return cls(folder, picture if picture.is_file() else None)

    def config(self, *, switched: str = "one") -> dict[str, Any]:
        """A machine config; ``switched`` is the file of the service of that name."""
        small, wide = self.folder / "small.onnx", self.folder / "wide.onnx"
        services = [
            _service("small", small),
            _service("batching", small, max_batch_size=8, max_queue_delay_microseconds=500),
            _service("wide", wide),
            _service("switched", self.folder / f"{switched}.onnx"),
        ]
        if self.picture is not None:
            services.append(_service("picture", self.picture))
        return {"services": services}


# -- clients ----------------------------------------------------------------------------------


def _x(chance: random.Random, *, most: int = 4, width: int = 4) -> NDArray[np.float32]:
    rows = chance.randint(1, most)
    start = chance.randrange(1000)
    return np.arange(start, start + rows * width, dtype=np.float32).reshape(rows, width)


def _must_be(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    if found.shape != wanted.shape or not np.array_equal(found, wanted):
        raise AssertionError(f"wrong answer: {found!r}, not {wanted!r}")


class Clients:
    """Clients of every kind of one runtime.

    Args:
        runtime: It.
        grpc: ``host:port`` of its gRPC front end.
        models: What it serves.
        stack: Ends them.
    """

    def __init__(self, runtime: Known, grpc: str, models: Models, stack: ExitStack) -> None:
        assert runtime.token is not None
        self._runtime = runtime
        self._token = runtime.token
        self._grpc_at = grpc
        self._models = models
        self._stack = stack
        host, port = runtime.url.removeprefix("http://").rsplit(":", 1)
        self._address = host, int(port)
        # Copied for each use: tritonclient writes into what it is given.
        self._bearer = {"authorization": f"Bearer {runtime.token}"}

    def work(self) -> Iterator[Work]:
        """All of them."""
        yield Work("our client", self._ours("small"))
        yield Work("our client, batching", self._ours("batching"))
        yield Work("our client, batching", self._ours("batching"))
        yield Work("our client, 602 KB", self._ours("wide", most=1, width=WIDE), 0.01)
        yield Work("our client, awaiting", self._awaiting())
        yield Work("HTTP with JSON", self._json())
        yield Work("tritonclient HTTP", self._triton_http())
        yield Work("tritonclient gRPC", self._triton_grpc())
        yield Work("tritonclient gRPC, 602 KB", self._triton_grpc("wide", 1, WIDE, 2.0), 0.01)
        yield Work("tritonclient stream", self._stream())
        yield Work("clients that die", self._dying(), 0.005)
        yield Work("slow clients", self._slow(), 0.005)
        yield Work("version switched", self._switched())
        yield Work("config changes", self._switching(), 0.3)
        yield Work("loaded and unloaded", self._coming())
        yield Work("loads and unloads", self._loading(), 0.2)
        yield Work("statistics and metrics", self._asking(), 0.05)
        if self._models.picture is not None:
            yield Work("pictures", self._pictures(self._models.picture), 0.01)

    def _client(self) -> InferenceClient:
        return self._stack.enter_context(
            InferenceClient(self._runtime.url, token=self._token, timeout_s=TIMEOUT_S)
        )

    def _ours(self, model: str, *, most: int = 4, width: int = 4) -> Callable[[], int]:
        client, chance = self._client(), random.Random(model)

        def step() -> int:
            x = _x(chance, most=most, width=width)
            answer = client.infer(model, {"x": x}, id="7")
            _must_be(answer.outputs["y"], x * 2 if model == "wide" else x + 1)
            assert answer.id == "7"
            return 1

        return step

    def _awaiting(self) -> Callable[[], int]:
        loop = asyncio.new_event_loop()
        self._stack.callback(loop.close)
        chance = random.Random("awaiting")

        async def once() -> int:
            async with AsyncInferenceClient(self._runtime.url, token=self._token) as client:
                for _ in range(20):
                    given = [_x(chance) for _ in range(4)]
                    answers = await asyncio.gather(
                        *(client.infer("batching", {"x": x}) for x in given)
                    )
                    for x, answer in zip(given, answers, strict=True):
                        _must_be(answer.outputs["y"], x + 1)
            await asyncio.sleep(0)  # transports end on the next turn
            return 80

        return lambda: loop.run_until_complete(once())

    def _json(self) -> Callable[[], int]:
        chance = random.Random("json")

        def step() -> int:
            connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
            try:
                for _ in range(10):
                    x = _x(chance)
                    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape}
                    body = json.dumps({"inputs": [{**tensor, "data": x.tolist()}]})
                    connection.request("POST", "/v2/models/small/infer", body, self._bearer)
                    answer = connection.getresponse()
                    data = json.loads(answer.read())
                    assert answer.status == 200, data
                    (y,) = data["outputs"]
                    _must_be(np.array(y["data"], np.float32).reshape(y["shape"]), x + 1)
            finally:
                connection.close()
            return 10

        return step

    def _triton_http(self) -> Callable[[], int]:
        from tritonclient import http as triton

        chance = random.Random("triton")

        def step() -> int:
            # gevent's connections belong to the thread that made them.
            with triton.InferenceServerClient("{}:{}".format(*self._address)) as client:
                for _ in range(20):
                    x = _x(chance)
                    given = triton.InferInput("x", list(x.shape), "FP32").set_data_from_numpy(x)
                    answer = client.infer("small", [given], headers=dict(self._bearer))
                    _must_be(answer.as_numpy("y"), x + 1)
            return 20

        return step

    def _triton_grpc(
        self, model: str = "small", most: int = 4, width: int = 4, factor: float = 1.0
    ) -> Callable[[], int]:
        from tritonclient import grpc as triton

        client = self._stack.enter_context(triton.InferenceServerClient(self._grpc_at))
        chance = random.Random("grpc")

        def step() -> int:
            x = _x(chance, most=most, width=width)
            given = triton.InferInput("x", list(x.shape), "FP32").set_data_from_numpy(x)
            answer = client.infer(
                model, [given], headers=dict(self._bearer), client_timeout=TIMEOUT_S, request_id="9"
            )
            _must_be(answer.as_numpy("y"), x * factor if model == "wide" else x + 1)
            assert answer.get_response().id == "9"
            return 1

        return step

    def _stream(self) -> Callable[[], int]:
        from tritonclient import grpc as triton

        chance = random.Random("stream")

        def step() -> int:
            answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
            with triton.InferenceServerClient(self._grpc_at) as client:
                client.start_stream(
                    lambda result, error: answers.put((result, error)), headers=dict(self._bearer)
                )
                given = [_x(chance) for _ in range(20)]
                for number, x in enumerate(given):
                    tensor = triton.InferInput("x", list(x.shape), "FP32").set_data_from_numpy(x)
                    client.async_stream_infer("small", [tensor], request_id=str(number))
                for number, x in enumerate(given):
                    result, error = answers.get(timeout=TIMEOUT_S)
                    if error is not None:
                        raise error
                    assert result.get_response().id == str(number)
                    _must_be(result.as_numpy("y"), x + 1)
                client.stop_stream()
            return 20

        return step

    def _raw(self, x: NDArray[np.float32], model: str) -> bytes:
        head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Authorization: Bearer {self._token}\r\nInference-Header-Content-Length: 0\r\n"
        return f"{head}Content-Length: {x.nbytes}\r\n\r\n".encode() + x.tobytes()

    def _dying(self) -> Callable[[], int]:
        chance = random.Random("dying")
        wide = self._raw(_x(chance, most=1, width=WIDE), "wide")
        small = self._raw(_x(chance, most=1), "small")

        def step() -> int:
            data = chance.choice((wide, small))
            address = self._address
            if chance.random() < 0.2:
                host, port = self._grpc_at.rsplit(":", 1)
                address = host, int(port)
                data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
            with socket.create_connection(address, timeout=TIMEOUT_S) as wire:
                sent = chance.choice((len(data), chance.randrange(len(data))))
                wire.sendall(data[:sent])
                if chance.random() < 0.5:
                    wire.recv(chance.choice((1, 1000))) if sent == len(data) else None
                if chance.random() < 0.5:  # torn down, not closed
                    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return 1

        return step

    def _slow(self) -> Callable[[], int]:
        chance = random.Random("slow")

        def step() -> int:
            is_wide = chance.random() < 0.5
            x = _x(chance, most=1, width=WIDE if is_wide else 4)
            data = self._raw(x, "wide" if is_wide else "small")
            with socket.socket() as wire:
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                wire.settimeout(TIMEOUT_S)
                wire.connect(self._address)
                pieces = 10
                size = len(data) // pieces + 1
                for start in range(0, len(data), size):
                    wire.sendall(data[start : start + size])
                    time.sleep(0.005)
                found = bytearray()
                wanted = x.nbytes
                while b"\r\n\r\n" not in found or len(found) < wanted:
                    part = wire.recv(16384)
                    assert part, f"cut off after {len(found)} bytes"
                    found += part
                    time.sleep(0.001)
                head, _, rest = bytes(found).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), head
                lines = dict(
                    line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:]
                )
                body = bytearray(rest)
                while len(body) < int(lines["content-length"]):
                    part = wire.recv(16384)
                    assert part, "cut off"
                    body += part
                start = int(lines["inference-header-content-length"])
                _must_be(
                    np.frombuffer(body[start:], np.float32).reshape(x.shape),
                    x * 2 if is_wide else x + 1,
                )
            return 1

        return step

    def _switched(self) -> Callable[[], int]:
        client, chance = self._client(), random.Random("switched")

        def step() -> int:
            x = _x(chance)
            y = client.infer("switched", {"x": x}).outputs["y"]
            _must_be(y, x + (10 if y.flat[0] == x.flat[0] + 10 else 20))
            return 1

        return step

    def _switching(self) -> Callable[[], int]:
        remote = self._stack.enter_context(
            RemoteRuntime(self._runtime.url, token=self._token, name=self._runtime.name)
        )
        client, names = self._client(), ["two", "one"]
        x = np.zeros((1, 4), np.float32)

        def step() -> int:
            names.reverse()
            remote.put_config(self._models.config(switched=names[0]), if_match=None)
            wanted = 10 if names[0] == "one" else 20
            deadline = time.monotonic() + TIMEOUT_S
            while client.infer("switched", {"x": x}).outputs["y"][0, 0] != wanted:
                assert time.monotonic() < deadline, "the config is not followed"
                time.sleep(0.01)
            return 1

        return step

    def _coming(self) -> Callable[[], int]:
        client, chance = self._client(), random.Random("coming")

        def step() -> int:
            x = _x(chance)
            try:
                y = client.infer("coming", {"x": x}).outputs["y"]
            except TargetError:
                time.sleep(0.01)
                return 0
            _must_be(y, x + 1)
            return 1

        return step

    def _loading(self) -> Callable[[], int]:
        client = self._client()
        content = (self._models.folder / "small.onnx").read_bytes()
        config = {"backend": "onnxruntime"}

        def step() -> int:
            client.load_model("coming", config=config, files={"1/model.onnx": content})
            assert client.is_model_ready("coming")
            time.sleep(0.2)
            client.unload_model("coming")
            assert not client.is_model_ready("coming")
            return 1

        return step

    def _asking(self) -> Callable[[], int]:
        client = self._client()

        def step() -> int:
            assert client.is_live()
            assert {one.name for one in client.repository_index()} >= {"small", "wide"}
            (told,) = client.statistics("small")
            assert told["inference_count"] >= 0
            connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
            try:
                connection.request("GET", "/metrics", headers=dict(self._bearer))
                answer = connection.getresponse()
                assert b"nv_inference_count" in answer.read()
                assert answer.status == 200
            finally:
                connection.close()
            return 4

        return step

    def _pictures(self, path: Path) -> Callable[[], int]:
        client, chance = self._client(), np.random.default_rng(7)
        attributes = {"model_path": str(path), "num_threads": 1}
        with closing(load_backend("tflite_cpu").load(attributes)) as alone:
            (x,), (y,) = alone.signature.inputs, alone.signature.outputs
            pictures = [chance.integers(0, 256, (1, 224, 224, 3), np.uint8) for _ in range(4)]
            wanted = [np.array(alone.infer({x.name: picture})[y.name]) for picture in pictures]
        turns = random.Random("pictures")

        def step() -> int:
            number = turns.randrange(len(pictures))
            answer = client.infer("picture", {x.name: pictures[number]})
            _must_be(answer.outputs[y.name], wanted[number])
            return 1

        return step


# -- the run ----------------------------------------------------------------------------------


@contextmanager
def _served(folder: Path, models: Models) -> Iterator[tuple[Known, str]]:
    config = folder / "machine.json"
    config.write_text(json.dumps(models.config()))
    home = folder / "home"
    runtime = start_local("soak", home, config=config, grpc="127.0.0.1:0", require_token=True)
    try:
        said = (home / OUTPUT_FILE).read_text().splitlines()
        (grpc,) = (line.removeprefix(GRPC) for line in said if line.startswith(GRPC))
        with InferenceClient(runtime.url, token=runtime.token) as client:
            while not client.is_ready():
                time.sleep(0.02)
        yield runtime, grpc
    finally:
        stop_local(runtime)


def _sample(pid: int, since: float) -> Sample:
    process = Path("/proc") / str(pid)
    return Sample(
        time.monotonic() - since,
        resident_mb(pid),
        len(list((process / "fd").iterdir())),
        len(list((process / "task").iterdir())),
    )


def run(seconds: float, folder: Path) -> Report:
    """Keep a runtime under load.

    Args:
        seconds: For how long.
        folder: For models, the runtime's home and its log.
    """
    models = Models.write(folder)
    stop = threading.Event()
    samples: list[Sample] = []
    with ExitStack() as stack:
        runtime, grpc = stack.enter_context(_served(folder, models))
        assert runtime.pid is not None
        work = tuple(Clients(runtime, grpc, models, stack).work())
        threads = [threading.Thread(target=one.run, args=[stop]) for one in work]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        try:
            while time.monotonic() - began < seconds:
                time.sleep(min(1.0, seconds / 40))
                samples.append(_sample(runtime.pid, began))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        took = cpu_s(runtime.pid)
    log = (folder / "home" / LOG_FILE).read_text(encoding="utf-8").splitlines()
    errors = tuple(line for line in log if " ERROR " in line or line.startswith("Traceback"))
    return Report(work, tuple(samples), took, errors)


def main() -> int:
    """Run as a program; the exit status."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory(prefix="nbmodel-soak-") as folder:
        report = run(seconds, Path(folder))
    print(report.table())
    problems = report.problems()
    for problem in problems[:_MOST_TOLD]:
        print(f"FAILED {problem}")
    if not problems:
        print("all is well")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
