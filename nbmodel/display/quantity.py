"""Numbers, sizes and times as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timezone

from nbmodel.core.version import parse_time


def file_size(count: int) -> str:
    """Bytes in decimal units: ``14.2 MB``, as file managers and registries show them."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def number(value: float) -> str:
    """Four significant digits; integers in full: ``0.9871``, ``1.5e-05``, ``12345``."""
    if isinstance(value, int):
        return str(value)
    if math.isfinite(value) and value == round(value) and abs(value) < 1e6:
        return f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.4g}"


def signed(value: float) -> str:
    """A difference: ``+0.012``, ``−3``."""
    if value == 0 or math.isnan(value):
        return number(value)
    return f"{'+' if value > 0 else '−'}{number(abs(value))}"


def percent(share: float) -> str:
    """A share of 1 as a percentage: ``98.4 %``; rounded neither to 0 nor to 100."""
    if not math.isfinite(share):
        return "–"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{min(share, 0.999) if share < 1 else share:.1%}".replace("%", " %")


def moment(time: datetime | str) -> str:
    """A time to the second, UTC: ``2026-02-28 13:36:51``; empty for an unknown one."""
    if isinstance(time, str):
        if not time:
            return ""
        time = parse_time(time)
    return time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S") if time.timestamp() else ""


def duration(seconds: float) -> str:
    """A span: ``0.4 ms``, ``43 ms``, ``3.2 s``, ``2 min 5 s``, ``3 h 12 min``."""
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def listed(items: Iterable[str], limit: int = 200) -> str:
    """Items with dots between them, which may have commas inside: ``a, b · c · …``.

    Args:
        items: In the order to show them.
        limit: Characters; what does not fit is left out whole, a long first item is cut.
    """
    text = ""
    for item in items:
        more = f"{text} · {item}" if text else item
        if len(more) > limit:
            return f"{text} · …" if text else f"{item[: limit - 1].rstrip()}…"
        text = more
    return text


def count(number_of: int, noun: str) -> str:
    """``1 version``, ``3 versions``."""
    return f"{number_of:,} {noun if number_of == 1 else noun + 's'}"
