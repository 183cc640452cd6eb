"""The kinds of runtimes, told apart by their addresses."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from nbmodel.fleet.known import Known
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.fleet.triton_address import is_triton
from nbmodel.fleet.triton_runtime import TritonRuntime
from nbmodel.inference.server import ANSWER_TIMEOUT_S

#: A runtime of ours, or a bare Triton server.
Runtime: TypeAlias = RemoteRuntime | TritonRuntime


def open_runtime(
    known: Known, home: Path | None = None, *, timeout_s: float = ANSWER_TIMEOUT_S
) -> Runtime:
    """A runtime that is known, to be closed by who opens it.

    Args:
        known: How it is reached.
        home: The user's nbmodel folder; None: nothing is deployed there.
        timeout_s: Seconds that one of ours may take to answer.
    """
    if is_triton(known.url):
        wishes = None if home is None else wishes_file(home, known.name)
        return TritonRuntime(known.url, name=known.name, wishes=wishes)
    return RemoteRuntime(known.url, token=known.token, name=known.name, timeout_s=timeout_s)


def wishes_file(home: Path, name: str) -> Path:
    """Where is kept what services of a bare Triton were asked for.

    Args:
        home: The user's nbmodel folder.
        name: Of the runtime.
    """
    return home / "runtimes" / f"{name}.triton.json"
