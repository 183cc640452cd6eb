"""What a version tells of the code that makes it, and how little of it one may ask for."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel import provenance
from nbmodel.client import Client
from nbmodel.core.lineage import Lineage
from nbmodel.core.provenance import CodeCell, Provenance
from nbmodel.errors import ConfigError, InputError, ModelNotFoundError
from nbmodel.provenance import Look
from nbmodel.provenance.notebook import Place

PLACE = Place(
    path="/home/ada/train.ipynb",
    front_end="jupyter",
    cell_id="1e9aac6b",
    number=2,
    code="log()",
    cells=(CodeCell(1, "fit()"), CodeCell(2, "log()")),
)


@pytest.fixture(autouse=True)
def _in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBMODEL_RECORD", raising=False)
    monkeypatch.setattr(provenance, "place_here", lambda: PLACE)
    monkeypatch.setattr(provenance, "_tally", provenance._Tally())
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    (tmp_path / "train.py").write_text("a = 1\n")
    for words in (
        ("init", "--quiet"),
        ("add", "train.py"),
        ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message=x"),
    ):
        subprocess.run(("git", *words), cwd=tmp_path, check=True)
    (tmp_path / "train.py").write_text("a = 2\n")
    return tmp_path


def made(lineage: Lineage) -> Provenance:
    assert lineage.provenance is not None
    return lineage.provenance


def test_everything(repository: Path) -> None:
    lineage = Look("digits", seed=7, data={"x": np.ones(3)}).lineage(["sha256:" + "a" * 64])
    assert lineage.parents == ("sha256:" + "a" * 64,)
    assert (lineage.notebook, lineage.cell, lineage.code) == ("train.ipynb", 2, "log()")
    assert (len(lineage.git_commit or ""), lineage.git_dirty) == (40, True)
    assert lineage.packages["pytest"] == pytest.__version__
    found = made(lineage)
    assert (found.path, found.front_end) == ("/home/ada/train.ipynb", "jupyter")
    assert (found.cell_id, found.seed, found.data["x"].what) == ("1e9aac6b", 7, "float64 [3]")
    assert found.machine.cores > 0
    assert found.source().cells == PLACE.cells
    assert "+a = 2" in found.source().diff


@pytest.mark.parametrize("by", ["argument", "environment", "project file"])
def test_facts_alone(repository: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "environment":
        monkeypatch.setenv("NBMODEL_RECORD", "facts")
    elif by == "project file":
        (repository / "pyproject.toml").write_text('[tool.nbmodel]\nrecord = "facts"\n')
    lineage = Look("digits", record="facts" if by == "argument" else None).lineage()
    assert (lineage.notebook, lineage.cell, lineage.code) == ("train.ipynb", 2, None)
    assert (len(lineage.git_commit or ""), lineage.git_dirty) == (40, True)
    assert made(lineage).packed is None
    assert made(lineage).machine.cores > 0


def test_nothing(repository: Path) -> None:
    parents = ("sha256:" + "a" * 64,)
    assert Look("digits", record="nothing").lineage(parents) == Lineage(parents=parents)
    told = Look("digits", record="nothing", seed=7).lineage()  # what is given is wanted
    assert told == Lineage(provenance=Provenance(seed=7))


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected all, facts, nothing, found 'none'"):
        Look("digits", record="none")


def test_data_without_a_fingerprint_are_refused() -> None:
    with pytest.raises(InputError, match="data 'x'"):
        Look("digits", data={"x": object()})


def test_a_seed_is_a_whole_number_of_any_kind() -> None:
    found = made(Look("digits", seed=np.int64(7)).lineage())
    assert (found.seed, type(found.seed)) == (7, int)
    with pytest.raises(InputError, match="seed: expected a whole number, found 'x'"):
        Look("digits", seed="x")  # type: ignore[arg-type]


def test_versions_of_a_cell_are_counted_by_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def nth(name: str) -> int:
        return made(Look(name).lineage()).nth

    assert [nth("digits"), nth("digits"), nth("fruit"), nth("digits")] == [1, 2, 1, 3]
    monkeypatch.setattr(provenance, "place_here", lambda: Place(number=3))
    assert [nth("digits"), nth("digits")] == [1, 2]


@pytest.mark.parametrize(
    "part", ["place_here", "read_git", "imported_packages", "machine_here", "getpass.getuser"]
)
def test_what_cannot_be_found_is_left_out(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError(part)

    monkeypatch.setattr(f"nbmodel.provenance.{part}", broken)
    lineage = Look("digits").lineage()
    assert made(lineage).nth == 1
    assert (lineage.user is None) is (part == "getpass.getuser")
    assert (lineage.cell is None) is (part == "place_here")
    assert (lineage.packages == {}) is (part == "imported_packages")


def test_a_folder_that_is_gone_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert Look("digits").lineage().cell == 2


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


def test_a_version_keeps_it_and_shows_it(client: Client, linear_onnx: Path) -> None:
    version = client.upload(
        linear_onnx, name="lines", type="regression", seed=7, data={"weights": linear_onnx}
    )
    found = made(client.registry.resolve("lines:1").manifest.lineage)
    assert found.source().cells == PLACE.cells
    assert found.data["weights"].digest == version.files[0].digest
    for shown in ("seed", "linear.onnx, ", "made on", "/home/ada/train.ipynb"):
        assert shown in version.text()
    source = client.cells("lines:1")
    assert "# [1]\n\nfit()\n\n# [2]\n\nlog()" in source.text()
    assert source.to_json()["cells"][1] == {"number": 2, "code": "log()"}


def test_it_goes_where_the_version_goes(client: Client, linear_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="needs nbmodel[object-store]")
    client.upload(linear_onnx, name="lines", type="regression", seed=7)
    (tmp_path / "remote").mkdir()
    place = (tmp_path / "remote").as_uri()
    client.push("lines:1", place)
    other = Client(tmp_path / "other")
    try:
        other.pull(f"{place}/lines:1")
        assert other.cells("lines:1").source.cells == PLACE.cells
        assert made(other.registry.resolve("lines:1").manifest.lineage).seed == 7
    finally:
        other.close()


def test_a_client_that_records_nothing(client: Client, linear_onnx: Path) -> None:
    client.record = "nothing"
    client.upload(linear_onnx, name="lines", type="regression")
    assert client.registry.resolve("lines:1").manifest.lineage == Lineage()
    assert "no cells are kept with it" in client.cells("lines:1").text()
    with pytest.raises(InputError, match="no cells are kept with lines:1"):
        client.reproduce("lines:1")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        pytest.param({"reference": "fruit:1"}, ModelNotFoundError, "fruit", id="no such model"),
        pytest.param({"timeout": 0}, InputError, "more than 0", id="no time"),
        pytest.param({"folder": "/nowhere"}, InputError, "no folder /nowhere", id="no folder"),
    ],
)
def test_what_cannot_be_reproduced_is_told_at_once(
    client: Client, linear_onnx: Path, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    client.upload(linear_onnx, name="lines", type="regression")
    with pytest.raises(error, match=message):
        client.reproduce(**{"reference": "lines:1", **given})
