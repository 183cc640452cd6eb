"""Kernels that say nothing are not waited for for ever."""

from __future__ import annotations

import queue
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

from nbmodel.errors import ReproductionError
from nbmodel.provenance import rerun


class Kernel:
    """A kernel and its client, of which nothing is heard but what it is told to say."""

    def __init__(self, *said: dict[str, Any], alive: bool = True) -> None:
        self.said = list(said)
        self.alive = alive

    def execute(self, code: str, **_: Any) -> str:
        return "mine"

    def get_iopub_msg(self, timeout: float) -> dict[str, Any]:
        if not self.said:
            raise queue.Empty
        return self.said.pop(0)

    def is_alive(self) -> bool:
        return self.alive


def message(kind: str, parent: str = "mine", **content: str) -> dict[str, Any]:
    return {"msg_type": kind, "parent_header": {"msg_id": parent}, "content": content}


BUSY = message("status", execution_state="busy")
IDLE = message("status", execution_state="idle")


def run(kernel: Any, *, seconds: float = 600, cancelled: bool = False) -> str:
    until = time.monotonic() + seconds
    where = "cell 2, 2 of 3"
    return rerun._run(kernel, kernel, "x", where, until, seconds, lambda: cancelled)


def test_the_error_of_a_cell_is_its_result() -> None:
    others = message("error", parent="another", ename="KeyError", evalue="x")
    failed = message("error", ename="ValueError", evalue="bad")
    assert run(Kernel(BUSY, others, IDLE)) == ""
    assert run(Kernel(BUSY, failed, IDLE)) == "ValueError: bad"


@pytest.mark.parametrize(
    ("kernel", "seconds", "error"),
    [
        pytest.param(Kernel(), 600, "did not begin cell 2, 2 of 3 within 0 s", id="not begun"),
        pytest.param(Kernel(BUSY), 0.1, "did not end within the 0.1 s", id="not ended"),
        pytest.param(Kernel(BUSY, alive=False), 600, "the kernel ended in cell 2", id="dead"),
    ],
)
def test_what_is_told_of_a_kernel_that_is_silent(
    kernel: Kernel, seconds: float, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerun, "BEGIN_S", 0.0)
    with pytest.raises(ReproductionError, match=error):
        run(kernel, seconds=seconds)


def test_nobody_wants_to_go_on() -> None:
    with pytest.raises(CancelledError):
        run(Kernel(BUSY), cancelled=True)
