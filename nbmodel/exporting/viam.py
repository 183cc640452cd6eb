"""A Viam package on disk, as ``viam packages export`` leaves one, with its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

from nbmodel.exporting.base import Export, Exported, Exporter
from nbmodel.exporting.files import new_file, write_text
from nbmodel.exporting.viam_package import FRAMEWORKS, PackageInfo, write_archive
from nbmodel.fleet.plan import package_json
from nbmodel.interchange.record import KEY, record_of


class Viam(Exporter):
    """``TARGET/<version>/<name>.tar.gz``, and ``<name>.json`` beside it."""

    name = "viam"
    about = "TARGET/<version>/<name>.tar.gz, and its JSON"
    options: ClassVar[Mapping[str, str]] = {
        "organization": "id of the organization at Viam",
        "platform": "what it is for, such as linux/arm64",
    }

    def export(self, job: Export) -> Exported:
        """Pack the files; equal versions give equal bytes."""
        version = job.version
        organization = job.option("organization")
        info = PackageInfo.of(version, organization=organization, platform=job.option("platform"))
        folder = job.folder / version.stamp
        packed, told = folder / f"{info.name}.tar.gz", folder / f"{info.name}.json"
        entry = package_json(version.model, version.stamp)
        if organization:
            entry["package"] = f"{organization}/{info.name}"
        with new_file(packed) as file:
            write_archive(job, file)
        data = {**info.to_json(), **entry, KEY: record_of(version)}
        write_text(told, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        notes = [] if version.framework in FRAMEWORKS else [_unknown(version.framework)]
        return Exported((packed, told), entry["package"], tuple(notes))


def _unknown(framework: str) -> str:
    return f"Viam has no word for {framework}: its model_framework is unspecified"
