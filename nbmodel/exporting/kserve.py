"""A KServe ``InferenceService``: the YAML that has a cluster serve a version.

The cluster fetches the files itself, from where ``storage`` says: ``oci://`` (a container
image with the files under ``/models``), ``s3://``, ``gs://``, ``pvc://`` or ``https://``. For
Triton that is a model repository, as ``export --to triton`` writes one.

Source: KServe's documentation, "InferenceService", "Storage URI", "Model Serving Runtimes".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from nbmodel.core.origin import without_credentials
from nbmodel.errors import InputError
from nbmodel.exporting.base import Export, Exported, Exporter
from nbmodel.exporting.files import plain_name, write_text
from nbmodel.exporting.yaml import to_yaml

#: Our formats → what KServe calls them; what Triton serves there, as "Model Serving Runtimes" lists.
FORMATS: Mapping[str, str] = {
    "onnx": "onnx",
    "savedmodel": "tensorflow",
    "torchscript": "pytorch",
    "tensorrt": "tensorrt",
    "python": "triton",
    "openvino": "triton",
}
_SCHEMES = ("oci", "s3", "gs", "pvc", "https", "http", "hdfs", "webhdfs", "hf", "wasbs", "abfss")
_STORAGE = re.compile(rf"(?:{'|'.join(_SCHEMES)})://\S+")
_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # DNS label of RFC 1035


class KServe(Exporter):
    """``TARGET``, a ``.yaml`` file for ``kubectl apply``."""

    name = "kserve"
    about = "TARGET, the YAML of an InferenceService"
    options: ClassVar[Mapping[str, str]] = {
        "storage": "where the cluster fetches the files: oci://, s3://, gs://, pvc://, https://",
        "name": "of the service; else the model's",
        "namespace": "of the cluster",
        "runtime": "of KServe; else kserve-tritonserver",
        "replicas": "the fewest, such as 0",
    }

    def export(self, job: Export) -> Exported:
        """Write the document; the files are to be where ``storage`` says."""
        version = job.version
        if version.framework not in FORMATS:
            raise InputError(
                f"KServe has no runtime for {version.framework}",
                hint=f"it serves {', '.join(FORMATS)}",
            )
        storage = job.option("storage")
        if not _STORAGE.fullmatch(storage):
            raise InputError(
                f"KServe must know where the files are, found {storage[:200]!r}",
                hint="--option storage=oci://registry/team/image:tag, or s3://bucket/models",
            )
        if without_credentials(storage) != storage:
            raise InputError("the address of the storage has a credential in it")
        name = job.option("name") or plain_name(version.model, "a-z0-9-")
        if _LABEL.fullmatch(name) is None:
            raise InputError(
                f"not a name of a service in Kubernetes: {name!r}", hint="--option name=NAME"
            )
        path = job.folder
        if path.suffix not in (".yaml", ".yml"):
            path = path / f"{name}.yaml"
        written = write_text(path, to_yaml(_document(job, name, storage)))
        notes = [f"the files must be at {storage}: `export {version.reference} FOLDER --to triton`"]
        if storage.startswith("oci://"):
            notes.append("oci:// is an image with that folder as /models, not a model's artifact")
        return Exported((written,), f"inferenceservice/{name}", tuple(notes))


def _document(job: Export, name: str, storage: str) -> dict[str, Any]:
    version = job.version
    metadata: dict[str, Any] = {"name": name}
    if job.option("namespace"):
        metadata["namespace"] = job.option("namespace")
    metadata["annotations"] = {
        "nbmodel.io/reference": version.reference,
        "nbmodel.io/digest": version.digest,
        "nbmodel.io/stamp": version.stamp,
    }
    predictor: dict[str, Any] = {}
    if job.option("replicas"):
        if not job.option("replicas").isdecimal():
            raise InputError(f"replicas: expected a number, found {job.option('replicas')!r}")
        predictor["minReplicas"] = int(job.option("replicas"))
    predictor["model"] = {
        "modelFormat": {"name": FORMATS[version.framework]},
        "protocolVersion": "v2",
        "runtime": job.option("runtime", "kserve-tritonserver"),
        "storageUri": storage,
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }
