"""``%mlmodel`` in a real shell: objects in, objects out, short errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.version import Version
from nbmodel.errors import InputError, ModelNotFoundError

interactiveshell = pytest.importorskip(
    "IPython.core.interactiveshell", reason="needs nbmodel[notebook]"
)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shell = interactiveshell.InteractiveShell.instance()
    shell.run_line_magic("load_ext", "nbmodel")
    yield shell
    shell.run_line_magic("unload_ext", "nbmodel")
    shell.history_manager.end_session()
    interactiveshell.InteractiveShell.clear_instance()


def _run(shell: Any, cell: str) -> Any:
    done = shell.run_cell(cell, store_history=True)
    done.raise_error()
    return done.result


def test_upload_gives_the_version_as_an_object(shell: Any, linear_onnx: Path) -> None:
    shell.user_ns["path"] = linear_onnx
    version = _run(shell, "v = %mlmodel upload {path} --name lines --type regression\nv")
    assert isinstance(version, Version)
    assert version.reference == "lines:1"
    assert "text/html" in version._repr_mimebundle_()


def test_log_takes_an_object_and_an_expression_by_name(shell: Any) -> None:
    pytest.importorskip("skl2onnx", reason="needs nbmodel[convert]")
    _run(
        shell,
        "from sklearn.datasets import load_iris\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "X, y = load_iris(return_X_y=True)\n"
        "flowers = LogisticRegression(max_iter=500).fit(X, y)\n"
        "accuracy = flowers.score(X, y)",
    )
    version = _run(
        shell,
        "v = %mlmodel log iris flowers --sample X[:8] --metric accuracy={accuracy:.3f}\nv",
    )
    assert version.framework == "onnx"
    assert version.model_type == "classification"
    assert version.metrics["accuracy"] == round(shell.user_ns["accuracy"], 3)
    assert version.manifest.conversion.max_abs < 1e-4
    assert "%mlmodel log iris flowers" in version.manifest.lineage.code
    assert version.manifest.lineage.cell == 2
    answer = _run(shell, "r = %mlmodel infer iris X[:3]\nr")
    assert (
        answer["label"].tolist()
        == shell.user_ns["flowers"].predict(shell.user_ns["X"][:3]).tolist()
    )


def test_the_cell_magic_runs_the_cell_first(shell: Any, linear_onnx: Path) -> None:
    _run(
        shell,
        f"%%mlmodel upload copy.onnx --name lines --type regression\n"
        f"import shutil\nshutil.copy({str(linear_onnx)!r}, 'copy.onnx')",
    )
    assert _run(shell, "m = %mlmodel show lines:1\nm").number == 1


def test_variables_of_a_function_are_seen(shell: Any, linear_onnx: Path) -> None:
    shell.user_ns["path"] = str(linear_onnx)
    _run(
        shell,
        "def f():\n"
        "    local = path\n"
        "    v = %mlmodel upload {local} --name lines --type regression\n"
        "    return v",
    )
    assert _run(shell, "f().number") == 1


def test_a_semicolon_silences(shell: Any) -> None:
    assert _run(shell, "%mlmodel list;") is None
    assert _run(shell, "%mlmodel list") is not None


def test_an_error_is_one_line_and_a_hint_and_tb_has_the_rest(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    done = shell.run_cell("%mlmodel show absent")
    assert isinstance(done.error_in_exec, ModelNotFoundError)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) <= 2
    assert lines[0].startswith("ModelNotFoundError: ")
    shell.run_line_magic("tb", "")
    assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        pytest.param("depoly digits", "unknown verb 'depoly'", "", id="a misspelt verb"),
        pytest.param("pin", "Missing argument 'REF'", "%mlmodel pin", id="a missing word"),
        pytest.param("log m nothing", "neither a file nor a value", "", id="no such variable"),
        pytest.param("log m [][1]", "IndexError: list index", "", id="the error of an expression"),
        pytest.param("runtime start", "hold up the kernel", "runtime start edge", id="foreground"),
    ],
)
def test_wrong_words_are_input_errors(shell: Any, line: str, message: str, hint: str) -> None:
    done = shell.run_cell(f"%mlmodel {line}")
    assert isinstance(done.error_in_exec, InputError)
    assert message in str(done.error_in_exec)
    assert hint in (done.error_in_exec.hint or "")


def test_help_is_printed_and_gives_nothing(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(shell, "%mlmodel deploy --help") is None
    assert "Usage: %mlmodel deploy" in capsys.readouterr().out
    assert _run(shell, "%mlmodel") is None
    assert "rollback" in capsys.readouterr().out


def test_home_is_a_setting(shell: Any, tmp_path: Path, linear_onnx: Path) -> None:
    other = tmp_path / "other"
    shell.run_line_magic("config", f"MLModel.home = {str(other)!r}")
    shell.user_ns["path"] = linear_onnx
    _run(shell, "%mlmodel upload {path} --name lines --type regression")
    assert (other / "registry").is_dir()
    assert not (tmp_path / "home").exists()
