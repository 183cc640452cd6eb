"""Many processes that upload to one model at once, against one process that does it all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from nbmodel.client import Client
from nbmodel.errors import NbModelError
from tests.bench.harness import Row, Spread, answer_of, start_child
from tests.bench.models import write_onnx

PROCESSES = 8
UPLOADS = 50  # by each process


def rows(folder: Path) -> Iterator[Row]:
    """No error, and every number from 1 to 400 given once."""
    alone, _ = _race(folder / "alone", 1, PROCESSES * UPLOADS)
    together, broken = _race(folder / "together", PROCESSES, UPLOADS)
    yield Row(
        f"{PROCESSES} processes × {UPLOADS} uploads to one model",
        Spread((together,)),
        f"one process × {PROCESSES * UPLOADS}",
        Spread((alone,)),
        must=f"0 errors, numbers 1…{PROCESSES * UPLOADS}",
        broken=broken or _missing_numbers(folder / "together"),
    )


def _race(home: Path, processes: int, uploads: int) -> tuple[float, str]:
    """Milliseconds from the common start to the last end, and the errors met."""
    home.mkdir()
    start = time.time() + 2 + processes / 2  # when every process has its imports behind it
    children = [
        start_child(upload_many, str(home), index, uploads, start) for index in range(processes)
    ]
    answers = [answer_of(child) for child in children]
    errors = [error for answer in answers for error in answer["errors"]]
    late = [answer["began"] - start for answer in answers]
    assert max(late) < 0.5, f"a process began {max(late):.1f} s late: it did not take part"
    took = max(answer["ended"] for answer in answers) - start
    return took * 1000, f"{len(errors)} errors, the first: {errors[0]}" if errors else ""


def upload_many(home: str, index: int, uploads: int, start: float) -> dict[str, object]:
    """What one of the processes does."""
    path = Path(home) / f"model{index}.onnx"
    errors = []
    client = Client(home)
    time.sleep(max(start - time.time(), 0))
    began = time.time()
    for upload in range(uploads):
        write_onnx(path, tensors=1, tensor_bytes=4096, seed=index * uploads + upload)
        try:
            client.upload(path, name="shared", type="other", tags={"by": f"{index}-{upload}"})
        except NbModelError as error:
            errors.append(f"{type(error).__name__}: {error}")
    return {"began": began, "ended": time.time(), "errors": errors}


def _missing_numbers(home: Path) -> str:
    client = Client(home)
    numbers = sorted(version.number for version in client.list("shared"))
    client.close()
    expected = list(range(1, PROCESSES * UPLOADS + 1))
    return "" if numbers == expected else f"numbers are not 1…{expected[-1]}: {len(numbers)} found"
