"""What the NVIDIA driver and TensorRT of this machine say of themselves.

Asked through their C interfaces, so that no Python package of NVIDIA's is needed.

Source: CUDA Driver API; NvInferRuntime.h (``getInferLibVersion``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

_DRIVER = "libcuda.so.1"
_TENSORRT = (
    "libnvinfer.so.11",
    "libnvinfer.so.10",
    "libnvinfer.so.9",
    "libnvinfer.so.8",
    "libnvinfer.so",
)
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
_MAX_GPUS = 64


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that CUDA can use.

    Attributes:
        name: ``Orin``, ``NVIDIA H200``.
        capability: Major and minor number of its architecture: (8, 7) is Orin's.
        memory_bytes: That it has; on a Jetson that is the machine's.
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int

    @property
    def architecture(self) -> str:
        """``sm_87``."""
        major, minor = self.capability
        return f"sm_{major}{minor}"


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver.

    Attributes:
        cuda: Newest CUDA that it runs, major and minor.
        gpus: By CUDA's numbers.
        error: Why it shows none; empty when it does.
    """

    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...] = ()
    error: str = ""


def read_driver(library: str = _DRIVER) -> Driver | None:
    """What the driver says; None when there is none."""
    try:
        cuda = ctypes.CDLL(library)
        number = ctypes.c_int()
        code = cuda.cuInit(0)
        cuda.cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    version = cuda_version(number.value)
    if code:
        return Driver(version, error=_said(cuda, code))
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    gpus = tuple(_gpu(cuda, index) for index in range(min(count.value, _MAX_GPUS)))
    return Driver(version, gpus, "" if gpus else "finds no GPU")


def read_tensorrt(libraries: Sequence[str] = _TENSORRT) -> str | None:
    """The version of TensorRT's library, ``10.3.0``; None when there is none."""
    for library in libraries:
        try:
            number = ctypes.CDLL(library).getInferLibVersion()
        except (OSError, AttributeError):
            continue
        return tensorrt_version(number)
    return None


def cuda_version(number: int) -> tuple[int, int]:
    """Major and minor of a number such as 12060."""
    return number // 1000, number % 1000 // 10


def tensorrt_version(number: int) -> str:
    """``10.3.0`` of 100300, ``8.6.1`` of 8601: from version 10 on there are two more digits."""
    if number >= 100_000:
        return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device, total = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    capability = (attribute(_MAJOR), attribute(_MINOR))
    return Gpu(name.value.decode(errors="replace"), capability, total.value)


def _said(cuda: ctypes.CDLL, code: int) -> str:
    if code == _NO_DEVICE:
        return "finds no GPU"
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(code, ctypes.byref(text))
    words = (text.value or b"").decode(errors="replace") or "error"
    return f"says {words!r} ({code})"
