"""Curves over a few steps, as an SVG file.

It is shown as a picture, which front ends keep that drop an ``<svg>`` element of the page
and leave its letters lying about. A picture does not know the page's colours, so its grey
letters and its colours are of the middle lightness that reads on white and on black. Curves
differ in dash and mark as well as in colour, and carry their names.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

PANEL_WIDTH = 360  # CSS pixels
_HEIGHT = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 62, 30, 40  # margins around the curves
_TICKS = 4  # about
_INK = "#7a7a7a"  # 4.3 : 1 on white, 4.4 : 1 on #111
_LETTER = 11  # font size
_GAP = _LETTER + 2  # between the names of two curves
_DASHES = ("", "5 3", "2 3")


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve.

    Attributes:
        name: Stands at its end.
        values: One a step; NaN leaves a gap.
        colour: Red, green, blue; 0..255.
    """

    name: str
    values: Sequence[float]
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over the same steps, on one scale from 0.

    Attributes:
        title: What is measured, with its unit.
        curves: At most three.
    """

    title: str
    curves: Sequence[Curve]


def curves_svg(panels: Sequence[Panel], steps: Sequence[str], axis: str) -> str:
    """Panels side by side.

    Args:
        panels: What to draw.
        steps: What stands below each point of a curve, at equal distances.
        axis: What the steps are.
    """
    width = PANEL_WIDTH * len(panels)
    inner = "".join(
        f'<g transform="translate({place * PANEL_WIDTH} 0)">{_panel(panel, steps, axis)}</g>'
        for place, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" '
        f'width="{width}" height="{_HEIGHT}" fill="{_INK}" '
        f'font-family="system-ui,sans-serif" font-size="{_LETTER}">{inner}</svg>'
    )


def _panel(panel: Panel, steps: Sequence[str], axis: str) -> str:
    highest = max((value for curve in panel.curves for value in _known(curve)), default=1.0)
    ticks = nice_ticks(highest)
    parts = [_write(0, 14, panel.title, weight=600)]
    for tick in ticks:
        y = _y(tick, ticks[-1])
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{PANEL_WIDTH - _RIGHT}" stroke="{_INK}" '
            'stroke-opacity=".35"/>'
        )
        parts.append(_write(_LEFT - 6, y + 4, _tick(tick), anchor="end"))
    for place, step in enumerate(steps):
        x = _x(place, len(steps))
        parts.append(_write(x, _HEIGHT - _BOTTOM + 16, step, anchor="middle"))
    middle = (_LEFT + PANEL_WIDTH - _RIGHT) / 2
    parts.append(_write(middle, _HEIGHT - 6, axis, anchor="middle"))
    for place, curve in enumerate(panel.curves):
        parts.append(_curve(curve, place, len(steps), ticks[-1]))
    parts += _names(panel.curves, len(steps), ticks[-1])
    return "".join(parts)


def _curve(curve: Curve, place: int, steps: int, top: float) -> str:
    colour = f"rgb{curve.colour}".replace(" ", "")
    points = [
        (_x(step, steps), _y(value, top))
        for step, value in enumerate(curve.values)
        if math.isfinite(value)
    ]
    dash = f' stroke-dasharray="{_DASHES[place]}"' if _DASHES[place] else ""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    marks = "".join(_mark(place, x, y) for x, y in points)
    return (
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        f'<g fill="{colour}">{marks}</g>'
    )


def _mark(place: int, x: float, y: float) -> str:
    if place == 1:
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'


def _names(curves: Sequence[Curve], steps: int, top: float) -> list[str]:
    """The curves' names at their ends, none over another."""
    ends = sorted((_y(known[-1], top), curve.name) for curve in curves if (known := _known(curve)))
    written: list[str] = []
    floor = -math.inf
    for y, name in ends:
        floor = max(y, floor + _GAP)
        written.append(_write(_x(steps - 1, steps) + 8, floor + 4, name, weight=600))
    return written


def _known(curve: Curve) -> list[float]:
    return [value for value in curve.values if math.isfinite(value)]


def _x(place: int, steps: int) -> float:
    room = PANEL_WIDTH - _LEFT - _RIGHT
    return _LEFT + (room / 2 if steps == 1 else 10 + (room - 20) * place / (steps - 1))


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / top


def nice_ticks(highest: float) -> list[float]:
    """Round numbers from 0 to one that is at least ``highest``."""
    if not highest > 0:
        return [0.0, 1.0]
    rough = highest / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    return [step * place for place in range(math.ceil(highest / step - 1e-9) + 1)]


def _tick(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.6g}"


def _write(x: float, y: float, text: str, *, anchor: str = "start", weight: int = 400) -> str:
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{bold}>{html.escape(text)}</text>'
