"""Why a provider cannot be used, in plain words: a table of machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nbmodel.backends.cuda import Driver, Gpu
from nbmodel.backends.onnx_lacks import Here, lack, lack_of, look, smallest_model, try_cuda

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
T4 = Gpu("Tesla T4", (7, 5), 16 << 30)
ORIN = Gpu("Orin", (8, 7), 32 << 30)
SERVER = Here(
    "1.31.1",
    (TENSORRT, CUDA, CPU),
    "13.0",
    ("cp312-cp312-manylinux_2_28_x86_64",),
    driver=Driver((13, 0), (T4, T4)),
)
JETSON = Here(
    "1.31.1",
    (CUDA, CPU),
    "13.0",
    ("cp310-cp310-manylinux_2_34_aarch64",),
    machine="aarch64",
    is_jetson=True,
    driver=Driver((13, 0), (ORIN,)),
)
AI_LAB = replace(
    JETSON,
    version="1.23.0",
    providers=(TENSORRT, CUDA, CPU),
    cuda="12.6",
    tags=("cp310-cp310-linux_aarch64",),
    driver=Driver((12, 6), (ORIN,)),
)
MISSING = "cannot open shared object file: No such file or directory"


def without(provider: str, library: str) -> Here:
    return replace(SERVER, failures=((provider, f"{library}: {MISSING}"),))


#: provider, GPU, what there is, the reason, the start of the hint
LACKS = {
    "CPU wheel": (
        "cuda",
        0,
        replace(SERVER, providers=(CPU,), driver=None),
        "onnxruntime 1.31.1 here is built without CUDA",
        "pip uninstall onnxruntime; pip install onnxruntime-gpu",
    ),
    "CPU wheel on a Jetson": (
        "tensorrt",
        0,
        replace(JETSON, providers=(CPU,)),
        "onnxruntime 1.31.1 here is built without TensorRT",
        "install onnxruntime-gpu from the Jetson AI Lab's index",
    ),
    "PyPI's wheel for Arm servers has no TensorRT": (
        "tensorrt",
        0,
        JETSON,
        "onnxruntime 1.31.1 from PyPI for aarch64 has no TensorRT provider",
        "install onnxruntime-gpu from the Jetson AI Lab's index",
    ),
    "no driver": (
        "cuda",
        0,
        replace(SERVER, driver=None),
        "there is no NVIDIA driver: libcuda.so.1 cannot be loaded",
        "install the driver; a container needs --runtime=nvidia",
    ),
    "an old driver": (
        "cuda",
        0,
        replace(SERVER, driver=Driver((12, 2), (T4,))),
        (
            "the NVIDIA driver is too old: it runs CUDA 12.2, onnxruntime 1.31.1 is built for "
            "CUDA 13.0"
        ),
        "install a newer NVIDIA driver, or an onnxruntime-gpu for an older CUDA",
    ),
    "an old JetPack": (
        "cuda",
        0,
        replace(JETSON, driver=Driver((11, 4), (ORIN,))),
        (
            "the NVIDIA driver is too old: it runs CUDA 11.4, onnxruntime 1.31.1 is built for "
            "CUDA 13.0"
        ),
        "install a newer JetPack",
    ),
    "a driver without a GPU": (
        "cuda",
        0,
        replace(SERVER, driver=Driver((13, 0), error="finds no GPU")),
        "the NVIDIA driver finds no GPU",
        "look at what nvidia-smi says",
    ),
    "a GPU that is not there": (
        "cuda",
        2,
        SERVER,
        "there is no GPU 2: found 0 (Tesla T4), 1 (Tesla T4)",
        "set another device_id",
    ),
    "no cuDNN": (
        "cuda",
        0,
        without("cuda", "libcudnn.so.9"),
        "the library libcudnn.so.9 is missing",
        "install cuDNN 9, or name its folder in LD_LIBRARY_PATH",
    ),
    "no CUDA": (
        "cuda",
        0,
        without("cuda", "libcublasLt.so.13"),
        "the library libcublasLt.so.13 is missing",
        "install CUDA 13, or name its folder",
    ),
    "no cuFFT, whose number is its own": (
        "cuda",
        0,
        without("cuda", "libcufft.so.11"),
        "the library libcufft.so.11 is missing",
        "install the libraries of CUDA, or name",
    ),
    "no TensorRT": (
        "tensorrt",
        0,
        without("tensorrt", "libnvinfer.so.10"),
        "the library libnvinfer.so.10 is missing",
        "install TensorRT 10, or name",
    ),
    "a library of nobody": (
        "tensorrt",
        0,
        without("tensorrt", "libstrange.so.3"),
        "the library libstrange.so.3 is missing",
        "install what it belongs to",
    ),
    "a library that is not listed for want of another": (
        "cuda",
        0,
        replace(without("cuda", "libcudnn.so.9"), providers=(CPU,)),
        "the library libcudnn.so.9 is missing",
        "install cuDNN 9",
    ),
    "a library for another system": (
        "cuda",
        0,
        replace(SERVER, failures=(("cuda", "version `GLIBC_2.38' not found"),)),
        "its library cannot be loaded: version `GLIBC_2.38' not found",
        "pip uninstall",
    ),
}


@pytest.mark.parametrize(
    ("provider", "device", "here", "reason", "hint"), LACKS.values(), ids=LACKS
)
def test_a_provider_that_cannot_be_used_has_a_plain_reason(provider, device, here, reason, hint):
    found = lack(provider, here, device)
    assert found is not None
    assert found.reason == reason
    assert found.hint.startswith(hint)


WELL = {
    "a server": ("cuda", 1, SERVER),
    "its TensorRT": ("tensorrt", 0, SERVER),
    "the Jetson AI Lab's wheel": ("tensorrt", 0, AI_LAB),
    "a newer driver": ("cuda", 0, replace(SERVER, cuda="12.4")),
    "a build that does not say for which CUDA it is": ("cuda", 0, replace(SERVER, cuda="")),
    "the CPU": ("cpu", 0, replace(SERVER, providers=(CPU,), driver=None)),
    "what another provider lacks": ("cuda", 0, without("tensorrt", "libnvinfer.so.10")),
}


@pytest.mark.parametrize(("provider", "device", "here"), WELL.values(), ids=WELL)
def test_nothing_is_said_of_what_is_there(provider, device, here):
    assert lack(provider, here, device) is None


NO_KERNEL = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. "
    "Name:'' Status Message: CUDA error cudaErrorNoKernelImageForDevice:no kernel image is "
    "available for execution on the device"
)
OLD_DRIVER = (
    "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; "
    "expr=cudaSetDevice(info_.device_id);"
)
FAILURES = {
    "no code for Orin": (
        NO_KERNEL,
        JETSON,
        (
            "onnxruntime 1.31.1 from PyPI for aarch64, which is made for servers, has no code for "
            "Orin (sm_87)"
        ),
        "install onnxruntime-gpu from the Jetson AI Lab's index",
    ),
    "no code for an old card": (
        NO_KERNEL,
        SERVER,
        "onnxruntime 1.31.1 has no code for Tesla T4 (sm_75)",
        "pip uninstall onnxruntime",
    ),
    "no code, for nobody knows what": (
        NO_KERNEL,
        replace(SERVER, driver=None),
        "onnxruntime 1.31.1 has no code for this GPU",
        "pip",
    ),
    "an old driver": (
        OLD_DRIVER,
        AI_LAB,
        "the NVIDIA driver is too old for its CUDA",
        "install a newer JetPack",
    ),
    "something else": ("out\n of memory", SERVER, "out of memory", "look into"),
    "nothing": ("", SERVER, "it says nothing", "look into"),
}


@pytest.mark.parametrize(("error", "here", "reason", "hint"), FAILURES.values(), ids=FAILURES)
def test_what_fails_when_it_runs_has_a_plain_reason(error, here, reason, hint):
    found = lack_of(error, here)
    assert found.reason == reason
    assert found.hint.startswith(hint)


def test_a_long_error_is_cut():
    assert len(lack_of("x" * 5000, SERVER).reason) == 301


def test_the_smallest_model_is_a_model():
    session = onnxruntime.InferenceSession(smallest_model(), providers=[CPU])
    (answer,) = session.run(None, {"x": np.arange(4, dtype=np.float32)})
    assert answer.tolist() == [0, 2, 4, 6]


def test_this_machine_is_looked_at():
    here = look(onnxruntime, ["tensorrt", "cuda"])
    assert here.version == onnxruntime.__version__
    assert CPU in here.providers
    assert here.is_jetson is Path("/etc/nv_tegra_release").is_file()
    assert set(here.providers) == set(onnxruntime.get_available_providers())


@pytest.mark.gpu
def test_the_gpu_of_this_machine_adds():
    here = look(onnxruntime, ["cuda"])
    why = lack("cuda", here)
    if why is not None:
        pytest.skip(f"no GPU here: {why.reason}")
    assert try_cuda(onnxruntime, here) is None
