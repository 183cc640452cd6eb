"""Pushing and pulling a file of 1 GiB by the verbs, against sha256sum and curl in turn.

The registry is the CNCF's, on loopback; each push goes to a namespace of its own, where
nothing is. A push and a pull are in a process of their own, whose memory is looked at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nbmodel.client import Client
from tests.bench.harness import MIB, Row, Spread, in_child, peak_mb, time_ms
from tests.bench.models import write_onnx
from tests.tools.docker_registry import PROGRAM, docker_registry

RUNS = 3
AGAIN = 9  # pushes of what is there
NAME = "large"
MEMORY_MB = 64
SPEED = 0.9  # of sha256sum, then curl


def rows(folder: Path) -> Iterator[Row]:
    """Time and memory of a push and a pull, and the time of a push of what is there."""
    if PROGRAM is None or shutil.which("curl") is None:
        missing = "docker-registry and curl are not both installed"
        yield Row("push and pull of 1 GiB", Spread(()), broken=missing)
        return
    path = write_onnx(folder / "large.onnx", tensors=256, tensor_bytes=4 * MIB)
    client = Client(folder / "here")
    client.upload(path, name=NAME, type="other")
    (entry,) = client.registry.resolve(NAME).files
    client.close()
    with docker_registry(folder / "registry") as url:
        yield from _pushes(folder, url, path)
        yield from _pulls(folder, url, entry.digest)
        again = in_child(push_again_ms, str(folder / "here"), f"{url}/run-0")
        yield Row("push of 1 GiB again, unchanged", Spread(tuple(again)), "no blob is sent", bar=50)


def _pushes(folder: Path, url: str, path: Path) -> Iterator[Row]:
    ours, memory, theirs = [], [], []
    for run in range(RUNS):
        taken, peak = in_child(push, str(folder / "here"), f"{url}/run-{run}")
        ours.append(taken)
        memory.append(peak)
        theirs.append(time_ms(partial(_curl_push, url, f"curl-{run}/{NAME}", path)))
    yield from _rows("pushed to", "sha256sum, then curl", ours, theirs, memory)


def _pulls(folder: Path, url: str, blob: str) -> Iterator[Row]:
    ours, memory, theirs = [], [], []
    target = folder / "curl"
    for _ in range(RUNS):
        taken, peak = in_child(pull, str(folder / "there"), f"{url}/run-0")
        ours.append(taken)
        memory.append(peak)
        shutil.rmtree(folder / "there")
        theirs.append(time_ms(partial(_curl_pull, f"{url}/v2/run-0/{NAME}/blobs/{blob}", target)))
        target.unlink()
    yield from _rows("pulled from", "curl, then sha256sum", ours, theirs, memory)


def _rows(
    verb: str, against: str, ours: list[float], theirs: list[float], memory: list[float]
) -> Iterator[Row]:
    yield Row(
        f"1 GiB {verb} a local registry, checked",
        Spread(tuple(ours)),
        against,
        Spread(tuple(theirs)),
        bar=round(1 / SPEED, 3),
        judged="ratio",
    )
    yield Row(
        f"memory of a client while 1 GiB is {verb} a registry, above idle",
        Spread(tuple(memory), "MB"),
        bar=MEMORY_MB,
    )


def push(home: str, remote: str) -> tuple[float, float]:
    """Milliseconds and MB that a push takes; runs in a process of its own."""
    # What it remembers of other repositories would be mounted from there, and not sent.
    shutil.rmtree(Path(home) / "uploads", ignore_errors=True)
    client = Client(home)
    client.list()
    taken: list[float] = []
    peak = peak_mb(lambda: taken.append(time_ms(lambda: client.push(NAME, remote))))
    client.close()
    return taken[0], peak


def pull(home: str, remote: str) -> tuple[float, float]:
    """As ``push``, for a pull into an empty registry."""
    client = Client(home)
    client.list()
    reference = f"{remote.removeprefix('http://')}/{NAME}:1"
    taken: list[float] = []
    peak = peak_mb(lambda: taken.append(time_ms(lambda: client.pull(reference))))
    client.close()
    return taken[0], peak


def push_again_ms(home: str, remote: str) -> list[float]:
    """Milliseconds of pushes of what is there; runs in a process of its own."""
    client = Client(home)
    client.push(NAME, remote)
    taken = [time_ms(lambda: client.push(NAME, remote)) for _ in range(AGAIN)]
    client.close()
    return taken


def _curl_push(url: str, repository: str, path: Path) -> None:
    digest = _sha256sum(path)
    opened = _curl(
        "-D", "-", "-o", "/dev/null", "-X", "POST", f"{url}/v2/{repository}/blobs/uploads/"
    )
    location = re.search(r"(?im)^location: *(\S+)", opened)
    assert location is not None, opened
    _curl(
        "-T", str(path), "-H", "Content-Type: application/octet-stream",
        f"{location[1]}&digest=sha256:{digest}",
    )  # fmt: skip


def _curl_pull(url: str, target: Path) -> None:
    _curl("-o", str(target), url)
    assert url.endswith(_sha256sum(target))


def _curl(*words: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", "--fail", "--noproxy", "*", *words],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def _sha256sum(path: Path) -> str:
    done = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True)
    return done.stdout.split()[0]
