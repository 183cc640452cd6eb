"""TFLite metadata: what people and tools need to know about a model's tensors.

A flatbuffer inside the model's flatbuffer, and label files in a ZIP behind it.

Source: tensorflow_lite_support/metadata/metadata_schema.fbs, schema version 1.5
(https://github.com/tensorflow/tflite-support). Field numbers below are its.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbmodel.core.labels import parse_labels
from nbmodel.core.signature import LabelKind, Normalization, Tensor
from nbmodel.errors import FormatError, InputError
from nbmodel.formats.attachments import Attachments
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.flatbuffer import Table, root

IDENTIFIER = b"M001"
MAX_TENSORS = 10_000  # inputs, and outputs, of one model
_MAX_ITEMS = 100  # process units, files or groups of one tensor or graph
_MAX_CHANNELS = 4096
_LABEL_KINDS: Mapping[int, LabelKind] = {2: "axis", 3: "value"}  # AssociatedFileType
_PROFILES = {2: "image", 3: "boxes", 4: "audio"}  # ContentProperties
_COLOR_SPACES = ("", "rgb", "grayscale")
_BOX_TYPES = ("", "boundaries", "upper_left", "center")
_COORDINATES = ("ratio", "pixel")
_NORMALIZATION, _THRESHOLD = 1, 3  # ProcessUnitOptions


@dataclass(frozen=True, slots=True)
class ModelNotes:
    """What the metadata says.

    Attributes:
        name: Of the model; may be empty, as all texts.
        description: For people.
        inputs: The model's inputs with what is said about each.
        outputs: The model's outputs with what is said about each.
        extra: JSON values: version, author, license, groups of tensors; by tensor, what
            a signature has no field for; and ``problems``, what could not be used.
    """

    name: str
    description: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    extra: Mapping[str, Any]


def read_notes(
    source: ByteSource,
    start: int,
    end: int,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
) -> ModelNotes:
    """Read the metadata of a model.

    Args:
        source: The model file.
        start: Where the metadata flatbuffer begins.
        end: Where it ends.
        inputs: The model's inputs, in its order.
        outputs: The model's outputs, in its order.

    Raises:
        FormatError: The flatbuffer or the archive behind the model is malformed.
    """
    model = root(source, start, end, IDENTIFIER, "TFLITE_METADATA")
    reader = _Reader(_Labels(source))
    graph = next(model.tables(3, "subgraph_metadata", MAX_TENSORS), None)
    groups: dict[str, Any] = {}
    if graph is not None:
        inputs = reader.annotate(
            "input", graph.tables(2, "input_tensor_metadata", MAX_TENSORS), inputs
        )
        outputs = reader.annotate(
            "output", graph.tables(3, "output_tensor_metadata", MAX_TENSORS), outputs
        )
        groups = {
            "input_groups": _groups(graph, 7, "input_tensor_groups"),
            "output_groups": _groups(graph, 8, "output_tensor_groups"),
        }
    extra = {
        "name": model.text(0, "name"),
        "version": model.text(2, "version"),
        "author": model.text(4, "author"),
        "license": model.text(5, "license"),
        "min_parser_version": model.text(7, "min_parser_version"),
        **groups,
        "tensors": reader.extra,
        "problems": reader.problems,
    }
    return ModelNotes(
        name=extra["name"],
        description=model.text(1, "description"),
        inputs=inputs,
        outputs=outputs,
        extra={key: value for key, value in extra.items() if value},
    )


class _Labels:
    """Label files by name; the archive is opened when the first one is asked for."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._archive: Attachments | None = None
        self._read: dict[str, tuple[str, ...] | None] = {}

    def get(self, name: str) -> tuple[str, ...] | None:
        """The labels in a file, or None when the archive does not have it."""
        if name not in self._read:
            if self._archive is None:
                self._archive = Attachments(self._source)
            content = self._archive.read(name)
            self._source.spend_text(len(content or b""), name)
            try:
                self._read[name] = None if content is None else parse_labels(content)
            except InputError as exc:
                raise FormatError(f"{name!r} behind the model: {exc}", hint=exc.hint) from exc
        return self._read[name]


@dataclass(slots=True)
class _Reader:
    """Annotates tensors, and gathers what has no place on them."""

    labels: _Labels
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def annotate(
        self, side: str, notes: Iterable[Table], tensors: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """The tensors with what the metadata says about each; they match by position."""
        known = list(notes)
        if known and len(known) != len(tensors):
            self.problems.append(
                f"the metadata describes {len(known)} {side}s, the model has {len(tensors)}; "
                "what it says about them is left out"
            )
            return tensors
        noted = zip(tensors, known, strict=True) if known else ()
        return tuple(self._annotate(tensor, note) for tensor, note in noted) or tensors

    def _annotate(self, tensor: Tensor, note: Table) -> Tensor:
        name, description = note.text(0, "name"), note.text(1, "description")
        content = note.table(3, "content")
        kind = 0 if content is None else content.integer(0, "B")
        tensor = replace(
            tensor,
            description=description
            if name in ("", tensor.name)
            else f"{name}: {description}".rstrip(": "),
            profile=_PROFILES.get(kind, tensor.profile),
        )
        extra = {
            "name": "" if name == tensor.name else name,
            "dimensions": list(note.texts(2, "dimension_names", _MAX_ITEMS)),
            **_content(kind, None if content is None else content.table(1, "content_properties")),
            **_stats(note.table(5, "stats")),
        }
        extra = {key: value for key, value in extra.items() if value}
        if extra:
            self.extra[tensor.name] = extra
        for unit in note.tables(4, "process_units", _MAX_ITEMS):
            tensor = _process(unit, tensor)
        return self._label(tensor, note)

    def _label(self, tensor: Tensor, note: Table) -> Tensor:
        """The tensor with the first label file it has; others are translations."""
        for file in note.tables(6, "associated_files", _MAX_ITEMS):
            kind = _LABEL_KINDS.get(file.integer(2, "b"))
            if kind is None:
                continue
            name = file.text(0, "name")
            labels = self.labels.get(name)
            if labels is not None:
                return replace(tensor, labels=labels, label_kind=kind)
            self.problems.append(f"{name!r}, the labels of {tensor.name!r}, is not in the file")
        return tensor


def _content(kind: int, properties: Table | None) -> dict[str, Any]:
    if properties is None:
        return {}
    if kind == 2:
        return {"color_space": _word(_COLOR_SPACES, properties.integer(0, "b"))}
    if kind == 3:
        return {
            "box_order": [int(i) for i in properties.numbers(0, "index", "I", _MAX_ITEMS)],
            "box_type": _word(_BOX_TYPES, properties.integer(1, "b")),
            "coordinates": _word(_COORDINATES, properties.integer(2, "b")),
        }
    if kind == 4:
        return {"sample_rate": properties.integer(0, "I"), "channels": properties.integer(1, "I")}
    return {}


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else ""


def _stats(stats: Table | None) -> dict[str, list[float]]:
    if stats is None:
        return {}
    return {
        "max": _finite(stats, 0, "max"),
        "min": _finite(stats, 1, "min"),
    }


def _process(unit: Table, tensor: Tensor) -> Tensor:
    kind, options = unit.integer(0, "B"), unit.table(1, "options")
    if options is None:
        return tensor
    if kind == _NORMALIZATION:
        return replace(tensor, normalization=_normalization(options))
    if kind == _THRESHOLD:
        threshold = options.real(0)
        if not math.isfinite(threshold):
            raise FormatError(f"{options.path}.global_score_threshold is {threshold}")
        return replace(tensor, score_threshold=threshold)
    return tensor


def _normalization(options: Table) -> Normalization | None:
    mean, std = _finite(options, 0, "mean"), _finite(options, 1, "std")
    if not mean and not std:
        return None
    channels = max(len(mean), len(std))
    mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
    if len(mean) != len(std) or 0 in std:
        raise FormatError(
            f"{options.path}: expected as many means as deviations, none of them 0, "
            f"found mean {mean[:4]} and std {std[:4]}"
        )
    return Normalization(mean=tuple(mean), std=tuple(std))


def _finite(table: Table, index: int, name: str) -> list[float]:
    values = list(table.numbers(index, name, "f", _MAX_CHANNELS))
    if not all(map(math.isfinite, values)):
        raise FormatError(f"{table.path}.{name}: expected finite numbers, found {values[:4]}")
    return values


def _groups(graph: Table, index: int, name: str) -> list[dict[str, Any]]:
    return [
        {
            "name": group.text(0, "name"),
            "tensors": list(group.texts(1, "tensor_names", MAX_TENSORS)),
        }
        for group in graph.tables(index, name, _MAX_ITEMS)
    ]
