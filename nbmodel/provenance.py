"""Where an upload comes from, as far as this process can tell: notebook, cell, git.

Nothing here fails: a fact that cannot be found is left out. IPython is looked for among
the loaded modules and never imported.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nbmodel.core.lineage import Lineage

GIT_TIMEOUT_S = 2.0  # a huge working tree must not hold up an upload
MAX_CODE = 64 * 1024  # characters of a cell that are kept
# Module → distribution, for the packages whose version changes what a model is.
_FRAMEWORKS = {
    "catboost": "catboost",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "numpy": "numpy",
    "onnx": "onnx",
    "pandas": "pandas",
    "skl2onnx": "skl2onnx",
    "sklearn": "scikit-learn",
    "tensorflow": "tensorflow",
    "torch": "torch",
    "xgboost": "xgboost",
}


def lineage_here(parents: Sequence[str] = ()) -> Lineage:
    """The lineage of something made by the code that runs now.

    Args:
        parents: Manifest digests of the versions it was made from.
    """
    return Lineage(
        parents=tuple(parents),
        user=_user(),
        packages=_packages(),
        **_notebook(),
        **_git(Path.cwd()),
    )


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return None


def _packages() -> dict[str, str]:
    found = {}
    for module, distribution in _FRAMEWORKS.items():
        if module in sys.modules:
            try:
                found[distribution] = version(distribution)
            except PackageNotFoundError:
                continue
    return found


def _notebook() -> dict[str, Any]:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        script = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "")
        is_command = script.stem in ("", "nbmodel") or script.parent.name == "nbmodel"
        return {} if is_command else {"notebook": script.name}
    # As typed: the other list has magics already turned into calls.
    cells: Sequence[str] = shell.history_manager.input_hist_raw
    return {
        "notebook": _notebook_path(shell.user_ns),
        # Not shell.execution_count, which some versions of IPython raise before the cell
        # runs and others after; the list starts with an empty entry for cell 0.
        "cell": len(cells) - 1 if len(cells) > 1 else None,
        "code": cells[-1][:MAX_CODE] if cells else None,
    }


def _notebook_path(namespace: Mapping[str, Any]) -> str | None:
    """VS Code puts it in the namespace, Jupyter Server in the kernel's environment."""
    path = namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return Path(path).name if path else None


def _git(folder: Path) -> dict[str, Any]:
    # The look for .git saves a process, a few milliseconds, outside of repositories.
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return {}
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    facts: dict[str, Any] = {"git_dirty": False}
    for line in done.stdout.splitlines():
        if line.startswith("# branch.oid ") and not line.endswith("(initial)"):
            facts["git_commit"] = line.rpartition(" ")[2]
        elif line.startswith("# branch.head ") and not line.endswith("(detached)"):
            facts["git_branch"] = line.rpartition(" ")[2]
        elif not line.startswith("#"):
            facts["git_dirty"] = True
    return facts
