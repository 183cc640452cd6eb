"""The OpenSSF's own ``model_signing``, in an environment of its own.

Beside nbmodel it would pin protobuf and pydantic for everything else. It is installed once,
below ``build/``, when a test or a benchmark first asks for it.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / "build" / "peers" / "model_signing"
REQUIREMENTS = ("model-signing>=1.1,<2", "pyOpenSSL")  # the latter for certificates
_INSTALL_S = 240.0


def model_signing() -> Path:
    """The program; installed when it is not there.

    Raises:
        OSError: It cannot be installed; the message says why.
    """
    program, stamp = HOME / "bin" / "model_signing", HOME / ".installed"
    HOME.parent.mkdir(parents=True, exist_ok=True)
    with HOME.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes of tests ask at once
        if not stamp.is_file():
            shutil.rmtree(HOME, ignore_errors=True)
            try:
                _run(sys.executable, "-m", "venv", str(HOME))
                _run(
                    *(str(HOME / "bin" / "python"), "-m", "pip", "install", "-qq"),
                    *("--disable-pip-version-check", *REQUIREMENTS),
                )
            except (subprocess.SubprocessError, OSError) as exc:
                said = getattr(exc, "stderr", None) or str(exc)
                raise OSError(f"model_signing cannot be installed: {said[-300:]}") from exc
            stamp.touch()
    return program


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
