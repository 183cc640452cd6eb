"""Running the cells of a version again, in a kernel of its own."""

from __future__ import annotations

import math
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbmodel.core.provenance import CodeCell
from nbmodel.core.reproduction import Failed
from nbmodel.errors import ReproductionError
from nbmodel.plugins import require

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient
    from jupyter_client.manager import KernelManager

START_S = 60.0  # that a kernel may take to answer
_POLL_S = 0.2  # how often somebody is asked who may want to stop
BEGIN_S = 120.0  # that it may take to begin a cell, with nothing else to do
_MAX_ERROR = 1000  # characters


def run_cells(
    cells: Sequence[CodeCell],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout: float,
    begun: Callable[[int], object] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Failed, ...]:
    """Run cells one after the other in a fresh kernel of this Python, which then ends.

    One that fails does not keep the others from being run: in its notebook it did not either.

    Args:
        cells: Those to run.
        folder: The kernel's working folder.
        environment: Its environment.
        timeout: Seconds for all of them, > 0.
        begun: Told the number of a cell before it is run.
        cancelled: Asked while they run.

    Returns:
        Those that failed, in order.

    Raises:
        PluginError: There is no Jupyter kernel.
        ReproductionError: The kernel does not start or ends, or time is over.
        CancelledError: Nobody wants to go on.
    """
    require("running cells", "jupyter_client", "ipykernel", extra="notebook")
    until = time.monotonic() + timeout
    failed = []
    with _kernel(folder, environment) as (manager, client):
        for place, cell in enumerate(cells, 1):
            begun(cell.number)
            where = f"cell {cell.number}, {place} of {len(cells)}"
            error = _run(manager, client, cell.code, where, until, timeout, cancelled)
            if error:
                failed.append(Failed(cell.number, error))
    return tuple(failed)


@contextmanager
def _kernel(
    folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import KernelManager

    class ThisPython(KernelSpecManager):
        """Knows one kernel, whatever others are installed: that of this Python."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name=kernel_name, language="python")

    manager = KernelManager(kernel_spec_manager=ThisPython(), kernel_name="nbmodel")
    # What the kernel's own program writes is nobody's; what cells print comes by its channels.
    nowhere = subprocess.DEVNULL
    manager.start_kernel(cwd=str(folder), env=dict(environment), stdout=nowhere, stderr=nowhere)
    try:
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=START_S)
            yield manager, client
        except RuntimeError as exc:
            raise ReproductionError(f"the kernel does not start: {exc}") from exc
        finally:
            client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def _run(
    manager: KernelManager,
    client: BlockingKernelClient,
    code: str,
    where: str,
    until: float,
    timeout: float,
    cancelled: Callable[[], bool],
) -> str:
    """Run one cell; gives its error, empty where there is none."""
    request = client.execute(code, allow_stdin=False, stop_on_error=False)
    error, begins_by = "", time.monotonic() + BEGIN_S
    while True:
        if cancelled():
            raise CancelledError
        if time.monotonic() > until:
            raise ReproductionError(
                f"{where} did not end within the {timeout:g} s that there are for all of them",
                hint="give them more: --timeout SECONDS",
            )
        try:
            said: dict[str, Any] = client.get_iopub_msg(timeout=_POLL_S)
        except queue.Empty:
            if not manager.is_alive():
                raise ReproductionError(f"the kernel ended in {where}") from None
            if time.monotonic() > begins_by:
                raise ReproductionError(
                    f"the kernel did not begin {where} within {BEGIN_S:g} s",
                    hint="ipykernel 7.0 to 7.3 may miss a request: upgrade it, or try again",
                ) from None
            continue
        if said["parent_header"].get("msg_id") != request:
            continue
        begins_by = math.inf
        content = said["content"]
        if said["msg_type"] == "error":
            error = f"{content['ename']}: {content['evalue']}"[:_MAX_ERROR]
        elif said["msg_type"] == "status" and content["execution_state"] == "idle":
            return error
