"""TFLite: a model as one flatbuffer, its metadata inside and its labels behind it.

The inputs and outputs of the first subgraph are read, as the interpreter names them;
weights and operators are not touched.

Source: tensorflow/lite/schema/schema.fbs, version 3 (https://github.com/tensorflow/tensorflow).
Field numbers below are its.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Quantization, Signature, Tensor
from nbmodel.errors import FormatError
from nbmodel.formats.base import Format, ModelFacts, distinct_names, starts_with
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.flatbuffer import Table, root
from nbmodel.formats.tflite_metadata import MAX_TENSORS, ModelNotes, read_notes

IDENTIFIER = b"TFL3"
#: ``TensorType`` by number.
DATATYPES = (
    "FP32", "FP16", "INT32", "UINT8", "INT64", "BYTES", "BOOL", "INT16", "COMPLEX64", "INT8",
    "FP64", "COMPLEX128", "UINT64", "RESOURCE", "VARIANT", "UINT32", "UINT16", "INT4", "BF16",
    "INT2", "UINT4", "FP8E4M3FN", "FP8E5M2",
)  # fmt: skip
_VERSION = 3
_CUSTOM = 32  # BuiltinOperator
_MAX_RANK = 1024
_MAX_CHANNELS = 1 << 20
_MAX_ENTRIES = 10_000  # operator codes, metadata entries or signatures
_DETECTION = "TFLite_Detection_PostProcess"
#: Words in a model's name or description, in the order in which they decide.
_WORDS = (("detect", "detection"), ("segment", "segmentation"), ("classif", "classification"))


class Tflite(Format):
    """``.tflite`` files."""

    name: ClassVar[str] = "tflite"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)

    def sniff(self, head: bytes) -> bool:
        """Whether the schema's identifier is where it belongs."""
        return head[4:8] == IDENTIFIER

    def _read(self, source: ByteSource) -> ModelFacts:
        if not self.sniff(source.read(0, min(source.size, 8))):
            raise FormatError(
                f"not a TFLite model: expected {IDENTIFIER!r} at offset 4, {starts_with(source)}"
            )
        model = root(source, 0, source.size, IDENTIFIER, "")
        version = model.integer(0, "I")
        if version != _VERSION:
            raise FormatError(f"schema version {version}, expected {_VERSION}")
        inputs, outputs = _tensors(model)
        custom = _custom_operators(model)
        attached = _attached(source, model)
        span = attached.get("TFLITE_METADATA")
        notes = ModelNotes("", "", inputs, outputs, {})
        if span is not None:
            notes = read_notes(source, *span, inputs, outputs)
        signature = Signature(notes.inputs, notes.outputs)
        return ModelFacts(
            framework=self.name,
            signature=signature,
            model_type=_model_type(custom, notes, signature),
            description=notes.description,
            metadata=_metadata(source, model, custom, attached) | dict(notes.extra),
        )


def _tensors(model: Table) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    if model.count(2, "subgraphs") == 0:
        raise FormatError("the model has no subgraph")
    graph = model.item(2, "subgraphs", 0)
    return _side(graph, 1, "input"), _side(graph, 2, "output")


def _side(graph: Table, index: int, side: str) -> tuple[Tensor, ...]:
    places = graph.numbers(index, f"{side}s", "i", MAX_TENSORS)
    tables = [graph.item(0, "tensors", int(place)) for place in places]
    names = distinct_names([table.text(3, "name") for table in tables], side)
    return tuple(_tensor(table, name, side) for table, name in zip(tables, names, strict=True))


def _tensor(table: Table, name: str, side: str) -> Tensor:
    number = table.integer(1, "b")
    if not 0 <= number < len(DATATYPES):
        raise FormatError(
            f"{table.path}: unknown tensor type {number}, expected at most {len(DATATYPES) - 1}"
        )
    return Tensor(
        name=name,
        datatype=DATATYPES[number],
        shape=_shape(table, side),
        quantization=_quantization(table.table(4, "quantization")),
    )


def _shape(table: Table, side: str) -> tuple[int, ...] | None:
    shape = table.numbers(7, "shape_signature", "i", _MAX_RANK)
    shape = shape or table.numbers(0, "shape", "i", _MAX_RANK)
    if any(dim < -1 for dim in shape):
        raise FormatError(f"{table.path}: negative dimension in shape {shape}")
    # An output without dimensions is a scalar where has_rank says so. Elsewhere it is one
    # whose shape the operator that makes it decides, as in every SSD detector.
    if not shape and side == "output" and not table.integer(8, "B"):
        return None
    return tuple(int(dim) for dim in shape)


def _quantization(table: Table | None) -> Quantization | None:
    if table is None:
        return None
    scale = table.numbers(2, "scale", "f", _MAX_CHANNELS)
    if not scale or (len(scale) == 1 and scale[0] == 0):
        return None  # min and max alone, or a placeholder: the tensor is not quantised
    zeros = table.numbers(3, "zero_point", "q", _MAX_CHANNELS) or (0,) * len(scale)
    if len(zeros) != len(scale) or not all(step > 0 and math.isfinite(step) for step in scale):
        raise FormatError(
            f"{table.path}: expected positive scales and as many zero points, "
            f"found {len(scale)} scales {scale[:4]} and {len(zeros)} zero points {zeros[:4]}"
        )
    axis = table.integer(6, "i") if len(scale) > 1 else None
    return Quantization(scale=scale, zero_point=tuple(int(zero) for zero in zeros), axis=axis)


def _custom_operators(model: Table) -> tuple[str, ...]:
    """Names of the operators that an engine must be given; each once, in file order."""
    names: dict[str, None] = {}
    for code in model.tables(1, "operator_codes", _MAX_ENTRIES):
        if max(code.integer(0, "b"), code.integer(3, "i")) == _CUSTOM:
            names[code.text(1, "custom_code")] = None
    return tuple(names)


def _attached(source: ByteSource, model: Table) -> dict[str, tuple[int, int]]:
    """Where the metadata entries lie in the file, by name."""
    spans: dict[str, tuple[int, int]] = {}
    for entry in model.tables(6, "metadata", _MAX_ENTRIES):
        buffer = model.item(4, "buffers", entry.integer(1, "I"))
        start, end = buffer.span(0, "data")
        outside, size = buffer.integer(1, "Q"), buffer.integer(2, "Q")
        if outside > 1:  # a model above 2 GiB has its buffers behind the flatbuffer
            start, end = outside, outside + size
        if end > source.size:
            raise FormatError(
                f"{buffer.path} reaches to offset {end:,}, but the file ends at {source.size:,}"
            )
        spans.setdefault(entry.text(0, "name"), (start, end))
    return spans


def _metadata(
    source: ByteSource,
    model: Table,
    custom: Sequence[str],
    attached: dict[str, tuple[int, int]],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "converter": model.text(3, "description"),
        "custom_operators": list(custom),
        "signatures": {
            signature.text(2, "signature_key"): {
                "inputs": _names(signature, 0, "inputs"),
                "outputs": _names(signature, 1, "outputs"),
            }
            for signature in model.tables(7, "signature_defs", _MAX_ENTRIES)
        },
    }
    if "min_runtime_version" in attached:
        start, end = attached["min_runtime_version"]
        text = source.text(start, end - start, "min_runtime_version")
        found["min_runtime_version"] = text.partition("\0")[0]
    return {key: value for key, value in found.items() if value}


def _names(signature: Table, index: int, name: str) -> list[str]:
    return [item.text(0, "name") for item in signature.tables(index, name, MAX_TENSORS)]


def _model_type(custom: Sequence[str], notes: ModelNotes, signature: Signature) -> str | None:
    if _DETECTION in custom:
        return "detection"
    for text in (notes.name.lower(), notes.description.lower()):
        for word, model_type in _WORDS:
            if word in text:
                return model_type
    return model_type_of(signature)
