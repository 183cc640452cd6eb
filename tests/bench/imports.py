"""What it costs to have nbmodel at hand: in Python, and in a notebook's shell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.harness import Row, in_turn_ms

# IPython only prints that an extension cannot be loaded; the assertion fails the process.
LOAD_EXTENSION = """%load_ext nbmodel
assert "nbmodel" in get_ipython().extension_manager.loaded"""


def rows(folder: Path) -> Iterator[Row]:
    """Whole processes, with and without nbmodel, in turn."""
    run = partial(_run, folder)
    bare, ours = in_turn_ms(
        partial(run, "-c", "pass"), partial(run, "-c", "import nbmodel"), runs=21
    )
    yield Row("`import nbmodel`", ours, "bare Python", bare, bar=60, judged="excess")

    shell = ("-m", "IPython", "--no-banner", "-c")
    bare, ours = in_turn_ms(
        partial(run, *shell, "pass"), partial(run, *shell, LOAD_EXTENSION), runs=11
    )
    yield Row("`%load_ext nbmodel`", ours, "bare IPython", bare, bar=150, judged="excess")


def _run(folder: Path, *arguments: str) -> None:
    env = os.environ | {"IPYTHONDIR": str(folder / "ipython")}
    subprocess.run(
        [sys.executable, *arguments], check=True, cwd=folder, env=env, stdout=subprocess.DEVNULL
    )
