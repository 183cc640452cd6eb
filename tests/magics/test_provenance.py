"""Where versions come from in a real kernel, and making them again in another one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

manager = pytest.importorskip("jupyter_client.manager", reason="pip install jupyter_client")
pytest.importorskip("ipykernel", reason="needs nbmodel[notebook]")

from nbmodel.client import Client  # noqa: E402 - after what the tests cannot do without
from nbmodel.core.reproduction import Failed  # noqa: E402
from nbmodel.errors import ReproductionError  # noqa: E402

pytestmark = pytest.mark.unhurried
WAIT_S = 240.0


class Kernel:
    """A kernel as a front end sees it."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, code: str, cell_id: str = "") -> list[str]:
        """What a cell results in, as text; it must not fail."""
        said, errors = self.run_any(code, cell_id)
        assert errors == []
        return said

    def run_any(self, code: str, cell_id: str = "") -> tuple[list[str], list[str]]:
        """What a cell results in and prints, and its errors."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        request = self.client.session.msg("execute_request", content)
        request["metadata"] = {"cellId": cell_id} if cell_id else {}
        self.client.shell_channel.send(request)
        said, errors = [], []
        while True:
            message = self.client.get_iopub_msg(timeout=WAIT_S)
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "execute_result":
                said.append(content["data"]["text/plain"])
            elif kind == "stream":
                said.append(content["text"])
            elif kind == "error":
                errors.append("\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                return said, errors


@pytest.fixture
def folder(tmp_path: Path, linear_onnx: Path) -> Path:
    """A folder with a model file, in which kernels run."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "lines.onnx").write_bytes(linear_onnx.read_bytes())
    return folder


@pytest.fixture
def kernel(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "train.ipynb"))
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(folder))
    monkeypatch.delenv("JPY_SESSION_NAME")
    try:
        started = Kernel(client)
        started.run("%load_ext nbmodel")
        yield started
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
        kernel.cleanup_resources()


@pytest.fixture
def client(kernel: Kernel, tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


UPLOAD = "%mlmodel upload lines.onnx --name lines --type regression"


def test_a_version_is_made_again_as_it_was(kernel: Kernel, client: Client, folder: Path) -> None:
    kernel.run("import numpy as np\nseed = 7\nX = np.random.default_rng(seed).random((4, 2))")
    kernel.run("1 + 1  # of no use")
    kernel.run(
        f"{UPLOAD} --sample X.astype('float32') --seed $seed --data X=X --metric s={{X.sum()}}",
        cell_id="1e9aac6b",
    )
    version = client.registry.resolve("lines:1")
    lineage = version.manifest.lineage
    made = lineage.provenance
    assert made is not None
    assert (lineage.notebook, lineage.cell) == ("train.ipynb", 4)
    assert (made.path, made.front_end) == (str(folder / "train.ipynb"), "jupyter")
    assert (made.cell_id, made.seed) == ("1e9aac6b", 7)
    assert {"numpy", "ipykernel"} <= lineage.packages.keys()
    assert [cell.number for cell in made.source().cells] == [1, 2, 3, 4]

    found = client.reproduce("lines:1", folder=folder)
    assert (found.is_same, found.cells, found.failed) == (True, 4, ())
    assert (found.packages, found.machine, found.data) == ((), (), ())
    assert len(client.registry.versions("lines")) == 1  # the other one is gone


def test_a_notebook_shows_the_source_and_reproduces(kernel: Kernel) -> None:
    kernel.run(UPLOAD)
    kernel.run("later = True")
    (shown,) = kernel.run("%mlmodel show lines --source")
    assert f"# [2]\n\n{UPLOAD}" in shown
    assert "later" not in shown
    (card,) = kernel.run("%mlmodel reproduce lines:1")
    assert card.startswith("lines:1  the same")


def test_what_differs_is_told(kernel: Kernel, client: Client, folder: Path) -> None:
    count = folder / "count.txt"
    count.write_text("")
    kernel.run("from pathlib import Path\nimport json")
    kernel.run_any("1 / 0")
    kernel.run("# nbmodel: private\nhidden = 1")
    kernel.run(
        "file = Path('count.txt')\nfile.write_text(file.read_text() + 'x')\n"
        "turn = len(file.read_text())"
    )
    kernel.run(f"{UPLOAD} --metric turn={{turn}} --data count=count.txt")
    found = client.reproduce("lines:1", folder=folder)
    assert not found.is_same
    assert (found.same_signature, found.same_metrics, found.same_digest) == (True, False, True)
    assert found.diff is not None
    assert [(one.name, one.old, one.new) for one in found.diff.metrics] == [("turn", 1.0, 2.0)]
    assert [one.name for one in found.data] == ["count"]
    assert found.failed == (Failed(3, "ZeroDivisionError: division by zero"),)
    assert (found.cells, found.left_out) == (5, 1)
    assert "turn" in found.text()


def test_of_several_versions_of_a_cell_the_same_one_is_compared(
    kernel: Kernel, client: Client, folder: Path
) -> None:
    kernel.run(f"for epoch in range(3):\n    {UPLOAD} --metric epoch={{epoch}}")
    found = client.reproduce("lines:2", folder=folder)
    assert found.is_same
    assert found.metrics == ("epoch",)


def test_a_version_that_is_made_in_the_background(
    kernel: Kernel, client: Client, folder: Path
) -> None:
    kernel.run(f"job = {UPLOAD} --background")
    kernel.run("job.result()")
    assert client.registry.resolve("lines:1").manifest.lineage.cell == 2
    assert client.reproduce("lines:1", folder=folder).is_same


def test_cells_that_make_no_version_any_more(kernel: Kernel, client: Client, folder: Path) -> None:
    kernel.run(UPLOAD)
    (folder / "lines.onnx").unlink()
    found = client.reproduce("lines:1", folder=folder)
    assert (found.diff, found.is_same) == (None, False)
    assert [one.number for one in found.failed] == [2]
    assert "made no version of lines:1 again" in found.text()


def test_what_is_recorded_is_set_in_the_notebook(kernel: Kernel, client: Client) -> None:
    kernel.run("%config MLModel.record = 'facts'")
    kernel.run(UPLOAD)
    lineage = client.registry.resolve("lines:1").manifest.lineage
    assert (lineage.notebook, lineage.cell, lineage.code) == ("train.ipynb", 3, None)
    assert client.cells("lines:1").source.cells == ()
    kernel.run("%config MLModel.record = 'nothing'")
    kernel.run(UPLOAD)
    assert client.registry.resolve("lines:2").manifest.lineage.to_json() == {}
    kernel.run("%config MLModel.record = ''")
    kernel.run(UPLOAD)
    assert len(client.cells("lines:3").source.cells) == 7


@pytest.fixture
def switch(kernel: Kernel, folder: Path) -> Path:
    """A file that says what the next run of the cells does; they end well without it."""
    kernel.run(
        "import os, time\nfrom pathlib import Path\n"
        "Path('pid').write_text(str(os.getpid()))\n"
        "what = Path('switch').read_text() if Path('switch').exists() else ''\n"
        "if what == 'sleep':\n    time.sleep(3600)\n"
        "if what == 'die':\n    os._exit(1)"
    )
    kernel.run(UPLOAD)
    (folder / "pid").unlink()
    return folder / "switch"


def is_over(pid: int) -> bool:
    """Whether a process ends within a while; one that nobody has waited for has ended."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_time_is_limited(switch: Path, client: Client) -> None:
    switch.write_text("sleep")
    with pytest.raises(ReproductionError, match=r"did not end within the 10 s"):
        client.reproduce("lines:1", folder=switch.parent, timeout=10)


def test_who_does_not_want_to_go_on_ends_the_kernel(switch: Path, client: Client) -> None:
    switch.write_text("sleep")
    pid = switch.with_name("pid")

    def cancelled() -> bool:
        return pid.exists() and pid.read_text() != ""

    with pytest.raises(CancelledError):
        client.reproduce("lines:1", folder=switch.parent, cancelled=cancelled)
    assert is_over(int(pid.read_text()))


def test_a_kernel_that_dies_is_told(switch: Path, client: Client) -> None:
    switch.write_text("die")
    with pytest.raises(ReproductionError, match=r"the kernel ended in cell 2, 2 of 3"):
        client.reproduce("lines:1", folder=switch.parent)


def test_what_cells_start_ends_with_them(kernel: Kernel, client: Client, folder: Path) -> None:
    pytest.importorskip("starlette", reason="needs nbmodel[runtime]")
    kernel.run(
        "import os, nbmodel\nfrom pathlib import Path\n"
        "again = Path('again').exists()\n"
        "if again:\n"
        "    nbmodel.runtimes.start('edge')\n"
        "    Path('home').write_text(os.environ['NBMODEL_HOME'])"
    )
    kernel.run(UPLOAD)
    (folder / "again").write_text("")
    found = client.reproduce("lines:1", folder=folder)
    assert (found.is_same, found.failed) == (True, ())
    assert not Path((folder / "home").read_text()).exists()
