"""A real tritonserver, out of a wheel on PyPI, to hold a runtime against.

The wheel has the server and its Python backend, for x86-64 Linux with glibc 2.35 or later.
It is not installed: it is loaded into ``build/tritonserver``, unpacked and run there.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import platform
import random
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nbmodel.storage.lock import file_lock

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "tritonserver"
WHEEL = "nvidia-pytriton==0.7.0"
NUMPY = "numpy<2"  # the stub was built before numpy 2 changed its binary interface
GLIBC = (2, 35)
PORTS = (12_000, 32_000)  # below those that Linux gives away by itself
START_S = 90  # each model's process imports onnxruntime, one after the other


class NoTritonError(Exception):
    """There is no tritonserver on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Triton:
    """A tritonserver that runs.

    Attributes:
        http: ``host:port`` of its HTTP front end.
        grpc: ``host:port`` of its gRPC front end.
        process: The server; its models run in children of it.
    """

    http: str
    grpc: str
    process: subprocess.Popen[bytes]


def installed() -> Path:
    """The folder that the wheel is unpacked in, loaded where it is not there yet.

    Raises:
        NoTritonError: It does not run here, or could not be loaded.
    """
    _check_platform()
    folder = FOLDER / f"{sys.version_info.major}.{sys.version_info.minor}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with file_lock(FOLDER / "lock", wait=True):  # several test processes want it at once
        if not (folder / ".complete").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _pip("download", "--dest", str(folder), WHEEL)
            _pip("install", "--only-binary=:all:", "--target", str(packages_folder()), NUMPY)
            for wheel in folder.glob("*.whl"):
                _unpack(wheel, folder)
            (folder / ".complete").touch()
    return folder


def packages() -> list[str]:
    """What goes first on the path of a model in its Python backend: numpy < 2, then ours."""
    return [str(packages_folder()), *(p for p in sys.path if p.endswith("site-packages"))]


def program(scratch: Path) -> tuple[Path, Path]:
    """A ``tritonserver`` that anybody may start, and the folder of its backends.

    Its Python backend finds onnxruntime.

    Args:
        scratch: An empty folder for both.

    Raises:
        NoTritonError: It does not run here.
    """
    folder = installed()
    environment = {
        "LD_LIBRARY_PATH": _environment(folder)["LD_LIBRARY_PATH"],
        "PYTHONPATH": os.pathsep.join(packages()),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    path = scratch / "bin" / "tritonserver"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, f'exec {_server(folder)} "$@"', ""]))
    path.chmod(0o755)
    return path, _backends(folder, scratch)


def processes(root: int, name: str) -> list[int]:
    """Pids of a program among the processes that one has started, and they theirs.

    Args:
        root: Pid of the first.
        name: Of the program, as it was called.
    """
    found, waiting = [], [root]
    while waiting:
        for file in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                waiting += [int(pid) for pid in file.read_text().split()]
        found += [pid for pid in waiting if pid not in found]
    return [pid for pid in found if _called(pid) == name]


def _called(pid: int) -> str:
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    except OSError:
        return ""
    return Path(os.fsdecode(program)).name


def packages_folder() -> Path:
    """Where the Python backend's own packages are."""
    return FOLDER / f"{sys.version_info.major}.{sys.version_info.minor}" / "packages"


def _check_platform() -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NoTritonError(f"{WHEEL} is for x86-64 Linux, not {sys.platform} {platform.machine()}")
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < GLIBC:
        raise NoTritonError(
            f"{WHEEL} needs glibc {'.'.join(map(str, GLIBC))}, not {name} {version}"
        )
    if sys.version_info >= (3, 13):
        raise NoTritonError(f"its Python backend needs {NUMPY}, which Python 3.13 has no wheel of")
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        raise NoTritonError("its Python backend needs a Python with a shared library")


def _pip(verb: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise NoTritonError(f"pip cannot {verb} {arguments[-1]}: {done.stderr.strip()[-300:]}")


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()
    for program in (_server(folder), _backend_stub(folder)):
        program.chmod(0o755)


def _server(folder: Path) -> Path:
    return folder / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def _backend_stub(folder: Path) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = folder / "pytriton" / "tritonserver" / "python_backend_stubs"
    return stubs / version / "triton_python_backend_stub"


def _backends(folder: Path, scratch: Path) -> Path:
    """The backend folder with the stub of this Python in it."""
    python = scratch / "backends" / "python"
    shutil.copytree(folder / "pytriton" / "tritonserver" / "backends" / "python", python)
    shutil.copy(_backend_stub(folder), python)
    return python.parent


@contextmanager
def triton(
    repository: Path,
    scratch: Path,
    *,
    models: Sequence[str],
    options: Sequence[str] = (),
    ports: tuple[int, int] | None = None,
    disk: str = "",
) -> Iterator[Triton]:
    """Run a tritonserver in explicit mode until the block ends.

    Args:
        repository: The model repository.
        scratch: An empty folder for its backend and its log, ``triton.log``.
        models: What it loads at the start.
        options: Further ones of its command line.
        ports: Of its HTTP and gRPC front ends; None: free ones.
        disk: Size of a disk that it alone has as ``/tmp``, ``1m``; empty: it has everybody's.

    Raises:
        NoTritonError: It does not run here, or no disk can be mounted for it.
        RuntimeError: It did not start; the end of its log is in the message.
    """
    folder = installed()
    http_port, grpc_port = ports or _free_ports(2)
    memory = f"nbmodel-{os.getpid()}-{http_port}-"
    command = [
        str(_server(folder)),
        f"--model-repository={repository}",
        f"--backend-directory={_backends(folder, scratch)}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--http-address=127.0.0.1",
        f"--http-port={http_port}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        "--allow-metrics=false",
        "--exit-timeout-secs=2",
        f"--backend-config=python,shm-region-prefix-name={memory}",
        *options,
    ]
    if disk:
        command = [*_with_disk(disk, [repository, scratch]), *command]
    log = scratch / "triton.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=_environment(folder)
        ) as process,
    ):
        try:
            _wait(process, http_port, log)
            yield Triton(f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}", process)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            # A server that clients are still connected to leaves its models' memory behind.
            for region in Path("/dev/shm").glob(f"{memory}*"):
                region.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk that a tritonserver alone has as ``/tmp``.

    Attributes:
        folder: Where it is seen from here.
    """

    folder: Path

    def fill(self) -> None:
        """Leave no room on it."""
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def empty(self) -> None:
        """Give the room back."""
        (self.folder / "filler").unlink()


def disk_of(server: Triton) -> Disk:
    """The disk of a server that was started with one."""
    return Disk(Path(f"/proc/{server.process.pid}/root/tmp"))


def _with_disk(size: str, kept: Sequence[Path]) -> list[str]:
    """What is put before a command: it has a ``/tmp`` of its own, with some of what is there.

    Raises:
        NoTritonError: That takes rights which this process has not got.
    """
    lines = ["mount --bind /tmp /mnt", f"mount -t tmpfs -o size={size} tmpfs /tmp"]
    for folder in (*map(Path.resolve, kept), ROOT):
        if folder.parts[:2] == ("/", "tmp"):
            path, here = shlex.quote(str(folder)), shlex.quote(f"/mnt{str(folder)[4:]}")
            lines += [f"mkdir -p {path}", f"mount --bind {here} {path}"]
    script = " && ".join(lines)
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        raise NoTritonError(f"no disk can be mounted here: {tried.stderr.strip()[-200:]}")
    return ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh"]


def _environment(folder: Path) -> dict[str, str]:
    libraries = [str(sysconfig.get_config_var("LIBDIR")), str(folder / "nvidia_pytriton.libs")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def _free_ports(count: int) -> list[int]:
    """Ports that the system gives to nobody who asks for any: they may be wanted again later."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    end = log.read_text(errors="replace")[-3000:]
    raise RuntimeError(f"tritonserver was not ready: {end}")
