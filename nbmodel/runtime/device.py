"""What machine a runtime is on: a Jetson and its JetPack, its GPU and how busy that is.

Source: ``/etc/nv_tegra_release`` and ``tegrastats`` as NVIDIA's Jetson Linux Developer Guide
describes them; the kernel's ``thermal`` and ``devfreq`` files; NVML on servers, and on a Thor,
whose kernel has no such file and whose ``tegrastats`` tells no load.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nbmodel.backends.nvml import GpuUse, read_gpus

FRESH_S = 2.0  # that what was read is told again
_TEGRASTATS_S = 2.0  # that its first line may take
_MIB = 1024 * 1024
_MAX_READ = 4096  # bytes of a file of the system

#: Release of Jetson Linux (L4T) → JetPack. Source: NVIDIA's JetPack archive; for releases since
#: 35.6.2 what users of jetson_stats report of theirs.
JETPACKS = {
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "35.6.3": "5.1.5",
    "35.6.4": "5.1.6",
    "36.2.0": "6.0 DP",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.2.2": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
}
_LINES = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")
_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB\b")
_GPU_LOAD = re.compile(r"\bGR3D(?:_FREQ)? (\d+)%")
_GPU_HEAT = re.compile(r"\bgpu@(-?\d+(?:\.\d+)?)C", re.IGNORECASE)
#: What a Jetson's sensor says while the GPU sleeps.
_ASLEEP = -256.0


@dataclass(frozen=True, slots=True)
class Jetson:
    """What board this is, and which of NVIDIA's systems is on it.

    Attributes:
        board: ``NVIDIA Jetson AGX Orin Developer Kit``; empty when it does not say.
        l4t: Release of Jetson Linux, ``36.4.3``; empty where a container hides it.
        jetpack: ``6.2``; only ``6`` for a release that is not known; or empty.
    """

    board: str
    l4t: str = ""
    jetpack: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """What machine a runtime is on.

    Attributes:
        jetson: Which Jetson; None where it is none.
        gpus: Its GPUs, by number; none where there are none of NVIDIA's.
    """

    jetson: Jetson | None = None
    gpus: tuple[GpuUse, ...] = ()

    def to_json(self) -> dict[str, Any] | None:
        """A JSON object for the status; None when there is nothing to tell."""
        if self.jetson is None and not self.gpus:
            return None
        jetson = self.jetson
        return {
            "board": jetson.board or None if jetson is not None else None,
            "l4t": jetson.l4t or None if jetson is not None else None,
            "jetpack": jetson.jetpack or None if jetson is not None else None,
            "gpus": [asdict(gpu) for gpu in self.gpus],
        }


# Rules


def l4t_of(text: str) -> str:
    """The release in ``/etc/nv_tegra_release``: ``36.4.3``; empty when there is none."""
    match = _RELEASE.search(text)
    if match is None:
        return ""
    revision = match[2].rstrip(".")
    return f"{match[1]}.{revision if '.' in revision else f'{revision}.0'}"


def jetpack_of(l4t: str) -> str:
    """The JetPack of a release of Jetson Linux; its first number where no more is known."""
    return JETPACKS.get(l4t) or _LINES.get(l4t.partition(".")[0], "")


def use_of_tegrastats(line: str, name: str = "GPU") -> GpuUse:
    """What a line of ``tegrastats`` says of the GPU, whose memory is the machine's.

    Args:
        line: As it writes them every interval.
        name: What the GPU is called.
    """
    ram, load, heat = _RAM.search(line), _GPU_LOAD.search(line), _GPU_HEAT.search(line)
    return GpuUse(
        name,
        memory_used=int(ram[1]) * _MIB if ram else None,
        memory_total=int(ram[2]) * _MIB if ram else None,
        utilisation=_share(int(load[1]), 100) if load else None,
        temperature=_awake(float(heat[1])) if heat else None,
    )


def memory_of_meminfo(text: str) -> tuple[int, int] | None:
    """Bytes in use and in all, of ``/proc/meminfo``; None when it does not say."""
    lines = (line.partition(":") for line in text.splitlines())
    kib = {name: rest.split()[0] for name, _, rest in lines if rest.split()}
    try:
        total, free = int(kib["MemTotal"]) * 1024, int(kib["MemAvailable"]) * 1024
    except (KeyError, ValueError):
        return None
    return total - free, total


def _share(part: int, whole: int) -> float:
    return min(max(part / whole, 0.0), 1.0)


def _awake(degrees: float) -> float | None:
    return None if degrees <= _ASLEEP else degrees


# Reading


def read_device(
    root: Path = Path("/"),
    *,
    tegrastats: str | None = "tegrastats",
    nvml: Callable[[], tuple[GpuUse, ...]] = read_gpus,
) -> Device:
    """Look at this machine.

    Args:
        root: Where its files are.
        tegrastats: The program, or None.
        nvml: Asks NVML for the GPUs.
    """
    jetson = read_jetson(root)
    if jetson is None:
        return Device(gpus=nvml())
    gpu = read_tegra(root)
    if gpu.utilisation is None:  # NVML answers at once, tegrastats after its first interval
        gpu = _completed(gpu, next(iter(nvml()), gpu))
    if gpu.utilisation is None and tegrastats is not None:
        gpu = _completed(gpu, use_of_tegrastats(_tegrastats_line(tegrastats)))
    return Device(jetson, (gpu,))


def _completed(gpu: GpuUse, said: GpuUse) -> GpuUse:
    """A GPU with the load, and the temperature where that was not known, that another says."""
    heat = said.temperature if gpu.temperature is None else gpu.temperature
    return replace(gpu, utilisation=said.utilisation, temperature=heat)


def read_jetson(root: Path = Path("/")) -> Jetson | None:
    """Which Jetson this is; None when it is none."""
    board = _text(root / "proc/device-tree/model")
    l4t = l4t_of(_text(root / "etc/nv_tegra_release"))
    if not l4t and "jetson" not in board.lower():
        return None
    return Jetson(board, l4t, jetpack_of(l4t))


def read_tegra(root: Path = Path("/")) -> GpuUse:
    """What the kernel says of a Jetson's GPU, whose memory is the machine's."""
    memory = memory_of_meminfo(_text(root / "proc/meminfo"))
    load = _number(_first(root, ("sys/devices/gpu.0/load", "sys/devices/platform/*gpu*/load",
                                 "sys/class/devfreq/*gpu*/device/load")))  # fmt: skip
    heat = _number(_sensor(root))
    return GpuUse(
        "GPU of the Jetson",
        memory_used=None if memory is None else memory[0],
        memory_total=None if memory is None else memory[1],
        utilisation=None if load is None else _share(load, 1000),
        temperature=None if heat is None else _awake(heat / 1000),
    )


class DeviceWatch:
    """What machine this is, read at most every two seconds. For use from any thread.

    Args:
        read: Looks at the machine.
    """

    def __init__(self, read: Callable[[], Device] = read_device) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._found = Device()
        self._until = 0.0

    def look(self) -> Device:
        """The machine, as it is now or was just now."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self._read()
                self._until = time.monotonic() + FRESH_S
            return self._found


def _first(root: Path, patterns: tuple[str, ...]) -> Path | None:
    found = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return next(found, None)


def _sensor(root: Path) -> Path | None:
    """The temperature of the thermal zone called after the GPU."""
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        if _text(zone / "type").lower().startswith("gpu"):
            return zone / "temp"
    return None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_READ).decode(errors="replace").strip("\0\n ")
    except OSError:  # also while a sensor sleeps
        return ""


def _number(path: Path | None) -> int | None:
    try:
        return None if path is None else int(_text(path))
    except ValueError:
        return None


def _tegrastats_line(program: str) -> str:
    """The first line that it writes; empty when there is no such program, or it says nothing."""
    if shutil.which(program) is None:
        return ""
    try:
        process = subprocess.Popen(
            [program, "--interval", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return ""
    with process:
        timer = threading.Timer(_TEGRASTATS_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            return process.stdout.readline(_MAX_READ).decode(errors="replace")
        finally:
            timer.cancel()
            with contextlib.suppress(OSError):
                process.kill()
