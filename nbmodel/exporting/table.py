"""The table of exporters."""

from __future__ import annotations

from typing import cast

from nbmodel.exporting.base import Exporter
from nbmodel.plugins import PluginTable

EXPORTERS = PluginTable(
    kind="exporter",
    builtin={
        "viam": "nbmodel.exporting.viam:Viam",
        "viam-upload": "nbmodel.exporting.viam_upload:ViamUpload",
        "triton": "nbmodel.exporting.triton:Triton",
        "kserve": "nbmodel.exporting.kserve:KServe",
        "mlflow": "nbmodel.exporting.mlflow:Mlflow",
    },
    extras={},
)


def exporter_named(name: str) -> Exporter:
    """The exporter of that name.

    Raises:
        PluginError: There is none, or what it needs is not installed.
    """
    return cast("Exporter", EXPORTERS.load(name)())
