"""What Linux tells of memory: how much a process has, how much is free for a new one.

Elsewhere nothing is told: 0 or None, and limits that need it are left out.

Source: proc(5), the kernel's ``admin-guide/cgroup-v1/memory`` and ``admin-guide/cgroup-v2``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """What a process has of memory, in bytes; 0 where that is not told.

    Attributes:
        now: In memory and in swap.
        peak: Most that it ever had in memory.
        data: What it was given of memory that it can write to, used or not.
    """

    now: int = 0
    peak: int = 0
    data: int = 0


def process_memory(pid: int | str = "self", proc: Path = PROC) -> ProcessMemory:
    """The memory of a process that may be ending, or be gone.

    Not by ``getrusage``: on Linux its peak begins with that of the process it was started by.
    """
    try:
        lines = (proc / str(pid) / "status").read_text().splitlines()
    except OSError:
        return ProcessMemory()
    kib = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if name in ("VmRSS", "VmSwap", "VmHWM", "VmData")
    }
    return ProcessMemory(
        now=(kib.get("VmRSS", 0) + kib.get("VmSwap", 0)) * 1024,
        peak=kib.get("VmHWM", 0) * 1024,
        data=kib.get("VmData", 0) * 1024,
    )


def free_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Bytes that a process may still take without pushing others out; None when unknown.

    That is what the kernel calls available, or less where a container, or the service that
    this process belongs to, has a limit.
    """
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        (kib,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return None
    return max(0, min((kib * 1024, *_left_in_groups(proc, cgroups))))


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """What every group that this process is in still has, of those with a limit."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        if controllers == "":
            names = ("memory.max", "memory.current", "inactive_file")
            root = cgroups
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = cgroups / "memory"
        else:
            continue
        folder = root / path.lstrip("/")
        # Inside a container the path may be that of the host; its own group is the root then.
        for group in (folder, *folder.parents):
            left = _left_in(group, *names)
            if left is not None:
                yield left
            if group == root:
                break


def _left_in(group: Path, limit: str, used: str, reclaimable: str) -> int | None:
    try:
        most = int((group / limit).read_text())
        taken = int((group / used).read_text())
        fields = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Of files that were read and are not needed: given back when memory is wanted.
        returns = sum(int(value) for name, value in fields if name == reclaimable)
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return None
    return most - taken + returns
