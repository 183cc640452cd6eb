"""What changes while one looks, in a real kernel: one display, and an interrupt that ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

manager = pytest.importorskip("jupyter_client.manager", reason="pip install jupyter_client")
pytest.importorskip("ipykernel", reason="needs nbmodel[notebook]")

from nbmodel.client import Client  # noqa: E402 - after what the tests cannot do without

pytestmark = pytest.mark.unhurried


class Kernel:
    """A kernel, and what its front end shows."""

    def __init__(self, client: Any, kernel: Any) -> None:
        self.client = client
        self.kernel = kernel

    def run(self, code: str, interrupt_after: str = "") -> tuple[str, dict[str, Any], list[Any]]:
        """The status of a cell, its displays by their id, and its results.

        Args:
            code: The cell.
            interrupt_after: Interrupt it when a display says this.
        """
        message = self.client.execute(code)
        displays: dict[str, Any] = {}
        results = []
        while True:
            said = self.client.get_iopub_msg(timeout=60)
            if said["parent_header"].get("msg_id") != message:
                continue
            kind, content = said["msg_type"], said["content"]
            if kind in ("display_data", "update_display_data"):
                key = content["transient"]["display_id"]
                assert (kind == "update_display_data") == (key in displays)
                displays[key] = content["data"]
                if interrupt_after and interrupt_after in content["data"]["text/plain"]:
                    interrupt_after = ""
                    self.kernel.interrupt_kernel()
            elif kind == "execute_result":
                results.append(content["data"])
            elif kind == "error":
                results.append("\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                break
        reply = self.client.get_shell_msg(timeout=60)
        return reply["content"]["status"], displays, results


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Iterator[Path]:
    """A home with a runtime ``edge`` whose service ``lines`` is provisional for a minute."""
    home = tmp_path_factory.mktemp("home")
    client = Client(home)
    client.runtimes.start("edge")
    client.upload(linear_onnx, name="lines", type="regression", sample=[[1.0, 1.0]])
    client.deploy("lines", on="edge", confirm_s=60)
    yield home
    client.runtimes.remove("edge")
    client.close()


@pytest.fixture(scope="module")
def kernel(home: Path) -> Iterator[Kernel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBMODEL_HOME", str(home))
        kernel, client = manager.start_new_kernel(kernel_name="python3")
    try:
        shown = Kernel(client, kernel)
        assert shown.run("%load_ext nbmodel")[0] == "ok"
        yield shown
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
        kernel.cleanup_resources()


def test_a_status_is_one_display_until_it_is_interrupted(kernel: Kernel) -> None:
    status, displays, results = kernel.run("%mlmodel status edge --follow", "provisional since")
    assert status == "ok"  # an interrupt is how one ends it, not an error
    (last,) = displays.values()
    assert last["text/plain"].startswith("edge: interrupted after")
    (card,) = results
    assert "lines: version 1 is provisional" in card["text/plain"]
    assert "nbm" in card["text/html"]


def test_a_log_is_one_display_until_it_is_interrupted(kernel: Kernel) -> None:
    status, displays, results = kernel.run("%mlmodel runtime logs edge --follow", "version")
    assert status == "ok"
    (last,) = displays.values()
    assert last["text/plain"].startswith("edge: followed")
    (lines,) = results
    assert "is live on" in lines["text/plain"]


def test_the_kernel_goes_on_after_that(kernel: Kernel) -> None:
    began = time.monotonic()
    status, _, results = kernel.run("s = %mlmodel status edge\ns['services'][0]['phase']")
    assert (status, results[0]["text/plain"]) == ("ok", "'provisional'")
    assert time.monotonic() - began < 30
