"""How each place tells which notebook and cell run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbmodel.core.provenance import CodeCell
from nbmodel.provenance import notebook
from nbmodel.provenance.notebook import (
    Place,
    cell_id_of,
    path_of_cell,
    place_here,
    session_path,
)

interactiveshell = pytest.importorskip(
    "IPython.core.interactiveshell", reason="needs nbmodel[notebook]"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/home/ada/train.ipynb", "/home/ada/train.ipynb"),
        ("work/train.ipynb", "work/train.ipynb"),
        ("C:\\work\\train.ipynb", "C:\\work\\train.ipynb"),
        ("/home/ada/34361149-e3d8-4dbc-9302-0e86431b3e8c", None),
        ("/home/ada/console-1-34361149-e3d8-4dbc-9302-0e86431b3e8c", None),
        ("", None),
    ],
)
def test_what_jupyter_server_says_of_a_session(name: str, expected: str | None) -> None:
    assert session_path({"JPY_SESSION_NAME": name}) == expected
    assert session_path({}) is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param({"cellId": "1e9aac6b", "deletedCells": []}, "1e9aac6b", id="JupyterLab"),
        pytest.param({"colab": {"cell_id": "vXy"}}, "vXy", id="Colab"),
        pytest.param({"cellId": 7}, None, id="no text"),
        pytest.param({"cellId": "x" * 5000}, "x" * 1000, id="of any length"),
        pytest.param({"colab": 7}, None, id="nothing that is known"),
        pytest.param({}, None, id="a console"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_the_id_of_a_cell(metadata: Any, expected: str | None) -> None:
    assert cell_id_of(metadata) == expected


@pytest.mark.parametrize(
    ("cell_id", "expected"),
    [
        ("vscode-notebook-cell:/home/ada/a%20b.ipynb#W2sZmlsZQ%3D%3D", "/home/ada/a b.ipynb"),
        ("vscode-notebook-cell://wsl%2Bubuntu/home/ada/a.ipynb#W0", "/home/ada/a.ipynb"),
        ("vscode-notebook-cell:", None),
        ("1e9aac6b-cee9-4786-813b-df30c0debc38", None),
    ],
)
def test_cell_ids_of_vscode_have_the_path(cell_id: str, expected: str | None) -> None:
    assert path_of_cell(cell_id) == expected


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("COLAB_JUPYTER_IP", raising=False)
    shell = interactiveshell.InteractiveShell.instance()
    yield shell
    shell.history_manager.end_session()
    interactiveshell.InteractiveShell.clear_instance()


@pytest.fixture
def kernel(shell: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The header of the request that a kernel of that shell is at."""
    request: dict[str, Any] = {"metadata": {}}
    shell.kernel = SimpleNamespace(get_parent=lambda channel: request)
    monkeypatch.setattr(notebook, "path_of_session", lambda: "/asked/last.ipynb")
    return request


def run(shell: Any, *cells: str) -> Place:
    """Where the last of the cells finds itself."""
    shell.user_ns["place_here"] = place_here
    for cell in cells[:-1]:
        shell.run_cell(cell, store_history=True)
    shell.run_cell(f"{cells[-1]}\nfound = place_here()", store_history=True)
    found = shell.user_ns["found"]
    assert isinstance(found, Place)
    return found


def test_a_shell_knows_its_cells_and_no_notebook(shell: Any) -> None:
    found = run(shell, "a = 1", "%pwd", "1 / 0", "# nbmodel: private\nb = 2", "c = 3")
    assert (found.front_end, found.path, found.cell_id) == ("ipython", None, None)
    assert found.number == 5
    assert found.code == "c = 3\nfound = place_here()"
    assert found.cells == (
        CodeCell(1, "a = 1"),
        CodeCell(2, "%pwd"),
        CodeCell(3, "1 / 0"),
        CodeCell(4, "", is_private=True),
        CodeCell(5, found.code),
    )


def test_a_private_cell_does_not_tell_its_source(shell: Any) -> None:
    found = run(shell, "# nbmodel: private")
    assert (found.number, found.code) == (1, None)


def test_jupyter(shell: Any, kernel: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ada/train.ipynb")
    kernel["metadata"] = {"cellId": "1e9aac6b"}
    found = run(shell, "x = 1")
    assert (found.front_end, found.path) == ("jupyter", "/home/ada/train.ipynb")
    assert found.cell_id == "1e9aac6b"


def test_vscode(shell: Any, kernel: dict[str, Any]) -> None:
    shell.user_ns["__vsc_ipynb_file__"] = "/home/ada/vscode.ipynb"
    kernel["metadata"] = {"cellId": "vscode-notebook-cell:/home/ada/vscode.ipynb#W0"}
    found = run(shell, "x = 1")
    assert (found.front_end, found.path) == ("vscode", "/home/ada/vscode.ipynb")
    del shell.user_ns["__vsc_ipynb_file__"]
    assert run(shell, "x = 1").path == "/home/ada/vscode.ipynb"


def test_colab(shell: Any, kernel: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_JUPYTER_IP", "172.28.0.12")
    found = run(shell, "x = 1")
    assert (found.front_end, found.path) == ("colab", "/asked/last.ipynb")


def test_a_kernel_that_is_told_nothing_asks_the_servers(shell: Any, kernel: dict[str, Any]) -> None:
    assert run(shell, "x = 1").path == "/asked/last.ipynb"


def test_a_kernel_without_a_request_is_no_error(shell: Any, kernel: dict[str, Any]) -> None:
    shell.kernel = SimpleNamespace(get_parent=lambda channel: None)
    assert run(shell, "x = 1").cell_id is None
    shell.kernel = SimpleNamespace()
    assert run(shell, "x = 1").cell_id is None


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param("train.py", True, id="a script"),
        pytest.param("nbmodel", False, id="the command"),
        pytest.param("nbmodel/__main__.py", False, id="the module"),
    ],
)
def test_a_program_is_its_file(
    program: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("__main__.__file__", str(tmp_path / program), raising=False)
    assert place_here() == Place(path=str(tmp_path / program) if expected else None)
    assert os.environ.get("COLAB_JUPYTER_IP") is None
