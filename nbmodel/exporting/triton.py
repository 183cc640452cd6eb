"""A model repository of Triton's, which keeps what is in it: versions are added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

from nbmodel.backends.triton_config import ENGINES
from nbmodel.errors import InputError
from nbmodel.exporting.base import Export, Exported, Exporter
from nbmodel.exporting.files import extract, plain_name, write_text
from nbmodel.interchange.record import record_of
from nbmodel.interchange.triton import CONFIG, RECORD
from nbmodel.runtime.pbtxt import config_pbtxt


class Triton(Exporter):
    """``TARGET/<model>/<number>/…`` with ``config.pbtxt``, of which this version is served."""

    name = "triton"
    about = "TARGET/<model>/<number>/ with config.pbtxt: a model repository"
    options: ClassVar[Mapping[str, str]] = {"model": "what it is called there"}

    def export(self, job: Export) -> Exported:
        """Copy the files; the configuration is there after what it names."""
        version = job.version
        name = plain_name(job.option("model", version.model), "A-Za-z0-9._-")
        if name in ("", ".", ".."):
            raise InputError(f"not a name of a model: {name!r}", hint="--option model=NAME")
        model = job.folder / name
        written = list(extract(job, model / str(version.number)))
        label_files = {}
        for index, tensor in enumerate(version.signature.outputs):
            if tensor.labels:
                file = f"labels-{version.number}-{index}.txt"
                label_files[tensor.name] = file
                # One a line, whatever is in it: Triton counts lines.
                lines = (" ".join(label.split()) for label in tensor.labels)
                written.append(write_text(model / file, "\n".join(lines) + "\n"))
        record = json.dumps(record_of(version), indent=2, ensure_ascii=False) + "\n"
        written.append(write_text(model / RECORD.format(version.number), record))
        text = config_pbtxt(name, version.manifest, number=version.number, label_files=label_files)
        written.append(write_text(model / CONFIG, text))
        notes = []
        if version.framework not in ENGINES:
            notes.append(f"Triton itself has no backend for {version.framework}")
        return Exported(tuple(written), name, tuple(notes))
