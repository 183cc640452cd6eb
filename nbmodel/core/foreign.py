"""Artifacts that other tools packed: which of their layers is what file.

nbmodel keeps a file as a layer of its own, under its path. KitOps packs files into tape
archives; Docker Model Runner has raw layers, older ones without paths; ModelPack allows
either. Artifacts of raw layers with paths are versions as they are, whoever made them.

Sources: KitOps, ``pkg/lib/constants/mediatype`` (layers ``…modelkit.<kind>.v1.tar[+gzip]``, the
Kitfile as config); docker/model-distribution, ``types`` (media types) and ``internal/bundle``
(the names of files without a path); CNCF ModelPack model-spec ``docs/spec.md`` (layers) and
``docs/annotations.md`` (paths).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbmodel.core.artifact import Artifact, Descriptor
from nbmodel.core.chunks import CHUNKS_TYPE
from nbmodel.core.manifest import FILEPATH, TITLE, check_path
from nbmodel.errors import ManifestError

KITFILE_TYPE = "application/vnd.kitops.modelkit.config.v1+json"
_KITOPS = "application/vnd.kitops."
_DOCKER = "application/vnd.docker.ai."
_CNCF = ("application/vnd.cncf.model.", "application/vnd.cnai.model.")
_ARCHIVE = re.compile(r".*\.tar(?:[+.](\w+))?")
_COMPRESSIONS = (None, "gzip")
#: Media type of a layer without a path → what Docker Model Runner calls its file, and what
#: each of several.
_NAMES: Mapping[str, tuple[str, str]] = {
    f"{_DOCKER}gguf.v3": ("model.gguf", "model-{:05d}-of-{:05d}.gguf"),
    f"{_DOCKER}model.file.v1+gguf": ("model.gguf", "model-{:05d}-of-{:05d}.gguf"),
    f"{_DOCKER}gguf.v3.lora": ("adapter.gguf", "adapter-{:05d}-of-{:05d}.gguf"),
    f"{_DOCKER}gguf.v3.mmproj": ("model.mmproj", "model-{:05d}-of-{:05d}.mmproj"),
    f"{_DOCKER}mmproj": ("model.mmproj", "model-{:05d}-of-{:05d}.mmproj"),
    f"{_DOCKER}safetensors": ("model.safetensors", "model-{:05d}-of-{:05d}.safetensors"),
    f"{_DOCKER}dduf": ("model.dduf", "model-{:05d}-of-{:05d}.dduf"),
    f"{_DOCKER}chat.template.jinja": ("template.jinja", "template-{:05d}-of-{:05d}.jinja"),
    f"{_DOCKER}license": ("LICENSE", "LICENSE-{:05d}-of-{:05d}"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of an artifact.

    Attributes:
        blob: The layer.
        path: Of the file that it is; None for a tape archive of files.
    """

    blob: Descriptor
    path: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """What the config of an artifact tells of its model.

    Attributes:
        tool: What packed it: ``kitops``, ``docker``, ``modelpack``.
        name: What it is called there; may be empty.
        description: Free text, may be empty.
        metadata: The config, under the tool's name.
    """

    tool: str
    name: str = ""
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def is_foreign(artifact: Artifact) -> bool:
    """Whether an artifact has to be unpacked to become a version.

    It is not where every layer is a file with its path, whatever the tool that made it.
    """
    return any(
        _is_archive(layer) or not _path(layer)
        for layer in artifact.layers
        if layer.media_type != CHUNKS_TYPE
    )


def tool_of(artifact: Artifact) -> str | None:
    """What packed an artifact of a model; None for what is none."""
    kinds = (artifact.artifact_type, artifact.config.media_type)
    if any(kind.startswith(_KITOPS) for kind in kinds):
        return "kitops"
    if any(kind.startswith(_DOCKER) for kind in kinds):
        return "docker"
    return "modelpack" if any(kind.startswith(_CNCF) for kind in kinds) else None


def parts_of(artifact: Artifact) -> tuple[Part, ...]:
    """The layers of an artifact of a model, with the paths of those that are files.

    Raises:
        ManifestError: It is of no model, a layer's path is unsafe or missing, or it is
            compressed in a way that is not read here.
    """
    if tool_of(artifact) is None:
        raise ManifestError(
            f"an artifact of type {artifact.artifact_type[:100]!r}, expected one of a model",
            hint="models of nbmodel, KitOps, Docker Model Runner and ModelPack tools are pulled",
        )
    names = _names(artifact.layers)
    parts = []
    for layer in artifact.layers:
        archive = _ARCHIVE.fullmatch(layer.media_type)
        if archive is not None and archive[1] not in _COMPRESSIONS:
            raise ManifestError(
                f"layer {layer.digest} is compressed with {archive[1][:20]}, which is not read here",
                hint="pack it with gzip, or without compression",
            )
        if archive is not None:
            parts.append(Part(layer, None))
        elif layer.media_type != CHUNKS_TYPE:
            parts.append(Part(layer, _path(layer) or next(names, None)))
            if parts[-1].path is None:
                raise ManifestError(f"layer {layer.digest} has no path: annotation {FILEPATH}")
            check_path(str(parts[-1].path))
    return tuple(parts)


def told_by(artifact: Artifact, config: Mapping[str, Any]) -> Told:
    """What a config tells.

    Args:
        artifact: Whose config it is.
        config: As parsed JSON.
    """
    tool = tool_of(artifact) or "oci"
    told = {tool: dict(config)} if config else {}
    if tool == "kitops":
        package, model = _object(config, "package"), _object(config, "model")
        return Told(
            tool,
            _text(package, "name") or _text(model, "name"),
            _text(package, "description") or _text(model, "description"),
            told,
        )
    descriptor = _object(config, "descriptor")
    return Told(
        tool,
        _text(descriptor, "name"),
        _text(descriptor, "description"),
        told,
    )


def _is_archive(layer: Descriptor) -> bool:
    return _ARCHIVE.fullmatch(layer.media_type) is not None


def _path(layer: Descriptor) -> str:
    return layer.annotations.get(FILEPATH) or layer.annotations.get(TITLE, "")


def _names(layers: Iterable[Descriptor]) -> Iterator[str | None]:
    """What the layers without a path are called, in their order; None for an unknown kind."""
    nameless = [
        layer.media_type
        for layer in layers
        if not _path(layer) and not _is_archive(layer) and layer.media_type != CHUNKS_TYPE
    ]
    counts, seen = Counter(nameless), Counter[str]()
    for kind in nameless:
        seen[kind] += 1
        if kind not in _NAMES:
            yield None
        else:
            single, several = _NAMES[kind]
            yield single if counts[kind] == 1 else several.format(seen[kind], counts[kind])


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _text(data: Mapping[str, Any], key: str) -> str:
    found = data.get(key)
    return found.strip()[:10_000] if isinstance(found, str) else ""
