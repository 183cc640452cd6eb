"""What versions of one model take on the disk when they differ little."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from nbmodel.core.signature import Signature
from nbmodel.registry import Registry
from tests.bench.harness import MIB, Row, Spread, time_ms

SIZE = 128 * MIB
VERSIONS = 3
_BLOCK = 512  # bytes that st_blocks counts in, whatever the disk's own are


def rows(folder: Path) -> Iterator[Row]:
    """Three versions, each with a tenth of the former one's bytes different, logged only."""
    first, later = [], []
    _warm_up(folder)
    for words, change in WAYS.items():
        row, times = _three(folder / change.__name__, words, change)
        yield row
        first.append(times[0])
        later.append(times[-1])
    yield Row(
        "log of the third of them, which packs the second",
        Spread(tuple(later)),
        "log of the first",
        Spread(tuple(first)),
    )


def in_one_region(data: bytes, chance: random.Random) -> bytes:
    """A tenth of the bytes different, side by side."""
    length = len(data) // 10
    at = chance.randrange(len(data) - length)
    return data[:at] + chance.randbytes(length) + data[at + length :]


def in_ten_regions(data: bytes, chance: random.Random) -> bytes:
    """A tenth of the bytes different, a hundredth in each tenth of the file."""
    changed = bytearray(data)
    part, length = len(data) // 10, len(data) // 100
    for begin in range(0, part * 10, part):
        at = begin + chance.randrange(part - length)
        changed[at : at + length] = chance.randbytes(length)
    return bytes(changed)


def with_an_insertion(data: bytes, chance: random.Random) -> bytes:
    """A tenth of the bytes different, and more of them than there were: the rest moves."""
    length = len(data) // 10
    at = chance.randrange(len(data) - length)
    return data[:at] + chance.randbytes(length + 12_345) + data[at + length :]


WAYS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "in one region": in_one_region,
    "in ten regions": in_ten_regions,
    "in one region, and 12 kB more": with_an_insertion,
}


def _warm_up(folder: Path) -> None:
    """What is loaded once is part of no time."""
    with Registry(folder / "warm") as registry:
        for number in range(2):
            (folder / "warm.onnx").write_bytes(bytes(2 * MIB + number))
            _log(registry, folder / "warm.onnx")


def _three(
    folder: Path, words: str, change: Callable[[bytes, random.Random], bytes]
) -> tuple[Row, list[float]]:
    folder.mkdir()
    chance = random.Random(words)
    file, root = folder / "model.onnx", folder / "registry"
    data, sums, times = chance.randbytes(SIZE), [], []
    with Registry(root) as registry:
        for number in range(VERSIONS):
            data = change(data, chance) if number else data
            file.write_bytes(data)
            sums.append(hashlib.sha256(data).hexdigest())
            times.append(time_ms(lambda: _log(registry, file)))
        taken, one = _on_disk(root), _on_disk(file)
        wrong = [
            number
            for number, expected in enumerate(sums, 1)
            if _read(registry, number, folder / f"out{number}") != expected
        ]
    row = Row(
        f"three versions of 128 MiB, 10 % different {words}, on disk",
        Spread((taken / 1e6,), "MB"),
        "one file",
        Spread((one / 1e6,), "MB"),
        bar=2.1,
        judged="ratio",
        broken=f"version {wrong[0]} came back as other bytes" if wrong else "",
    )
    return row, times


def _log(registry: Registry, file: Path) -> None:
    registry.add(
        "model",
        {"model.onnx": file},
        framework="onnx",
        model_type="other",
        signature=Signature(),
    )


def _read(registry: Registry, number: int, folder: Path) -> str:
    (path,) = registry.extract(f"model:{number}", folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    return digest


def _on_disk(path: Path) -> int:
    """Bytes of the blocks that a file, or all in a folder, takes."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_blocks * _BLOCK for one in files if one.is_file())
