"""``import`` and ``export`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbmodel.cli import main
from nbmodel.commands.import_ import size_of
from nbmodel.errors import InputError
from tests.tools.model_places import LABELS, tape


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))


def test_a_package_is_imported_and_exported_on_the_command_line(
    tmp_path: Path, linear_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"m.onnx": linear_onnx.read_bytes(), "labels.txt": "\n".join(LABELS).encode()}
    package = tape(tmp_path / "20240228133651" / "fruit.tar.gz", files)
    words = ["import", str(package), "--metric", "acc=0.9", "--tag", "stage=trial", "--json"]
    assert main(words) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["reference"] == "fruit:1"
    assert card["tags"] == {"viam.version": "20240228133651", "stage": "trial"}
    assert card["lineage"]["origin"]["revision"] == "20240228133651"
    out = tmp_path / "out"
    assert main(["export", "fruit:1", str(out), "--to", "triton", "-o", "model=f"]) == 0
    assert "fruit:1 — 5 files written" in capsys.readouterr().out
    assert (out / "f" / "config.pbtxt").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["import", "nothing/here"], 2, "no such file or folder"),
        (["import", "https://x/y", "--sha256", "12"], 2, "not a sha256 digest"),
        (["import", "https://x/y", "--max-size", "much"], 2, "not a size: 'much'"),
        (["import", "https://x/y", "--from", "ulr"], 1, "unknown importer 'ulr'"),
        (["import", "https://x/y", "--name", "Upper"], 2, "not a model name"),
        (["export", "gone", "out", "--to", "viam"], 3, "gone"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ")
    assert said in lines[0]


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("1000", 1000),
        ("50GB", 50 * 10**9),
        ("1.5 GiB", 3 << 29),
        ("512MiB", 1 << 29),
        ("2KB", 2000),
    ],
)
def test_sizes_as_people_write_them(word: str, size: int) -> None:
    assert size_of(word) == size


@pytest.mark.parametrize("word", ["", "GB", "-1", "1e9", "5 apples"])
def test_what_is_no_size_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="not a size"):
        size_of(word)
