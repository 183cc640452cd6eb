"""An MLflow model: a folder that ``mlflow`` loads and registers.

``onnx`` and ``tensorflow`` have flavors of MLflow's; every version has the flavor
``nbmodel``, which says where its files are.

Source: MLflow's documentation, "MLflow Models: Storage Format", "Model Signatures".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from nbmodel.core.signature import Tensor, describe
from nbmodel.core.version import Version
from nbmodel.exporting.base import Export, Exported, Exporter
from nbmodel.exporting.files import check_free, extract, write_text
from nbmodel.exporting.yaml import to_yaml
from nbmodel.formats import model_file
from nbmodel.interchange.mlflow import DATATYPES, MARKER, OWN_FILES
from nbmodel.interchange.record import KEY, record_of

_DATA = "data"  # where the version's files are when they cannot be beside MLmodel
_DTYPES: Mapping[str, str] = {ours: theirs for theirs, ours in DATATYPES.items()} | {
    "BYTES": "object"
}
_PYTHON = "3.11"


class Mlflow(Exporter):
    """``TARGET``, a folder with ``MLmodel``."""

    name = "mlflow"
    about = "TARGET, a folder with MLmodel that mlflow loads and registers"
    options: ClassVar[Mapping[str, str]] = {}

    def export(self, job: Export) -> Exported:
        """Copy the files, then write what says what they are."""
        version, folder = job.version, job.folder
        check_free(folder, lambda there: _is_of(there / MARKER, version), "the model")
        data = _place(job)
        written = list(extract(job, folder / data))
        flavors, needs = _flavors(job, data)
        signature, problem = _signature(job)
        told: dict[str, Any] = {
            "flavors": flavors,
            "utc_time_created": version.created.strftime("%Y-%m-%d %H:%M:%S.%f"),
            "metadata": {KEY: record_of(version)},
        }
        if signature:
            told["signature"] = signature
        documents = {
            "requirements.txt": "".join(f"{one}\n" for one in needs),
            "python_env.yaml": to_yaml(
                {
                    "python": _PYTHON,
                    "build_dependencies": ["pip"],
                    "dependencies": ["-r requirements.txt"],
                }
            ),
            "conda.yaml": to_yaml(
                {
                    "name": "mlflow-env",
                    "channels": ["conda-forge"],
                    "dependencies": [f"python={_PYTHON}", "pip", {"pip": list(needs)}],
                }
            ),
            MARKER: to_yaml(told),
        }
        written += [write_text(folder / name, text) for name, text in documents.items()]
        place = folder.absolute().as_uri()
        notes = [
            f"mlflow.register_model({place!r}, {version.model!r}) puts it into a registry here",
            "into one on a server: mlflow.log_artifacts in a run, then register that",
        ]
        if problem:
            notes.append(problem)
        if len(flavors) == 1:
            notes.append(
                f"MLflow has no flavor for {version.framework}: it keeps it, and does not run it"
            )
        return Exported(tuple(written), place, tuple(notes))


def _is_of(marker: Path, version: Version) -> bool:
    """Whether a folder is an earlier export of the same version."""
    try:
        return version.digest in marker.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _place(job: Export) -> str:
    """Where the files are: beside ``MLmodel``, but for those that have MLflow's own names."""
    tops = {entry.path.partition("/")[0] for entry in job.version.files}
    return _DATA if tops & OWN_FILES else "."


def _flavors(job: Export, data: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Flavor → its fields, and what must be installed to load them."""
    version = job.version
    own = {"framework": version.framework, "data": data, "digest": version.digest}
    if version.framework not in ("onnx", "savedmodel"):
        return {"nbmodel": own}, ("mlflow",)
    place = PurePosixPath(data, model_file(version.manifest)).as_posix()
    environment = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    generic = {"env": environment, "python_version": _PYTHON}
    if version.framework == "onnx":
        flavors: dict[str, Any] = {
            "onnx": {
                "code": None,
                "data": place,
                "providers": ["CPUExecutionProvider"],
                "onnx_session_options": None,
            },
            "nbmodel": own,
        }
        if "/" not in place:  # its loader looks for MLmodel beside the file
            loader = {"loader_module": "mlflow.onnx", "data": place, **generic}
            flavors["python_function"] = loader
        return flavors, ("mlflow", "onnx", "onnxruntime")
    return {
        "tensorflow": {"code": None, "model_type": "tf2-module", "saved_model_dir": place},
        "python_function": {"loader_module": "mlflow.tensorflow", **generic},
        "nbmodel": own,
    }, ("mlflow", "tensorflow")


def _signature(job: Export) -> tuple[dict[str, Any], str]:
    """The signature in MLflow's words, or why there is none."""
    signature = job.version.signature
    for tensor in (*signature.inputs, *signature.outputs):
        if tensor.datatype not in _DTYPES or tensor.shape is None:
            return {}, f"without a signature: MLflow cannot say {describe(tensor)}"
    return {
        "inputs": _schema(signature.inputs),
        "outputs": _schema(signature.outputs),
        "params": None,
    }, ""


def _schema(tensors: Sequence[Tensor]) -> str:
    fields = [
        {
            "type": "tensor",
            "tensor-spec": {"dtype": _DTYPES[one.datatype], "shape": list(one.shape or ())},
            "name": one.name,
        }
        for one in tensors
    ]
    return json.dumps(fields)
