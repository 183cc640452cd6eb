"""Finding backends by name and by format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nbmodel.backends import BACKENDS, backend_name, backends_for, load_backend, open_session
from nbmodel.errors import NoCompatibleBackendError, PluginError


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("onnx_cpu", "onnx_cpu"),
        ("tflite_cpu", "tflite_cpu"),
        ("viam:mlmodel-tflite:tflite_cpu", "tflite_cpu"),
        ("viam:mlmodel:onnx-cpu", "onnx_cpu"),
        ("rdk:builtin:tflite_cpu", "tflite_cpu"),
        ("viam:mlmodelservice:triton", "triton"),
    ],
)
def test_our_names_and_viams_name_the_same_backends(model, name):
    assert backend_name(model) == name


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("onxx_cpu", "did you mean 'onnx_cpu'?"),
        ("viam:mlmodel:onnx_cpu", "did you mean 'viam:mlmodel:onnx-cpu'?"),
        ("", "known: onnx_cpu, onnx_gpu, tflite_cpu"),
    ],
)
def test_an_unknown_backend_gets_the_nearest_name_as_hint(model, hint):
    with pytest.raises(PluginError, match="unknown backend") as caught:
        backend_name(model)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("framework", "names"),
    [
        ("onnx", ("onnx_cpu", "onnx_gpu", "triton")),
        ("tflite", ("tflite_cpu",)),
        ("keras", ()),
        ("", ()),
    ],
)
def test_backends_are_found_by_format(framework, names):
    assert backends_for(framework) == names


def test_a_format_that_nothing_runs_is_named():
    with pytest.raises(NoCompatibleBackendError, match="no backend runs 'keras' files"):
        open_session(Path("model.keras"), "keras")


def test_a_format_that_only_a_server_runs_is_not_run_right_here():
    with pytest.raises(NoCompatibleBackendError, match="no backend runs 'savedmodel'") as caught:
        open_session(Path("model"), "savedmodel")
    assert caught.value.hint == "deploy it to a runtime; it is run by triton"


def test_a_backend_is_called_what_the_table_calls_it():
    assert [load_backend(name).name for name in BACKENDS.names()] == list(BACKENDS.names())


def test_engines_are_imported_when_a_model_is_loaded_and_not_before():
    code = (
        "import sys; from nbmodel.backends import backends_for, load_backend;"
        "backends_for('onnx'); load_backend('tflite_cpu').check({});"
        "print([m for m in ('onnxruntime', 'ai_edge_litert', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_attribute_of_another_backend_is_told_with_who_has_it() -> None:
    (problem,) = load_backend("onnx_cpu").check({"model_path": "a.onnx", "device": "gpu"})
    assert problem == "attribute 'device' is unknown to onnx_cpu; triton has it"
