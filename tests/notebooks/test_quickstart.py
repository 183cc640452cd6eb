"""The quickstart: it runs from top to bottom, and as it is kept it reads on its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="pip install nbformat")


def _outputs(notebook: Any, step: str) -> str:
    """The text of what a step showed."""
    for cell in notebook.cells:
        if f"step:{step}" in cell.metadata.get("tags", ()):
            shown = [
                out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs
            ]
            return "\n".join(shown)
    raise AssertionError(f"no step {step!r}")


@pytest.fixture
def stored(project_root: Path) -> Any:
    """The notebook as the project keeps it."""
    return nbformat.read(project_root / "notebooks" / "01_quickstart.ipynb", as_version=4)


@pytest.mark.slow
def test_it_runs_from_training_to_rollback(project_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs nbmodel[convert]")
    page = tmp_path / "quickstart.html"
    tool = project_root / "tests" / "tools" / "run_notebook.py"
    notebook = project_root / "notebooks" / "01_quickstart.ipynb"
    done = subprocess.run(
        [sys.executable, str(tool), str(notebook), str(page)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    executed = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(executed)
    assert "digits:1" in _outputs(executed, "log the first version")
    assert "digits:2" in _outputs(executed, "the runtime followed")
    assert "digits:1" in _outputs(executed, "it stays at the first")
    assert "digits@edge runs digits:2" in _outputs(executed, "let go of the pin")
    assert "digits:1" in _outputs(executed, "roll back")
    assert "digits@edge runs digits:2" in _outputs(executed, "follow again")
    assert "accuracy" in _outputs(executed, "compare the two")
    for word in ("digits:1", "digits:2", "digits@edge", str(page)):
        assert word in done.stdout
    pictures = page.read_text(encoding="utf-8").count("data:image/")
    assert pictures >= 5  # four digits, and one more closely


def test_what_is_kept_reads_on_its_own(stored: Any) -> None:
    nbformat.validate(stored)
    assert "widgets" not in stored.metadata
    for cell in stored.cells:
        if cell.cell_type == "code":
            kinds = {out.output_type for out in cell.outputs}
            assert "error" not in kinds
            assert kinds or cell.source.startswith("%load_ext")


def test_what_is_kept_is_of_this_notebook_and_no_machine(stored: Any) -> None:
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    text = json.dumps(stored)
    assert len(text) < 400_000
    assert not re.search(r"/(?:home|root|tmp|Users)/", text)
