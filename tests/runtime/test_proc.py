"""What Linux tells of memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from nbmodel.runtime.proc import ProcessMemory, free_memory, process_memory

AVAILABLE = 1_000_000 * 1024
V2, V1 = "0::/jobs/one\n", "4:cpu,memory:/jobs/one\n3:cpuset:/elsewhere\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(
        "MemTotal: 4000000 kB\nMemFree: 1 kB\nMemAvailable: 1000000 kB\n"
    )
    return folder


def group(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def v2(limit: str) -> dict[str, str]:
    return {
        "memory.max": limit,
        "memory.current": "300000",
        "memory.stat": "anon 1\ninactive_file 200000\nactive_file 7",
    }


def v1(limit: str) -> dict[str, str]:
    return {
        "memory.limit_in_bytes": limit,
        "memory.usage_in_bytes": "300000",
        "memory.stat": "inactive_file 5\ntotal_inactive_file 200000",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="of this machine's /proc")
def test_a_process_has_memory() -> None:
    ballast = bytearray(30 << 20)
    here = process_memory()
    assert here.now > 30 << 20
    assert len(ballast) < here.peak
    assert len(ballast) < here.data
    assert process_memory(os.getpid()).now == pytest.approx(here.now, rel=0.2)
    free = free_memory()
    assert free is not None
    assert free > 0


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert process_memory(1, tmp_path) == ProcessMemory()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "status").write_text("Name:\tzombie\nState:\tZ (zombie)\n")
    assert process_memory(1, tmp_path) == ProcessMemory()


def test_swap_counts_too(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text(
        "VmHWM:\t     50 kB\nVmRSS:\t     10 kB\nVmData:\t   90 kB\nVmSwap:\t    3 kB\n"
    )
    assert process_memory(7, tmp_path) == ProcessMemory(13 * 1024, 50 * 1024, 90 * 1024)


def test_a_machine_says_what_is_available(proc: Path, tmp_path: Path) -> None:
    assert free_memory(proc, tmp_path) == AVAILABLE


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param("500000", 400_000, id="less"),
        pytest.param("5000000000", AVAILABLE, id="more"),
        pytest.param("1000", 0, id="used up"),
        pytest.param("max", AVAILABLE, id="none"),
    ],
)
def test_a_group_may_have_less(proc: Path, tmp_path: Path, limit: str, expected: int) -> None:
    (proc / "self" / "cgroup").write_text(V2)
    group(tmp_path / "cgroup" / "jobs" / "one", v2(limit))
    assert free_memory(proc, tmp_path / "cgroup") == expected


@pytest.mark.parametrize(
    ("cgroup", "place", "files"),
    [
        pytest.param(V2, "jobs", v2("500000"), id="the group above"),
        pytest.param(V2, "", v2("500000"), id="a container of its own"),
        pytest.param(V1, "memory/jobs/one", v1("500000"), id="the first kind of groups"),
        pytest.param(V1, "memory", v1("500000"), id="a container of the first kind"),
    ],
)
def test_the_limit_may_be_anywhere_above(
    proc: Path, tmp_path: Path, cgroup: str, place: str, files: Mapping[str, str]
) -> None:
    (proc / "self" / "cgroup").write_text(cgroup)
    group(tmp_path / "cgroup" / place, files)
    assert free_memory(proc, tmp_path / "cgroup") == 400_000


def test_what_does_not_tell_is_unknown(tmp_path: Path) -> None:
    assert free_memory(tmp_path, tmp_path) is None
