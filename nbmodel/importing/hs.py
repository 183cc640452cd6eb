"""A model folder of Hydrosphere's ``hs``: ``serving.yaml`` and what its payload names.

Read are all keys of ``kind: Model``: ``name``, ``runtime``, ``install-command``,
``training-data``, ``payload``, ``contract``, ``metadata``, ``monitoring`` and
``monitoring-configuration``. A misspelt type or shape is an error here; ``hs`` made a tensor
of any shape of it.

Source: hydro-serving-cli 3.0.3 ``hs/entities/model_version.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbmodel.core.contract import signature_of
from nbmodel.errors import FormatError, InputError
from nbmodel.importing.base import Fetched, Import, Layout, name_from, safe_path
from nbmodel.importing.documents import Located, located_yaml, text

FILES = ("serving.yaml", "serving.yml")
MODEL_KEYS = (
    "kind", "name", "runtime", "install-command", "training-data", "payload", "contract",
    "metadata", "monitoring", "monitoring-configuration",
)  # fmt: skip


class HsFolder(Layout):
    """A folder with ``serving.yaml``."""

    name = "hs"
    form = "FOLDER (with serving.yaml)"

    def recognises(self, path: Path) -> bool:
        """Whether it is such a folder, or its ``serving.yaml``."""
        return _file(path) is not None

    def read(self, path: Path, job: Import) -> Fetched:
        """The payload's files; the contract as signature, the rest as metadata."""
        file = _file(path)
        if file is None:
            raise InputError(f"{path} has no serving.yaml")
        document = located_yaml(file)
        index = model_in(document)
        model, notes = _model(document, index)
        contract = _mapping(model.get("contract"), "contract", file)
        said = {
            key.replace("-", "_"): model[key]
            for key in (
                "runtime",
                "install-command",
                "training-data",
                "monitoring",
                "monitoring-configuration",
            )
            if model.get(key) is not None
        }
        if contract:
            said["contract"] = text(contract.get("name", "predict"), 200)
        words = _mapping(model.get("metadata"), "metadata", file)
        payload = _payload(model.get("payload"), file)
        signature = (
            signature_of(contract, document.where, place=(index, "contract"), needs_types=True)
            if contract
            else None
        )
        return Fetched(
            job.gather(dict(_files(payload, file, job))),
            self.here(),
            name=name_from(text(model["name"], 200)),
            signature=signature,
            metadata={**{str(key): text(value) for key, value in words.items()}, "hs": said},
            notes=notes,
        )


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.name in FILES else None
    return next((path / name for name in FILES if (path / name).is_file()), None)


def model_in(document: Located) -> int:
    """Which of the documents of a ``serving.yaml`` is its model.

    Raises:
        FormatError: A document is no resource, or there is no model or several.
    """
    given = [
        (index, _mapping(one, "a document", document.path))
        for index, one in enumerate(document.values)
        if one is not None
    ]
    for index, one in given:
        if not text(one.get("kind"), 80):
            raise FormatError(f"{document.where((index,))}: no 'kind' field specified")
    models = [index for index, one in given if one["kind"] == "Model"]
    if len(models) != 1:
        found = ", ".join(text(one["kind"], 80) for _, one in given) or "nothing"
        raise FormatError(f"{document.path.name} has {found}, expected one document of kind Model")
    return models[0]


def _model(document: Located, index: int) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    model, name = document.values[index], document.path.name
    if not isinstance(model.get("name"), str) or not model["name"]:
        raise FormatError(f"{name}: a model has no name")
    notes = [
        f"{name}: {text(one['kind'], 80)} is left out: deploy runs models here"
        for place, one in enumerate(document.values)
        if one is not None and place != index
    ]
    unknown = sorted(str(key) for key in model.keys() - set(MODEL_KEYS))
    if unknown:
        notes.append(f"{name} has keys that nothing is known of: {', '.join(unknown)[:200]}")
    return model, tuple(notes)


def _mapping(value: object, what: str, file: Path) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise FormatError(
            f"{file.name}: expected {what} to be a mapping, found {type(value).__name__}"
        )
    return value


def _payload(value: object, file: Path) -> tuple[str, ...]:
    if value is None:
        return ("*",)
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise FormatError(f"{file.name}: expected payload to be a list of paths")
    return tuple(value)


def _files(payload: tuple[str, ...], file: Path, job: Import) -> Iterator[tuple[str, Path]]:
    """The files that a payload names, with their paths in the model."""
    root = file.parent.resolve()
    for pattern in payload:
        plain = os.path.normpath(pattern.strip()).replace(os.sep, "/")
        if plain.startswith(("/", "..")):
            raise InputError(f"{file.name}: payload {pattern[:80]!r} leads out of the folder")
        try:
            found = [root] if plain == "." else sorted(root.glob(plain))
        except (ValueError, NotImplementedError) as exc:  # "**x", or a NUL
            raise FormatError(f"{file.name}: payload {pattern[:80]!r} is no pattern") from exc
        if not found:
            raise InputError(f"{file.name}: payload {pattern[:80]!r} is not there")
        for path in found:
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            job.check_count(len(inside), "the payload")
            for one in inside:
                job.check()
                name = one.relative_to(root).as_posix()
                is_own = one == root / file.name and pattern != file.name
                if not one.is_file() or is_own or _is_hidden(name):
                    continue
                if not one.resolve().is_relative_to(root):
                    raise InputError(f"{file.name}: {name[:80]!r} leads out of the folder")
                yield safe_path(name), one


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))
