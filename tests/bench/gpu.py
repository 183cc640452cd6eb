"""A GPU against the CPU, and a service on it against its engine alone.

Where there is no GPU that ONNX Runtime can use, one row says why, and nothing is measured.
``python -m tests.bench gpu``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nbmodel.backends import Known, load_backend
from nbmodel.backends.cuda import read_driver, read_tensorrt
from nbmodel.backends.onnx_lacks import lack, look
from nbmodel.backends.onnx_providers import CPU, CUDA, ENGINE_NAMES, TENSORRT
from nbmodel.backends.onnx_session import import_engine
from nbmodel.protocol.inference import InferRequest
from nbmodel.runtime.services import Source, load_service
from tests.bench.harness import Row, Spread, in_turn_ms, time_ms
from tests.bench.networks import SIZE, write_mobilenet, write_resnet50

NETWORKS: dict[str, Callable[[Path], Path]] = {
    "MobileNetV2-size": write_mobilenet,
    "ResNet-50-size": write_resnet50,
}
RUNS = 50
CPU_RUNS = 10
CLIENTS = 4
ROUND_S = 3.0  # that clients ask
ROUNDS = 5
#: What a service may take of its engine's throughput.
BAR = 1.05


def rows(folder: Path) -> Iterator[Row]:
    """One row of each provider and network; one that says why there is none."""
    onnxruntime = import_engine("onnx_gpu")
    here = look(onnxruntime, [TENSORRT, CUDA])
    for provider in (CUDA, TENSORRT):
        why = lack(provider, here)
        if why is not None:
            yield Row(f"{provider}: no GPU here ({why.reason})", Spread(()))
            continue
        yield from measure(folder, provider)


def measure(folder: Path, provider: str) -> Iterator[Row]:
    """The rows of one provider.

    Args:
        folder: For models and engines.
        provider: ``cuda``, ``tensorrt``; or ``cpu``, to see that this measures.
    """
    for name, write in NETWORKS.items():
        yield from measure_network(folder, provider, name, write(folder / f"{name}.onnx"))


def measure_network(folder: Path, provider: str, name: str, path: Path) -> Iterator[Row]:
    """The rows of one provider and one network."""
    what = f"{name}, {device_words(provider)}"
    image = np.random.default_rng(0).random((1, 3, SIZE, SIZE), np.float32)
    known = Known(engines=folder / "engines")
    attributes = {"model_path": str(path), "providers": [provider]}
    load_ms = time_ms(lambda: load_backend("onnx_gpu").load(attributes, known).close())
    yield Row(f"{what}: loaded, engines built", Spread((load_ms,)))
    session = load_backend("onnx_gpu").load(attributes, known)
    cpu = load_backend("onnx_cpu").load({"model_path": str(path)})
    (gpu_ms,) = in_turn_ms(lambda: session.infer({"image": image}), runs=RUNS)
    (cpu_ms,) = in_turn_ms(lambda: cpu.infer({"image": image}), runs=CPU_RUNS)
    yield Row(f"{what}: one picture", gpu_ms, "onnx_cpu, one thread", cpu_ms)
    engine = session._engine
    session_ms, engine_ms, bound_ms = in_turn_ms(
        lambda: session.infer({"image": image}),
        lambda: engine.run(None, {"image": image}),
        bound_run(engine, provider, image),
        runs=RUNS,
    )
    yield Row(f"{what}: session", session_ms, "its engine alone", engine_ms)
    yield Row(f"{what}: session", session_ms, "its engine, tensors on the GPU", bound_ms)
    yield throughput_row(what, folder, attributes, engine, image)
    session.close()
    cpu.close()


def throughput_row(
    what: str, folder: Path, attributes: dict[str, Any], engine: Any, image: Any
) -> Row:
    """Time a picture of a service that several clients ask, and of its engine alone."""
    live = load_service(Source("onnx_gpu", attributes, "key", engines=folder / "engines"))
    request = InferRequest("it", {"image": image})
    both: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for taken, ask in zip(
            both,
            (lambda: live.infer(request), lambda: engine.run(None, {"image": image})),
            strict=True,
        ):
            taken.append(1000 / pictures_per_second(ask))
    live.retire()
    service, alone = (Spread(tuple(taken)) for taken in both)
    return Row(
        f"{what}: service, {CLIENTS} clients, time a picture",
        service,
        f"its engine alone, {CLIENTS} threads",
        alone,
        bar=BAR,
        judged="ratio",
    )


def pictures_per_second(ask: Callable[[], object]) -> float:
    """How many answers several clients get together."""
    over, counts = time.monotonic() + ROUND_S, [0] * CLIENTS

    def work(client: int) -> None:
        while time.monotonic() < over:
            ask()
            counts[client] += 1

    threads = [threading.Thread(target=work, args=(client,)) for client in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def bound_run(engine: Any, provider: str, image: Any) -> Callable[[], object]:
    """A run of the engine whose tensors are on the GPU already, and stay there."""
    from onnxruntime import OrtValue

    device = "cpu" if provider == CPU else "cuda"
    binding = engine.io_binding()
    binding.bind_ortvalue_input("image", OrtValue.ortvalue_from_numpy(image, device, 0))
    binding.bind_output("scores", device)
    return lambda: engine.run_with_iobinding(binding)


def device_words(provider: str) -> str:
    """The provider, its device and versions."""
    import onnxruntime

    parts = [ENGINE_NAMES[provider].removesuffix("ExecutionProvider")]
    driver = None if provider == CPU else read_driver()
    if driver is not None and driver.gpus:
        major, minor = driver.cuda
        parts.append(f"{driver.gpus[0].name}, driver for CUDA {major}.{minor}")
    if provider == TENSORRT:
        parts.append(f"TensorRT {read_tensorrt()}")
    return ", ".join([*parts, f"ONNX Runtime {onnxruntime.__version__}"])
