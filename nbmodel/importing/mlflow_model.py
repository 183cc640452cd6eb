"""An MLflow model: a folder with ``MLmodel``.

Read are the flavors (``onnx`` and ``tensorflow`` say where their file is; of others the whole
folder is looked at), the signature, ``run_id``, ``model_uuid`` or ``model_id``,
``utc_time_created``, ``mlflow_version``, ``artifact_path`` and ``metadata``. Nothing of a
pickled flavor is opened.

Source: MLflow's documentation, "MLflow Models: Storage Format", "Model Signatures".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError, SignatureError
from nbmodel.importing.base import Fetched, Import, Layout, name_from, safe_path
from nbmodel.importing.documents import read_yaml, text
from nbmodel.interchange.mlflow import DATATYPES, MARKER, OWN_FILES
from nbmodel.interchange.record import KEY, read_record

_MAX_TENSORS = 20_000
# A column of a data frame, in MLflow's own words.
_COLUMNS: Mapping[str, str] = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "INT64",
}


@dataclass(frozen=True, slots=True)
class Schema:
    """One side of a signature.

    Attributes:
        tensors: Those that it names; a single one may have no name.
        columns: Names of the columns, when it is of a data frame.
    """

    tensors: tuple[Tensor, ...] = ()
    columns: tuple[str, ...] = ()


class MlflowModel(Layout):
    """A folder with ``MLmodel``."""

    name = "mlflow-model"
    form = "FOLDER (with MLmodel)"

    def recognises(self, path: Path) -> bool:
        """Whether it is such a folder."""
        return path.is_dir() and (path / MARKER).is_file()

    def read(self, path: Path, job: Import) -> Fetched:
        """The files of its flavor; where it comes from as metadata."""
        documents = read_yaml(path / MARKER)
        data = documents[0] if len(documents) == 1 else None
        if not isinstance(data, Mapping):
            raise FormatError(f"{MARKER} is no description of a model: expected one mapping")
        flavors = data.get("flavors")
        if not isinstance(flavors, Mapping) or not flavors:
            raise FormatError(f"{MARKER} names no flavor")
        inputs, outputs = _signature(data.get("signature"))
        metadata = data.get("metadata")
        record = read_record(metadata.get(KEY) if isinstance(metadata, Mapping) else None)
        said: dict[str, Any] = {
            "flavors": sorted(str(one) for one in flavors),
            "run_id": text(data.get("run_id"), 200),
            "model_id": text(data.get("model_id") or data.get("model_uuid"), 200),
            "created": text(data.get("utc_time_created"), 80),
            "mlflow_version": text(data.get("mlflow_version"), 80),
            "artifact_path": text(data.get("artifact_path"), 500),
        }
        if isinstance(metadata, Mapping):
            said["metadata"] = {str(key): value for key, value in metadata.items() if key != KEY}
        signature = Signature(inputs.tensors, outputs.tensors)
        return Fetched(
            job.gather(_files(path, flavors, job)),
            self.here(str(said["model_id"])),
            name=name_from(record.name or path.name),
            signature=record.signature or (signature if signature != Signature() else None),
            model_type=record.model_type,
            description=record.description,
            metadata={**record.metadata, "mlflow": {key: one for key, one in said.items() if one}},
            metrics=record.metrics,
            columns=inputs.columns,
            golden=record.golden,
        )


def read_schema(value: object) -> Schema:
    """One side of a signature, as MLflow writes it: a list, or the JSON of one.

    Raises:
        FormatError: It is none.
    """
    if value is None:
        return Schema()
    try:
        fields = json.loads(value) if isinstance(value, str) else value
        if not isinstance(fields, list) or len(fields) > _MAX_TENSORS:
            raise FormatError(f"expected a list of at most {_MAX_TENSORS:,} tensors or columns")
        if all(one.get("type") == "tensor" for one in fields):
            return Schema(tensors=tuple(map(_tensor, fields)))
        return Schema(columns=tuple(str(one.get("name", "")) for one in fields))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise FormatError(f"malformed signature: {str(exc)[:200]!r}") from exc


def _signature(data: object) -> tuple[Schema, Schema]:
    if not isinstance(data, Mapping):
        return Schema(), Schema()
    try:
        return read_schema(data.get("inputs")), read_schema(data.get("outputs"))
    except (FormatError, SignatureError) as exc:
        raise FormatError(f"{MARKER}: {exc}") from exc


def _tensor(field: Mapping[str, Any]) -> Tensor:
    spec = field["tensor-spec"]
    dtype = str(spec["dtype"])
    datatype = "BYTES" if dtype[:1] in "<|US" and dtype.strip("<|=")[:1] in "US" else dtype
    datatype = DATATYPES.get(datatype, datatype)
    return Tensor(str(field.get("name") or ""), datatype, tuple(int(dim) for dim in spec["shape"]))


def _files(path: Path, flavors: Mapping[str, Any], job: Import) -> dict[str, Path]:
    """The files of the model, with their paths from the folder that all are in."""
    root = path
    for flavor, key in (("nbmodel", "data"), ("onnx", "data"), ("tensorflow", "saved_model_dir")):
        said = flavors.get(flavor)
        where = said.get(key) if isinstance(said, Mapping) else None
        if isinstance(where, str) and where:
            root = path if where == "." else path / safe_path(where.strip("/"))
            if not root.exists():
                raise FormatError(f"{MARKER}: flavor {flavor} is in {where!r}, which is not there")
            break
    if root.is_file():  # with what it keeps its weights in
        beside = sorted(one for one in root.parent.iterdir() if one.is_file())
        return {one.name: one for one in beside if one.name not in OWN_FILES}
    files = {}
    for one in sorted(root.rglob("*")):
        job.check()
        name = one.relative_to(root).as_posix()
        if one.is_file() and not (root == path and name in OWN_FILES):
            if not one.resolve().is_relative_to(path.resolve()):
                raise FormatError(f"{name[:80]!r} leads out of the model")
            files[name] = one
    if not files:
        raise FormatError(f"{MARKER} is alone: there is no model beside it")
    return files
