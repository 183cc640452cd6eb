"""How a benchmark measures and what it says: times, peaks of memory, rows, the table.

A benchmark is a module with ``rows(folder)``, a generator of :class:`Row`. What it is held
against is measured in the same run, in turn with the subject, so that a busy or slow
machine bends both.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
GIB = 1024 * MIB

Unit = Literal["ms", "µs", "MB", "kB", "%", ""]


@dataclass(frozen=True, slots=True)
class Spread:
    """What several runs of one thing gave.

    Attributes:
        values: One number a run, in ``unit``; none when it could not be measured.
        unit: ``ms``, ``µs``, ``MB`` (10⁶ bytes), ``kB`` (10³ bytes), ``%``, or none: a count.
    """

    values: tuple[float, ...]
    unit: Unit = "ms"

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        if not self.values:
            return "—"
        if len(self.values) == 1:
            return f"{_number(self.median)} {self.unit}".rstrip()
        low, high = _number(min(self.values)), _number(max(self.values))
        return f"{_number(self.median)} {self.unit} ({low}–{high}, n={len(self.values)})"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        measured: How it went.
        against: What it is held against, in words.
        baseline: How that went, or None when the bar alone is the measure.
        bar: The largest value that passes, or None for a row that only informs.
        judged: What is compared with the bar: ``measured`` itself, its ``ratio`` to the
            baseline, or its ``excess`` over it.
        must: What else must hold, in words, for a row that is not judged by a number.
        broken: What went wrong apart from time and memory; empty when nothing did.
    """

    what: str
    measured: Spread
    against: str = ""
    baseline: Spread | None = None
    bar: float | None = None
    judged: Literal["measured", "ratio", "excess"] = "measured"
    must: str = ""
    broken: str = ""

    @property
    def ratio(self) -> float | None:
        """Median over the baseline's median."""
        return None if self.baseline is None else self.measured.median / self.baseline.median

    @property
    def value(self) -> float:
        """The number that is compared with the bar."""
        if self.baseline is None or self.judged == "measured":
            return self.measured.median
        if self.judged == "ratio":
            return self.measured.median / self.baseline.median
        return self.measured.median - self.baseline.median

    @property
    def passes(self) -> bool:
        """Whether nothing is broken and the bar, if there is one, is reached."""
        return not self.broken and (self.bar is None or self.value <= self.bar)

    def cells(self) -> tuple[str, ...]:
        """The texts of the table's columns."""
        return (
            self.what,
            str(self.measured),
            self.against + ("" if self.baseline is None else f": {self.baseline}"),
            "" if self.ratio is None else f"{_number(self.ratio)} ×",
            self._bar_text(),
            self._verdict(),
        )

    def to_json(self) -> dict[str, Any]:
        """All numbers of the row."""
        return {
            "what": self.what,
            "unit": self.measured.unit,
            "measured": list(self.measured.values),
            "against": self.against,
            "baseline": None if self.baseline is None else list(self.baseline.values),
            "ratio": self.ratio,
            "judged": self.judged,
            "bar": self.bar,
            "passes": self.passes,
            "broken": self.broken,
        }

    def _bar_text(self) -> str:
        if self.bar is None:
            return self.must
        if self.judged == "ratio":
            return f"≤ {_number(self.bar)} ×"
        over = " over it" if self.judged == "excess" else ""
        return f"≤ {_number(self.bar)} {self.measured.unit}".rstrip() + over

    def _verdict(self) -> str:
        if self.broken:
            return f"**{_one_line(self.broken)}**"
        if self.bar is None:
            return "pass" if self.must else "—"
        if self.judged == "excess":
            found = f"{_number(self.value)} {self.measured.unit}"
            return f"pass, {found}" if self.passes else f"**missed**, {found}"
        return "pass" if self.passes else "**missed**"


def times_ms(function: Callable[[], object], runs: int) -> Spread:
    """Wall time of each of ``runs`` calls, after one that is not counted."""
    function()
    return Spread(tuple(time_ms(function) for _ in range(runs)))


def in_turn_ms(
    *functions: Callable[[], object], runs: int, warm_up: bool = True
) -> tuple[Spread, ...]:
    """Wall times of several things called in turn, so that the machine's moods hit all."""
    if warm_up:
        for function in functions:
            function()
    taken = [[time_ms(function) for function in functions] for _ in range(runs)]
    return tuple(Spread(tuple(column)) for column in zip(*taken, strict=True))


def time_ms(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1000


def in_child(function: Callable[..., Any], *arguments: str | float) -> Any:
    """Call a module-level function in a fresh interpreter; its JSON answer."""
    return answer_of(start_child(function, *arguments))


def start_child(function: Callable[..., Any], *arguments: str | float) -> subprocess.Popen[str]:
    """Start a module-level function in a fresh interpreter; it prints its JSON answer."""
    call = json.dumps([function.__module__, function.__name__, arguments])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.child", call],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer_of(child: subprocess.Popen[str]) -> Any:
    """What a process of :func:`start_child` answers, waited for."""
    output, errors = child.communicate()
    if child.returncode:
        raise RuntimeError(f"a benchmark's process failed: {errors[-2000:]}")
    return json.loads(output.splitlines()[-1])


def call_by_name(call: str) -> None:
    """The other side of :func:`start_child`."""
    module, name, arguments = json.loads(call)
    print(json.dumps(getattr(importlib.import_module(module), name)(*arguments)))


def peak_mb(function: Callable[[], object]) -> float:
    """How far memory rose above what was held before the call, in MB (10⁶ bytes).

    Resident memory with the pages of mapped files, as the kernel counts it; Linux only.

    Source: proc(5), /proc/self/clear_refs and VmHWM.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    idle = _status_kib("VmRSS")
    function()
    return (_status_kib("VmHWM") - idle) * 1024 / 1e6


def _status_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def table(rows: Sequence[Row]) -> str:
    """The rows as a markdown table."""
    head = ("what", "measured", "against", "ratio", "bar", "verdict")
    lines = [head, ("---",) * len(head), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """One line about where this was measured."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:200]
