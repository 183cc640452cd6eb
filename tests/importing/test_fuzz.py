"""Whatever a description says, reading it ends, and in a model or one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nbmodel.errors import NbModelError
from nbmodel.importing import Import
from nbmodel.importing.table import importer_named
from tests.tools.model_places import CONFIG, MLMODEL, SERVING, tape

CLEARML = json.dumps(
    {
        "id": "5f3e",
        "name": "toy",
        "framework": "ONNX",
        "uri": "s3://b/toy.onnx",
        "labels": {"a": 0, "b": 1},
        "tags": ["x"],
        "design": {"y": [1]},
        "metadata": {"k": {"type": "list", "value": "[1]"}},
    }
).encode()
VIAM = json.dumps(
    {
        "package": "o/toy",
        "version": "2024-02-28T13-36-51",
        "name": "toy",
        "type": "ml_model",
        "files": [{"name": "toy.onnx", "size": 5}],
        "metadata": {"model_type": "other"},
        "nbmodel": {"signature": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}},
    }
).encode()


def _viam(at: Path) -> Path:
    return tape(at / "toy.tar.gz", {"toy.onnx": b"hello"})


def _triton(at: Path) -> Path:
    (at / "1").mkdir()
    (at / "1" / "model.onnx").write_bytes(b"hello")
    return at


#: Importer → its description, the file that it is in, and what puts the rest there.
DESCRIPTIONS: Mapping[str, tuple[bytes, str, Callable[[Path], Path]]] = {
    "hs": (SERVING.replace(b"requirements.txt", b"toy.onnx"), "serving.yaml", lambda at: at),
    "mlflow-model": (MLMODEL.replace(b"model.onnx", b"toy.onnx"), "MLmodel", lambda at: at),
    "clearml": (CLEARML, "model.json", lambda at: at),
    "viam": (VIAM, "toy.json", _viam),
    "triton": (CONFIG, "config.pbtxt", _triton),
}
#: What replaces a piece of a description.
ODD = (b"", b"null", b"[]", b"{}", b"-1", b"1e999", b".nan", b'"', b"\x00", b"\xff", b": ", b"\n- ",
       b"../..", b"&a ", b"*a", b"!!binary x", b"2026-01-01", b"[" * 50, b"99999999999999999999")  # fmt: skip


@pytest.mark.parametrize("importer", DESCRIPTIONS)
def test_a_changed_description_is_a_model_or_one_line(
    importer: str, tmp_path: Path, job: Import
) -> None:
    description, name, put = DESCRIPTIONS[importer]
    place = tmp_path / "place"
    place.mkdir()
    (place / "toy.onnx").write_bytes(b"hello")
    (place / "model.onnx").write_bytes(b"hello")
    path = put(place)
    chance = random.Random(importer)
    read: list[int] = []
    refusals: list[str] = []
    for attempt in range(150):
        changed = description
        for _ in range(chance.randint(0, 2) if attempt else 0):
            at = chance.randrange(len(changed))
            changed = changed[:at] + chance.choice(ODD) + changed[at + chance.randint(0, 6) :]
        (place / name).write_bytes(changed)
        folder = tmp_path / f"job-{attempt}"
        folder.mkdir()
        try:
            importer_named(importer).fetch(str(path), replace(job, folder=folder))
            read.append(attempt)
        except NbModelError as exc:
            refusals.append(str(exc))
    assert read[0] == 0  # the description itself
    assert [refusal for refusal in refusals if "\n" in refusal] == []
