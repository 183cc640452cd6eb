"""Why a provider of ONNX Runtime cannot be used on this machine.

ONNX Runtime itself runs a model on the CPU where a provider's library cannot be loaded, and
says why in a log at most. What is found out here is told before, in plain words.

Source: the wheel onnxruntime-gpu 1.31.1 for aarch64 on PyPI, as it was scanned. It is for
servers with CUDA 13: machine code for sm_89, sm_90, sm_120 and sm_121 alone, nothing that a
driver could compile for others (Orin is sm_87, Thor sm_110), and no TensorRT provider.
"""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nbmodel.backends.cuda import Driver, read_driver
from nbmodel.backends.onnx_providers import CUDA, ENGINE_NAMES, TENSORRT, Lack

_PACKAGES = ("onnxruntime-gpu", "onnxruntime")
_LIBRARIES = {
    TENSORRT: "libonnxruntime_providers_tensorrt.so",
    CUDA: "libonnxruntime_providers_cuda.so",
}
_SHARED = "libonnxruntime_providers_shared.so"
_MISSING = re.compile(r"(lib[\w.+-]+): cannot open shared object file")
_NO_KERNEL = re.compile(r"no kernel image|NoKernelImage", re.IGNORECASE)
_OLD_DRIVER = re.compile(r"driver version is insufficient", re.IGNORECASE)
_RELEASE = Path("/etc/nv_tegra_release")
_MAX_SAID = 300  # characters that are quoted of an engine
#: What a missing library belongs to.
_OWNERS = (
    (re.compile(r"libcudnn\w*\.so\.(\d+)"), "cuDNN {}"),
    (re.compile(r"libnv(?:infer|onnxparser)\w*\.so\.(\d+)"), "TensorRT {}"),
    (re.compile(r"lib(?:cublas|cublasLt|cudart|curand|nvrtc)\.so\.(\d+)"), "CUDA {}"),
    (re.compile(r"lib(?:cufft|cusolver|cusparse|nvJitLink)\.so\.\d+"), "the libraries of CUDA"),
)


@dataclass(frozen=True, slots=True)
class Here:
    """What ONNX Runtime has to work with.

    Attributes:
        version: Of ONNX Runtime.
        providers: That it is built with, in its own words.
        cuda: Version of CUDA that it is built for, ``12.6``; empty when it does not say.
        tags: Of the wheel that it was installed from: ``cp312-cp312-manylinux_2_34_aarch64``.
        machine: ``aarch64``, ``x86_64``.
        is_jetson: Whether this is a Jetson.
        driver: The NVIDIA driver, or None.
        failures: Provider → what loading its library says, of those that cannot be loaded.
    """

    version: str
    providers: tuple[str, ...]
    cuda: str = ""
    tags: tuple[str, ...] = ()
    machine: str = "x86_64"
    is_jetson: bool = False
    driver: Driver | None = None
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def is_server_wheel(self) -> bool:
        """Whether it is PyPI's wheel for 64-bit Arm, which is made for servers."""
        return self.machine == "aarch64" and any("manylinux" in tag for tag in self.tags)


def look(onnxruntime: Any, providers: Sequence[str]) -> Here:
    """Look at what ONNX Runtime has to work with.

    Args:
        onnxruntime: The package.
        providers: Names of those that are wanted; only libraries of these are tried.
    """
    available = tuple(onnxruntime.get_available_providers())
    folder = Path(onnxruntime.__file__).parent / "capi"
    # A library that cannot be loaded may keep its provider from being listed.
    files = [one for one in providers if one in _LIBRARIES and (folder / _LIBRARIES[one]).is_file()]
    if files:
        _preload(onnxruntime)
    failures = ((one, _failure(folder, one)) for one in files)
    is_built = bool(files) or any(ENGINE_NAMES[one] in available for one in providers)
    return Here(
        version=onnxruntime.__version__,
        providers=available,
        cuda=str(getattr(onnxruntime, "cuda_version", None) or ""),
        tags=_tags(),
        machine=platform.machine(),
        is_jetson=_RELEASE.is_file(),
        driver=read_driver() if is_built else None,
        failures=tuple((one, text) for one, text in failures if text),
    )


def lack(provider: str, here: Here, device_id: int = 0) -> Lack | None:
    """Why a provider cannot be used, as far as that shows before it is; None: it does not.

    Args:
        provider: ``tensorrt``, ``cuda`` or ``cpu``.
        here: What there is.
        device_id: The GPU that is wanted, ≥ 0.
    """
    if provider not in _LIBRARIES:
        return None
    if ENGINE_NAMES[provider] not in here.providers and provider not in dict(here.failures):
        return _not_built(provider, here)
    return _driver_lack(here, device_id) or _library_lack(provider, here)


def lack_of(error: str, here: Here, device_id: int = 0) -> Lack:
    """Why a provider cannot be used that failed when it was.

    Args:
        error: What ONNX Runtime said.
        here: What there is.
        device_id: The GPU that was wanted.
    """
    gpus = () if here.driver is None else here.driver.gpus
    if _NO_KERNEL.search(error):
        gpu = gpus[device_id] if device_id < len(gpus) else None
        which = "this GPU" if gpu is None else f"{gpu.name} ({gpu.architecture})"
        wheel = f"onnxruntime {here.version}"
        if here.is_server_wheel:
            wheel += " from PyPI for aarch64, which is made for servers,"
        return Lack(f"{wheel} has no code for {which}", _install(here))
    if _OLD_DRIVER.search(error):
        return Lack("the NVIDIA driver is too old for its CUDA", _newer_driver(here))
    words = " ".join(error.split())
    said = words if len(words) <= _MAX_SAID else f"{words[:_MAX_SAID]}…"
    return Lack(said or "it says nothing", "look into what ONNX Runtime says")


def try_cuda(onnxruntime: Any, here: Here, device_id: int = 0) -> Lack | None:
    """Run the smallest model on a GPU: whether there is code for it shows in no other way.

    Args:
        onnxruntime: The package.
        here: What there is.
        device_id: The GPU.
    """
    chosen = [(ENGINE_NAMES[CUDA], {"device_id": str(device_id)})]
    try:
        engine = onnxruntime.InferenceSession(smallest_model(), providers=chosen, enable_fallback=0)
        if ENGINE_NAMES[CUDA] not in engine.get_providers():
            return Lack("ONNX Runtime does not take it, and does not say why", _install(here))
        (answer,) = engine.run(None, {"x": np.ones(4, np.float32)})
    except Exception as exc:  # noqa: BLE001 # engines raise untyped errors of their own
        return lack_of(str(exc), here, device_id)
    if answer.tolist() != [2.0] * 4:
        return Lack(f"the GPU adds wrongly: 1 + 1 = {answer[0]}", "the GPU or its driver is broken")
    return None


def smallest_model() -> bytes:
    """An ONNX model of ``y = x + x``, FP32[4]: written by hand, for want of an ONNX library.

    Source: onnx.proto: ModelProto, GraphProto, NodeProto, ValueInfoProto.
    """

    def part(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def value(name: bytes) -> bytes:
        shape = part(1, b"\x08\x04")  # one dimension of 4
        return part(1, name) + part(2, part(1, b"\x08\x01" + part(2, shape)))  # FLOAT

    node = part(1, b"x") + part(1, b"x") + part(2, b"y") + part(4, b"Add")
    graph = part(1, node) + part(2, b"smallest") + part(11, value(b"x")) + part(12, value(b"y"))
    return b"\x08\x08" + part(7, graph) + part(8, b"\x10\x0d")  # IR version 8, operator set 13


def _not_built(provider: str, here: Here) -> Lack:
    title = {TENSORRT: "TensorRT", CUDA: "CUDA"}[provider]
    if provider == TENSORRT and ENGINE_NAMES[CUDA] in here.providers and here.is_server_wheel:
        return Lack(
            f"onnxruntime {here.version} from PyPI for aarch64 has no TensorRT provider",
            _install(here),
        )
    return Lack(f"onnxruntime {here.version} here is built without {title}", _install(here))


def _driver_lack(here: Here, device_id: int) -> Lack | None:
    driver = here.driver
    if driver is None:
        return Lack(
            "there is no NVIDIA driver: libcuda.so.1 cannot be loaded",
            "install the driver; a container needs --runtime=nvidia or --gpus all",
        )
    built = _major(here.cuda)
    if built is not None and driver.cuda[0] and driver.cuda[0] < built:
        major, minor = driver.cuda
        return Lack(
            f"the NVIDIA driver is too old: it runs CUDA {major}.{minor}, "
            f"onnxruntime {here.version} is built for CUDA {here.cuda}",
            _newer_driver(here),
        )
    if driver.error:
        return Lack(f"the NVIDIA driver {driver.error}", "look at what nvidia-smi says")
    if device_id >= len(driver.gpus):
        found = ", ".join(f"{index} ({gpu.name})" for index, gpu in enumerate(driver.gpus))
        return Lack(f"there is no GPU {device_id}: found {found}", "set another device_id")
    return None


def _library_lack(provider: str, here: Here) -> Lack | None:
    text = dict(here.failures).get(provider)
    if text is None:
        return None
    missing = _MISSING.search(text)
    if missing is None:
        return Lack(f"its library cannot be loaded: {text}", _install(here))
    library = missing[1]
    if library == _LIBRARIES[provider]:
        return _not_built(provider, here)
    owner = next(
        (words.format(*match.groups()) for regex, words in _OWNERS if (match := regex.match(library))),
        "what it belongs to",
    )  # fmt: skip
    return Lack(
        f"the library {library} is missing",
        f"install {owner}, or name its folder in LD_LIBRARY_PATH",
    )


def _install(here: Here) -> str:
    if here.is_jetson:
        return (
            "install onnxruntime-gpu from the Jetson AI Lab's index for this JetPack, or build "
            "it on the device; PyPI has none for Jetson"
        )
    return "pip uninstall onnxruntime; pip install onnxruntime-gpu"


def _newer_driver(here: Here) -> str:
    if here.is_jetson:
        return "install a newer JetPack, or an onnxruntime-gpu that is built for this one"
    return "install a newer NVIDIA driver, or an onnxruntime-gpu for an older CUDA"


def _major(version: str) -> int | None:
    head = version.partition(".")[0]
    return int(head) if head.isdecimal() else None


def _preload(onnxruntime: Any) -> None:
    """Have CUDA's libraries found that came as Python packages, as ONNX Runtime offers it."""
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None and find_spec("nvidia") is not None:  # else it only prints complaints
        preload()


def _failure(folder: Path, provider: str) -> str:
    """What loading a provider's library says; empty when it can be loaded."""
    try:
        ctypes.CDLL(str(folder / _SHARED), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / _LIBRARIES[provider]))
    except OSError as exc:
        return " ".join(str(exc).replace(f"{folder}/", "").split())
    return ""


def _tags() -> tuple[str, ...]:
    """Of the wheel that ONNX Runtime is from; none when it was installed in another way."""
    for package in _PACKAGES:
        try:
            text = distribution(package).read_text("WHEEL") or ""
        except PackageNotFoundError:
            continue
        lines = (line.partition(":") for line in text.splitlines())
        return tuple(value.strip() for key, _, value in lines if key == "Tag")
    return ()
