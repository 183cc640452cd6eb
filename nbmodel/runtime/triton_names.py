"""What Triton calls the engines, model files and datatypes that we have names of our own for."""

from __future__ import annotations

from nbmodel.backends.triton_config import ENGINES, Engine, data_type

__all__ = ["TRITON_BACKENDS", "Engine", "data_type", "engine_of", "engine_of_format"]

#: Of a format that Triton itself has no backend for.
_TFLITE = Engine("tflite", "tensorflow_tflite", "tflite", "model.tflite")
_OURS = {"onnx_cpu": ENGINES["onnx"], "tflite_cpu": _TFLITE}
#: Triton's names of backends and platforms → ours.
TRITON_BACKENDS = {
    name: ours for ours, engine in _OURS.items() for name in (engine.platform, engine.backend)
}


def engine_of(backend: str) -> Engine:
    """How Triton calls a backend of ours; one that it does not know, as we do."""
    return _OURS.get(backend) or Engine("", backend, backend, "")


def engine_of_format(framework: str) -> Engine:
    """How Triton calls what runs files of a format; one that it does not know, as the format."""
    known = {**ENGINES, _TFLITE.format: _TFLITE}
    return known.get(framework) or Engine(framework, "", framework, "")
