"""NVIDIA's C interfaces, spoken to libraries of those interfaces that are compiled here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nbmodel.backends.cuda import (
    Driver,
    Gpu,
    cuda_version,
    read_driver,
    read_tensorrt,
    tensorrt_version,
)
from nbmodel.backends.nvml import GpuUse, read_gpus

DRIVER = """
#include <string.h>
#include <stddef.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "system not yet initialized"; return 0; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int index) { *device = 40 + index; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, device == 40 ? "Orin" : "NVIDIA H200", size); return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = device == 40 ? 32883343360ull : 150754820096ull; return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? (device == 40 ? 8 : 9) : (device == 40 ? 7 : 0);
    return attribute != 75 && attribute != 76;
}
"""
NVML = """
#include <string.h>
typedef void *handle;
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle *device) {
    *device = (handle)0x123456789abcull; return index;
}
int nvmlDeviceGetName(handle device, char *name, unsigned size) {
    strncpy(name, device == (handle)0x123456789abcull ? "NVIDIA H200" : "?", size); return 0;
}
int nvmlDeviceGetMemoryInfo(handle device, unsigned long long *memory) {
    memory[0] = 150754820096ull; memory[1] = 150000000000ull; memory[2] = 754820096ull;
    return TOLD;
}
int nvmlDeviceGetUtilizationRates(handle device, unsigned *rates) {
    rates[0] = 37; rates[1] = 5; return TOLD;
}
int nvmlDeviceGetTemperature(handle device, unsigned sensor, unsigned *degrees) {
    *degrees = 41; return TOLD;
}
"""


@pytest.fixture
def library(tmp_path: Path) -> Callable[..., str]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: cc")

    def build(source: str, **constants: int) -> str:
        path = tmp_path / "library.c"
        path.write_text(source)
        target = path.with_suffix(".so")
        defines = [f"-D{name}={value}" for name, value in constants.items()]
        subprocess.run(
            [compiler, "-shared", "-fPIC", *defines, "-o", str(target), str(path)], check=True
        )
        return str(target)

    return build


def test_the_driver_tells_of_its_gpus(library):
    orin, h200 = Gpu("Orin", (8, 7), 32883343360), Gpu("NVIDIA H200", (9, 0), 150754820096)
    assert read_driver(library(DRIVER, INIT=0, COUNT=2)) == Driver((12, 6), (orin, h200))
    assert (orin.architecture, h200.architecture) == ("sm_87", "sm_90")


@pytest.mark.parametrize(
    ("code", "count", "error"),
    [
        (100, 0, "finds no GPU"),
        (802, 0, "says 'system not yet initialized' (802)"),
        (0, 0, "finds no GPU"),
    ],
)
def test_a_driver_without_a_gpu_says_why(library, code, count, error):
    assert read_driver(library(DRIVER, INIT=code, COUNT=count)) == Driver((12, 6), error=error)


def test_there_may_be_no_driver(library):
    assert read_driver("libnowhere.so.1") is None
    assert read_driver(library("int other(void) { return 0; }")) is None


def test_tensorrt_tells_its_version(library):
    path = library("int getInferLibVersion(void) { return 100300; }")
    assert read_tensorrt(["libnowhere.so", path]) == "10.3.0"
    assert read_tensorrt(["libnowhere.so"]) is None


@pytest.mark.parametrize(
    ("number", "version"),
    [(8601, "8.6.1"), (8502, "8.5.2"), (100300, "10.3.0"), (101401, "10.14.1"), (9000, "9.0.0")],
)
def test_versions_of_tensorrt_are_numbers(number, version):
    assert tensorrt_version(number) == version


@pytest.mark.parametrize(
    ("number", "version"), [(12060, (12, 6)), (11040, (11, 4)), (13000, (13, 0)), (0, (0, 0))]
)
def test_versions_of_cuda_are_numbers(number, version):
    assert cuda_version(number) == version


def test_the_management_library_tells_what_is_in_use(library):
    (gpu,) = read_gpus(library(NVML, INIT=0, TOLD=0))
    assert gpu == GpuUse("NVIDIA H200", 754820096, 150754820096, 0.37, 41.0)


def test_what_it_does_not_tell_is_left_open(library):
    assert read_gpus(library(NVML, INIT=0, TOLD=3)) == (GpuUse("NVIDIA H200"),)


def test_there_may_be_no_management_library(library):
    assert read_gpus("libnowhere.so.1") == ()
    assert read_gpus(library(NVML, INIT=9, TOLD=0)) == ()
