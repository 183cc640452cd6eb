"""The ``nbmodel`` command: output for people and machines, errors and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nbmodel import errors
from nbmodel.cli import EXIT_CODES, exit_code, main


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))


@pytest.fixture
def uploaded(linear_onnx: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A registry with one version, ``lines:1``."""
    for name in ("lines", "taken"):
        assert main(["upload", str(linear_onnx), "--name", name, "--type", "regression"]) == 0
    capsys.readouterr()
    return "lines:1"


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_empty_home_lists_nothing_and_stays_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _json(capsys, "list") == []
    assert not (tmp_path / "home").exists()


def test_upload_prints_the_version_and_lists_it(
    linear_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["upload", str(linear_onnx), "--name", "lines", "--type", "regression"]
    assert main([*words, "-m", "r2=0.9", "--meta", "rows=12", "-t", "site=lab"]) == 0
    assert "lines:1" in capsys.readouterr().out
    version = _json(capsys, "show", "lines:1")
    assert isinstance(version, dict)
    assert version["metrics"] == {"r2": 0.9}
    assert version["metadata"]["rows"] == 12
    assert version["tags"] == {"site": "lab"}
    assert version["framework"] == "onnx"
    assert [tensor["name"] for tensor in version["signature"]["inputs"]] == ["x"]


def test_every_word_of_the_search_is_honoured(
    linear_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for accuracy, tag in (("0.95", "fruit"), ("0.5", "fruit"), ("0.99", "nuts")):
        words = ["upload", str(linear_onnx), "--name", "lines", "--type", "regression"]
        assert main([*words, "-m", f"acc={accuracy}", "-t", tag]) == 0
    capsys.readouterr()
    found = _json(capsys, "list", "-q", "framework=onnx and metrics.acc > 0.9 and tag:fruit")
    assert isinstance(found, list)
    assert [version["number"] for version in found] == [1]


def test_infer_runs_a_reference_right_here(
    uploaded: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[[1, 1]]")
    answer = _json(capsys, "infer", uploaded, str(rows))
    assert isinstance(answer, dict)
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"]) == ("y", [1, 3])
    assert np.ravel(output["data"]).tolist() == [15.0, 27.0, 39.0]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(["show", "absent"], 3, "absent", id="an unknown model"),
        pytest.param(["show", "Bad Name"], 2, "not a model name", id="a name in capitals"),
        pytest.param(["show", "x" * 10_000], 2, "10000 characters", id="a very long name"),
        pytest.param(["show", "lines:99"], 3, "99", id="an unknown version"),
        pytest.param(["alias", "lines:1", "7"], 2, "reads as a version", id="an alias of digits"),
        pytest.param(["upload", "absent.onnx", "--name", "x"], 2, "absent.onnx", id="no file"),
        pytest.param(["rename", "lines", "taken"], 4, "taken", id="a name that exists"),
        pytest.param(["infer", "absent", "x.json"], 3, "absent", id="nothing of that name to run"),
        pytest.param(["status", "absent"], 3, "absent", id="an unknown runtime"),
        pytest.param(["log", "x", "y"], 2, "command line has none", id="no kernel to log from"),
        pytest.param(["deprecate", "lines:1"], 2, "takes a message", id="no message"),
    ],
)
def test_an_error_is_one_line_a_hint_and_a_code(
    uploaded: str, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err
    assert main([*words, "--json"]) == code
    assert message in json.loads(capsys.readouterr().err)["error"]


def test_wrong_words_are_told_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upload", "--nmae", "x"]) == 2
    assert "--name" in capsys.readouterr().err


def test_wrong_words_are_json_when_json_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "lines", "--threads", "0", "--json"]) == 2
    assert "--threads" in json.loads(capsys.readouterr().err)["error"]


@pytest.mark.parametrize("words", [["depoly"], ["runtime", "bogus"], ["show"]], ids=" ".join)
def test_every_wrong_word_is_json_when_json_is_wanted(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--json", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err)["type"] == "InputError"


@pytest.mark.parametrize(
    "words", [[], ["list"], ["deploy"], ["runtime"], ["runtime", "list"]], ids=" ".join
)
def test_help_tells_of_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    assert "  --json " in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["--version", "--json"]], ids=" ".join)
def test_the_version_is_printed_and_in_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("nbmodel ")
    assert main(["--help"]) == 0
    assert "-V, --version" in capsys.readouterr().out


def test_verify_tells_what_is_damaged_and_fails(
    uploaded: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", uploaded]) == 0
    capsys.readouterr()
    version = _json(capsys, "show", uploaded)
    assert isinstance(version, dict)
    (weights,) = version["files"]
    blob = tmp_path / "home" / "registry" / "blobs" / weights["digest"].replace(":", "/")
    blob.chmod(0o644)
    blob.write_bytes(b"x" * weights["size"])
    assert main(["verify"]) == 5
    assert "lines:1" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(uploaded: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m nbmodel list {{}} | head -c 1"
    for words in ("lines", "lines --json", "--help"):
        done = subprocess.run(
            ["bash", "-c", command.format(words)], capture_output=True, text=True, check=False
        )
        assert done.stderr == ""


def test_every_error_class_has_an_exit_code() -> None:
    def classes(kind: type[errors.NbModelError]) -> list[type[errors.NbModelError]]:
        return [kind, *(deep for sub in kind.__subclasses__() for deep in classes(sub))]

    for kind in classes(errors.NbModelError):
        made = kind.__new__(kind)
        assert exit_code(made) in range(1, 128)
    assert set(EXIT_CODES) <= set(classes(errors.NbModelError))


@pytest.mark.parametrize(
    "words",
    [
        ["upload", "locked/in/m.onnx", "--name", "q"],
        ["pull", "q", "locked/in/p"],
        ["export", "q", "locked/in/x", "--to", "triton"],
        ["import", "locked/in/m.tar.gz", "--name", "q"],
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_may_not_be_entered_is_one_line(
    words: list[str], linear_onnx: Path, tmp_path: Path
) -> None:
    powers = "-dac_override,-dac_read_search"  # to enter every folder: root's, and not wanted here
    without = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root enters every folder, and setpriv is not installed")
    assert main(["upload", str(linear_onnx), "--name", "q", "--type", "regression"]) == 0
    (tmp_path / "locked" / "in").mkdir(parents=True)
    (tmp_path / "locked").chmod(0)
    try:
        done = subprocess.run(
            [*(without if os.getuid() == 0 else []), sys.executable, "-m", "nbmodel", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode != 0
