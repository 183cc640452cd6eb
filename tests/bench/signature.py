"""Signatures of large files, against loading them as everyone does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from nbmodel.formats import read_model
from tests.bench.harness import MIB, Row, Spread, in_child, peak_mb, time_ms, times_ms
from tests.bench.models import write_onnx


def rows(folder: Path) -> Iterator[Row]:
    """Time and memory on 1 GiB of inline weights in 256 tensors."""
    path = write_onnx(folder / "large.onnx", tensors=256, tensor_bytes=4 * MIB, holes=True)
    what = "signature of a 1 GiB ONNX"
    ours = times_ms(lambda: read_model(path), runs=20)
    theirs = Spread(tuple(time_ms(lambda: onnx.load(path)) for _ in range(3)))
    yield Row(what, ours, "onnx.load", theirs, bar=50)
    rise = Spread((in_child(peak_of_signature, str(path)),), "MB")
    loaded = Spread((in_child(peak_of_load, str(path)),), "MB")
    yield Row("… memory above idle", rise, "onnx.load", loaded, bar=32 * MIB / 1e6)


def peak_of_signature(path: str) -> float:
    """How far memory rises while a signature is read, in MB."""
    return peak_mb(lambda: read_model(Path(path)))


def peak_of_load(path: str) -> float:
    """How far memory rises while the whole file is loaded, in MB."""
    return peak_mb(lambda: onnx.load(path))
