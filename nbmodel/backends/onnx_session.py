"""A model in ONNX Runtime, on whatever it runs there, and opening one."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.backends.base import Session
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import DatatypeError, InferenceError, PluginError

_ELEMENTS = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "bfloat16": "BF16",
    "string": "BYTES",
    "complex64": "COMPLEX64",
    "complex128": "COMPLEX128",
    "int4": "INT4",
    "uint4": "UINT4",
    "int2": "INT2",
    "uint2": "UINT2",
    "float4e2m1": "FP4E2M1",
    "float8e4m3fn": "FP8E4M3FN",
    "float8e4m3fnuz": "FP8E4M3FNUZ",
    "float8e5m2": "FP8E5M2",
    "float8e5m2fnuz": "FP8E5M2FNUZ",
    "float8e8m0": "FP8E8M0",
}
_CONTAINERS = {"seq": "SEQUENCE", "map": "MAP", "optional": "OPTIONAL", "sparse_tensor": "VARIANT"}
_BFLOAT16 = 16  # TensorProto.BFLOAT16
_TOO_NEW = re.compile(r"Unsupported model IR version|Opset \d+ is under development")
_UNKNOWN_CATEGORY = "Unknown Category and zeros = 0"  # what its OneHotEncoder says
_FATAL = 4  # ONNX Runtime's highest log severity


def import_engine(backend: str, hint: str = "pip install 'nbmodel[runtime]'") -> ModuleType:
    """ONNX Runtime's Python package.

    Args:
        backend: Which backend wants it, for the message.
        hint: How to get it.

    Raises:
        PluginError: It cannot be imported.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise PluginError(
            f"backend {backend!r} needs onnxruntime, which cannot be imported: {exc}", hint=hint
        ) from exc
    module: ModuleType = onnxruntime
    return module


def open_engine(
    onnxruntime: Any,
    path: Path,
    providers: Sequence[tuple[str, Mapping[str, str]]] = (("CPUExecutionProvider", {}),),
    *,
    threads: int = 1,
) -> Any:
    """Load a file with execution providers in their order; it falls to no other by itself.

    Args:
        onnxruntime: As ``import_engine`` gives it.
        path: The file.
        providers: Names in ONNX Runtime's words, with options.
        threads: Of one inference on the CPU, ≥ 1.

    Returns:
        An ``InferenceSession``.

    Raises:
        InferenceError: The model is too new for this ONNX Runtime.
        Exception: Whatever else ONNX Runtime raises.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while idle cost 39.6 ms of CPU an inference and 50 ms of rest,
    # against 0.29 ms: on a device that is heat and battery.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Whatever it would log as an error it raises as well.
    options.log_severity_level = _FATAL
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[(name, dict(chosen)) for name, chosen in providers],
            enable_fallback=0,
        )
    except Exception as exc:
        if _TOO_NEW.search(str(exc)) is None:
            raise
        raise InferenceError(
            f"{path.name} is written for a newer ONNX than onnxruntime "
            f"{onnxruntime.__version__} reads",
            hint="export it again with an older opset, or upgrade onnxruntime",
        ) from exc


class OnnxSession(Session):
    """A model in ONNX Runtime, which takes calls from several threads at once."""

    runs_together = True

    def __init__(self, engine: Any, *, name: str) -> None:
        signature = Signature(
            inputs=tuple(_tensor(node) for node in engine.get_inputs()),
            outputs=tuple(_tensor(node) for node in engine.get_outputs()),
        )
        super().__init__(signature, name=name)
        self._engine = engine
        # InferenceSession.run checks names that were checked already, at a third of what a
        # small model takes.
        self._native = getattr(engine, "_sess", None)
        self._has_text = any(tensor.datatype == "BYTES" for tensor in signature.inputs)
        tensors = (*signature.inputs, *signature.outputs)
        self._has_bfloat16 = any(tensor.datatype == "BF16" for tensor in tensors)

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        feed = inputs
        if self._has_text:
            feed = {
                name: _decoded(array, name) if array.dtype == object else array
                for name, array in inputs.items()
            }
        try:
            if self._has_bfloat16:
                return _run_with_bfloat16(self._engine, feed, outputs)
            # An empty list of outputs means all of them to ONNX Runtime.
            answers = self._answers(list(outputs), feed) if outputs else []
        except Exception as exc:
            if _UNKNOWN_CATEGORY not in str(exc):
                raise
            raise InferenceError(
                f"{self._name} was given a category that it was not trained with",
                hint='a scikit-learn model takes it with OneHotEncoder(handle_unknown="ignore")',
            ) from exc
        return dict(zip(outputs, answers, strict=True))

    def _answers(self, outputs: list[str], feed: Mapping[str, NDArray[Any]]) -> list[Any]:
        native = self._native
        answers: list[Any] = (
            self._engine.run(outputs, feed) if native is None else native.run(outputs, feed, None)
        )
        return answers

    def _close(self) -> None:
        del self._engine, self._native


def _tensor(node: Any) -> Tensor:
    kind, _, rest = node.type.partition("(")
    datatype = _ELEMENTS.get(rest.rstrip(")")) if kind == "tensor" else _CONTAINERS.get(kind)
    if datatype is None:
        raise InferenceError(f"tensor {node.name!r} is of a type that is unknown: {node.type}")
    # ONNX Runtime says [] for a scalar and for an unknown rank alike. It checks the rank
    # itself, so "unknown" refuses nothing that would work.
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape) if node.shape else None
    return Tensor(name=node.name, datatype=datatype, shape=shape)


def _decoded(array: NDArray[Any], name: str) -> NDArray[Any]:
    text = np.empty(array.shape, dtype=object)
    flat = text.reshape(-1)
    for position, item in enumerate(array.flat):
        try:
            flat[position] = item.decode()
        except UnicodeDecodeError as exc:
            index = [int(i) for i in np.unravel_index(position, array.shape)]
            raise DatatypeError(
                f"input {name!r} at {index} is not UTF-8, which is what ONNX strings are: {exc}"
            ) from exc
    return text


def _run_with_bfloat16(
    engine: Any, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]
) -> Mapping[str, NDArray[Any]]:
    """As ``engine.run``, which knows no bfloat16: its values pass as their 16 bits."""
    from onnxruntime import OrtValue

    values = {
        name: OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), _BFLOAT16)
        if array.dtype.name == "bfloat16"
        else OrtValue.ortvalue_from_numpy(array)
        for name, array in feed.items()
    }
    answers = engine.run_with_ort_values(list(outputs), values) if outputs else []
    return {
        name: _bfloat16(value) if value.element_type() == _BFLOAT16 else value.numpy()
        for name, value in zip(outputs, answers, strict=True)
    }


def _bfloat16(value: Any) -> NDArray[Any]:
    import ml_dtypes

    shape = value.shape()
    result: NDArray[Any] = np.empty(shape, ml_dtypes.bfloat16)
    ctypes.memmove(result.ctypes.data, value.data_ptr(), result.nbytes)
    return result
