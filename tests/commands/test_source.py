"""Where versions come from, as it is typed: seed, data, ``show --source``, ``reproduce``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.cli import main
from nbmodel.client import Client
from nbmodel.commands import Context, verbs
from nbmodel.core.lineage import Lineage
from nbmodel.core.provenance import CodeCell, Provenance, Source
from nbmodel.provenance.fingerprint import fingerprints

ROWS = np.ones((2, 2))
SOURCE = Source((CodeCell(1, "fit()"), CodeCell(4, "log()")), diff="-a = 1\n+a = 2\n")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


@pytest.fixture
def lines(client: Client, linear_onnx: Path) -> None:
    made = Lineage(provenance=Provenance(packed=SOURCE.pack()))
    client.upload(linear_onnx, name="lines", type="regression", lineage=made)
    client.upload(linear_onnx, name="lines", lineage=Lineage())


def test_seed_and_data_of_a_notebook(client: Client, linear_onnx: Path) -> None:
    context = Context(client, evaluate={"rows": ROWS}.__getitem__, in_notebook=True)
    words = ["upload", str(linear_onnx), "--name", "lines", "--type", "regression"]
    given = ["--seed", "-3", "--data", "train=rows", "--data", f"file={linear_onnx}"]
    verbs("%mlmodel").main([*words, *given], obj=context, standalone_mode=False)
    made = client.registry.resolve("lines").manifest.lineage.provenance
    assert made is not None
    assert made.seed == -3
    digest = hashlib.sha256(linear_onnx.read_bytes()).hexdigest()
    assert made.data["file"].digest == f"sha256:{digest}"
    assert made.data["train"] == fingerprints({"x": ROWS})["x"]


@pytest.mark.usefixtures("lines")
def test_the_source_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "lines:1", "--source"]) == 0
    shown = capsys.readouterr().out
    assert "# [1]\n\nfit()\n\n# [4]\n\nlog()" in shown
    assert "2 lines of git diff" in shown
    assert main(["show", "lines:1", "--source", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"reference": "lines:1", **SOURCE.to_json()}


@pytest.mark.usefixtures("lines")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reproduce", "lines:2"], "no cells are kept with lines:2"),
        (["reproduce", "lines:1", "--folder", "/nowhere"], "no folder /nowhere"),
        (["upload", "x.onnx", "--name", "lines", "--data", "train"], "expected NAME=FILE"),
        (["upload", "x.onnx", "--name", "lines", "--data", "=x"], "expected K=V"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    first: Any = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("error: ")
    assert said in first
