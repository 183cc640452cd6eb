"""A model folder of Hydrosphere's ``hs``: ``serving.yaml`` and what its payload names.

Read are all keys of ``kind: Model``: ``name``, ``runtime``, ``install-command``,
``training-data``, ``payload``, ``contract``, ``metadata``, ``monitoring`` and
``monitoring-configuration``. A misspelt type or shape is an error here; ``hs`` made a tensor
of any shape of it.

Source: hydro-serving-cli 3.0.3 ``hs/entities/model_version.py``; hydro-serving-sdk 3.0.3
``hydrosdk/data/types.py`` for the names of types.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError, InputError, SignatureError
from nbmodel.importing.base import Fetched, Import, Layout, name_from, safe_path
from nbmodel.importing.documents import read_yaml, text

FILES = ("serving.yaml", "serving.yml")
_KEYS = frozenset(
    ("kind", "name", "runtime", "install-command", "training-data", "payload", "contract",
     "metadata", "monitoring", "monitoring-configuration")
)  # fmt: skip
#: Names of types in a contract, in the command line's and the library's words.
DATATYPES: Mapping[str, str] = {
    **dict.fromkeys(("string", "str"), "BYTES"),
    "bool": "BOOL",
    **dict.fromkeys(("float16", "half"), "FP16"),
    **dict.fromkeys(("float32", "single"), "FP32"),
    **dict.fromkeys(("float", "float64", "double"), "FP64"),
    **dict.fromkeys(("int8", "byte", "qint8"), "INT8"),
    **dict.fromkeys(("int16", "short", "qint16"), "INT16"),
    **dict.fromkeys(("int32", "qint32"), "INT32"),
    **dict.fromkeys(("int", "int64"), "INT64"),
    **dict.fromkeys(("uint8", "ubyte", "quint8"), "UINT8"),
    **dict.fromkeys(("uint16", "ushort", "quint16"), "UINT16"),
    "uint32": "UINT32",
    "uint64": "UINT64",
    "complex64": "COMPLEX64",
    "complex128": "COMPLEX128",
}
_PROFILES: Mapping[str, str] = {
    **dict.fromkeys(("categorical", "nominal", "ordinal"), "categorical"),
    **dict.fromkeys(("numerical", "continuous", "interval", "ratio"), "numerical"),
    **{word: word for word in ("image", "video", "audio", "text")},
    "none": "",
    "": "",
}


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
        model, notes = _model(file)
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
        signature = read_contract(contract, file.name) if contract else None
        return Fetched(
            job.gather(dict(_files(payload, file, job))),
            self.here(),
            name=name_from(text(model["name"], 200)),
            signature=signature,
            metadata={**{str(key): text(value) for key, value in words.items()}, "hs": said},
            notes=notes,
        )


def read_contract(contract: Mapping[str, Any], file: str) -> Signature:
    """The signature that a contract is.

    Raises:
        FormatError: A side, shape, type or profile is none; the message names the tensor.
    """
    return Signature(
        _tensors(contract.get("inputs"), "inputs", file),
        _tensors(contract.get("outputs"), "outputs", file),
    )


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.name in FILES else None
    return next((path / name for name in FILES if (path / name).is_file()), None)


def _model(file: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    documents = [_mapping(one, "a document", file) for one in read_yaml(file) if one is not None]
    kinds = [text(one.get("kind"), 80) for one in documents]
    models = [one for one in documents if one.get("kind") == "Model"]
    if "" in kinds:
        raise FormatError(f"no 'kind' field specified in {file.name}")
    if len(models) != 1:
        found = ", ".join(kinds) or "nothing"
        raise FormatError(f"{file.name} has {found}, expected one document of kind Model")
    (model,) = models
    if not isinstance(model.get("name"), str) or not model["name"]:
        raise FormatError(f"{file.name}: a model has no name")
    notes = [
        f"{file.name}: {kind} is left out: deploy runs models here"
        for kind in kinds
        if kind != "Model"
    ]
    unknown = sorted(str(key) for key in model.keys() - _KEYS)
    if unknown:
        notes.append(f"{file.name} has keys that nothing is known of: {', '.join(unknown)[:200]}")
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


def _tensors(side: object, what: str, file: str) -> tuple[Tensor, ...]:
    if side is None:
        return ()
    if not isinstance(side, Mapping):
        raise FormatError(f"{file}: expected {what} of the contract to be a mapping by name")
    return tuple(_tensor(str(name), field, file) for name, field in side.items())


def _tensor(name: str, field: object, file: str) -> Tensor:
    where = f"{file}: tensor {name[:80]!r}"
    if not isinstance(field, Mapping):
        raise FormatError(f"{where}: expected shape, type and profile")
    kind, profile = text(field.get("type"), 80).lower(), text(field.get("profile"), 80).lower()
    if kind not in DATATYPES:
        raise FormatError(
            f"{where}: unknown type {kind!r}", hint=f"one of {', '.join(sorted(DATATYPES))}"
        )
    if profile not in _PROFILES:
        raise FormatError(
            f"{where}: unknown profile {profile!r}",
            hint=f"one of {', '.join(filter(None, _PROFILES))}",
        )
    try:
        return Tensor(
            name, DATATYPES[kind], _shape(field.get("shape"), where), profile=_PROFILES[profile]
        )
    except SignatureError as exc:
        raise FormatError(f"{where}: {exc}") from exc


def _shape(value: object, where: str) -> tuple[int, ...] | None:
    """Absent is any, ``scalar`` and ``[]`` are none, −1 is variable."""
    if value is None:
        return None
    if value == "scalar":
        return ()
    if isinstance(value, list) and all(
        isinstance(dim, int) and not isinstance(dim, bool) for dim in value
    ):
        return tuple(value)
    raise FormatError(
        f"{where}: expected shape to be scalar or whole numbers, found {value!r}"[:300]
    )
