"""A model of a Triton model repository: ``config.pbtxt`` and folders with numbers.

Read are the configuration (tensors, ``label_filename``, ``version_policy``), the folder of
one version, and what nbmodel left beside them when it wrote the model.

Source: Triton's "Model Repository"; triton-inference-server/common
``protobuf/model_config.proto``.
"""

from __future__ import annotations

import re
from pathlib import Path

from nbmodel.core.signature import Signature
from nbmodel.errors import FormatError, InputError, NbModelError
from nbmodel.formats.sidecar import signature_of
from nbmodel.formats.textproto import MAX_TEXT, Fields, parse
from nbmodel.importing.base import Fetched, Import, Layout, name_from, safe_path
from nbmodel.importing.documents import read_json
from nbmodel.interchange.record import Record, read_record
from nbmodel.interchange.triton import CONFIG, RECORD
from nbmodel.label_file import read_label_file
from nbmodel.storage.base import translated

_NUMBER = re.compile(r"[1-9]\d{0,18}")


class TritonModel(Layout):
    """The folder of a model, or a repository with a single one."""

    name = "triton"
    form = "FOLDER (with config.pbtxt and numbers)"

    def recognises(self, path: Path) -> bool:
        """Whether it is such a folder."""
        return _model(path) is not None

    def read(self, path: Path, job: Import) -> Fetched:
        """The files of the version that is served, else the newest, or the one asked for."""
        model = _model(path)
        if model is None:
            raise InputError(f"{path} has no {CONFIG} with a numbered folder beside it")
        config = _config(model)
        number = _number(model, config, job.revision)
        folder = model / number
        files = {}
        for one in sorted(folder.rglob("*")):
            job.check()
            if one.is_file():
                if not one.resolve().is_relative_to(folder.resolve()):
                    raise InputError(f"{one.name} is a link that leads out of {folder.name}")
                files[one.relative_to(folder).as_posix()] = one
        record = _record(model / RECORD.format(number))
        said = record.signature or _signature(config)
        return Fetched(
            job.gather(files),
            self.here(number),
            name=name_from(record.name or config.text("name") or model.name),
            labels=None if record.signature else _labels(model, config),
            signature=said,
            model_type=record.model_type,
            description=record.description,
            metadata={**record.metadata, "triton": {"model": model.name, "version": number}},
            metrics=record.metrics,
            tags={"triton.version": number},
            golden=record.golden,
        )


def _model(path: Path) -> Path | None:
    if not path.is_dir():
        return None
    if (path / CONFIG).is_file() and _numbers(path):
        return path
    inside = [one for one in path.iterdir() if one.is_dir() and one.name[0] != "."]
    if len(inside) == 1 and (inside[0] / CONFIG).is_file() and _numbers(inside[0]):
        return inside[0]
    return None


def _numbers(model: Path) -> list[str]:
    found = [one.name for one in model.iterdir() if _NUMBER.fullmatch(one.name) and one.is_dir()]
    return sorted(found, key=int)


def _config(model: Path) -> Fields:
    with translated(f"read {CONFIG}"), (model / CONFIG).open("rb") as file:
        content = file.read(4 * MAX_TEXT + 1)
    try:
        return parse(content.decode())
    except UnicodeDecodeError as exc:
        raise FormatError(f"{CONFIG} is not UTF-8") from exc


def _number(model: Path, config: Fields, revision: str) -> str:
    there = _numbers(model)
    if revision:
        if revision not in there:
            raise InputError(
                f"{model.name} has no version {revision[:40]!r}",
                hint=f"it has {', '.join(there[-8:])}",
            )
        return revision
    served = [
        str(number)
        for policy in config.messages("version_policy")
        for specific in policy.messages("specific")
        for number in specific.numbers("versions")
        if str(number) in there
    ]
    return max(served or there, key=int)


def _signature(config: Fields) -> Signature | None:
    try:
        return signature_of(config)
    except NbModelError:
        return None  # Triton may be left to find it out


def _labels(model: Path, config: Fields) -> tuple[str, ...] | None:
    for tensor in config.messages("output"):
        name = tensor.text("label_filename")
        if name and (model / safe_path(name)).is_file():
            return read_label_file(model / name)
    return None


def _record(path: Path) -> Record:
    return read_record(read_json(path)) if path.is_file() else Record()
