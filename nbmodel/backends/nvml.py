"""What NVIDIA's management library says of the GPUs of a server, and of newer Jetsons.

Source: NVML API reference; on a Jetson it knows names, and not memory or utilisation.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

_LIBRARY = "libnvidia-ml.so.1"
_GPU_SENSOR = 0  # NVML_TEMPERATURE_GPU
_MAX_GPUS = 64


@dataclass(frozen=True, slots=True)
class GpuUse:
    """A GPU and how much of it is in use.

    Attributes:
        name: ``NVIDIA H200``.
        memory_used: Bytes, or None.
        memory_total: Bytes, or None.
        utilisation: Share of the time that it was busy, 0..1, or None.
        temperature: Degrees Celsius, or None.
    """

    name: str
    memory_used: int | None = None
    memory_total: int | None = None
    utilisation: float | None = None
    temperature: float | None = None


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def read_gpus(library: str = _LIBRARY) -> tuple[GpuUse, ...]:
    """The GPUs that the library knows; none where there is no such library."""
    try:
        nvml = ctypes.CDLL(library)
        if nvml.nvmlInit_v2():
            return ()
    except (OSError, AttributeError):
        return ()
    try:
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return tuple(_gpu(nvml, index) for index in range(min(count.value, _MAX_GPUS)))
    except AttributeError:  # an older library
        return ()
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: ctypes.CDLL, index: int) -> GpuUse:
    device = ctypes.c_void_p()
    nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
    name = ctypes.create_string_buffer(96)
    nvml.nvmlDeviceGetName(device, name, len(name))
    memory, busy, heat = _Memory(), _Utilisation(), ctypes.c_uint()
    has_memory = _is_told(nvml.nvmlDeviceGetMemoryInfo, device, ctypes.byref(memory))
    has_busy = _is_told(nvml.nvmlDeviceGetUtilizationRates, device, ctypes.byref(busy))
    has_heat = _is_told(nvml.nvmlDeviceGetTemperature, device, _GPU_SENSOR, ctypes.byref(heat))
    return GpuUse(
        name.value.decode(errors="replace") or "GPU",
        memory_used=memory.used if has_memory else None,
        memory_total=memory.total if has_memory else None,
        utilisation=busy.gpu / 100 if has_busy else None,
        temperature=float(heat.value) if has_heat else None,
    )


def _is_told(ask: Callable[..., int], *arguments: object) -> bool:
    return ask(*arguments) == 0
