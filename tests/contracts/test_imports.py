"""Importing nbmodel costs nothing that was not asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "numpy", "PIL", "IPython", "ipykernel", "ipywidgets", "anywidget", "matplotlib", "httpx",
    "onnxruntime", "ai_edge_litert", "onnx", "sklearn", "pandas", "starlette", "uvicorn", "sqlite3",
}  # fmt: skip
NOTEBOOK = {"IPython", "ipykernel", "ipywidgets", "anywidget", "jupyter_server", "matplotlib"}


def modules_after(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        pytest.param("import nbmodel", HEAVY | {"click"}, id="the package is empty until used"),
        pytest.param("import nbmodel.cli", HEAVY, id="the command starts without engines"),
        pytest.param(
            "import nbmodel.runtime.edge", NOTEBOOK, id="a device imports nothing of a notebook"
        ),
        pytest.param(
            "import nbmodel.client", NOTEBOOK, id="a script imports nothing of a notebook"
        ),
    ],
)
def test_import_leaves_out(statement: str, forbidden: set[str]) -> None:
    assert modules_after(statement) & forbidden == set()


def test_public_names_are_what_the_package_lists() -> None:
    import nbmodel

    assert list(nbmodel.__all__) == sorted(nbmodel.__all__)
    missing = [name for name in nbmodel.__all__ if not hasattr(nbmodel, name)]
    assert missing == []
    assert set(nbmodel.__all__) <= set(dir(nbmodel))
