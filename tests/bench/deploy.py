"""From the cell that deploys to the first answer, against running the file right here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from nbmodel.client import Client
from tests.bench.harness import Row, Spread, time_ms
from tests.bench.models import write_dense_onnx

INPUTS, OUTPUTS = 1024, 3500  # 14.3 MB of weights
RUNS = 7


def rows(folder: Path) -> Iterator[Row]:
    """A runtime in another process on this machine; every run a model it has never seen."""
    client = Client(folder)
    client.runtimes.start("bench")
    try:
        yield _deploy(client, folder)
    finally:
        client.runtimes.stop("bench")
        client.close()


def _deploy(client: Client, folder: Path) -> Row:
    batch = np.ones((1, INPUTS), np.float32)
    ours, floor = [], []
    for run in range(RUNS + 1):
        path = write_dense_onnx(folder / "dense.onnx", inputs=INPUTS, outputs=OUTPUTS, seed=run)
        client.upload(path, name=f"dense{run}", type="other")
        ours.append(time_ms(partial(_deploy_and_ask, client, f"dense{run}", batch)))
        floor.append(time_ms(partial(_load_and_ask, path, batch)))
    return Row(
        "deploy of a 14 MB model to a runtime on loopback, to the first answer",
        Spread(tuple(ours[1:])),
        "onnxruntime in this process",
        Spread(tuple(floor[1:])),
        bar=1000,
    )


def _deploy_and_ask(client: Client, name: str, batch: np.ndarray) -> None:
    client.deploy(name, on="bench")
    result = client.infer(f"{name}@bench", batch)
    assert result["y"].shape == (1, OUTPUTS)


def _load_and_ask(path: Path, batch: np.ndarray) -> None:
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": batch})
