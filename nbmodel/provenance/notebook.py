"""The notebook that runs: where it is, its cell, and the cells before, as the kernel tells.

IPython is looked for among the loaded modules and never imported. What is asked for here
belongs to the thread that runs the cell.

Sources: Jupyter Server's ``SessionManager.get_kernel_env`` (``JPY_SESSION_NAME``); the Jupyter
extension of VS Code (``__vsc_ipynb_file__``, cell ids that are addresses of cells); JupyterLab's
``CodeCell.execute`` (``cellId`` in the metadata of a request); ipykernel's ``get_parent``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from nbmodel.core.provenance import CodeCell, is_private, numbered
from nbmodel.provenance.sessions import path_of_session

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where code runs; None and empty where that is not known.

    Attributes:
        path: Of the notebook or script.
        front_end: ``jupyter``, ``vscode``, ``colab`` or ``ipython``; None for a program.
        cell_id: The cell's id in its notebook.
        number: Execution count of the cell.
        code: Source of the cell; None where it is private.
        cells: Those of this session up to it.
    """

    path: str | None = None
    front_end: str | None = None
    cell_id: str | None = None
    number: int | None = None
    code: str | None = None
    cells: tuple[CodeCell, ...] = ()


def place_here() -> Place:
    """Where the code that calls this runs."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return Place(path=_script())
    # As typed: the other list has magics already turned into calls.
    history: Sequence[str] = shell.history_manager.input_hist_raw
    cell_id = cell_id_of(_metadata(shell))
    # Not shell.execution_count, which some versions of IPython raise before the cell
    # runs and others after; the list starts with an empty entry for cell 0.
    number = len(history) - 1 if len(history) > 1 else None
    code = history[-1] if history else ""
    return Place(
        path=_path(shell, cell_id),
        front_end=_front_end(shell),
        cell_id=cell_id,
        number=number,
        code=None if not code or is_private(code) else code,
        cells=numbered(history),
    )


def _script() -> str | None:
    script = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "")
    is_command = script.stem in ("", "nbmodel") or script.parent.name == "nbmodel"
    return None if is_command else str(script.absolute())


def _path(shell: Any, cell_id: str | None) -> str | None:
    """VS Code puts it in the namespace, Jupyter Server in the kernel's environment."""
    said = (
        shell.user_ns.get("__vsc_ipynb_file__")
        or session_path(os.environ)
        or path_of_cell(cell_id or "")
    )
    if said or not hasattr(shell, "kernel"):
        return str(said) if said else None
    return path_of_session()


def session_path(environment: Mapping[str, str]) -> str | None:
    """The path that Jupyter Server told the kernel; None for one that is no notebook's.

    JupyterLab starts some sessions under an id, and names them when the kernel runs already.
    """
    path = environment.get("JPY_SESSION_NAME", "")
    name = path.replace("\\", "/").rpartition("/")[2]
    return None if not name or _UUID.search(name) else path


def path_of_cell(cell_id: str) -> str | None:
    """The notebook's path in a cell id of VS Code, ``vscode-notebook-cell:/…/a.ipynb#W0``."""
    if not cell_id.startswith("vscode-notebook-cell:"):
        return None
    return unquote(urlsplit(cell_id).path) or None


def _front_end(shell: Any) -> str:
    if not hasattr(shell, "kernel"):
        return "ipython"
    if "google.colab" in sys.modules or "COLAB_JUPYTER_IP" in os.environ:
        return "colab"
    return "vscode" if "__vsc_ipynb_file__" in shell.user_ns else "jupyter"


def _metadata(shell: Any) -> Any:
    """The metadata of the request to run the cell."""
    kernel = getattr(shell, "kernel", None)
    try:
        return kernel.get_parent("shell").get("metadata") if kernel is not None else None
    except (AttributeError, LookupError, TypeError):
        return None


def cell_id_of(metadata: Any) -> str | None:
    """The cell's id in the metadata of a request: ``cellId``, in Colab ``colab.cell_id``."""
    if not isinstance(metadata, Mapping):
        return None
    colab = metadata.get("colab")
    found = metadata.get("cellId") or (colab.get("cell_id") if isinstance(colab, Mapping) else None)
    return found[:1000] if isinstance(found, str) and found else None
