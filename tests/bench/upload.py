"""Uploads, against what no upload can do without: hash the bytes and copy them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nbmodel.client import Client
from tests.bench.harness import (
    GIB,
    MIB,
    Row,
    Spread,
    in_child,
    in_turn_ms,
    peak_mb,
    time_ms,
    times_ms,
)
from tests.bench.models import write_onnx

LARGE_RUNS = 5


def rows(folder: Path) -> Iterator[Row]:
    """A small file, a large one, and both again unchanged."""
    client = Client(folder)
    yield from _small(client, folder)
    yield from _large(client, folder)
    client.close()


def _small(client: Client, folder: Path) -> Iterator[Row]:
    runs = 20
    files = [
        write_onnx(folder / f"small{seed}.onnx", tensors=1, tensor_bytes=1_000_000, seed=seed)
        for seed in range(runs + 1)
    ]
    ours, theirs = iter(files), iter(files)
    upload, floor = in_turn_ms(
        lambda: client.upload(next(ours), name="small", type="other"),
        lambda: (_hash(path := next(theirs)), _copy(path, folder / "copy", sync=True)),
        runs=runs,
    )
    yield Row("upload of 1 MB", upload, "sha256 + copy + fsync", floor, bar=20)
    again, pass_alone = in_turn_ms(
        lambda: client.upload(files[-1], name="small", type="other"),
        lambda: _hash(files[-1]),
        runs=runs,
    )
    yield Row("the same 1 MB again", again, "sha256 alone", pass_alone, bar=15)


def _large(client: Client, folder: Path) -> Iterator[Row]:
    path = write_onnx(folder / "large.onnx", tensors=256, tensor_bytes=4 * MIB)
    copy = folder / "copy"
    taken: dict[str, list[float]] = {"upload": [], "hash": [], "copy": [], "synced": []}
    for run in range(LARGE_RUNS):
        _change(path, run)
        taken["hash"].append(time_ms(lambda: _hash(path)))
        taken["copy"].append(time_ms(lambda: _copy(path, copy, sync=False)))
        copy.unlink()
        taken["synced"].append(time_ms(lambda: _copy(path, copy, sync=True)))
        copy.unlink()
        upload = time_ms(partial(client.upload, path, name=f"large{run}", type="other"))
        taken["upload"].append(upload)
        if run < LARGE_RUNS - 1:
            client.registry.delete(f"large{run}", force=True)
            client.registry.gc(grace_s=0)
    upload = Spread(tuple(taken["upload"]))
    for kind, words in (
        ("synced", "sha256 + copy with fsync, as the upload does"),
        ("copy", "sha256 + copy without fsync"),
    ):
        floor = Spread(tuple(map(sum, zip(taken["hash"], taken[kind], strict=True))))
        yield Row("upload of 1 GiB, cache warm", upload, words, floor, bar=1.3, judged="ratio")

    again = times_ms(lambda: client.upload(path, name="large", type="other"), runs=20)
    pass_alone = Spread(tuple(taken["hash"]))
    yield Row("the same 1 GiB again", again, "sha256 alone", pass_alone, bar=15)

    _change(path, LARGE_RUNS)
    rise = in_child(peak_of_upload, str(folder), str(path))
    yield Row("… memory above idle", Spread((rise,), "MB"), "the bar alone", bar=64 * MIB / 1e6)


def peak_of_upload(home: str, path: str) -> float:
    """How far memory rises in an upload, in MB; runs in a process of its own."""
    client = Client(home)
    small = write_onnx(Path(home) / "first.onnx", tensors=1, tensor_bytes=4096)
    client.upload(small, name="first", type="other")  # what is loaded once is no rise
    return peak_mb(lambda: client.upload(path, name="peak", type="other"))


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def _copy(path: Path, target: Path, *, sync: bool) -> None:
    shutil.copyfile(path, target)
    if sync:
        with target.open("rb+") as file:
            os.fsync(file.fileno())


def _change(path: Path, run: int) -> None:
    """Other weights of the same size, on disk already so that no flush is timed later."""
    assert path.stat().st_size > GIB
    with path.open("rb+") as file:
        file.seek(GIB // 2)
        file.write(run.to_bytes(8, "little"))
        os.fsync(file.fileno())
