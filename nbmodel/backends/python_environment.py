"""Environments of Python models: what their ``requirements.txt`` names, installed once.

An environment belongs to the requirements, the wheels in the folder ``wheels`` beside them and
the interpreter, so versions that require the same share it. It lies in a folder of its own,
which is only there when it is whole, with a note of the models that use it::

    engines/python/5f1e…/bin/python     the interpreter
    engines/python/5f1e…/users.txt      folders of models
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nbmodel.backends.owner import is_left, owner
from nbmodel.errors import InferenceError, PluginError, UnavailableError

REQUIREMENTS = "requirements.txt"
WHEELS = "wheels"
FOLDER = "python"  # under the folder of all that backends make
INSTALL_S = 900.0  # that installing may take
_USERS = "users.txt"
_MAX_REQUIREMENTS = 64 << 10  # bytes
_TOLD = 100  # characters of a line that is told
_QUOTED = 600  # characters of an installer's last words
_NETWORK = re.compile(
    r"connection|timed? ?out|name resolution|resolve host|dns error|error sending request|"
    r"unreachable|proxy",
    re.IGNORECASE,
)
#: Variables that an installer may have: how it reaches its index, and no secret of ours.
_KEPT = re.compile(
    r"PATH|LANG|LC_\w+|TZ|HOME|TMPDIR|(?:PIP|UV)_\w+|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE|"
    r"(?:HTTPS?|NO|ALL)_PROXY|(?:https?|no|all)_proxy"
)

_lock = threading.Lock()


def requirements_of(folder: Path) -> Path | None:
    """The requirements of the model in a folder; None: it has none.

    Raises:
        InferenceError: The file is too large to be one.
    """
    file = folder / REQUIREMENTS
    if not file.is_file():
        return None
    if file.stat().st_size > _MAX_REQUIREMENTS:
        raise InferenceError(
            f"{REQUIREMENTS} has {file.stat().st_size:,} bytes, expected at most "
            f"{_MAX_REQUIREMENTS:,}"
        )
    lines = (line.strip() for line in file.read_text(errors="replace").splitlines())
    return file if any(line and not line.startswith("#") for line in lines) else None


def prepare(folder: Path, root: Path, tell: Callable[[str], None]) -> Path:
    """The interpreter that has what a model requires; installed when it is not there yet.

    Args:
        folder: Of the model, with ``requirements.txt`` and maybe ``wheels``.
        root: Of all environments.
        tell: Called with what is being done.

    Raises:
        InferenceError: What is required cannot be installed.
        UnavailableError: It cannot just now: the network or the disk is in the way.
        PluginError: There is no installer here.
    """
    home = root / key_of(folder)
    with _lock:  # two services of this process may want the same
        if not _python(home).exists():
            shutil.rmtree(home, ignore_errors=True)  # its interpreter has gone
            _make(home, folder, tell)
        _note_user(home, folder)
    return _python(home)


def sweep_environments(engines: Path) -> int:
    """Remove environments that no model's folder uses any more; how many went.

    Args:
        engines: Folder of all that backends make.
    """
    gone = 0
    for home in (engines / FOLDER).glob("*"):
        if home.name.startswith(".") and not is_left(home.name):
            continue  # another process makes it just now
        if not any(Path(user).is_dir() for user in _users(home)):
            shutil.rmtree(home, ignore_errors=True)
            gone += 1
    return gone


def key_of(folder: Path) -> str:
    """What an environment is called: a digest of all that decides what is in it."""
    total = hashlib.sha256(f"{sys.version}\n{sys.executable}\n".encode())
    total.update((folder / REQUIREMENTS).read_bytes())
    for wheel in _wheels(folder):
        with wheel.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        total.update(f"\n{wheel.name} {digest.hexdigest()}".encode())
    return total.hexdigest()[:24]


def _make(home: Path, folder: Path, tell: Callable[[str], None]) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    making = home.parent / f".{home.name}.{owner()}"
    shutil.rmtree(making, ignore_errors=True)
    tell("making an environment for its requirements")
    import venv

    try:
        venv.EnvBuilder(symlinks=os.name != "nt").create(making)
        (making / _USERS).write_text(f"{folder}\n", encoding="utf-8")
        _install(making, folder, tell)
        making.rename(home)
    except OSError as exc:
        if not _python(home).exists():  # else another process was faster
            raise UnavailableError(f"no environment can be made in {home.parent}: {exc}") from exc
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _install(making: Path, folder: Path, tell: Callable[[str], None]) -> None:
    arguments = ["--requirement", str(folder / REQUIREMENTS)]
    if _wheels(folder):
        arguments += ["--no-index", "--find-links", str(folder / WHEELS)]
    command = [*_installer(_python(making)), *arguments]
    environment = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    code, words = _run(command, environment, making, tell)
    if code == 0:
        return
    text = " ".join(words.split())[-_QUOTED:]
    message = f"cannot install {REQUIREMENTS}: {text or f'exit code {code}'}"
    if code is None:
        raise UnavailableError(f"{message}; it was given up after {INSTALL_S:g} s")
    if _NETWORK.search(words):
        raise UnavailableError(message, hint=f"put the wheels into {WHEELS}/ beside it")
    raise InferenceError(
        message, hint=f"correct {REQUIREMENTS}, or put the wheels into {WHEELS}/ beside it"
    )


def _installer(python: Path) -> Sequence[str]:
    """What comes before the arguments; nothing is cached: it is installed once."""
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--no-cache", "--python", str(python)]
    from importlib.util import find_spec

    if find_spec("pip") is None:
        raise PluginError(
            "a model's requirements need uv or pip, and neither is installed",
            hint="install uv, or python -m ensurepip",
        )
    quiet = ["--disable-pip-version-check", "--no-input", "--no-cache-dir", "--progress-bar", "off"]
    return [sys.executable, "-m", "pip", "--python", str(python), "install", *quiet]


def _run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    tell: Callable[[str], None],
) -> tuple[int | None, str]:
    """Exit code (None: it took too long) and last words of an installer."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            text=True,
            errors="replace",
        )
    except OSError as exc:
        raise UnavailableError(f"the installer cannot be started: {exc}") from exc
    until = time.monotonic() + INSTALL_S
    timer = threading.Timer(INSTALL_S, process.kill)
    timer.start()
    words = ""
    try:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                words = (words + line)[-4 * _QUOTED :]
                if line.strip():
                    tell(f"installing its requirements: {line.strip()[:_TOLD]}")
        code = process.wait()
    finally:
        timer.cancel()
        with contextlib.suppress(OSError):
            process.kill()
    return (None if code and time.monotonic() >= until else code), words


def _python(home: Path) -> Path:
    return home / "bin" / "python"


def _wheels(folder: Path) -> list[Path]:
    return sorted((folder / WHEELS).glob("*.whl"))


def _users(home: Path) -> list[str]:
    try:
        return (home / _USERS).read_text(encoding="utf-8").split("\n")[:-1]
    except OSError:
        return []


def _note_user(home: Path, folder: Path) -> None:
    if str(folder) not in _users(home):
        with contextlib.suppress(OSError), (home / _USERS).open("a", encoding="utf-8") as file:
            file.write(f"{folder}\n")
