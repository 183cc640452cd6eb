"""Making a version once more from the cells that are kept with it, and comparing the two."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nbmodel.core.diff import diff_versions
from nbmodel.core.lineage import Lineage
from nbmodel.core.provenance import Provenance
from nbmodel.core.reproduction import Reproduction, surroundings
from nbmodel.core.version import Version
from nbmodel.errors import InputError, ModelNotFoundError
from nbmodel.provenance.rerun import run_cells
from nbmodel.registry import Registry

# Of the session that asks, not of the one that is run.
_NOT_PASSED_ON = ("JPY_SESSION_NAME", "JPY_PARENT_PID")


def reproduce(
    version: Version,
    *,
    folder: Path,
    timeout: float,
    begun: Callable[[int], object] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    settle: Callable[[Path], object] = lambda _: None,
    clear: Callable[[Path], object] = lambda _: None,
) -> Reproduction:
    """Run the cells of a version in a fresh kernel, with a home of its own, and compare.

    What they log, pin and push by default goes to a home and a remote that are thrown away;
    what else they do, they do: they are the code of whoever made the version.

    Args:
        version: The version.
        folder: Where the cells are run: paths in them are relative to it.
        timeout: Seconds for all cells, > 0.
        begun: Told the number of a cell before it is run.
        cancelled: Asked while they run.
        settle: Called with the home when all cells were run, to end what they left undone.
        clear: Called with the home when the cells were run, before it is thrown away.

    Raises:
        InputError: No cells are kept with the version, or ``folder`` is none.
        PluginError: There is no Jupyter kernel.
        ReproductionError: The kernel does not start or ends, or time is over.
        CancelledError: Nobody wants to go on.
        ManifestError: The cells cannot be read.
    """
    lineage = version.manifest.lineage
    made = lineage.provenance or Provenance()
    source = made.source()
    cells = [one for one in source.cells if not one.is_private]
    if not cells:
        raise InputError(
            f"no cells are kept with {version.reference}, so there is nothing to run again",
            hint="they are where `log` or `upload` was called in a notebook, and the setting "
            "record is `all`",
        )
    if not folder.is_dir():
        raise InputError(f"no folder {folder} to run the cells in")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nbmodel-", ignore_cleanup_errors=True) as place:
        home = Path(place)
        try:
            failed = run_cells(
                cells,
                folder=folder,
                environment=_environment(home),
                timeout=timeout,
                begun=begun,
                cancelled=cancelled,
            )
            settle(home)
            again = _made(home, version.manifest.name, len(cells), made.nth)
        finally:
            clear(home)
        packages, machine, data = surroundings(
            lineage, Lineage() if again is None else again.manifest.lineage
        )
    diff = None if again is None else diff_versions(version, again)
    return Reproduction(
        version.reference,
        diff,
        (version.manifest.content, "" if again is None else again.manifest.content),
        signature_size=len(version.signature.inputs) + len(version.signature.outputs),
        metrics=tuple(sorted(version.metrics)),
        failed=failed,
        cells=len(cells),
        left_out=source.left_out + len(source.cells) - len(cells),
        seconds=time.monotonic() - began,
        packages=() if again is None else packages,
        machine=() if again is None else machine,
        data=() if again is None else data,
    )


def _environment(home: Path) -> dict[str, str]:
    """What the kernel's environment is: that of this process, but for where versions go."""
    (home / "remote").mkdir()
    passed = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON}
    return passed | {
        "NBMODEL_HOME": str(home),
        "NBMODEL_REGISTRY": str(home / "registry"),
        "NBMODEL_REMOTE": (home / "remote").as_uri(),
        "NBMODEL_RECORD": "all",
    }


def _made(home: Path, name: str, cell: int, nth: int) -> Version | None:
    """The version that the last cell made, as the n-th of its model; None where it made none."""
    with contextlib.closing(Registry(home / "registry")) as registry:
        try:
            versions = sorted(registry.versions(name, archived=True), key=lambda one: one.number)
        except ModelNotFoundError:
            return None
        made = [one for one in versions if one.manifest.lineage.cell == cell]
        if made:  # read while it is there
            version = made[min(nth, len(made)) - 1]
            return registry.resolve(version.reference)
    return None
