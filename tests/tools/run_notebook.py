"""Execute a notebook headless, write it as a page, and tell in short what happened.

``run_notebook.py NOTEBOOK PAGE`` runs in the folder of the notebook with a registry of
its own beside the page, so that nothing of the user's is touched, and ends every runtime
that the notebook started, whether or not it got to its end. A code cell tagged
``step:<words>`` is named by these words in the account.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter

CELL_TIMEOUT_S = 300


@dataclass(slots=True)
class Clock:
    """Times every code cell of a running notebook and says so, one line a cell.

    Attributes:
        total: Number of code cells.
        steps: Name and seconds of every cell that ended.
    """

    total: int
    steps: list[tuple[str, float]] = field(default_factory=list)
    _started: float = 0.0

    def start(self, cell: Any, cell_index: int) -> None:
        """Called by the client before a code cell runs."""
        self._started = time.perf_counter()
        print(f"  [{len(self.steps) + 1:2}/{self.total}] {step_of(cell):<44}", end="", flush=True)

    def end(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """Called by the client when a code cell has ended, well or not."""
        seconds = time.perf_counter() - self._started
        self.steps.append((step_of(cell), seconds))
        failed = execute_reply["content"]["status"] != "ok"
        print(f"{seconds:7.2f} s{'   failed' if failed else ''}", flush=True)


def step_of(cell: Any) -> str:
    """What a code cell does: the words of its ``step:`` tag, else its first line."""
    for tag in cell.metadata.get("tags", ()):
        if tag.startswith("step:"):
            return str(tag.removeprefix("step:"))
    return (cell.source.strip().splitlines() or ["(empty)"])[0][:44]


def execute(notebook: Any, folder: Path, log: Path) -> tuple[Clock, str | None]:
    """Run every cell in place; the times, and what went wrong or None.

    What the kernel itself says, and not the notebook, goes to ``log``.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    clock = Clock(total=len(code))
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=clock.start,
        on_cell_executed=clock.end,
    )
    try:
        with log.open("w", encoding="utf-8") as file:
            client.execute(stdout=file, stderr=file)
    except CellExecutionError as error:
        return clock, f"{error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:
        return clock, str(error)
    return clock, None


@contextmanager
def registry_beside(page: Path) -> Iterator[Path]:
    """An empty nbmodel home beside the page; its runtimes are ended when leaving."""
    home = page.with_suffix(".home")
    stop_runtimes(home)
    shutil.rmtree(home, ignore_errors=True)
    os.environ["NBMODEL_HOME"] = str(home)
    os.environ.pop("NBMODEL_REGISTRY", None)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    try:
        yield home
    finally:
        stop_runtimes(home)


def stop_runtimes(home: Path) -> None:
    """End every runtime that was started from this home on this machine."""
    from nbmodel.fleet.known import KnownRuntimes
    from nbmodel.fleet.local import stop_local

    known = KnownRuntimes(home)
    for runtime in known.list():
        if runtime.pid is not None:
            stop_local(runtime)


def write_page(notebook: Any, page: Path) -> None:
    """The notebook with its outputs, as HTML and as ``.ipynb`` beside it."""
    nbformat.write(notebook, page.with_suffix(".ipynb"))
    html, _ = HTMLExporter().from_notebook_node(notebook)
    page.write_text(html, encoding="utf-8")


def account(home: Path, notebook: Any, clock: Clock) -> Iterator[str]:
    """What is in the registry now, what was deployed and inferred, and the time it took."""
    sections = {
        "Versions made": list(versions_in(home)),
        "Deployed": list(results_of(notebook, "deploy")),
        "Inferred": list(results_of(notebook, "infer")),
    }
    for title, lines in sections.items():
        if lines:
            yield title
            yield from (f"  {line}" for line in lines)
    seconds = sum(seconds for _, seconds in clock.steps)
    yield f"{len(clock.steps)} steps in {seconds:.1f} s"


def versions_in(home: Path) -> Iterator[str]:
    """A line for every version of a registry, oldest first."""
    from nbmodel.client import Client

    client = Client(home)
    for version in reversed(client.registry.versions()):
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in version.metrics.items())
        names = f"({', '.join(version.aliases)})" if version.aliases else ""
        line = f"{version.reference:<12} {version.framework:<6} {version.size:>10,} bytes"
        yield f"{line}   {metrics}   {names}".rstrip()
    client.close()


def results_of(notebook: Any, word: str) -> Iterator[str]:
    """What the steps with a word in their name show, as text."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and word in step_of(cell):
            yield from shown(cell)


def shown(cell: Any) -> list[str]:
    """The lines that a cell's results show as plain text."""
    texts = [
        output.data["text/plain"]
        for output in cell.get("outputs", ())
        if output.output_type in ("display_data", "execute_result") and "text/plain" in output.data
    ]
    return [line for text in texts for line in text.splitlines() if line.strip()]


def main(arguments: Sequence[str]) -> int:
    """Run it; 0 when every cell ran."""
    if len(arguments) != 2:
        print("usage: run_notebook.py NOTEBOOK PAGE", file=sys.stderr)
        return 2
    source, page = (Path(argument).absolute() for argument in arguments)
    page.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(source, as_version=4)
    print(f"Running {arguments[0]}", flush=True)
    with registry_beside(page) as home:
        clock, problem = execute(notebook, source.parent, page.with_suffix(".log"))
    write_page(notebook, page)
    print()
    for line in account(home, notebook, clock):
        print(line)
    print(f"\nThe page: {arguments[1]}")
    if problem is not None:
        print(f"\nStopped at step {clock.steps[-1][0]!r}: {problem}", file=sys.stderr)
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
