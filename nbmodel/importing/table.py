"""The table of importers, and telling which of them an address is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from nbmodel.errors import InputError
from nbmodel.importing.base import Importer, Layout, local_path, shown
from nbmodel.plugins import PluginTable

#: In the order in which they are asked: what is told by more comes first.
IMPORTERS = PluginTable(
    kind="importer",
    builtin={
        "hf": "nbmodel.importing.hf:HuggingFace",
        "git": "nbmodel.importing.git:Git",
        "object-store": "nbmodel.importing.object_store:ObjectStore",
        "mlflow": "nbmodel.importing.mlflow:MlflowRegistry",
        "oci": "nbmodel.importing.oci:OciArtifact",
        "url": "nbmodel.importing.url:Url",
        "hs": "nbmodel.importing.hs:HsFolder",
        "triton": "nbmodel.importing.triton:TritonModel",
        "mlflow-model": "nbmodel.importing.mlflow_model:MlflowModel",
        "clearml": "nbmodel.importing.clearml:ClearMlExport",
        "viam": "nbmodel.importing.viam:ViamPackage",
        "hf-cache": "nbmodel.importing.hf_cache:HuggingFaceCache",
        "archive": "nbmodel.importing.archive:PlainArchive",
    },
    extras={},
)


def importer_named(name: str) -> Importer:
    """The importer of that name.

    Raises:
        PluginError: There is none, or what it needs is not installed.
    """
    return cast("Importer", IMPORTERS.load(name)())


def importer_of(uri: str) -> Importer:
    """The importer that an address is for.

    Raises:
        InputError: It is for none.
    """
    for importer in _importers():
        if importer.takes(uri):
            return importer
    path = local_path(uri)
    if path is not None and path.exists():
        raise InputError(
            f"{shown(uri)} is nothing that says more than its files do",
            hint=f"nbmodel upload {path} --name NAME",
        )
    if path is not None:
        raise InputError(f"no such file or folder: {shown(uri)!r}", hint=f"forms: {_forms()}")
    raise InputError(f"nothing here imports {shown(uri)!r}", hint=f"forms: {_forms()}")


def layouts() -> Iterator[Layout]:
    """The importers that look at files, in the table's order."""
    return (importer for importer in _importers() if isinstance(importer, Layout))


def _importers() -> Iterator[Importer]:
    # Looking for entry points reads the metadata of every installed package.
    yield from map(importer_named, IMPORTERS.builtin)
    yield from (importer_named(name) for name in IMPORTERS.names() if name not in IMPORTERS.builtin)


def _forms() -> str:
    return ", ".join(importer_named(name).form for name in IMPORTERS.builtin)
