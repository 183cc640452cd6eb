"""What a caller wants to make a version of, checked before a byte is stored."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbmodel.core.digest import is_digest
from nbmodel.core.golden import Golden
from nbmodel.core.lineage import Conversion, Lineage
from nbmodel.core.manifest import WEIGHT_TYPE, FileEntry, Manifest, check_path
from nbmodel.core.model_type import check_model_type
from nbmodel.core.reference import check_name
from nbmodel.core.signature import Signature
from nbmodel.core.version import now
from nbmodel.errors import InputError, ManifestError

_TAG_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}")
_MAX_TAG_VALUE = 1024  # characters


@dataclass(frozen=True)
class Contents:
    """Everything that goes into a version, but for the digests of its files.

    Attributes:
        name: The model.
        files: Path in the version → a local file or the bytes themselves; at least one.
        framework: ``onnx``, ``tflite`` …
        model_type: What it is for.
        signature: Inputs and outputs.
        metadata: JSON values by key.
        metrics: Finite numbers by name.
        lineage: Where it comes from.
        golden: The acceptance test; its arrays are one of ``files``.
        conversion: How the file was made, or None.
        description: Free text.
        tags: Key → value words.
        media_types: Path → media type of those that are not weights.

    Raises:
        RefError: ``name`` cannot name a model.
        InputError: Anything else cannot be used; the message names it.
    """

    name: str
    files: Mapping[str, Path | bytes]
    framework: str
    model_type: str
    signature: Signature
    metadata: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: Lineage = Lineage()
    golden: Golden | None = None
    conversion: Conversion | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    media_types: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_model_type(self.model_type)
        if not self.framework:
            raise InputError("a version needs a framework, found an empty one")
        self._check_files()
        check_tags(self.tags)
        for key, value in self.metadata.items():
            _check_json(key, value)
        for name, number in self.metrics.items():
            _check_metric(name, number)
        for parent in self.lineage.parents:
            if not is_digest(parent):
                raise InputError(f"parent {parent!r} is no digest of a manifest")

    def manifest(self, entries: tuple[FileEntry, ...], chunks: Mapping[str, FileEntry]) -> Manifest:
        """The manifest, of the present moment, over files and chunk tables that are stored."""
        return Manifest(
            name=self.name,
            created=now(),
            files=tuple(sorted(entries)),
            framework=self.framework,
            model_type=check_model_type(self.model_type),
            signature=self.signature,
            metadata=self.metadata,
            metrics={name: float(number) for name, number in self.metrics.items()},
            lineage=self.lineage,
            golden=self.golden,
            conversion=self.conversion,
            chunks=chunks,
        )

    def media_type(self, path: str) -> str:
        """What the file at ``path`` is; weights unless told otherwise."""
        return self.media_types.get(path, WEIGHT_TYPE)

    def _check_files(self) -> None:
        if not self.files:
            raise InputError(f"no files for a version of {self.name!r}, expected at least one")
        for path in self.files:
            try:
                check_path(path)
            except ManifestError as exc:
                raise InputError(
                    f"unsafe path in a version: {path[:80]!r}",
                    hint="paths are relative, with '/', without '..', ':' and '\\'",
                ) from exc
        for path in self.files:
            for folder in _folders(path):
                if folder in self.files:
                    raise InputError(f"{folder!r} is both a file and the folder of {path!r}")
        unknown = [path for path in self.media_types if path not in self.files]
        if self.golden is not None and self.golden.path not in self.files:
            unknown.append(self.golden.path)
        if unknown:
            raise InputError(f"{unknown[0]!r} is not one of the files of the version")


def check_tags(tags: Mapping[str, object]) -> None:
    """Check keys and values of tags.

    Raises:
        InputError: A key is malformed, a value is no text or too long.
    """
    for key, value in tags.items():
        if _TAG_KEY.fullmatch(key) is None:
            raise InputError(
                f"not a tag: {key[:140]!r}",
                hint="letters, digits, '_', '.', '/' and '-', at most 128; for example fruit=apple",
            )
        if not isinstance(value, str) or len(value) > _MAX_TAG_VALUE:
            raise InputError(
                f"value of tag {key!r}: expected at most {_MAX_TAG_VALUE} characters of text"
            )


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _check_json(key: object, value: object) -> None:
    if not isinstance(key, str) or not key:
        raise InputError(f"a metadata key must be text, found {key!r}")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"metadata {key!r} is not a JSON value: {exc}") from exc


def _check_metric(name: object, number: object) -> None:
    if not isinstance(name, str) or not name:
        raise InputError(f"the name of a metric must be text, found {name!r}")
    try:
        finite = math.isfinite(float(number))  # type: ignore[arg-type] # the except is the check
    except (TypeError, ValueError, OverflowError) as exc:
        raise InputError(f"metric {name!r} is not a number: {number!r}") from exc
    if not finite:
        raise InputError(f"metric {name!r} is {number}, expected a finite number")
