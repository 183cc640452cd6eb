"""What machine a runtime is on, as facts for people.

From the JSON of a runtime's status, which may be older or newer than this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nbmodel.core.summary import entries, number_of
from nbmodel.display.conditions import said
from nbmodel.display.quantity import file_size, percent

_MAX_GPUS = 16  # that are told of


def device_facts(device: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values; none of a machine that there is nothing to say about.

    Args:
        device: ``device`` of a status, maybe empty.
    """
    board = board_words(device)
    if board:
        yield "device", board
    gpus = entries(device, "gpus")[:_MAX_GPUS]
    for number, gpu in enumerate(gpus):
        yield "GPU" if len(gpus) == 1 else f"GPU {number}", gpu_words(gpu)


def board_words(device: Mapping[str, Any]) -> str:
    """``NVIDIA Jetson AGX Orin, JetPack 6.2 (L4T 36.4.3)``; empty for other machines."""
    jetpack, l4t = said(device, "jetpack"), said(device, "l4t")
    system = f"JetPack {jetpack}" if jetpack else ""
    release = f"L4T {l4t}" if l4t else ""
    both = f"{system} ({release})" if system and release else system or release
    return ", ".join(part for part in (said(device, "board"), both) if part)


def gpu_words(gpu: Mapping[str, Any]) -> str:
    """``NVIDIA H200: 12.0 % busy, 3.1 GB of 150 GB, 41 °C``."""
    keys = ("utilisation", "memory_used", "memory_total", "temperature")
    busy, used, total, heat = (number_of(gpu, key) for key in keys)
    parts = []
    if busy is not None:
        parts.append(f"{percent(busy)} busy")
    if used is not None and total:
        parts.append(f"{file_size(int(used))} of {file_size(int(total))}")
    if heat is not None:
        parts.append(f"{heat:.0f} °C")
    name = said(gpu, "name") or "GPU"
    return f"{name}: {', '.join(parts)}" if parts else name
