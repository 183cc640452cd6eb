"""From what came to what becomes a version: read like an upload, with what its source says.

What a source says is a claim, and its files are the truth: where the two contradict each
other the files win, and a note says so. What a person says is another matter; there a
contradiction is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbmodel.core.digest import digest_of
from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.version import Version
from nbmodel.errors import InputError, ModelNotFoundError, SignatureError
from nbmodel.importing.base import Fetched, Import, file_digest
from nbmodel.registry import Registry
from nbmodel.source import LabelsGiven, Source, read_source

_LOOKED_AT = 200  # newest versions that are compared


def source_of(
    fetched: Fetched, *, labels: LabelsGiven = None, signature: Signature | None = None
) -> tuple[Source, tuple[str, ...]]:
    """What is to become a version, and sentences about what was left out.

    Args:
        fetched: What came.
        labels: Class names that a person gives.
        signature: What a person says of the tensors.

    Raises:
        InputError: There is no model among the files, or several; or they tell no datatypes.
        FormatError: The model file is damaged.
        SignatureError: ``signature`` contradicts the file.
    """
    notes = []
    given = fetched.labels if labels is None else labels
    said = signature or _named(fetched.signature)
    try:
        source = _read(fetched.path, given, signature)
    except InputError:
        # Its labels are not as many as the classes, or the file needs its signature.
        source, why = _read_again(fetched, labels, signature, said)
        notes += why
    if signature is None and fetched.signature is not None:
        try:
            source = replace(
                source, signature=source.signature.overridden_by(_fitted(fetched.signature, source))
            )
        except SignatureError as exc:
            notes.append(f"the file's own signature is kept: {exc}")
    if fetched.columns:
        source = replace(source, signature=source.signature.with_columns(fetched.columns))
    if fetched.golden is not None and fetched.golden.path in source.files:
        source = replace(source, golden=fetched.golden)
    return source, tuple(notes)


def _read_again(
    fetched: Fetched, labels: LabelsGiven, signature: Signature | None, said: Signature | None
) -> tuple[Source, list[str]]:
    if signature is None and said is not None:
        with suppress(InputError, SignatureError):
            return _read(fetched.path, fetched.labels if labels is None else labels, said), []
    if labels is None and fetched.labels is not None:
        source = _read(fetched.path, None, signature)
        return source, ["the labels that came with it are left out: they are not of its classes"]
    return _read(fetched.path, labels, signature), []


def _read(path: Path, labels: LabelsGiven, signature: Signature | None) -> Source:
    try:
        return read_source([path], labels, signature)
    except InputError as exc:
        if str(exc).startswith("expected exactly one model"):
            hint = "--path FILE chooses one; what is a pickle is logged as a live object"
            raise InputError(str(exc), hint=hint) from exc
        raise


def _named(signature: Signature | None) -> Signature | None:
    """The signature when all of it has names; None else."""
    if signature is None:
        return None
    named = all(tensor.name for tensor in (*signature.inputs, *signature.outputs))
    return signature if named else None


def _fitted(said: Signature, source: Source) -> Signature:
    """The signature with the file's names for what has none."""
    read = source.signature

    def side(tensors: tuple[Tensor, ...], own: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if len(tensors) == len(own) == 1 and not tensors[0].name:
            return (replace(tensors[0], name=own[0].name),)
        return tuple(tensor for tensor in tensors if tensor.name)

    return Signature(side(said.inputs, read.inputs), side(said.outputs, read.outputs))


def same_bytes(registry: Registry, name: str, source: Source, job: Import) -> Version | None:
    """The newest version of a model with the very files of a source; None without one."""
    try:
        versions = registry.versions(name)
    except ModelNotFoundError:
        return None
    sizes = {
        path: len(file) if isinstance(file, bytes) else file.stat().st_size
        for path, file in source.files.items()
    }
    digests: dict[str, str] | None = None
    for version in versions[:_LOOKED_AT]:
        if {entry.path: entry.size for entry in version.files} != sizes:
            continue
        if digests is None:
            digests = {
                path: digest_of(file) if isinstance(file, bytes) else file_digest(file, job)
                for path, file in source.files.items()
            }
        if {entry.path: entry.digest for entry in version.files} == digests:
            return version
    return None


def says_the_same(
    version: Version,
    source: Source,
    *,
    model_type: str | None,
    metadata: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    description: str,
) -> bool:
    """Whether a version with the same bytes says all that a new one would say."""
    return (
        version.framework == source.framework
        and version.signature == source.signature
        and model_type in (None, version.model_type)
        and dict(version.metadata) == dict(metadata)
        and dict(version.metrics) == dict(metrics)
        and tags.items() <= dict(version.tags).items()
        and description in ("", version.description)
        and version.manifest.golden == source.golden
    )
