"""How fast a model is: a table, and latency and throughput as curves."""

from __future__ import annotations

import math
from dataclasses import fields

from nbmodel.core.benchmark import Benchmark, Level
from nbmodel.display.base import Result
from nbmodel.display.card import Bar, Block, Card, Chip, Facts, Note, Picture, Table
from nbmodel.display.curves import PANEL_WIDTH, Curve, Panel, curves_svg
from nbmodel.display.quantity import count, file_size, listed
from nbmodel.display.render_text import cell_text

_BLUE, _ORANGE, _GREEN = (59, 130, 246), (200, 120, 0), (34, 160, 84)


class BenchCard(Benchmark, Result):
    """A benchmark that shows itself."""

    @classmethod
    def of(cls, found: Benchmark) -> BenchCard:
        """The card of a benchmark; it is that benchmark, too."""
        return cls(**{field.name: getattr(found, field.name) for field in fields(Benchmark)})

    @property
    def exit_code(self) -> int:
        """Of a command that shows it: 130 when interrupted, 1 when requests failed."""
        if not self.is_whole:
            return 130
        return 1 if self.errors else 0

    def card(self) -> Card:
        """The table of levels, their curves, and what went wrong."""
        chips = [Chip(f"version {self.version}")] if self.version else []
        best = self.best
        if best is not None:
            chips.append(Chip(f"{_rate(best.throughput)} requests/s", "good"))
        if self.errors:
            chips.append(Chip(count(self.errors, "error"), "bad"))
        if not self.is_whole:
            chips.append(Chip("interrupted", "warn"))
        blocks: list[Block] = [self._facts(), self._table()]
        if best is not None:
            blocks.append(self._drawing())
        blocks += [
            Note(f"{times:,} ×: {sentence}", "bad") for sentence, times in self.problems.items()
        ]
        return Card(self.target, chips, blocks, kind="benchmark")

    def _facts(self) -> Facts:
        made = " (made up)" if self.are_generated else ""
        sizes = [
            f"{file_size(size)} {word}"
            for size, word in ((self.request_bytes, "request"), (self.answer_bytes, "answer"))
            if size is not None
        ]
        return Facts([("input", listed(self.inputs) + made), ("body", ", ".join(sizes))])

    def _table(self) -> Table:
        has_errors = any(level.errors for level in self.levels)
        return Table(
            (">at once", ">requests/s", ">p50", ">p90", ">p95", ">p99", ">max", ">requests")
            + ((">errors",) if has_errors else ()),
            [
                (
                    str(level.concurrency),
                    _rate(level.throughput),
                    *(
                        _latency(value)
                        for value in (
                            level.p50_ms,
                            level.p90_ms,
                            level.p95_ms,
                            level.p99_ms,
                            level.max_ms,
                        )
                    ),
                    f"{level.requests:,}",
                    *((f"{level.errors:,}",) if has_errors else ()),
                )
                for level in self.levels
            ],
        )

    def _drawing(self) -> Picture:
        latency = Panel(
            "latency, ms",
            [
                Curve("p50", [level.p50_ms for level in self.levels], _BLUE),
                Curve("p99", [level.p99_ms for level in self.levels], _ORANGE),
            ],
        )
        rates = [level.throughput for level in self.levels]
        throughput = Panel("throughput, requests/s", [Curve("", rates, _GREEN)])
        steps = [str(level.concurrency) for level in self.levels]
        panels = [latency, throughput]
        return Picture(
            curves_svg(panels, steps, "requests at once").encode(),
            width=PANEL_WIDTH * len(panels),
            alt=f"curves of latency and throughput: {'; '.join(map(_said, self.levels))}",
            text=_bars(self.levels),
        )

    __repr__ = Result.__str__


def _said(level: Level) -> str:
    return (
        f"{level.concurrency} at once: median {_latency(level.p50_ms)}, "
        f"99 % within {_latency(level.p99_ms)}, {_rate(level.throughput)} requests/s"
    )


def _bars(levels: tuple[Level, ...]) -> str:
    """Throughput as bars of a terminal."""
    most = max(level.throughput for level in levels) or 1.0
    widest = max(len(str(level.concurrency)) for level in levels)
    lines = ["  throughput by requests at once"]
    for level in levels:
        bar = cell_text(Bar(level.throughput / most))
        lines.append(f"  {level.concurrency:>{widest}}  {bar} {_rate(level.throughput)}/s")
    return "\n".join(lines)


def _latency(ms: float) -> str:
    """Three digits: ``7.1 µs``, ``0.412 ms``, ``5.21 ms``, ``128 ms``."""
    if not math.isfinite(ms):
        return "–"
    if ms < 0.1:
        return f"{ms * 1000:.3g} µs"
    if ms < 1:
        return f"{ms:.3f} ms"
    if ms < 10:
        return f"{ms:.2f} ms"
    return f"{ms:.3g} ms" if ms < 1000 else f"{ms:,.0f} ms"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
