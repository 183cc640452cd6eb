"""Signatures that a person gives: as values, as text, or in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from nbmodel.core.contract import Place, in_memory, signature_of
from nbmodel.core.document import unique_keys
from nbmodel.core.signature import Signature
from nbmodel.errors import FormatError, InputError, StorageUnavailableError
from nbmodel.importing.documents import Located, located_json, located_yaml
from nbmodel.importing.hs import MODEL_KEYS, model_in
from nbmodel.importing.prototext import read_prototext

_PROTOTEXTS = (".prototxt", ".pbtxt")
#: A signature as a person gives it: the value, a mapping, JSON text, or a file.
SignatureGiven: TypeAlias = "Signature | Mapping[str, Any] | str | PathLike[str] | None"


def read_signature(given: SignatureGiven) -> Signature | None:
    """The signature that a person gives; None for None.

    A mapping, JSON and YAML are in the words of ``core.contract``; a YAML file may also be
    Hydrosphere's ``serving.yaml``, of which the contract counts. A ``.prototxt`` or ``.pbtxt``
    file is a contract as Hydrosphere had them first, or Triton's configuration.

    Args:
        given: The value itself; a mapping; a text that begins with ``{``; or a file.

    Raises:
        InputError: It is none of these, or wrong; names the file, line and key.
        PluginError: A YAML file, and PyYAML is not installed.
    """
    if given is None or isinstance(given, Signature):
        return given
    if isinstance(given, Mapping):
        return signature_of(given)
    if isinstance(given, str) and given.lstrip().startswith("{"):
        return signature_of(_parsed(given))
    if isinstance(given, str | PathLike):
        return _in_file(Path(given).expanduser())
    raise InputError(
        f"a {type(given).__name__} is no signature",
        hint='give a file, or a mapping such as {"inputs": {"x": "float32[-1,4]"}}',
    )


def _parsed(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as exc:
        raise InputError(
            f"{in_memory(())}: not JSON: {exc}",
            hint="names and types are in double quotes; the shell wants single ones around all",
        ) from exc


def _in_file(path: Path) -> Signature:
    if path.suffix.lower() in _PROTOTEXTS:
        return read_prototext(path)
    try:
        document = located_json(path) if path.suffix.lower() == ".json" else located_yaml(path)
    except (FormatError, StorageUnavailableError) as exc:
        raise InputError(f"cannot read the signature: {exc}", hint=exc.hint) from exc
    data, place = _only(document)
    if isinstance(data, Mapping) and "kind" in data:
        for key in data:
            if key not in MODEL_KEYS:
                raise InputError(
                    f"{document.where((*place, key))}: unknown key {str(key)[:80]!r}",
                    hint=f"keys of a model: {', '.join(MODEL_KEYS)}",
                )
        if data.get("contract") is None:
            raise InputError(f"{document.where(place)}: the model has no contract")
        return signature_of(
            data["contract"], document.where, place=(*place, "contract"), needs_types=True
        )
    return signature_of(data, document.where, place=place)


def _only(document: Located) -> tuple[object, Place]:
    """The document that says the signature, and where it is."""
    given = [(value, (index,)) for index, value in enumerate(document.values) if value is not None]
    if not any(isinstance(value, Mapping) and "kind" in value for value, _ in given):
        if len(given) != 1:
            raise InputError(
                f"{document.path.name} has {len(given)} documents, expected one signature"
            )
        return given[0]
    try:
        index = model_in(document)
    except FormatError as exc:
        raise InputError(str(exc), hint=exc.hint) from exc
    return document.values[index], (index,)
