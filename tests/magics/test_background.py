"""Pushes and uploads in the background of a real kernel, which is killed in the midst of one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

manager = pytest.importorskip("jupyter_client.manager", reason="pip install jupyter_client")
pytest.importorskip("ipykernel", reason="needs nbmodel[notebook]")

from nbmodel.client import Client  # noqa: E402 - after what the tests cannot do without
from nbmodel.storage.distribution_client import Distribution  # noqa: E402
from tests.tools.docker_registry import PROGRAM, docker_registry  # noqa: E402
from tests.tools.relay import Relay  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

WAIT_S = 60


class Kernel:
    """A kernel, and what a front end would show of each cell and each display."""

    def __init__(self, home: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NBMODEL_HOME", str(home))
            self.kernel, self.client = manager.start_new_kernel(kernel_name="python3")
        self.displays: dict[str, list[dict[str, str]]] = {}
        self.run("%load_ext nbmodel")

    def run(self, code: str) -> list[Any]:
        """What is shown below a cell: displays, results, prints and errors; all have ended well."""
        message = self.client.execute(code)
        below: list[Any] = []
        while True:
            said = self.client.get_iopub_msg(timeout=WAIT_S)
            self._take(said, below if said["parent_header"].get("msg_id") == message else [])
            is_own = said["parent_header"].get("msg_id") == message
            if is_own and said["content"].get("execution_state") == "idle":
                break
        reply = self.client.get_shell_msg(timeout=WAIT_S)["content"]
        assert reply["status"] == "ok", reply
        return below

    def wait_for(self, words: str) -> dict[str, str]:
        """The display that says this at last."""
        deadline = time.monotonic() + WAIT_S
        while True:
            for shown in self.displays.values():
                if words in shown[-1]["text/plain"]:
                    return shown[-1]
            assert time.monotonic() < deadline, self.displays
            self._take(self.client.get_iopub_msg(timeout=WAIT_S), [])

    def _take(self, said: dict[str, Any], below: list[Any]) -> None:
        kind, content = said["msg_type"], said["content"]
        if kind == "update_display_data":
            self.displays[content["transient"]["display_id"]].append(content["data"])
        elif kind == "display_data":
            self.displays.setdefault(content["transient"]["display_id"], []).append(content["data"])
            below.append(content["data"])
        elif kind in ("execute_result", "stream", "error"):
            below.append(content.get("data") or content)

    def close(self) -> None:
        self.client.stop_channels()
        self.kernel.shutdown_kernel(now=True)
        self.kernel.cleanup_resources()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def home(tmp_path: Path, linear_onnx: Path) -> Path:
    client = Client(tmp_path / "home")
    client.upload(linear_onnx, name="lines", type="regression")
    client.close()
    return tmp_path / "home"


@pytest.fixture
def start(home: Path) -> Iterator[Callable[[], Kernel]]:
    with ExitStack() as stack:

        def start() -> Kernel:
            kernel = Kernel(home)
            stack.callback(kernel.close)
            return kernel

        yield start


def stopped(relay: Relay) -> threading.Event:
    """Let nothing more go to the registry until this is set; then all is lost once."""
    go = threading.Event()
    relay.on_cut = lambda: go.wait(WAIT_S)
    relay.cut_up = 1
    return go


def test_a_push_goes_on_while_other_cells_run(start: Callable[[], Kernel], registry: str) -> None:
    kernel = start()
    with Relay(registry) as relay:
        go = stopped(relay)
        (below,) = kernel.run(f"push = %mlmodel push lines {relay.url}/a --background\npush")
        assert below["text/plain"] == "push lines: waiting"
        assert kernel.run("1 + 1")[0]["text/plain"] == "2"
        go.set()
        final = kernel.wait_for("push lines: done")
        results = kernel.run("card = await push\ncard.sent")
    assert len(kernel.displays) == 1
    assert "<progress" not in final["text/html"], "it reads the same in a saved notebook"
    words = final["text/plain"].split(", ")
    assert [words[1].split()[-1], words[2].split()[-1]] == ["sent", "already"]
    assert int(results[0]["text/plain"]) > 0
    assert kernel.run("push.done(), push.progress")[0]["text/plain"] == "(True, 1.0)"


def test_a_push_is_cancelled(start: Callable[[], Kernel], registry: str) -> None:
    kernel = start()
    with Relay(registry) as relay:
        go = stopped(relay)
        kernel.run(f"push = %mlmodel push lines {relay.url}/b --background")
        kernel.run("push.cancel()")
        go.set()
        kernel.wait_for("push lines: cancelled")
    (table,) = kernel.run("%mlmodel transfers")
    assert "cancelled" in table["text/plain"]


def test_a_kernel_that_was_killed_goes_on_with_its_push(
    start: Callable[[], Kernel], home: Path, registry: str
) -> None:
    first = start()
    with Relay(registry) as relay:
        go = stopped(relay)
        first.run(f"push = %mlmodel push lines {relay.url}/c --background")
        client = Client(home)
        (job,) = client.transfers()
        assert client.transfers().state(job) == "running"
        first.kernel.signal_kernel(signal.SIGKILL)
        deadline = time.monotonic() + WAIT_S
        while client.transfers().state(job) == "running":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.transfers().state(job) == "interrupted"
        go.set()
        second = start()
        second.run("%mlmodel transfers --resume")
        second.wait_for("push lines: done")
        assert [job.state for job in client.transfers()] == ["done"]
        client.close()
    with Distribution(registry) as remote:
        assert "1" in remote.tags("c/lines")


def test_an_upload_goes_on_while_other_cells_run(
    start: Callable[[], Kernel], linear_onnx: Path
) -> None:
    kernel = start()
    line = f"%mlmodel upload {linear_onnx} --name other --type regression --background"
    kernel.run(f"handle = {line}")
    kernel.wait_for("upload other: done, other:1")
    (result,) = kernel.run("(await handle).reference")
    assert result["text/plain"] == "'other:1'"


def test_a_push_whose_address_never_answers_ends_and_is_gone_on_with(
    start: Callable[[], Kernel], registry: str
) -> None:
    kernel = start()
    kernel.run("import nbmodel.background\nnbmodel.background.UNREACHED_S = 0.1")
    with Relay(registry) as relay:
        url = relay.url
    kernel.run(f"push = %mlmodel push lines {url}/d --background")
    waiting = "try:\n    await push\nexcept Exception as exc:\n    error = exc\nerror.hint"
    (hint,) = kernel.run(waiting)
    final = kernel.wait_for("push lines: interrupted")
    assert "does not answer" in final["text/plain"]
    assert "`transfers --resume " in hint["text/plain"]
    assert "`transfers --resume " in final["text/plain"]
    (table,) = kernel.run("%mlmodel transfers")
    assert "interrupted" in table["text/plain"]
    (again,) = kernel.run(f"again = %mlmodel push lines {url}/d --background\nagain.id == push.id")[
        -1:
    ]
    assert again["text/plain"] == "True"
    kernel.run("again.cancel()")


def test_a_large_push_goes_to_the_background_by_itself(
    start: Callable[[], Kernel], registry: str
) -> None:
    kernel = start()
    kernel.run("import nbmodel.commands.push as verb\nverb.LARGE = 100")
    kernel.run(f"%mlmodel push lines {registry}/e")
    assert kernel.run("None") == [], "nothing is shown below other cells"
    kernel.wait_for("push lines: done")
    assert len(kernel.displays) == 1
    (card,) = kernel.run(f"%mlmodel push lines {registry}/e --foreground")
    assert "waiting" not in card["text/plain"]
    kernel.run("verb.LARGE = 10**9")
    (card,) = kernel.run(f"%mlmodel push lines {registry}/e")
    assert "waiting" not in card["text/plain"]


def test_a_saved_notebook_has_the_last_line_below_the_cell_that_began_it(
    home: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient")
    nbformat = pytest.importorskip("nbformat", reason="pip install nbformat")
    monkeypatch.setenv("NBMODEL_HOME", str(home))
    cells = [
        "%load_ext nbmodel",
        f"push = %mlmodel push lines {registry}/saved --background\npush",
        "card = await push",
    ]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    nbclient.NotebookClient(notebook, timeout=WAIT_S, kernel_name="python3").execute()
    (output,) = notebook.cells[1].outputs
    assert output["data"]["text/plain"].startswith("push lines: done, ")
    assert "<progress" not in output["data"]["text/html"]
    assert notebook.cells[2].outputs == []
    assert "widgets" not in notebook.metadata


def test_a_run_that_nobody_watches_pushes_before_its_kernel_ends(
    home: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient")
    nbformat = pytest.importorskip("nbformat", reason="pip install nbformat")
    monkeypatch.setenv("NBMODEL_HOME", str(home))
    cells = [
        "%load_ext nbmodel\nimport nbmodel.commands.push as verb\nverb.LARGE = 1",
        f"card = %mlmodel push lines {registry}/unwatched\ncard.sent > 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    nbclient.NotebookClient(notebook, timeout=WAIT_S, kernel_name="python3").execute()
    assert notebook.cells[1].outputs[-1]["data"]["text/plain"] == "True"
    with Distribution(registry) as remote:
        assert "1" in remote.tags("unwatched/lines")
