"""What a new version costs: requests, memory, bytes on the line, time.

Versions come as a person deploys them, by the verbs, to a runtime in a process of its own.
Bytes are counted on the connection, heads and all, not by those who send them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from nbmodel.client import Client
from nbmodel.core.machine import MachineConfig
from nbmodel.fleet.known import KnownRuntimes
from nbmodel.inference import InferenceClient
from nbmodel.runtime.follow import Follower
from nbmodel.runtime.journal import Journal
from nbmodel.storage import OciLayout
from nbmodel.storage.distribution_client import Distribution
from nbmodel.storage.tags import TagStore
from tests.bench.harness import MIB, Row, Spread, in_child, time_ms
from tests.bench.load import RawGrpc, oip_grpc_request, resident_mb
from tests.bench.models import (
    write_dense_onnx,
    write_layers_onnx,
    write_onnx,
    write_times_onnx,
)
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.relay import Relay

SWAPS = 200
EARLY = 5  # swaps before memory is first looked at
WIDTH = 1000  # of the model that is swapped: 4 MB of weights
ASKING = 3  # threads over HTTP, besides one over gRPC
PAUSE_S = 0.01  # of each, between two requests
CONFIRM_S = 0.2  # so that versions are committed, as they are in longer lives
INPUTS, OUTPUTS = 1024, 3500  # 14.3 MB of weights
DEPLOYS = 7
#: A MobileNet's size in float and in uint8; the head is the last 5 %.
SIZES = {"14 MB": 14_000_000, "3.5 MB": 3_500_000}
HEAD = 0.05
FETCHES = 3
FETCH_S = 120.0
GENTLE = {"nbmodel": {"deployment": {"confirm_s": CONFIRM_S}}}


def rows(folder: Path) -> Iterator[Row]:
    """Everything; each with a runtime and a registry of its own."""
    yield from _swaps(folder / "swaps")
    yield from _sent(folder / "sent")
    yield _first_answer(folder / "first")
    if PROGRAM is None or shutil.which("curl") is None:
        missing = "docker-registry and curl are not both installed"
        yield Row("versions from a registry", Spread(()), broken=missing)
        return
    with docker_registry(folder / "registry") as url:
        yield from _fetched(folder / "fetched", url)
        yield _gigabyte(folder / "gigabyte", url)


# Swaps under load


@dataclass
class Asking:
    """Requests without end, every answer checked.

    Attributes:
        live: The newest version that was known to be live.
        coming: The newest that may be live already.
        right: Answers that were.
        wrong: What went wrong, in words.
    """

    live: int = 1
    coming: int = 1
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, ask: Callable[[np.ndarray], np.ndarray], seed: int) -> None:
        """Ask until told to stop."""
        generator = np.random.default_rng(seed)
        while not self.stop.wait(PAUSE_S):
            x = generator.integers(-50, 50, (1, WIDTH)).astype(np.float32)
            low = self.live
            try:
                y = ask(x)
                high = self.coming
                problem = _problem(x, y, low, high)
            except Exception as exc:
                problem = f"{type(exc).__name__}: {exc}"
            with self._lock:
                if problem is None:
                    self.right += 1
                else:
                    self.wrong.append(problem)


def _problem(x: np.ndarray, y: np.ndarray, low: int, high: int) -> str | None:
    """Why an answer is not that of a version between two; None when it is."""
    for factor in range(low, high + 1):
        if np.array_equal(y, x * factor):
            return None
    at = int(np.argmax(np.abs(x)))
    return f"expected {low} to {high} times the input, found {y[0, at] / x[0, at]}"


def _swaps(folder: Path) -> Iterator[Row]:
    folder.mkdir(parents=True)
    client = Client(folder)
    asking = Asking()
    early: list[float] = []
    with ExitStack() as stack:
        stack.callback(client.close)
        known = _start(client, folder, stack, grpc="127.0.0.1:0")
        _publish(client, folder, 1)
        client.deploy("times:1", on="bench")
        threads = [
            threading.Thread(target=asking.keep, args=(ask, seed))
            for seed, ask in enumerate(_asks(known, stack))
        ]
        stack.callback(_join, asking, threads)
        for thread in threads:
            thread.start()
        for number in range(2, SWAPS + 2):
            _publish(client, folder, number)
            asking.coming = number
            client.deploy(f"times:{number}", on="bench")
            asking.live = number
            if number == EARLY + 1:
                early = _resident(known.pid)
        late = _resident(known.pid)
    lost = len(asking.wrong)
    yield Row(
        f"requests lost or wrong over {SWAPS} swaps, of {asking.right + lost:,}",
        Spread((float(lost),), ""),
        bar=0,
        broken="" if asking.right > SWAPS and not lost else "; ".join(asking.wrong[:3]) or "idle",
    )
    yield Row(
        f"memory of the runtime after {SWAPS} swaps of a 4 MB model",
        Spread(tuple(late), "MB"),
        f"after {EARLY}",
        Spread(tuple(early), "MB"),
        bar=1.10,
        judged="ratio",
    )


@dataclass(frozen=True)
class _Started:
    pid: int
    url: str
    grpc: str


def _start(client: Client, folder: Path, stack: ExitStack, grpc: str | None = None) -> _Started:
    """A runtime called ``bench`` whose versions are committed soon."""
    config = folder / "machine.json"
    config.write_text(json.dumps(GENTLE))
    client.runtimes.start("bench", config=config, grpc=grpc)
    stack.callback(client.runtimes.stop, "bench")
    known = KnownRuntimes(folder).get("bench")
    assert known.pid is not None
    return _Started(known.pid, known.url, known.grpc or "")


def _publish(client: Client, folder: Path, factor: int) -> None:
    path = write_times_onnx(folder / "times.onnx", factor=factor, width=WIDTH)
    sample = {"x": np.arange(WIDTH, dtype=np.float32).reshape(1, WIDTH)}
    client.upload(path, name="times", type="other", sample=sample)


def _asks(runtime: _Started, stack: ExitStack) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    for _ in range(ASKING):
        http = stack.enter_context(InferenceClient(runtime.url))
        yield lambda x, http=http: http.infer("times", {"x": x}).outputs["y"]
    yield lambda x: _ask_grpc(runtime.grpc, x)


def _ask_grpc(address: str, x: np.ndarray) -> np.ndarray:
    """One call on a channel of its own."""
    from tritonclient.grpc import service_pb2

    call = RawGrpc(
        address,
        "/inference.GRPCInferenceService/ModelInfer",
        oip_grpc_request("times", {"x": x}),
    )
    try:
        answer = service_pb2.ModelInferResponse.FromString(call())
    finally:
        call.close()
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(1, WIDTH)


def _join(asking: Asking, threads: Sequence[threading.Thread]) -> None:
    asking.stop.set()
    for thread in threads:
        thread.join()


def _resident(pid: int) -> list[float]:
    """Memory of a runtime some times, after what a swap needs for a moment is given back."""
    time.sleep(2 + CONFIRM_S)
    values = []
    for _ in range(9):
        values.append(resident_mb(pid))
        time.sleep(0.1)
    return sorted(values)[2:-2]


# Bytes


def _sent(folder: Path) -> Iterator[Row]:
    folder.mkdir(parents=True)
    client = Client(folder)
    with ExitStack() as stack:
        stack.callback(client.close)
        runtime = _start(client, folder, stack)
        relay = stack.enter_context(Relay(runtime.url))
        client.runtimes.add("metered", relay.url)
        for words, size in SIZES.items():
            yield from _sent_of(client, relay, folder, words, size)


def _sent_of(client: Client, relay: Relay, folder: Path, words: str, size: int) -> Iterator[Row]:
    name = _name_of(words)
    path = folder / f"{name}.onnx"

    def write(head_seed: int) -> bytes:
        body, head = int(size * (1 - HEAD)), int(size * HEAD)
        write_layers_onnx(path, body=body, head=head, seed=size, head_seed=size + head_seed)
        return path.read_bytes()

    before = write(1)
    client.upload(path, name=name, type="other")
    client.deploy(f"{name}:1", on="metered")
    after = write(2)
    client.upload(path, name=name, type="other")
    sent, said = _bytes_of_deploy(client, relay, f"{name}:2")
    changed = 100 * (1 - _same_start(before, after) / len(after))
    assert changed <= 100 * HEAD + 0.1, changed
    yield Row(
        f"bytes sent for a re-trained head, the last {changed:.1f} % of {words}",
        Spread((100 * sent / len(after),), "%"),
        f"of the file; the deployment says {said:,} of {sent:,} bytes",
        bar=8,
        broken=_dishonest(said, sent),
    )
    client.upload(path, name=name, type="other", metadata={"site": "north"})
    sent, said = _bytes_of_deploy(client, relay, f"{name}:3")
    config = _config_size(client, f"{name}:3")
    yield Row(
        f"weights sent for a version of {words} with other metadata alone",
        Spread((float(said - config) / 1e3,), "kB"),
        f"{sent / 1e3:.0f} kB went over the line in all",
        bar=0,
        broken=_dishonest(said, sent),
    )


def _name_of(words: str) -> str:
    return "of-" + words.lower().replace(" ", "-").replace(".", "-")


def _bytes_of_deploy(client: Client, relay: Relay, reference: str) -> tuple[int, int]:
    """Bytes that went over the line to the runtime, and those that the deployment tells."""
    before = relay.up
    card = client.deploy(reference, on="metered")
    return relay.up - before, card.sent


def _dishonest(said: int, sent: int) -> str:
    """What is wrong when blobs that were told are not those that went; heads are small."""
    return "" if said <= sent <= said + 100_000 else f"said {said:,} bytes, sent {sent:,}"


def _config_size(client: Client, reference: str) -> int:
    manifest = client.registry.resolve(reference).manifest
    return len(manifest.config_bytes())


def _same_start(one: bytes, other: bytes) -> int:
    """How many bytes are equal from the start on."""
    size = min(len(one), len(other))
    differ = np.frombuffer(one[:size], np.uint8) != np.frombuffer(other[:size], np.uint8)
    return int(differ.argmax()) if differ.any() else size


# Time


def _first_answer(folder: Path) -> Row:
    """A service that runs a version gets another one, again and again."""
    folder.mkdir(parents=True)
    client = Client(folder)
    batch = np.ones((1, INPUTS), np.float32)
    taken = []
    with ExitStack() as stack:
        stack.callback(client.close)
        _start(client, folder, stack)
        for run in range(DEPLOYS + 1):
            path = folder / "dense.onnx"
            write_dense_onnx(path, inputs=INPUTS, outputs=OUTPUTS, seed=run)
            client.upload(path, name="dense", type="other", sample={"x": batch})
            reference = f"dense:{run + 1}"
            answer = client.infer(reference, batch)["y"]
            ask = partial(_deploy_and_ask, client, reference, batch, answer)
            taken.append(time_ms(ask))
    return Row(
        "a 14 MB model again: from push to the first answer of the new version, probe included",
        Spread(tuple(taken[1:])),
        bar=1500,
    )


def _deploy_and_ask(client: Client, reference: str, batch: np.ndarray, answer: np.ndarray) -> None:
    client.deploy(reference, on="bench")
    found = client.infer("dense@bench", batch)["y"]
    assert np.allclose(found, answer, rtol=1e-4, atol=1e-4), "the old version answered"


# From a registry


class _Device:
    """What of a device fetches: its storage, its tags, and a follower."""

    def __init__(self, home: Path) -> None:
        self._tags = TagStore(home / "tags")
        self._came = threading.Event()
        self._follower = Follower(
            OciLayout(home / "blobs"),
            self._tags,
            Journal(),
            on_change=lambda _: self._came.set(),
            free_bytes=lambda: shutil.disk_usage(home.parent).free,
        )

    def fetch(self, url: str, name: str) -> str:
        """Have the newest version of a model; the digest of its manifest."""
        package = {"name": name, "package": f"local/{name}", "version": "latest"}
        config = {"packages": [{**package, "type": "ml_model", "registry": url}]}
        self._came.clear()
        self._follower.follow(MachineConfig.from_json(config))
        self._follower.check_now()
        if not self._came.wait(FETCH_S):
            raise RuntimeError(f"nothing came: {self._follower.status(name)}")
        digest = self._tags.get(name, "latest")
        assert digest is not None
        return digest

    def close(self) -> None:
        """Stop following."""
        self._follower.close()


def _fetched(folder: Path, url: str) -> Iterator[Row]:
    """What a device that follows a registry takes from it."""
    folder.mkdir(parents=True)
    client = Client(folder)
    with ExitStack() as stack:
        stack.callback(client.close)
        relay = stack.enter_context(Relay(url))
        remote = stack.enter_context(Distribution(url))
        device = _Device(folder / "device")
        stack.callback(device.close)
        for words, size in SIZES.items():
            name = _name_of(words)
            path = folder / f"{name}.onnx"
            before = relay.down
            for head_seed in (1, 2):
                body, head = int(size * (1 - HEAD)), int(size * HEAD)
                write_layers_onnx(path, body=body, head=head, seed=size, head_seed=size + head_seed)
                client.upload(path, name=name, type="other")
                digest = client.registry.resolve(name).digest
                remote.push(name, client.registry.storage, digest, tags=["latest"])
                before = relay.down
                assert device.fetch(relay.url, name) == digest
            yield Row(
                f"bytes fetched for a re-trained head, the last 5 % of {words}",
                Spread((100 * (relay.down - before) / path.stat().st_size,), "%"),
                "of the file; from a registry that knows nothing of it",
                bar=8,
            )


def _gigabyte(folder: Path, url: str) -> Row:
    """A file of 1 GiB: a device against curl and sha256sum, in turn."""
    folder.mkdir(parents=True)
    path = write_onnx(folder / "large.onnx", tensors=256, tensor_bytes=4 * MIB)
    client = Client(folder)
    client.upload(path, name="large", type="other")
    version = client.registry.resolve("large")
    with Distribution(url) as remote:
        remote.push("large", client.registry.storage, version.digest, tags=["latest"])
    (blob,) = (entry.digest for entry in version.files)
    client.close()
    path.unlink()
    ours, theirs = [], []
    for _ in range(FETCHES):
        ours.append(in_child(fetch_ms, str(folder / "device"), url, "large"))
        shutil.rmtree(folder / "device")
        target = folder / "curl"
        theirs.append(time_ms(partial(_curl, f"{url}/v2/large/blobs/{blob}", target, blob)))
        target.unlink()
    return Row(
        "1 GiB fetched from a local registry, checked and synchronised",
        Spread(tuple(ours)),
        "curl, then sha256sum",
        Spread(tuple(theirs)),
        bar=round(1 / 0.8, 3),
        judged="ratio",
    )


def fetch_ms(home: str, url: str, name: str) -> float:
    """Time that a device takes for a version; runs in a process of its own."""
    device = _Device(Path(home))
    try:
        return time_ms(lambda: device.fetch(url, name))
    finally:
        device.close()


def _curl(url: str, target: Path, digest: str) -> None:
    subprocess.run(["curl", "-sS", "--fail", "-o", str(target), url], check=True)
    found = subprocess.run(["sha256sum", str(target)], check=True, capture_output=True, text=True)
    assert found.stdout.split()[0] == digest.removeprefix("sha256:")
