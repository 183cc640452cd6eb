"""What Triton calls the engines, model files and datatypes that we have names of our own for."""

from __future__ import annotations

from dataclasses import dataclass

from nbmodel.core.signature import DATATYPES


@dataclass(frozen=True, slots=True)
class Engine:
    """How Triton calls what a backend of ours is.

    Attributes:
        format: Of the files that it runs, as a manifest names it.
        platform: ``<project>_<format>``.
        backend: Triton's name of the backend.
        file: What a model's file is called when nothing else is said.
    """

    format: str
    platform: str
    backend: str
    file: str


_ENGINES = {
    "onnx_cpu": Engine("onnx", "onnxruntime_onnx", "onnxruntime", "model.onnx"),
    "tflite_cpu": Engine("tflite", "tensorflow_tflite", "tflite", "model.tflite"),
}
#: Triton's names of backends and platforms → ours.
TRITON_BACKENDS = {
    name: ours for ours, engine in _ENGINES.items() for name in (engine.platform, engine.backend)
}


def engine_of(backend: str) -> Engine:
    """How Triton calls a backend of ours; one that it does not know, as we do."""
    return _ENGINES.get(backend) or Engine("", backend, backend, "")


def engine_of_format(framework: str) -> Engine:
    """How Triton calls what runs files of a format; one that it does not know, as the format."""
    known = (engine for engine in _ENGINES.values() if engine.format == framework)
    return next(known, Engine(framework, "", framework, ""))


def data_type(datatype: str) -> str:
    """Triton's name of a signature's datatype; ``TYPE_INVALID`` where it has none."""
    if datatype == "BYTES":
        return "TYPE_STRING"
    return f"TYPE_{datatype}" if datatype in DATATYPES else "TYPE_INVALID"
