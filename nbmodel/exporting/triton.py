"""A model repository of Triton's, which keeps what is in it: versions are added.

Another version of the same number takes the place of one that was exported before.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from nbmodel.backends.triton_config import ENGINES
from nbmodel.errors import InputError
from nbmodel.exporting.base import Export, Exported, Exporter
from nbmodel.exporting.files import extract, plain_name, write_text
from nbmodel.interchange.record import record_of
from nbmodel.interchange.triton import CONFIG, RECORD
from nbmodel.runtime.pbtxt import config_pbtxt
from nbmodel.storage.atomic import TEMPORARY, sync_folder
from nbmodel.storage.base import translated

_MAX_RECORD = 16 * 1024 * 1024  # bytes


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
        written = list(_put(job, model))
        label_files = {}
        for index, tensor in enumerate(version.signature.outputs):
            if tensor.labels:
                file = f"labels-{version.number}-{index}.txt"
                label_files[tensor.name] = file
                # One a line, whatever is in it: Triton counts lines.
                lines = (" ".join(label.split()) for label in tensor.labels)
                written.append(write_text(model / file, "\n".join(lines) + "\n"))
        with translated(f"remove label files in {model}"):
            for former in set(model.glob(f"labels-{version.number}-*.txt")).difference(written):
                former.unlink()
        record = json.dumps(record_of(version), indent=2, ensure_ascii=False) + "\n"
        written.append(write_text(model / RECORD.format(version.number), record))
        text = config_pbtxt(name, version.manifest, number=version.number, label_files=label_files)
        written.append(write_text(model / CONFIG, text))
        notes = []
        if version.framework not in ENGINES:
            notes.append(f"Triton itself has no backend for {version.framework}")
        return Exported(tuple(written), name, tuple(notes))


def _put(job: Export, model: Path) -> tuple[Path, ...]:
    """The files of the version in the folder of its number, and nothing else.

    Raises:
        InputError: Something that was not exported is there; nothing changed.
    """
    number = job.version.number
    folder, record = model / str(number), model / RECORD.format(number)
    known = _digest_in(record)
    if known in (None, job.version.digest) and _has_no_other(job, folder):
        return extract(job, folder)
    if known is None:
        raise InputError(
            f"{folder} is there, and not of an export",
            hint="choose another folder, or call the model otherwise: --option model=NAME",
        )
    with translated(f"write {folder}"):
        beside = Path(tempfile.mkdtemp(dir=model, prefix=TEMPORARY))
    try:
        new = beside / "new"
        paths = extract(job, new)
        with translated(f"replace {folder}"):
            with suppress(FileNotFoundError):  # removed, or an export before was cut off here
                folder.rename(beside / "former")
            new.rename(folder)
            sync_folder(model)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return tuple(folder / path.relative_to(new) for path in paths)


def _has_no_other(job: Export, folder: Path) -> bool:
    """Whether a folder, which need not be there, has files of the version's names alone."""
    own = {entry.path for entry in job.version.manifest.files}
    there = (path for path in folder.rglob("*") if not path.is_dir())
    return own.issuperset(path.relative_to(folder).as_posix() for path in there)


def _digest_in(record: Path) -> str | None:
    """Which version an export wrote; None where none did."""
    try:
        with record.open("rb") as file:
            data = json.loads(file.read(_MAX_RECORD))
        return str(data["digest"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
