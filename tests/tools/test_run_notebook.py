"""The runner of ``make demo``: what it tells, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow


def run(project_root: Path, notebook: Path, page: Path) -> subprocess.CompletedProcess[str]:
    runner = project_root / "tests" / "tools" / "run_notebook.py"
    return subprocess.run(
        [sys.executable, runner, notebook, page],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def runtimes_left(page: Path) -> list[str]:
    """Runtimes of the run that are still processes."""
    from nbmodel.fleet.known import KnownRuntimes
    from nbmodel.fleet.local import is_running

    known = KnownRuntimes(page.with_suffix(".home")).list()
    return [one.name for one in known if one.pid is not None and is_running(one.pid)]


def test_the_quickstart_runs_from_end_to_end(project_root: Path, tmp_path: Path) -> None:
    page = tmp_path / "quickstart.html"
    done = run(project_root, project_root / "notebooks" / "01_quickstart.ipynb", page)
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("digits:1 ", "digits:2 ", "digits@edge", str(page)):
        assert told in done.stdout
    assert done.stderr == ""
    assert "data:image/png;base64," in page.read_text(encoding="utf-8")
    assert runtimes_left(page) == []


def test_a_notebook_that_fails_says_where_and_ends_its_runtimes(
    project_root: Path, tmp_path: Path
) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("%load_ext nbmodel\n%mlmodel runtime start edge"),
        nbformat.v4.new_code_cell("%mlmodel show nothing", metadata={"tags": ["step:a typo"]}),
        nbformat.v4.new_code_cell("print('not reached')"),
    ]
    source, page = tmp_path / "fails.ipynb", tmp_path / "out" / "fails.html"
    source.write_text(json.dumps(notebook), encoding="utf-8")
    done = run(project_root, source, page)
    assert done.returncode == 1
    assert "Stopped at step 'a typo': ModelNotFoundError" in done.stderr
    assert "no model" in page.read_text(encoding="utf-8")
    assert runtimes_left(page) == []
