"""LiteRT (TensorFlow Lite) on the CPU."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends.base import FileBackend, Session, file_attributes
from nbmodel.core.signature import Quantization, Signature, Tensor
from nbmodel.errors import InferenceError, PluginError
from nbmodel.formats import distinct_names
from nbmodel.protocol.datatypes import from_numpy

_CUSTOM_OP = re.compile(r"unresolved custom op: (\S+?)\.?\s")
#: What LiteRT writes to the standard error of a process when it loads the first model. It has
#: no setting for that: its logger is inside the shared object, and reads no variable.
_GREETING = re.compile(rb"INFO: Created TensorFlow Lite XNNPACK delegate for CPU\.\r?\n")
_STDERR = 2  # file descriptor
_first_load = threading.Lock()
_has_greeted = threading.Event()


class TfliteCpu(FileBackend):
    """Runs ``.tflite`` files with LiteRT, or tflite_runtime where LiteRT has no wheel.

    Viam's ``tflite_cpu``. Quantised tensors pass raw: uint8 in, uint8 out.
    """

    name = "tflite_cpu"
    formats = ("tflite",)
    attributes = file_attributes(".tflite")

    def _load(self, path: Path, attributes: Mapping[str, Any]) -> Session:
        make = _interpreter_class()
        with _without_greeting():
            engine = _open(make, path, attributes)
        return TfliteCpuSession(engine, name=path.name)


class TfliteCpuSession(Session):
    """A model in an interpreter, which takes one call at a time.

    Every call starts from the model's initial state: what an LSTM remembers of one
    request never reaches the answer to another.
    """

    takes_batches = False

    def __init__(self, engine: Any, *, name: str) -> None:
        inputs = _by_name(engine.get_input_details(), "input")
        outputs = _by_name(engine.get_output_details(), "output")
        signature = Signature(
            inputs=tuple(_tensor(name, detail) for name, detail in inputs.items()),
            outputs=tuple(_tensor(name, detail) for name, detail in outputs.items()),
        )
        super().__init__(signature, name=name)
        self._engine = engine
        self._lock = threading.Lock()
        self._inputs = {name: detail["index"] for name, detail in inputs.items()}
        self._outputs = {name: detail["index"] for name, detail in outputs.items()}
        self._shapes = {name: tuple(map(int, inputs[name]["shape"])) for name in inputs}
        self._is_allocated = True

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        with self._lock:
            self._resize({name: array.shape for name, array in inputs.items()})
            self._engine.reset_all_variables()
            for name, array in inputs.items():
                self._engine.set_tensor(self._inputs[name], array)
            self._engine.invoke()
            return {name: self._engine.get_tensor(self._outputs[name]) for name in outputs}

    def _close(self) -> None:
        with self._lock:
            del self._engine

    def _resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        changed = {name for name, shape in shapes.items() if shape != self._shapes[name]}
        if not changed and self._is_allocated:
            return
        # Set before what may fail: a call that is refused must not leave the next one with
        # inputs of its size and buffers of another.
        self._is_allocated = False
        for name in changed:
            self._engine.resize_tensor_input(self._inputs[name], shapes[name], strict=True)
            self._shapes[name] = shapes[name]
        self._engine.allocate_tensors()
        self._is_allocated = True


def _interpreter_class() -> Callable[..., Any]:
    """The engine that is installed: LiteRT before tflite_runtime, which is 14 times slower."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as litert:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as exc:
            raise _missing_engine(litert, exc) from exc
    interpreter: Callable[..., Any] = Interpreter
    return interpreter


def _open(make: Callable[..., Any], path: Path, attributes: Mapping[str, Any]) -> Any:
    try:
        engine = make(model_path=str(path), num_threads=attributes.get("num_threads", 1))
    except SystemError as exc:
        # tflite_runtime 2.14 can be imported with numpy 2, and breaks when it is used.
        raise _old_engine(exc) from exc
    try:
        engine.allocate_tensors()
    except RuntimeError as exc:
        custom = _CUSTOM_OP.search(f"{exc} ")
        if custom is None:
            raise
        raise InferenceError(
            f"{path.name} needs the custom operation {custom[1]!r}, which LiteRT lacks",
            hint="convert the model again with built-in operations only",
        ) from exc
    return engine


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep LiteRT's greeting from the standard error; all else there is a little late."""
    if _has_greeted.is_set():
        yield
        return
    with _first_load, contextlib.ExitStack() as stack:
        # A process may have no standard error, or a full disk: then it is greeted.
        with contextlib.suppress(OSError):
            written = stack.enter_context(tempfile.TemporaryFile())
            before = os.dup(_STDERR)
            stack.callback(_give_back, before, written)
            os.dup2(written.fileno(), _STDERR)
        yield
        _has_greeted.set()


def _give_back(before: int, written: IO[bytes]) -> None:
    """Make the standard error what it was, and write there what was meant for it."""
    os.dup2(before, _STDERR)
    os.close(before)
    written.seek(0)
    rest = _GREETING.sub(b"", written.read())
    with contextlib.suppress(OSError):
        while rest:
            rest = rest[os.write(_STDERR, rest) :]


def _missing_engine(litert: ImportError, tflite_runtime: ImportError) -> PluginError:
    if tflite_runtime.name == "tflite_runtime":
        return PluginError(
            f"backend 'tflite_cpu' needs ai_edge_litert, which cannot be imported: {litert}",
            hint="pip install 'nbmodel[runtime]'",
        )
    return _old_engine(tflite_runtime)


def _old_engine(reason: Exception) -> PluginError:
    is_numpy_2 = int(np.__version__.partition(".")[0]) >= 2
    return PluginError(
        f"the engine of 'tflite_cpu' does not work with numpy {np.__version__}: {reason}",
        hint="tflite_runtime is built for numpy 1: pip install 'numpy<2'" if is_numpy_2 else None,
    )


def _by_name(details: Sequence[Mapping[str, Any]], side: str) -> dict[str, Mapping[str, Any]]:
    names = distinct_names([detail["name"] for detail in details], side)
    return dict(zip(names, details, strict=True))


def _tensor(name: str, detail: Mapping[str, Any]) -> Tensor:
    dtype = np.dtype(detail["dtype"])
    is_complex = dtype.kind == "c"
    datatype = dtype.name.upper() if is_complex else from_numpy(dtype, what=f"tensor {name!r}")
    # Files older than 2020 have no shape signature; the details give the shape then.
    shape = tuple(int(dim) for dim in detail["shape_signature"])
    return Tensor(
        name=name,
        datatype=datatype,
        shape=shape,
        quantization=_quantization(detail["quantization_parameters"]),
    )


def _quantization(parameters: Mapping[str, Any]) -> Quantization | None:
    scales = parameters["scales"]
    if len(scales) == 0:
        return None
    return Quantization(
        scale=tuple(float(scale) for scale in scales),
        zero_point=tuple(int(zero) for zero in parameters["zero_points"]),
        axis=int(parameters["quantized_dimension"]) if len(scales) > 1 else None,
    )
