"""MLflow, installed into an environment of its own beside ours, and its tracking server."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nbmodel.storage.lock import file_lock

_LISTENS = re.compile(r"running on http://127\.0\.0\.1:([0-9]+)")
_START_S = 90.0
_INSTALL_S = 240
# What its server and registry need; numpy, pandas and onnx are ours.
_NEEDED = ("mlflow-skinny>=3", "flask", "flask-cors", "graphene", "alembic", "sqlalchemy")


def mlflow_python(folder: Path) -> Path:
    """The interpreter of an environment with MLflow, made when it is not there yet.

    Skips the test, with the reason, where it cannot be installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    with file_lock(folder / "lock", wait=True):  # several workers of a test run
        if not (folder / "made").exists():
            problem = _make(folder, python)
            if problem:
                pytest.skip(f"MLflow cannot be installed: {problem}")
            (folder / "made").touch()
    return python


def _make(folder: Path, python: Path) -> str:
    shutil.rmtree(folder / "lib", ignore_errors=True)
    venv.create(folder, with_pip=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    (packages / "zz_ours.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    quiet = [str(python), "-m", "pip", "--disable-pip-version-check"]
    own = "import importlib.metadata as m; print(m.version('mlflow-skinny'))"
    try:
        _run([*quiet, "install", "-q", *_NEEDED])
        # Of one version: a mirror may have one of the two earlier.
        wanted = _run([str(python), "-c", own]).strip()
        _run([*quiet, "install", "-q", "--no-deps", f"mlflow=={wanted}"])
    except subprocess.SubprocessError as exc:
        said = getattr(exc, "stderr", None) or str(exc)
        return str(said).strip().splitlines()[-1][:200]
    return ""


def _run(words: list[str]) -> str:
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
    return done.stdout


def run(python: Path, script: str, *words: str, **environment: str) -> str:
    """What a script prints in that environment."""
    done = subprocess.run(
        [str(python), "-c", script, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
        | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@contextmanager
def mlflow_server(python: Path, folder: Path) -> Iterator[str]:
    """A tracking server over SQLite that serves artifacts; its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    words = [
        str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "0",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts", "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    with (
        log.open("wb") as said,
        subprocess.Popen(
            words, stdout=said, stderr=said, cwd=folder, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{_port(log, process)}"
        finally:
            os.killpg(process.pid, 15)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _START_S
    while (found := _LISTENS.search(log.read_text())) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise OSError(f"MLflow did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)
    return int(found[1])
