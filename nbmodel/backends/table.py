"""The table of backends, and finding one by name, by Viam's name, or by format."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from nbmodel.backends.base import Backend, Session
from nbmodel.errors import NoCompatibleBackendError, PluginError
from nbmodel.plugins import PluginTable

BACKENDS = PluginTable(
    kind="backend",
    builtin={
        "onnx_cpu": "nbmodel.backends.onnx_cpu:OnnxCpu",
        "onnx_gpu": "nbmodel.backends.onnx_gpu:OnnxGpu",
        "tflite_cpu": "nbmodel.backends.tflite_cpu:TfliteCpu",
        "python": "nbmodel.backends.python:Python",
        "triton": "nbmodel.backends.triton:Triton",
    },
    extras={
        "onnx_cpu": "runtime",
        "onnx_gpu": "runtime",
        "tflite_cpu": "runtime",
        "triton": "triton",
    },
)
#: What Viam calls the same things: name of the module's model → backend.
#: Source: meta.json of viam-modules/mlmodel-tflite, onnx-cpu and viam-mlmodelservice-triton;
#: rdk before its #4476.
VIAM_MODELS = {
    "viam:mlmodel-tflite:tflite_cpu": "tflite_cpu",
    "viam:mlmodel:onnx-cpu": "onnx_cpu",
    "rdk:builtin:tflite_cpu": "tflite_cpu",
    "viam:mlmodelservice:triton": "triton",
}


#: In a machine config our backends are models of this family: ``nbmodel:mlmodel:onnx_cpu``.
OWN_MODELS = "nbmodel:mlmodel:"


def backend_name(model: str) -> str:
    """The backend that a service's ``model`` field names, in our words or in Viam's.

    Raises:
        PluginError: It names none; the nearest name is the hint.
    """
    name = VIAM_MODELS.get(model, model.removeprefix(OWN_MODELS))
    if name in BACKENDS.builtin:  # looking for others costs a new process 30 ms
        return name
    names = BACKENDS.names()
    if name not in names:
        near = get_close_matches(model, (*names, *VIAM_MODELS), n=1)
        raise PluginError(
            f"unknown backend {model!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}",
        )
    return name


def load_backend(model: str) -> Backend:
    """The backend that a service's ``model`` field names; its engine is not loaded yet.

    Raises:
        PluginError: It names none, or the plug-in cannot be imported.
    """
    backend: Backend = BACKENDS.load(backend_name(model))()
    return backend


def backends_for(framework: str) -> tuple[str, ...]:
    """Names of the backends that run a file format, in the table's order; maybe none.

    A plug-in that cannot be imported is left out: ``load_backend`` tells what it lacks.
    """
    fitting = []
    for name in BACKENDS.names():
        try:
            if framework in load_backend(name).formats:
                fitting.append(name)
        except PluginError:
            continue
    return tuple(fitting)


def backends_with(attribute: str) -> tuple[str, ...]:
    """Names of the backends that come with nbmodel whose services may have an attribute."""
    return tuple(
        name
        for name in BACKENDS.builtin
        if any(one.name == attribute for one in load_backend(name).attributes)
    )


def open_session(path: Path, framework: str, *, threads: int = 1) -> Session:
    """Load a model file for running it right here.

    Args:
        path: The file; its other files lie beside it.
        framework: Its format: ``onnx``.
        threads: Threads of one inference, ≥ 1.

    Raises:
        NoCompatibleBackendError: No backend runs that format.
        ConfigError, PluginError, InferenceError: As ``Backend.load``.
    """
    backends = [load_backend(name) for name in backends_for(framework)]
    backend = next((one for one in backends if one.runs_here), None)
    if backend is None:
        raise NoCompatibleBackendError(
            f"no backend runs {framework!r} files right here",
            hint=f"deploy it to a runtime; it is run by {', '.join(one.name for one in backends)}"
            if backends
            else f"backends here: {', '.join(BACKENDS.names())}",
        )
    return backend.load({"model_path": str(path), "num_threads": threads})
