"""Progress: one line in place, from any thread, and a last line that stays."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nbmodel.display import progress as module
from nbmodel.display.progress import (
    NotebookSink,
    Progress,
    SilentSink,
    StreamSink,
    TerminalSink,
    sink_here,
)

pytestmark = pytest.mark.unhurried


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    stopped = Clock()
    monkeypatch.setattr(module, "time", stopped)
    return stopped


class Kept(SilentSink):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, float | None]] = []
        self.last: str | None = None

    def show(self, line: str, share: float | None) -> None:
        self.lines.append((line, share))

    def close(self, line: str) -> None:
        self.last = line


def test_counts_shares_speed_and_notes(clock: Clock) -> None:
    sink = Kept()
    with Progress("upload digits", total=20_000_000, sink=sink) as progress:
        clock.now += 1
        progress.advance(5_000_000)
        clock.now += 1
        progress.note("hashing")
    assert sink.lines == [
        ("upload digits   25%  5.0 MB of 20.0 MB  5.0 MB/s", 0.25),
        ("upload digits   25%  5.0 MB of 20.0 MB  2.5 MB/s  hashing", 0.25),
    ]
    assert sink.last == "upload digits: done, 5.0 MB, 2.0 s"


def test_without_a_total_there_is_no_share(clock: Clock) -> None:
    sink = Kept()
    with Progress("check", unit="versions", sink=sink) as progress:
        clock.now += 1
        progress(3)
    assert sink.lines == [("check  3 versions", None)]
    assert sink.last == "check: done, 3 versions, 1.0 s"


def test_at_most_ten_updates_a_second(clock: Clock) -> None:
    sink = Kept()
    with Progress("upload", total=10_000, sink=sink) as progress:
        for _ in range(10_000):
            clock.now += 0.001
            progress.advance(1)
    assert 90 <= len(sink.lines) <= 100
    assert progress.done == 10_000


def test_a_short_job_shows_nothing(clock: Clock) -> None:
    sink = Kept()
    with Progress("upload", total=10, sink=sink) as progress:
        clock.now += 0.01
        progress.advance(10)
    assert sink.lines == []
    assert sink.last is None


@pytest.mark.parametrize(
    ("error", "ending"), [(KeyboardInterrupt, "cancelled"), (ValueError, "failed")]
)
def test_what_ends_early_says_so_and_is_raised(
    clock: Clock, error: type[BaseException], ending: str
) -> None:
    sink = Kept()

    def job() -> None:
        with Progress("upload", total=10, sink=sink) as progress:
            clock.now += 5
            progress.advance(3)
            raise error

    with pytest.raises(error):
        job()
    assert sink.last == f"upload: {ending}, 3 B, 5.0 s"


def test_threads_lose_no_count() -> None:
    progress = Progress("upload", sink=SilentSink())
    threads = [
        threading.Thread(target=lambda: [progress.advance(1) for _ in range(2000)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.done == 16_000


def test_a_terminal_gets_one_line_written_over() -> None:
    stream = io.StringIO()
    sink = TerminalSink(stream)
    sink.show("a long line", 0.5)
    sink.show("short", 0.6)
    sink.close("done")
    assert stream.getvalue() == "\ra long line\rshort      \rdone \n"


def test_a_pipe_gets_the_last_line_alone() -> None:
    stream = io.StringIO()
    sink = StreamSink(stream)
    sink.show("half", 0.5)
    sink.close("done")
    assert stream.getvalue() == "done\n"


def test_a_notebook_gets_one_display_with_text_and_html() -> None:
    shown: list[tuple[Any, dict[str, Any]]] = []
    sink = NotebookSink(lambda bundle, **options: shown.append((bundle, options)))
    sink.show("upload <b>  25%", 0.25)
    sink.show("upload <b>  50%", None)
    sink.close("upload <b>: done")
    assert [options["update"] for _, options in shown] == [False, True, True]
    assert len({options["display_id"] for _, options in shown}) == 1
    assert shown[0][0]["text/plain"] == "upload <b>  25%"
    assert 'aria-label="upload &lt;b&gt;" value="0.250"' in shown[0][0]["text/html"]
    assert "value=" not in shown[1][0]["text/html"]
    assert shown[2][0]["text/html"] == '<div role="status">upload &lt;b&gt;: done</div>'


def test_names_cannot_command_a_terminal() -> None:
    assert Progress("up\x1b[31m\rload", sink=SilentSink()).what == "up\\x1b[31m\\rload"


def test_outside_a_notebook_ipython_stays_unloaded() -> None:
    code = (
        "import sys\n"
        "from nbmodel.display.progress import StreamSink, sink_here\n"
        "assert isinstance(sink_here(), StreamSink)\n"
        "assert 'IPython' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.PIPE)


def test_a_program_without_a_console_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(sink_here(), SilentSink)


def test_in_a_real_notebook_a_worker_thread_updates_its_own_cell() -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs a kernel")
    nbformat = pytest.importorskip("nbformat", reason="needs a kernel")
    pytest.importorskip("ipykernel", reason="needs a kernel")
    work = (
        "import threading, time\n"
        "from nbmodel.display import Progress\n"
        "def work():\n"
        "    with Progress('upload', total=8) as progress:\n"
        "        for _ in range(8):\n"
        "            time.sleep(0.1)\n"
        "            progress.advance(1)\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start()\n"
        "time.sleep(0.6)\n"
    )
    cells = [nbformat.v4.new_code_cell(source) for source in (work, "thread.join()\nprint('next')")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=60).execute()
    (output,) = notebook.cells[0].outputs
    assert output.data["text/plain"].startswith("upload: done, 8 B, ")
    assert output.data["text/html"].startswith('<div role="status">upload: done')
    assert [one.get("text") for one in notebook.cells[1].outputs] == ["next\n"]
