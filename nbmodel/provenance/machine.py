"""The machine that this process runs on."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path

from nbmodel.core.provenance import Machine

_MAX_READ = 16 * 1024  # bytes; the first processor's lines


@cache
def machine_here() -> Machine:
    """This machine; what it does not tell is left empty. Takes some milliseconds once."""
    return Machine(
        cpu=cpu_name(_text(Path("/proc/cpuinfo"))) or platform.processor(),
        cores=_cores(),
        memory=_memory(),
        gpus=_gpus(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}".strip(),
        python=_python(),
    )


def cpu_name(cpuinfo: str) -> str:
    """The processor's name in ``/proc/cpuinfo``; empty where it has none, as on ARM servers."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    said = {name.strip().lower(): value.strip() for name, _, value in reversed(lines)}
    return said.get("model name") or said.get("model") or said.get("hardware") or ""


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_READ).decode(errors="replace")
    except OSError:
        return ""


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # only Linux has it
        return os.cpu_count() or 0


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 0


def _gpus() -> tuple[str, ...]:
    from nbmodel.runtime.device import read_device

    # Without tegrastats: it takes seconds, and tells how busy the GPU is.
    device = read_device(tegrastats=None)
    if device.jetson is not None:
        return (device.jetson.board or "Jetson",)
    return tuple(gpu.name for gpu in device.gpus)


def _python() -> str:
    version = platform.python_version()
    name = platform.python_implementation()
    return version if sys.implementation.name == "cpython" else f"{name} {version}"
