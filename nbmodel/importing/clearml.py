"""A model as ClearML tells of it: a JSON object, and the weights that it is about.

Read is what ``models.get_by_id`` of its server answers, and what ``Model.to_dict``-like
exports of it hold: the object itself, or in ``{"model": …}`` or ``{"data": {"model": …}}``,
as ``<anything>.json`` alone or in a folder. Its fields are ``id``, ``name``, ``project``,
``task``, ``parent``, ``comment``, ``tags``, ``system_tags``, ``framework``, ``design``,
``labels``, ``uri``, ``ready``, ``user``, ``created``, ``last_update`` and ``metadata``. The
weights are beside it under the last name of ``uri``, else what ``uri`` (``file://``) leads
to; ``model_package.zip``, which several weights are packed in, is unpacked. What is on a
server is fetched from there by its own importer.

Source: clearml 2.1.12 ``backend_api/services/v2_23/models.py``, ``model.py``.
"""

from __future__ import annotations

import json
from ast import literal_eval
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from nbmodel.errors import FormatError, InputError, NbModelError
from nbmodel.importing.base import Fetched, Import, Layout, kept_tags, local_path, name_from
from nbmodel.importing.documents import read_json, text
from nbmodel.importing.download import safe_name
from nbmodel.importing.unpack import unpack

_MARKS = ("id", "uri", "framework")  # fields that every model has
_MAX_FOLDER = 1000  # entries of a folder that is looked through


class ClearMlExport(Layout):
    """A model's JSON with its weights."""

    name = "clearml"
    form = "MODEL.json (of ClearML)"

    def recognises(self, path: Path) -> bool:
        """Whether it is such a JSON file, or a folder with one."""
        return _document(path) is not None

    def read(self, path: Path, job: Import) -> Fetched:
        """The weights; id, project, task, framework and tags as they are there."""
        found = _document(path)
        if found is None:
            raise InputError(f"{path} has no JSON of a model of ClearML's")
        file, model = found
        # What came from elsewhere must not name files of this machine.
        is_own = not file.resolve().is_relative_to(job.folder.resolve())
        weights = _weights(file, model, is_own=is_own)
        if weights.name.endswith("model_package.zip"):
            place = unpack(weights, job)
        elif weights.is_dir():
            place = weights
        else:
            place = job.gather({weights.name: weights}) / weights.name
        metadata, notes = _metadata(model.get("metadata"))
        tags, loose = kept_tags({str(tag): "" for tag in _words(model.get("tags"))}, "")
        design = model.get("design")
        said = {
            **{
                key: text(model.get(key), 500)
                for key in ("id", "project", "task", "parent", "framework", "user", "created",
                            "last_update", "company")
            },
            "tags": sorted(loose),
            "system_tags": list(_words(model.get("system_tags"))),
            "design": design if _is_json(design) else text(design),
        }  # fmt: skip
        words = {
            "clearml.id": text(model.get("id"), 200),
            "clearml.status": "published" if model.get("ready") is True else "draft",
        }
        return Fetched(
            place,
            self.here(text(model.get("id"), 200)),
            name=name_from(text(model.get("name"), 200).rpartition(" - ")[2]),
            labels=_labels(model.get("labels")),
            description=text(model.get("comment"), 10_000),
            metadata={**metadata, "clearml": {key: one for key, one in said.items() if one}},
            tags={**tags, **{key: one for key, one in words.items() if one}},
            notes=notes,
        )


def _document(path: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """The JSON file of a model, and the model; None without one."""
    try:
        if path.is_file():
            files = [path] if path.suffix.lower() == ".json" else []
        else:
            files = sorted(one for one in path.iterdir() if one.suffix.lower() == ".json")
    except OSError:
        return None
    for file in files[:_MAX_FOLDER]:
        with suppress(NbModelError, OSError):  # another one may be a model's
            model = _model(read_json(file))
            if model is not None:
                return file, model
    return None


def _model(data: object) -> Mapping[str, Any] | None:
    for key in ("data", "model"):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if isinstance(data, Mapping) and all(isinstance(data.get(mark), str) for mark in _MARKS):
        return data
    return None


def _weights(file: Path, model: Mapping[str, Any], *, is_own: bool) -> Path:
    uri = str(model["uri"])
    if uri.endswith(("/uploading_file", "/failed_uploading")):
        raise InputError(f"{file.name}: ClearML never had the weights of this model ({uri[-40:]})")
    name = safe_name(unquote(urlsplit(uri).path)) if "://" in uri else safe_name(uri)
    beside = file.parent / name
    if name and beside.exists() and beside.resolve().parent == file.parent.resolve():
        return beside
    there = local_path(uri) if is_own and uri.startswith("file://") else None
    if there is not None and there.exists():
        return there
    raise InputError(
        f"{file.name}: the weights {name!r} are not beside it",
        hint=f"put them into {file.parent}, or import them from where they are",
    )


def _labels(value: object) -> Mapping[str, int] | None:
    """``{name: index}``, as ClearML enumerates; its SDK writes -1 for what is to be left out."""
    if not isinstance(value, Mapping) or not value:
        return None
    labels: dict[str, int] = {}
    for name, index in value.items():
        if not isinstance(index, int) or isinstance(index, bool):
            raise FormatError(f"index of label {str(name)[:80]!r} is no whole number")
        if index >= 0:
            labels[str(name)] = index
    return labels or None


def _metadata(value: object) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Values by key, cast to the types that they are said to have; what could not be."""
    if isinstance(value, list):  # the server's form
        value = {one.get("key"): one for one in value if isinstance(one, Mapping)}
    if not isinstance(value, Mapping):
        return {}, ()
    found: dict[str, Any] = {}
    notes = []
    for key, entry in value.items():
        kind, said = (
            (entry.get("type"), entry.get("value")) if isinstance(entry, Mapping) else ("", entry)
        )
        try:
            found[str(key)[:200]] = _cast(str(kind), text(said, 100_000))
        except (ValueError, RecursionError):
            found[str(key)[:200]] = text(said)
            notes.append(f"metadata {str(key)[:80]!r} is no {kind}, and is kept as text")
    return found, tuple(notes)


def _cast(kind: str, said: str) -> Any:
    if kind == "int":
        return int(said)
    if kind == "float":
        number = float(said)
        return number if number - number == 0 else said  # JSON has no infinities
    if kind == "bool":
        return said.strip().lower() in ("true", "1", "yes")
    if kind in ("list", "tuple", "dict"):
        return _structure(said)
    return said


def _structure(said: str) -> Any:
    """A list or mapping, as JSON or as Python prints it.

    Raises:
        ValueError: It is neither, or has what JSON has not.
    """
    try:
        return json.loads(said)
    except ValueError:
        pass
    try:
        return json.loads(json.dumps(literal_eval(said), allow_nan=False))
    except (SyntaxError, TypeError, MemoryError) as exc:
        raise ValueError(str(exc)) from exc


def _words(value: object) -> tuple[str, ...]:
    return tuple(str(one)[:500] for one in value[:1000]) if isinstance(value, list) else ()


def _is_json(value: object) -> bool:
    return isinstance(value, Mapping)
