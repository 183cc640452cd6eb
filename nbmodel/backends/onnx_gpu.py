"""ONNX Runtime on an NVIDIA GPU: CUDA, or TensorRT by choice.

What can be had of that here is found out before a model is loaded, and the CPU takes its
place only where a service allows it. TensorRT's engines are built where a version is tried
out, before it serves, and found again by the process that serves.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from nbmodel.backends.base import Attribute, Backend, Known, Session, file_attributes
from nbmodel.backends.onnx_lacks import Here, lack, lack_of, look, try_cuda
from nbmodel.backends.onnx_profile import Profile
from nbmodel.backends.onnx_providers import (
    CPU,
    CUDA,
    ENGINE_NAMES,
    TENSORRT,
    Choice,
    Lack,
    Provider,
    choose,
    provider_problems,
    providers_of,
)
from nbmodel.backends.onnx_session import OnnxSession, import_engine, open_engine
from nbmodel.backends.onnx_tensorrt import keep, prepare_tensorrt, told
from nbmodel.core.signature import Signature
from nbmodel.errors import InferenceError, NbModelError
from nbmodel.protocol.datatypes import to_numpy

#: That building engines may take, in seconds: ten minutes of a large model were measured on an
#: Orin, and slower boards and larger models there are.
BUILD_S = 3600.0
_MIB = 1024 * 1024
_HINT = "pip install onnxruntime-gpu; on a Jetson the wheel of the Jetson AI Lab"


class OnnxGpu(Backend):
    """Runs ``.onnx`` files with ONNX Runtime's CUDA or TensorRT provider."""

    name = "onnx_gpu"
    formats = ("onnx",)
    runs_here = True
    attributes: ClassVar[tuple[Attribute, ...]] = (
        *file_attributes(".onnx"),
        Attribute(
            "providers",
            "array",
            'tensorrt, cuda or cpu, best first, or {"name": …, "options": {…}} with the options '
            "of ONNX Runtime; default cuda",
            harmless=True,
        ),
        Attribute("device_id", "integer", "number of the GPU; default 0", minimum=0, maximum=63),
        Attribute(
            "gpu_mem_limit",
            "integer",
            "bytes of GPU memory that the model may have; default: any number",
            minimum=_MIB,
            maximum=1024 * 1024 * _MIB,
        ),
        Attribute(
            "allow_cpu",
            "boolean",
            "whether it runs on the CPU where no GPU can be used; default false",
        ),
    )

    def patience_s(self, attributes: Mapping[str, Any]) -> float:
        """As long as TensorRT may take to build engines; 0 without it."""
        names = [one.name for one in providers_of(attributes)]
        return BUILD_S if TENSORRT in names else 0.0

    def _contradictions(self, attributes: Mapping[str, Any]) -> list[str]:
        return provider_problems(attributes)

    def _absent(self, attributes: Mapping[str, Any]) -> list[str]:
        path = attributes["model_path"]
        return [] if Path(path).is_file() else [f"model_path is not a file: {path}"]

    def _subject(self, attributes: Mapping[str, Any]) -> str:
        return Path(attributes["model_path"]).name

    def _open(self, attributes: Mapping[str, Any], known: Known) -> Session:
        onnxruntime = import_engine(self.name, _HINT)
        wanted = providers_of(attributes)
        device_id = attributes.get("device_id", 0)
        here, lacking = _look(onnxruntime, wanted, device_id)
        allow_cpu = attributes.get("allow_cpu", False)
        while True:  # each turn finds one more provider lacking, or ends
            choice = choose(wanted, lacking, allow_cpu=allow_cpu)
            job = _Job(onnxruntime, attributes, known, choice, here, device_id)
            session, refused = job.load()
            if session is not None:
                return session
            lacking |= refused


def _look(
    onnxruntime: Any, wanted: Sequence[Provider], device_id: int
) -> tuple[Here, dict[str, Lack]]:
    """What there is, and what of the wanted cannot be used for want of what."""
    names = [one.name for one in wanted if one.name != CPU]
    here = look(onnxruntime, names)
    found = ((name, lack(name, here, device_id)) for name in names)
    lacking = {name: one for name, one in found if one is not None}
    if CUDA in names and CUDA not in lacking:
        trial = try_cuda(onnxruntime, here, device_id)
        if trial is not None:
            lacking[CUDA] = trial
    if TENSORRT in names and CUDA in lacking:
        lacking.setdefault(TENSORRT, Lack("it needs CUDA", lacking[CUDA].hint))
    return here, lacking


@dataclass(frozen=True, slots=True)
class _Job:
    """Loading one model with one choice of providers."""

    onnxruntime: Any
    attributes: Mapping[str, Any]
    known: Known
    choice: Choice
    here: Here
    device_id: int

    def load(self) -> tuple[Session | None, dict[str, Lack]]:
        """A session; or None, and the providers that ONNX Runtime did not take after all."""
        providers, profile = self.choice.providers, Profile()
        if self.choice.best.name == TENSORRT:
            prepared = prepare_tensorrt(
                self.choice.best, self.attributes, self.known, self.here, self.device_id
            )
            providers, profile = (prepared.provider, *providers[1:]), prepared.profile
            with told(prepared.folder, self.known.tell):
                engine = self._engine(providers)
            keep(prepared.folder)
        else:
            engine = self._engine(providers)
        taken = engine.get_providers()
        refused = {
            one.name: Lack("ONNX Runtime does not take it, and says no more", "read its log")
            for one in providers
            if ENGINE_NAMES[one.name] not in taken
        }
        if refused:
            return None, refused
        kind = OnnxGraphSession if any(one.has_graphs for one in providers) else OnnxGpuSession
        return kind(
            engine,
            name=self._path.name,
            choice=self.choice,
            profile=profile,
            here=self.here,
            device_id=self.device_id,
        ), {}

    @property
    def _path(self) -> Path:
        return Path(self.attributes["model_path"])

    def _engine(self, providers: Sequence[Provider]) -> Any:
        try:
            return open_engine(
                self.onnxruntime,
                self._path,
                [one.for_engine for one in providers],
                threads=self.attributes.get("num_threads", 1),
            )
        except NbModelError:
            raise
        except Exception as exc:
            if self.choice.best.name == CPU:
                raise
            why = lack_of(str(exc), self.here, self.device_id)
            raise InferenceError(
                f"onnx_gpu cannot load {self._path.name} with {self.choice.best.name}: "
                f"{why.reason}",
                hint=why.hint,
            ) from exc


class OnnxGpuSession(OnnxSession):
    """A model in ONNX Runtime, on a GPU or on what takes its place."""

    def __init__(
        self,
        engine: Any,
        *,
        name: str,
        choice: Choice,
        profile: Profile,
        here: Here,
        device_id: int,
    ) -> None:
        super().__init__(engine, name=name)
        self._choice = choice
        self._profile = profile
        self._here = here
        self._device_id = device_id

    @property
    def runs_on(self) -> str:
        """``tensorrt``, ``cuda`` or ``cpu``."""
        return self._choice.best.name

    @property
    def note(self) -> str:
        """What is not as configured."""
        return self._choice.note

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        if self._profile.ranges:
            self._profile.check({name: array.shape for name, array in inputs.items()})
        try:
            return self._answered(inputs, outputs)
        except NbModelError:
            raise
        except Exception as exc:
            if self._choice.best.name == CPU:
                raise
            why = lack_of(str(exc), self._here, self._device_id)
            raise InferenceError(
                f"{self._name} cannot be run: {why.reason}", hint=why.hint
            ) from exc

    def _answered(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        return super()._run(inputs, outputs)


class OnnxGraphSession(OnnxGpuSession):
    """A model whose work on the GPU is recorded once and played again: CUDA graphs.

    That needs tensors that stay where they are on the GPU, so they are bound once.
    """

    runs_together = False

    def __init__(self, engine: Any, **rest: Any) -> None:
        super().__init__(engine, **rest)
        self._lock = threading.Lock()
        self._is_on_gpu = self.runs_on != CPU
        device = "cuda" if self._is_on_gpu else "cpu"
        self._binding = engine.io_binding()
        self._bound_inputs = _bound(self.signature, "inputs", device, self._device_id)
        self._bound_outputs = _bound(self.signature, "outputs", device, self._device_id)
        for name, value in self._bound_inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._bound_outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def _answered(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        with self._lock:
            for name, value in self._bound_inputs.items():
                value.update_inplace(inputs[name])
            self._engine.run_with_iobinding(self._binding)
            answers = {name: self._bound_outputs[name].numpy() for name in outputs}
            if self._is_on_gpu:
                return answers
            return {name: answer.copy() for name, answer in answers.items()}  # they were views

    def _close(self) -> None:
        with self._lock:
            del self._binding
            self._bound_inputs.clear()
            self._bound_outputs.clear()
        super()._close()


def _bound(signature: Signature, side: str, device: str, device_id: int) -> dict[str, Any]:
    """Memory for each tensor of one side of a model, on a device."""
    from onnxruntime import OrtValue

    made = {}
    for tensor in getattr(signature, side):
        if tensor.shape is None or -1 in tensor.shape or tensor.datatype in ("BYTES", "BF16"):
            raise InferenceError(
                "CUDA graphs need tensors of one size, of numbers that numpy has; "
                f"{tensor.name!r} is {tensor.datatype}{list(tensor.shape or ())}",
                hint="leave the option out; or export the model with fixed sizes",
            )
        made[tensor.name] = OrtValue.ortvalue_from_shape_and_type(
            list(tensor.shape), to_numpy(tensor.datatype), device, device_id
        )
    return made
